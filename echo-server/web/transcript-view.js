/*
 * The transcript to read: paragraphs in a virtual list, the word being said, what was searched for.
 *
 * Words are plain spans, told apart by an index; one listener serves them all. While the recording
 * plays the view follows it, until somebody scrolls by hand; a button then leads back.
 */

import { fill, h, icon } from "./dom.js";
import { clock } from "./format.js";
import { t } from "./i18n.js";
import { unitAt } from "./transcript-model.js";
import { VirtualList } from "./virtual-list.js";

/** Measures of the stylesheet that a row's height is guessed from, in pixels. */
const LINE_PX = 28;
const CHAR_PX = 8.1;
const GUTTER_PX = 78;
const ROW_SPACE_PX = 18;
const NAME_PX = 26;
/** Players round times: one sent to the start of a word may say that it is just before it. */
const ROUNDING_SECONDS = 0.005;

/** Draws a model; calls `onSeek(seconds)` and `onRename(speaker)`. */
export class TranscriptView {
  constructor({ model, speakers, player, onRename }) {
    Object.assign(this, { model, speakers, player, onRename });
    this.current = -1;
    this.hits = new Map();
    this.activeHit = null;
    this.isFollowing = true;
    this.content = h("div", { class: "rows", role: "list", "aria-label": t("transcript") });
    this.element = h(
      "div",
      {
        class: "transcript",
        tabindex: "0",
        role: "region",
        "aria-label": t("transcript"),
        on: {
          click: (event) => this.#click(event),
          wheel: () => this.#leave(),
          touchmove: () => this.#leave(),
          pointerdown: (event) => {
            if (event.target === this.element) this.#leave();
          },
          keydown: (event) => {
            if (/^(Page|Home|End|Arrow(Up|Down))/.test(event.key)) this.#leave();
          },
        },
      },
      this.content,
    );
    this.followButton = h(
      "button",
      {
        type: "button",
        class: "follow-button",
        hidden: true,
        on: { click: () => this.follow() },
      },
      icon("follow"),
      t("transcript.follow"),
    );
    this.onTime = () => this.#showTime();
    this.onSeek = () => {
      this.isFollowing = true;
    };
    this.onNames = () => this.list?.refresh();
    player.addEventListener("seek", this.onSeek);
    player.addEventListener("time", this.onTime);
    speakers.addEventListener("change", this.onNames);
  }

  /** Draws for the first time; the element must be in the document. */
  start() {
    this.list = new VirtualList({
      scroller: this.element,
      content: this.content,
      count: this.model.rows.length,
      guess: (index, width) => this.#guess(this.model.rows[index], width),
      render: (index) => this.#row(index),
      onDraw: () => this.#mark(),
    });
  }

  /** Marks these places of a search; `active` is the one to be shown. */
  setHits(hits, active) {
    this.hits = Map.groupBy ? Map.groupBy(hits, (hit) => hit.row) : groupByRow(hits);
    this.activeHit = hits[active] ?? null;
    for (const [index, element] of this.list.rows) this.#markHits(index, element);
    if (this.activeHit) {
      this.#leave();
      this.list.scrollToRow(this.activeHit.row, { share: 0.35 });
      // A long paragraph may have the place below the fold.
      this.list.element(this.activeHit.row)?.querySelector(".hit-active")?.scrollIntoView({ block: "nearest" });
    }
  }

  /** Goes to the paragraph `step` on from the one being played. */
  stepRow(step) {
    const row = this.current < 0 ? -1 : this.model.rowOf[this.current];
    const to = Math.min(this.model.rows.length - 1, Math.max(0, row + step));
    this.player.seek(this.model.rows[to].start);
    this.list.scrollToRow(to, { isSmooth: true });
  }

  /** Follows the recording again. */
  follow() {
    this.isFollowing = true;
    this.followButton.hidden = true;
    if (this.current >= 0) this.list.scrollToRow(this.model.rowOf[this.current]);
  }

  destroy() {
    this.list?.destroy();
    this.player.removeEventListener("seek", this.onSeek);
    this.player.removeEventListener("time", this.onTime);
    this.speakers.removeEventListener("change", this.onNames);
  }

