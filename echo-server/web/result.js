/*
 * A finished transcription: speakers, search, the text, the player, downloads.
 */

import { send, saveBlob, sourceName } from "./api.js";
import { announce, fill, h, icon, iconButton, menuButton, openDialog, toast } from "./dom.js";
import { downloadName, FORMATS, withNames } from "./downloads.js";
import { percent } from "./format.js";
import { t } from "./i18n.js";
import { measuredPeaks, peaksOfWords } from "./peaks.js";
import { Player } from "./player.js";
import { Speakers } from "./speakers.js";
import { buildModel, plainText, search, talkingTimes } from "./transcript-model.js";
import { emptyTranscript, TranscriptView } from "./transcript-view.js";

/** Typing goes on for a moment before the transcript is searched. */
const SEARCH_DELAY_MS = 120;

/** Shows the result of `job` in `body`, its actions in `actions`. */
export class ResultView {
  constructor(job, body, actions) {
    this.job = job;
    this.abort = new AbortController();
    this.model = buildModel(job.result);
    this.speakers = new Speakers(job.job_id, this.model.speakers);
    this.duration = job.source?.duration_seconds ?? job.result.duration ?? this.model.rows.at(-1)?.end ?? 0;
    this.player = new Player(job.job_id, this.duration);
    this.hits = [];
    this.activeHit = -1;
    this.transcript = new TranscriptView({
      model: this.model,
      speakers: this.speakers,
      player: this.player,
      onRename: (speaker) => this.rename(speaker),
    });
    actions.append(this.#downloadMenu());
    fill(
      body,
      this.#toolbar(),
      h("div", { class: "transcript-box" }, this.transcript.element, this.transcript.followButton),
      this.player.element,
    );
    if (this.model.rows.length === 0) emptyTranscript(this.transcript.element, t("silence"), t("silence.help"));
    else this.transcript.start();
    this.speakers.addEventListener("change", () => this.#drawSpeakers());
    this.#drawSpeakers();
    this.#loadPeaks();
  }

  /** Puts the cursor into the search field. */
  focusSearch() {
    this.searchField.focus();
    this.searchField.select();
  }

  /** Copies the whole text. */
  async copy() {
    try {
      await navigator.clipboard.writeText(plainText(this.model, (id) => this.speakers.name(id)));
      toast(t("job.copied"));
    } catch {
      toast(t("job.copy.failed"), "error");
    }
  }

  /** Asks for the name of a speaker. */
  async rename(id) {
    const name = this.speakers.name(id);
    const field = h("input", {
      type: "text",
      id: "speaker-name",
      class: "field",
      maxlength: 80,
      autocomplete: "off",
      value: this.speakers.names[id] ?? "",
      placeholder: name,
    });
    const { closed } = openDialog(
      { title: t("speaker.rename.title"), closeLabel: t("close"), className: "dialog-small" },
      (close) =>
        h(
          "form",
          {
            method: "dialog",
            on: {
              submit: (event) => {
                event.preventDefault();
                close(field.value);
              },
            },
          },
          h("label", { for: "speaker-name", class: "label" }, t("speaker.name")),
          field,
          h("p", { class: "help" }, t("speaker.note")),
          h(
            "div",
            { class: "dialog-actions" },
            this.speakers.names[id]
              ? h(
                  "button",
                  { type: "button", class: "button quiet", on: { click: () => close("") } },
                  t("speaker.reset"),
                )
              : null,
            h("button", { type: "submit", class: "button primary" }, t("save")),
          ),
        ),
    );
    field.focus();
    const answer = await closed;
    if (answer !== undefined) this.speakers.rename(id, answer);
  }

  destroy() {
    this.abort.abort();
    this.transcript.destroy();
    this.player.destroy();
  }

  #toolbar() {
    this.chips = h("div", { class: "chips", role: "group", "aria-label": t("speakers") });
    this.count = h("span", { class: "hit-count", "aria-live": "polite" });
    this.searchField = h("input", {
      type: "search",
      class: "search-input",
      placeholder: t("transcript.search"),
      "aria-label": t("transcript.search"),
      autocomplete: "off",
      spellcheck: "false",
      on: {
        input: () => {
          clearTimeout(this.searchTimer);
          this.searchTimer = setTimeout(() => this.#search(), SEARCH_DELAY_MS);
        },
        keydown: (event) => this.#searchKey(event),
      },
    });
    this.searchSteps = h(
      "div",
      { class: "hit-steps", hidden: true },
      this.count,
      iconButton("up", t("transcript.previous"), () => this.stepHit(-1)),
      iconButton("down", t("transcript.next"), () => this.stepHit(1)),
    );
    return h(
      "div",
      { class: "toolbar" },
      this.chips,
      h("div", { class: "search", role: "search" }, icon("search"), this.searchField, this.searchSteps),
    );
  }

  #drawSpeakers() {
    const times = talkingTimes(this.model);
    const total = [...times.values()].reduce((sum, seconds) => sum + seconds, 0) || 1;
    this.chips.hidden = this.model.speakers.length === 0;
    fill(
      this.chips,
      this.model.speakers.map((id) => {
        const name = this.speakers.name(id);
        const share = percent((times.get(id) ?? 0) / total);
        return h(
          "button",
          {
            type: "button",
            class: `chip ${this.speakers.colour(id)}`,
            data: { speaker: id },
            title: `${t("speaker.rename", { name })} · ${t("speaker.share", { share })}`,
            on: { click: () => this.rename(id) },
          },
          h("span", { class: "dot" }),
          h("span", { class: "chip-name", dir: "auto" }, name),
          h("span", { class: "chip-share" }, share),
        );
      }),
    );
    this.player.waveform.setSpans(
      this.model.rows.map((row) => ({
        start: row.start,
        end: row.end,
        className: row.speaker === null ? "speaker-none" : this.speakers.colour(row.speaker),
      })),
    );
  }

  #search() {
    this.hits = this.model.rows.length ? search(this.model, this.searchField.value) : [];
    const from = this.player.time;
    const next = this.hits.findIndex((hit) => this.model.rows[hit.row].end >= from);
    this.#showHit(this.hits.length === 0 ? -1 : Math.max(0, next));
  }

