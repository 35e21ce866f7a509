/*
 * The page of a new transcription: what to transcribe, how, and what is on its way.
 */

import { append, fill, h, icon, iconButton, toast } from "./dom.js";
import { percent, size, spokenDuration } from "./format.js";
import { t } from "./i18n.js";
import { OptionsForm } from "./options-form.js";

/** What the chooser offers first; the server looks at the bytes and decides. */
const ACCEPT = "audio/*,video/*,.opus,.m4a,.mkv,.wma,.amr,.caf,.ac3,.flac,.aiff,.webm";

/** Shows the form in `main` and the queue `uploads`. */
export class ComposePage {
  constructor(main, uploads) {
    Object.assign(this, { main, uploads });
    this.sources = [];
    this.form = new OptionsForm();
    this.list = h("ul", { class: "files" });
    this.queue = h("ul", { class: "files sending" });
    this.picker = h("input", {
      type: "file",
      id: "file",
      class: "visually-hidden",
      multiple: true,
      accept: ACCEPT,
      on: {
        change: () => {
          this.addFiles(this.picker.files);
          this.picker.value = "";
        },
      },
    });
    this.urlField = h("input", {
      type: "url",
      id: "url",
      class: "field",
      placeholder: t("url.placeholder"),
      autocomplete: "off",
      "aria-label": t("url.label"),
    });
    this.urlError = h("p", { class: "form-error", role: "alert", hidden: true }, t("url.bad"));
    this.start = h("button", {
      type: "button",
      class: "button primary large",
      id: "start",
      on: { click: () => this.#start() },
    });
    fill(main, this.#build());
    this.onChange = ({ detail }) => this.#showUpload(detail);
    uploads.addEventListener("change", this.onChange);
    for (const item of uploads.items) this.#showUpload(item);
    this.#showSources();
    document.title = "Echo";
  }

  /** Adds files to what will be transcribed. */
  addFiles(files) {
    for (const file of files) {
      const isTwice = this.sources.some(
        ({ file: other }) =>
          other && other.name === file.name && other.size === file.size && other.lastModified === file.lastModified,
      );
      if (!isTwice) this.sources.push({ file });
    }
    this.#showSources();
  }

  destroy() {
    this.uploads.removeEventListener("change", this.onChange);
  }

  #build() {
    const drop = h(
      "label",
      { class: "drop", for: "file" },
      h("span", { class: "drop-icon" }, icon("upload")),
      h("span", { class: "drop-title" }, t("drop.title")),
      h("span", { class: "drop-choose" }, t("drop.or"), " ", h("span", { class: "linkish" }, t("drop.choose"))),
      h("span", { class: "drop-hint" }, t("drop.hint")),
    );
    return h(
      "div",
      { class: "compose" },
      h("div", { class: "compose-head" }, h("h1", {}, t("compose.title")), h("p", {}, t("compose.subtitle"))),
      this.queue,
      h(
        "div",
        { class: "card" },
        this.picker,
        drop,
        h(
          "form",
          {
            class: "url-row",
            novalidate: true,
            on: {
              submit: (event) => {
                event.preventDefault();
                this.#addUrl();
              },
            },
          },
          h("div", { class: "url-field" }, icon("link"), this.urlField),
          h("button", { type: "submit", class: "button" }, t("url.add")),
        ),
        this.urlError,
        this.list,
        this.form.element,
        h("div", { class: "compose-foot" }, this.start),
      ),
    );
  }

  #addUrl() {
    const text = this.urlField.value.trim();
    if (!text) return true;
    let url = null;
    try {
      url = new URL(text);
    } catch {
      // Told below.
    }
    const isWeb = url && (url.protocol === "https:" || url.protocol === "http:");
    this.urlError.hidden = Boolean(isWeb);
    this.urlField.setAttribute("aria-invalid", String(!isWeb));
    if (!isWeb) return false;
    this.sources.push({ url: url.href });
    this.urlField.value = "";
    this.#showSources();
    return true;
  }

