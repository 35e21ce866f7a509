/*
 * The options of a transcription as a form, remembered from the last time.
 */

import { call } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { languages } from "./languages.js";
import { lastOptions, saveLastOptions } from "./settings.js";

const MAX_SPEAKERS = 32;
/** What the server takes. */
const MAX_PROMPT_CHARS = 896;

/** A form whose `read()` gives the options as the API takes them. */
export class OptionsForm {
  constructor() {
    const last = lastOptions();
    this.last = last;
    this.language = select("opt-language", [["", t("opt.language.auto")], ...languages()], last.language ?? "");
    this.task = select(
      "opt-task",
      [
        ["transcribe", t("opt.task.transcribe")],
        ["translate", t("opt.task.translate")],
      ],
      last.task,
    );
    this.model = select("opt-model", [], "");
    this.modelField = labelled("opt-model", t("opt.model"), this.model);
    this.modelField.hidden = true;
    this.words = toggle("opt-words", last.word_timestamps ?? true);
    this.diarize = toggle("opt-diarize", last.diarize ?? false);
    this.speakerCount = this.#speakerCount();
    this.prompt = h("textarea", {
      id: "opt-prompt",
      class: "field",
      rows: 2,
      maxlength: MAX_PROMPT_CHARS,
      "aria-describedby": "opt-prompt-help",
    });
    this.hotwords = h("input", {
      id: "opt-hotwords",
      class: "field",
      type: "text",
      autocomplete: "off",
      "aria-describedby": "opt-hotwords-help",
    });
    this.error = h("p", { class: "form-error", role: "alert", hidden: true });
    this.element = this.#build();
    this.diarize.addEventListener("change", () => this.#showSpeakers());
    this.#showSpeakers();
    this.#loadModels();
  }

  /** The options that differ from the server's defaults, or `null` with the fault on show. */
  read() {
    const options = {
      language: this.language.value || null,
      task: this.task.value,
      word_timestamps: this.words.checked,
      diarize: this.diarize.checked,
    };
    if (this.model.value) options.model = this.model.value;
    const counts = this.#readSpeakers();
    this.error.hidden = counts !== null;
    this.error.textContent = counts === null ? t("opt.speakers.bad") : "";
    if (counts === null) return null;
    saveLastOptions(options);
    Object.assign(options, counts);
    const prompt = this.prompt.value.trim();
    if (prompt) options.initial_prompt = prompt;
    const hotwords = this.hotwords.value
      .split(",")
      .map((word) => word.trim())
      .filter(Boolean);
    if (hotwords.length) options.hotwords = hotwords;
    return options;
  }

  #build() {
    const switchRow = (input, label, help) =>
      h(
        "label",
        { class: "switch-row", for: input.id },
        h(
          "span",
          { class: "switch-text" },
          h("span", { class: "switch-label" }, label),
          h("span", { class: "help" }, help),
        ),
        h("span", { class: "switch" }, input, h("span", { class: "switch-track", "aria-hidden": "true" })),
      );
    return h(
      "div",
      { class: "options" },
      h(
        "div",
        { class: "option-grid" },
        labelled("opt-language", t("opt.language"), this.language),
        labelled("opt-task", t("opt.task"), this.task),
        this.modelField,
      ),
      h(
        "div",
        { class: "switches" },
        switchRow(this.words, t("opt.words"), t("opt.words.help")),
        switchRow(this.diarize, t("opt.diarize"), t("opt.diarize.help")),
      ),
      this.speakerCount,
      this.error,
      h(
        "details",
        { class: "disclosure" },
        h("summary", {}, icon("down"), t("opt.more")),
        h(
          "div",
          { class: "disclosure-body" },
          labelled("opt-prompt", t("opt.prompt"), this.prompt, t("opt.prompt.help")),
          labelled("opt-hotwords", t("opt.hotwords"), this.hotwords, t("opt.hotwords.help")),
        ),
      ),
    );
  }

  #speakerCount() {
    const number = (id, label) =>
      h("input", {
        id,
        class: "field number",
        type: "number",
        min: 1,
        max: MAX_SPEAKERS,
        inputmode: "numeric",
        "aria-label": label,
        value: 2,
      });
    this.least = number("opt-least", t("opt.speakers.least"));
    this.most = number("opt-most", t("opt.speakers.most"));
    this.most.value = "4";
    this.counting = select(
      "opt-counting",
      ["auto", "exact", "range"].map((way) => [way, t(`opt.speakers.${way}`)]),
      "auto",
    );
    this.between = h("span", { class: "between" }, t("opt.speakers.and"));
    this.counting.addEventListener("change", () => this.#showSpeakers());
    return h(
      "div",
      { class: "speaker-count" },
      h("label", { for: "opt-counting", class: "label" }, t("opt.speakers")),
      h("div", { class: "speaker-fields" }, wrapSelect(this.counting), this.least, this.between, this.most),
    );
  }

  #showSpeakers() {
    this.speakerCount.hidden = !this.diarize.checked;
    const way = this.counting.value;
    this.least.hidden = way === "auto";
    this.least.setAttribute("aria-label", t(way === "exact" ? "opt.speakers" : "opt.speakers.least"));
    this.between.hidden = way !== "range";
    this.most.hidden = way !== "range";
  }

  /** The counts as options; `null` if they make no sense. */
  #readSpeakers() {
    const way = this.counting.value;
    if (!this.diarize.checked || way === "auto") return {};
    const isCount = (value) => Number.isInteger(value) && value >= 1 && value <= MAX_SPEAKERS;
    const least = Number(this.least.value);
    const most = Number(this.most.value);
    if (!isCount(least)) return null;
    if (way === "exact") return { num_speakers: least };
    return isCount(most) && least <= most ? { min_speakers: least, max_speakers: most } : null;
  }

  async #loadModels() {
    let items = [];
    try {
      items = (await call("models")).items ?? [];
    } catch {
      // The server's default model is taken; there is nothing to choose from.
    }
    if (items.length < 2) return;
    fill(
      this.model,
      items.map(({ id, default: isDefault }) =>
        h("option", { value: isDefault ? "" : id }, isDefault ? t("opt.model.default", { name: id }) : id),
      ),
    );
    const known = items.some(({ id, default: isDefault }) => id === this.last.model && !isDefault);
    this.model.value = known ? this.last.model : "";
    this.modelField.hidden = false;
  }
}

function select(id, options, value) {
  const element = h(
    "select",
    { id, class: "field" },
    options.map(([key, label]) => h("option", { value: key }, label)),
  );
  if (value && options.some(([key]) => key === value)) element.value = value;
  return element;
}

function toggle(id, isOn) {
  return h("input", { id, type: "checkbox", role: "switch", checked: isOn });
}

function wrapSelect(element) {
  return h("div", { class: "select" }, element, icon("down"));
}

function labelled(id, label, control, help) {
  return h(
    "div",
    { class: "labelled" },
    h("label", { for: id, class: "label" }, label),
    control.tagName === "SELECT" ? wrapSelect(control) : control,
    help ? h("p", { class: "help", id: `${id}-help` }, help) : null,
  );
}