  /** Goes to the next or the previous place found. */
  stepHit(step) {
    if (this.hits.length) this.#showHit((this.activeHit + step + this.hits.length) % this.hits.length);
  }

  #showHit(index) {
    this.activeHit = index;
    this.searchSteps.hidden = this.searchField.value.trim() === "";
    this.count.textContent = this.hits.length
      ? t("transcript.hits", { at: index + 1, total: this.hits.length })
      : t("transcript.no_hits");
    if (this.transcript.list) this.transcript.setHits(this.hits, index);
  }

  #searchKey(event) {
    if (event.key === "Enter") this.stepHit(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape" && this.searchField.value) {
      this.searchField.value = "";
      this.#search();
    } else if (event.key === "Escape") this.transcript.element.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #downloadMenu() {
    const button = h(
      "button",
      { type: "button", class: "button primary", id: "download", "aria-label": t("download") },
      icon("download"),
      h("span", {}, t("download")),
    );
    return menuButton(button, () =>
      FORMATS.map((format) => ({
        label: t(`download.${format}`),
        hint: `.${format}`,
        key: format,
        action: () => this.#download(format),
      })),
    );
  }

  async #download(format) {
    try {
      const response = await send(`transcription/${this.job.job_id}/download?format=${format}`);
      const type = response.headers.get("content-type") ?? "application/octet-stream";
      const body = this.speakers.isRenamed
        ? new Blob([withNames(await response.text(), format, this.speakers.names)], { type })
        : await response.blob();
      saveBlob(body, downloadName(sourceName(this.job), format));
      announce(t(`download.${format}`));
    } catch (error) {
      toast(t("download.failed", { reason: error.sentence ?? String(error) }), "error");
    }
  }

  async #loadPeaks() {
    this.player.waveform.setPeaks(peaksOfWords(this.model, this.duration));
    const peaks = await measuredPeaks(this.job, this.duration, this.abort.signal);
    if (peaks && !this.abort.signal.aborted) this.player.waveform.setPeaks(peaks);
  }
}
