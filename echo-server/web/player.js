/*
 * The player: one `<audio>` element, its buttons, and a clock that ticks at every frame while it plays.
 *
 * The media element itself tells the time only four times a second, which is too coarse for words; so
 * while it plays its `currentTime` is read at every frame. A ticket for a recording opens it for a
 * short while only: when it has run out, a new one is got and playing goes on where it was.
 */

import { mediaUrl } from "./api.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { clock } from "./format.js";
import { locale, t } from "./i18n.js";
import { saveSettings, settings } from "./settings.js";
import { Waveform } from "./waveform.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];

/** Plays the recording of one job. Dispatches `time` events; `time` is in seconds. */
export class Player extends EventTarget {
  constructor(jobId, duration) {
    super();
    this.jobId = jobId;
    this.frame = 0;
    this.lostTickets = 0;
    this.wantedTime = null;
    this.audio = h("audio", { preload: "metadata" });
    this.audio.playbackRate = settings().speed;
    this.audio.volume = settings().volume;
    this.waveform = new Waveform((time) => this.seek(time));
    this.duration = duration;
    this.element = this.#build();
    this.#listen();
    this.#setDuration(duration);
    this.#load();
  }

  /** Seconds from the start. */
  get time() {
    return this.wantedTime ?? this.audio.currentTime;
  }

  get isPlaying() {
    return !this.audio.paused && !this.audio.ended;
  }

  /** Whether there is anything to play. */
  get isUsable() {
    return !this.element.classList.contains("player-off");
  }

  /** Plays, or pauses. */
  toggle() {
    if (!this.isUsable) return;
    if (this.isPlaying) this.audio.pause();
    else this.audio.play().catch(() => {});
  }

  /** Goes to a time; starts to play if asked to. */
  seek(time, shouldPlay = false) {
    const to = Math.min(Math.max(0, time), this.duration || time);
    if (this.audio.readyState === 0) this.wantedTime = to;
    else this.audio.currentTime = to;
    if (shouldPlay && this.isUsable) this.audio.play().catch(() => {});
    this.#tick();
    this.dispatchEvent(new Event("seek"));
  }

  /** Goes `seconds` on, or back if negative. */
  skip(seconds) {
    this.seek(this.time + seconds);
  }

  /** The next slower or faster speed. */
  stepSpeed(step) {
    const at = SPEEDS.findIndex((speed) => speed >= this.audio.playbackRate);
    this.#setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at + step))]);
  }

  /** Stops, and lets the recording go. */
  destroy() {
    cancelAnimationFrame(this.frame);
    this.waveform.destroy();
    this.isDestroyed = true;
    this.audio.pause();
    if (this.audio.src.startsWith("blob:")) URL.revokeObjectURL(this.audio.src);
    this.audio.removeAttribute("src");
    this.audio.load();
  }