  #showSources() {
    fill(
      this.list,
      this.sources.map((source) => {
        const name = source.file?.name ?? source.url;
        return h(
          "li",
          { class: "file" },
          icon(source.file ? "file" : "link"),
          h("span", { class: "file-name", dir: "auto" }, name),
          h("span", { class: "file-fact" }, source.file ? size(source.file.size) : ""),
          iconButton("close", t("files.remove", { name }), () => {
            this.sources = this.sources.filter((other) => other !== source);
            this.#showSources();
          }),
        );
      }),
    );
    fill(this.start, icon("wave"), t("start.count", { count: this.sources.length || 1 }));
  }

  #start() {
    if (!this.#addUrl()) return;
    if (this.sources.length === 0) {
      toast(t("start.empty"));
      this.picker.focus();
      return;
    }
    const options = this.form.read();
    if (!options) return;
    const { sources } = this;
    this.sources = [];
    this.#showSources();
    this.uploads.add(sources, options);
    // What is on its way stands at the top; which of the two scrolls depends on the width.
    for (const scroller of [window, this.main]) scroller.scrollTo({ top: 0, behavior: "smooth" });
  }

  #showUpload(item) {
    const isOver = item.state === "done" || item.state === "gone";
    let row = [...this.queue.children].find((child) => child.item === item);
    if (isOver) {
      row?.remove();
      return;
    }
    if (!row || row.dataset.state !== item.state) {
      const fresh = this.#uploadRow(item);
      if (row) row.replaceWith(fresh);
      else this.queue.append(fresh);
      row = fresh;
    }
    const share = item.total ? item.loaded / item.total : 0;
    row.bar.style.transform = `scaleX(${share})`;
    row.meter.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    row.fact.textContent = uploadText(item, share);
  }

  #uploadRow(item) {
    const bar = h("div", { class: "bar-fill" });
    const meter = h(
      "div",
      { class: "bar thin", role: "progressbar", "aria-label": item.name, "aria-valuemin": 0, "aria-valuemax": 100 },
      bar,
    );
    const fact = h("span", { class: "file-fact", role: item.state === "failed" ? "alert" : null });
    const row = h(
      "li",
      { class: `file upload ${item.state === "failed" ? "upload-failed" : ""}`, data: { state: item.state } },
      icon(item.state === "failed" ? "alert" : item.file ? "upload" : "link"),
      h(
        "div",
        { class: "upload-text" },
        h("span", { class: "file-name", dir: "auto" }, item.name),
        fact,
        item.state === "failed" ? null : meter,
      ),
    );
    append(row, [
      item.state === "failed" && mayHelp(item.error)
        ? h(
            "button",
            { type: "button", class: "button small", on: { click: () => this.uploads.retry(item) } },
            t("retry"),
          )
        : null,
      iconButton("close", t("upload.cancel", { name: item.name }), () => this.uploads.remove(item)),
    ]);
    return Object.assign(row, { item, bar, meter, fact });
  }
}

/** Whether the same file may be taken the next time: not if the server has looked at it and said no. */
function mayHelp({ status }) {
  return !(status >= 400 && status < 500) || status === 401 || status === 408 || status === 429;
}

/** What is told about an upload. */
function uploadText(item, share) {
  if (item.state === "waiting") return t("upload.waiting");
  // How much has come is not known before the server is asked.
  if (item.state === "busy" && item.isCut) return t("upload.cut", { seconds: item.seconds });
  if (item.state === "busy") return t("upload.busy", { seconds: item.seconds });
  if (item.state === "failed") return `${t("upload.failed")}. ${item.error.sentence ?? item.error.message}`;
  if (!item.file || share >= 1) return t("upload.finishing");
  const parts = [t("upload.sending", { percent: percent(share) })];
  if (item.speed > 0 && item.loaded > 0) {
    parts.push(t("upload.speed", { done: size(item.loaded), total: size(item.total), speed: size(item.speed) }));
    const left = (item.total - item.loaded) / item.speed;
    if (left > 3) parts.push(t("upload.left", { time: spokenDuration(left) }));
  }
  return parts.join(" · ");
}