  #guess(row, width) {
    const column = Math.max(160, width > 560 ? width - GUTTER_PX : width);
    const lines = Math.ceil((row.chars * CHAR_PX) / Math.min(column, 720));
    const above = (row.isNewSpeaker && row.speaker !== null ? NAME_PX : 0) + (width > 560 ? 0 : 24);
    return lines * LINE_PX + ROW_SPACE_PX + above;
  }

  #row(index) {
    const row = this.model.rows[index];
    const text = h("p", { class: "row-text", dir: "auto" });
    for (const [at, part] of row.parts.entries()) {
      text.append(
        part.unit < 0
          ? h("span", { data: { part: at } }, part.text)
          : h("span", { class: "word", data: { part: at, unit: part.unit } }, part.text),
      );
    }
    const time = clock(row.start);
    const element = h(
      "div",
      {
        class: `row ${row.speaker === null ? "" : this.speakers.colour(row.speaker)} ${row.isNewSpeaker ? "row-new" : ""}`,
        role: "listitem",
        "aria-setsize": this.model.rows.length,
        "aria-posinset": index + 1,
      },
      h("button", { type: "button", class: "row-time", "aria-label": t("transcript.play", { time }) }, time),
      h("div", { class: "row-body" }, row.speaker !== null && row.isNewSpeaker ? this.#name(row.speaker) : null, text),
    );
    this.#markHits(index, element);
    return element;
  }

  #name(speaker) {
    const name = this.speakers.name(speaker);
    return h(
      "button",
      {
        type: "button",
        class: "row-speaker",
        title: t("speaker.rename", { name }),
        data: { speaker },
      },
      name,
      icon("pencil"),
    );
  }

  #click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const speaker = event.target.closest(".row-speaker");
    if (speaker) {
      this.onRename(speaker.dataset.speaker);
      return;
    }
    if (event.target.closest(".row-time")) {
      this.player.seek(this.model.rows[Number(row.dataset.row)].start, true);
      return;
    }
    // Marking text with the mouse is no click on a word.
    const unit = event.target.closest(".word")?.dataset.unit;
    if (unit !== undefined && getSelection().isCollapsed) this.player.seek(this.model.starts[Number(unit)]);
  }

  #leave() {
    if (!this.isFollowing) return;
    this.isFollowing = false;
    this.followButton.hidden = !this.player.isPlaying;
  }

  #showTime() {
    const { time } = this.player;
    const unit = unitAt(this.model, time + ROUNDING_SECONDS);
    if (unit !== this.current) {
      this.current = unit;
      this.#mark();
      if (this.isFollowing && unit >= 0 && this.list) this.#keepInSight();
    }
    this.followButton.hidden = this.isFollowing || !this.player.isPlaying;
  }

  #keepInSight() {
    const row = this.model.rowOf[this.current];
    const word = this.list.element(row)?.querySelector(".now");
    if (!this.list.isVisible(row, word ?? undefined)) this.list.scrollToRow(row, { isSmooth: this.player.isPlaying });
  }

  /** Puts the mark on the word being said, if its row is drawn. */
  #mark() {
    const old = this.content.querySelector(".now");
    const row = this.current < 0 ? -1 : this.model.rowOf[this.current];
    const word = this.list?.element(row)?.querySelector(`[data-unit="${this.current}"]`);
    if (old === (word ?? null)) return;
    old?.classList.remove("now");
    old?.closest(".row").classList.remove("row-now");
    word?.classList.add("now");
    word?.closest(".row").classList.add("row-now");
  }

  #markHits(index, element) {
    for (const marked of element.querySelectorAll(".hit, .hit-active")) marked.classList.remove("hit", "hit-active");
    for (const hit of this.hits.get(index) ?? []) {
      for (let part = hit.from; part <= hit.to; part += 1) {
        const span = element.querySelector(`[data-part="${part}"]`);
        span?.classList.add("hit");
        if (hit === this.activeHit) span?.classList.add("hit-active");
      }
    }
  }
}

function groupByRow(hits) {
  const groups = new Map();
  for (const hit of hits) groups.set(hit.row, [...(groups.get(hit.row) ?? []), hit]);
  return groups;
}

/** What a job without a text shows instead. */
export function emptyTranscript(element, title, text) {
  return fill(
    element,
    h("div", { class: "empty" }, icon("wave", "icon empty-icon"), h("h2", {}, title), h("p", {}, text)),
  );
}