  #build() {
    this.playButton = h("button", { type: "button", class: "play-button", on: { click: () => this.toggle() } });
    this.now = h("span", { class: "time-now" }, clock(0));
    this.total = h("span", { class: "time-total" });
    this.note = h("p", { class: "player-note", hidden: true });
    this.speed = h(
      "select",
      {
        class: "speed",
        "aria-label": t("player.speed"),
        title: t("player.speed"),
        on: { change: () => this.#setSpeed(Number(this.speed.value)) },
      },
      SPEEDS.map((speed) => h("option", { value: speed }, `${speed.toLocaleString(locale())}×`)),
    );
    this.speed.value = String(settings().speed);
    this.volume = h("input", {
      type: "range",
      class: "volume",
      min: 0,
      max: 1,
      step: 0.05,
      "aria-label": t("player.volume"),
      value: settings().volume,
      on: { input: () => this.#setVolume(Number(this.volume.value)) },
    });
    this.muteButton = iconButton("volume", t("player.mute"), () => {
      this.audio.muted = !this.audio.muted;
    });
    this.#showPlaying();
    return h(
      "section",
      { class: "player", "aria-label": t("player") },
      this.note,
      this.waveform.element,
      h(
        "div",
        { class: "controls" },
        h(
          "div",
          { class: "controls-main" },
          iconButton("back", t("player.back"), () => this.skip(-5)),
          this.playButton,
          iconButton("forward", t("player.forward"), () => this.skip(5)),
        ),
        h("div", { class: "times" }, this.now, h("span", { class: "time-of", "aria-hidden": "true" }, "/"), this.total),
        h(
          "div",
          { class: "controls-side" },
          h("div", { class: "volume-box" }, this.muteButton, this.volume),
          this.speed,
        ),
      ),
      this.audio,
    );
  }

  #listen() {
    const on = (names, listener) => {
      for (const name of names.split(" ")) this.audio.addEventListener(name, listener);
    };
    on("play pause ended", () => {
      this.#showPlaying();
      this.#tick();
    });
    on("timeupdate seeked", () => this.#tick());
    on("loadedmetadata durationchange", () => {
      if (this.wantedTime !== null) {
        this.audio.currentTime = this.wantedTime;
        this.wantedTime = null;
      }
      if (Number.isFinite(this.audio.duration)) this.#setDuration(this.audio.duration);
    });
    on("canplay", () => {
      this.lostTickets = 0;
    });
    on("volumechange", () => this.#showVolume());
    on("error", () => this.#recover());
  }

  async #load() {
    try {
      this.audio.src = await mediaUrl(this.jobId);
    } catch (error) {
      this.#giveUp(error.status === 404 || error.status === 410 ? "player.gone" : "player.unplayable");
    }
  }

  /** A ticket may have run out: once, the recording is opened again where it was. */
  async #recover() {
    if (this.isDestroyed) return;
    this.lostTickets += 1;
    if (this.lostTickets > 1) {
      const isGone = await fetch(this.audio.currentSrc, { headers: { Range: "bytes=0-0" } }).then(
        (response) => response.status === 404 || response.status === 410,
        () => false,
      );
      this.#giveUp(isGone ? "player.gone" : "player.unplayable");
      return;
    }
    const wasPlaying = this.isPlaying;
    this.wantedTime ??= this.audio.currentTime;
    await this.#load();
    if (wasPlaying) this.audio.play().catch(() => {});
  }

  #giveUp(key) {
    this.element.classList.add("player-off");
    this.note.hidden = false;
    fill(this.note, icon("alert"), t(key));
  }

  #setDuration(duration) {
    this.duration = duration;
    this.waveform.setDuration(duration);
    this.total.textContent = clock(duration);
  }

  #setSpeed(speed) {
    this.audio.playbackRate = speed;
    this.speed.value = String(speed);
    saveSettings({ speed });
  }

  #setVolume(volume) {
    this.audio.muted = false;
    this.audio.volume = volume;
    saveSettings({ volume });
  }

  #showVolume() {
    const isMuted = this.audio.muted || this.audio.volume === 0;
    const label = t(isMuted ? "player.unmute" : "player.mute");
    fill(this.muteButton, icon(isMuted ? "muted" : "volume"));
    this.muteButton.setAttribute("aria-label", label);
    this.muteButton.title = label;
    this.volume.value = String(this.audio.muted ? 0 : this.audio.volume);
  }

  #showPlaying() {
    const label = t(this.isPlaying ? "player.pause" : "player.play");
    fill(this.playButton, icon(this.isPlaying ? "pause" : "play"));
    this.playButton.setAttribute("aria-label", label);
    this.playButton.title = label;
  }

  #tick() {
    cancelAnimationFrame(this.frame);
    const { time } = this;
    this.now.textContent = clock(time);
    this.waveform.setTime(time);
    this.dispatchEvent(new Event("time"));
    if (this.isPlaying) this.frame = requestAnimationFrame(() => this.#tick());
  }
}
