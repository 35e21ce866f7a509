/*
 * The waveform: bars on a canvas, coloured by who speaks, that is also the player's position slider.
 *
 * Bars of 2 px every 3 px, each the greatest peak of its stretch. What was played has its full colour,
 * the rest is paler. It is drawn again only when the playhead has moved by a pixel.
 */

import { clock } from "./format.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

const BAR_PX = 2;
const STEP_PX = 3;

/** A slider of the position in a recording. */
export class Waveform {
  /** `onSeek(seconds)` is called as somebody points, drags or presses keys. */
  constructor(onSeek) {
    this.onSeek = onSeek;
    this.peaks = new Float32Array([0]);
    this.duration = 0;
    this.time = 0;
    this.spans = [];
    this.canvas = h("canvas", { class: "waveform-canvas", "aria-hidden": "true" });
    this.tip = h("span", { class: "waveform-tip", hidden: true, "aria-hidden": "true" });
    this.element = h(
      "div",
      {
        class: "waveform",
        role: "slider",
        tabindex: "0",
        "aria-label": t("player.position"),
        "aria-valuemin": "0",
        "aria-valuemax": "0",
        "aria-valuenow": "0",
        on: {
          pointerdown: (event) => this.#press(event),
          pointermove: (event) => this.#hover(event),
          pointerleave: () => {
            this.tip.hidden = true;
          },
          keydown: (event) => this.#key(event),
        },
      },
      this.canvas,
      this.tip,
    );
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.onTheme = () => {
      this.colours = null;
      this.draw();
    };
    window.addEventListener("echo-theme", this.onTheme);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.onTheme);
  }

  /** Stretches of speakers: `{start, end, className}`, in order. */
  setSpans(spans) {
    this.spans = spans;
    this.draw();
  }

  setPeaks(peaks) {
    this.peaks = peaks;
    this.draw();
  }

  setDuration(duration) {
    this.duration = duration;
    this.element.setAttribute("aria-valuemax", String(Math.round(duration)));
    this.draw();
  }

  setTime(time) {
    const x = (value) => Math.round((value / (this.duration || 1)) * this.element.clientWidth);
    const hasMoved = x(time) !== x(this.time);
    const isNewSecond = Math.floor(time) !== Math.floor(this.time) || time === 0;
    this.time = time;
    if (isNewSecond) {
      this.element.setAttribute("aria-valuenow", String(Math.floor(time)));
      const value = t("player.position.value", { at: clock(time), total: clock(this.duration) });
      this.element.setAttribute("aria-valuetext", value);
    }
    if (hasMoved) this.draw();
  }

  destroy() {
    this.observer.disconnect();
    window.removeEventListener("echo-theme", this.onTheme);
    this.scheme.removeEventListener("change", this.onTheme);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.colours ??= new Map();
    const played = this.duration ? (this.time / this.duration) * width : 0;
    let span = 0;
    for (let x = 0; x + BAR_PX <= width; x += STEP_PX) {
      const time = (x / width) * this.duration;
      while (span < this.spans.length && this.spans[span].end < time) span += 1;
      const current = this.spans[span];
      context.fillStyle = this.#colour(current && current.start <= time ? current.className : "speaker-none");
      context.globalAlpha = x < played ? 1 : 0.38;
      const bar = Math.max(2, this.#peak(x / width, (x + STEP_PX) / width) * (height - 4));
      context.beginPath();
      context.roundRect(x, (height - bar) / 2, BAR_PX, bar, 1);
      context.fill();
    }
    context.globalAlpha = 1;
    context.fillStyle = this.#colour("playhead");
    context.fillRect(Math.min(width - 2, Math.max(0, played - 1)), 0, 2, height);
  }

  #peak(from, to) {
    const first = Math.floor(from * this.peaks.length);
    const last = Math.max(first + 1, Math.floor(to * this.peaks.length));
    let peak = 0;
    for (let at = first; at < last && at < this.peaks.length; at += 1) peak = Math.max(peak, this.peaks[at]);
    return Math.min(1, peak);
  }

  /** The colour of a class, as the stylesheet and the theme have it. */
  #colour(className) {
    let colour = this.colours.get(className);
    if (!colour) {
      const probe = h("span", { class: `probe ${className}` });
      this.element.append(probe);
      colour = getComputedStyle(probe).color;
      probe.remove();
      this.colours.set(className, colour);
    }
    return colour;
  }

  #timeAt(event) {
    const box = this.element.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.duration;
  }

  #press(event) {
    if (event.button !== 0) return;
    this.element.setPointerCapture(event.pointerId);
    this.onSeek(this.#timeAt(event));
  }

  #hover(event) {
    const time = this.#timeAt(event);
    if (this.element.hasPointerCapture(event.pointerId)) this.onSeek(time);
    if (event.pointerType !== "mouse") return;
    this.tip.hidden = false;
    this.tip.textContent = clock(time);
    const box = this.element.getBoundingClientRect();
    const x = Math.min(box.width - 28, Math.max(28, event.clientX - box.left));
    this.tip.style.transform = `translateX(calc(${x}px - 50%))`;
  }

  #key(event) {
    const step = this.duration / 20;
    const to = {
      ArrowLeft: this.time - 5,
      ArrowDown: this.time - 5,
      ArrowRight: this.time + 5,
      ArrowUp: this.time + 5,
      PageDown: this.time - step,
      PageUp: this.time + step,
      Home: 0,
      End: this.duration,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.onSeek(Math.min(this.duration, Math.max(0, to)));
  }
}
