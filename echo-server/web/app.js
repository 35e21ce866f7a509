/*
 * The page itself: which view is shown, settings, shortcuts, the key, the connection.
 */

import { apiUrl, onKeyNeeded, onReachable, setReachable, sourceName } from "./api.js";
import { ComposePage } from "./compose.js";
import { fill, h, icon, iconButton, openDialog, toast } from "./dom.js";
import { History } from "./history.js";
import { language, t } from "./i18n.js";
import { JobPage } from "./job.js";
import { apiKey, saveApiKey, saveSettings, settings } from "./settings.js";
import { handleShortcut, openHelp } from "./shortcuts.js";
import { Uploads } from "./uploads.js";

const main = document.getElementById("main");
const uploads = new Uploads();
let page = null;
let history = null;

function show() {
  const jobId = /^#\/t\/([\w-]+)$/.exec(location.hash)?.[1] ?? null;
  if (jobId && page instanceof JobPage && page.jobId === jobId) return;
  page?.destroy();
  document.body.dataset.view = jobId ? "job" : "compose";
  page = jobId
    ? new JobPage(main, jobId, (job) => (job ? history.update(job) : history.remove(jobId)))
    : new ComposePage(main, uploads);
  history.select(jobId);
  main.scrollTop = 0;
  window.scrollTo(0, 0);
}

function drawBrand() {
  document.documentElement.lang = language() === "pt" ? "pt-BR" : "en";
  document.getElementById("skip").textContent = t("skip");
  fill(
    document.getElementById("brand"),
    h(
      "a",
      { class: "logo", href: "#/", "aria-label": `Echo, ${t("new")}` },
      h("img", { src: "assets/icon.svg", alt: "", width: 28, height: 28 }),
      h("span", {}, "Echo"),
    ),
    h(
      "div",
      { class: "brand-actions" },
      iconButton("keyboard", t("shortcuts"), () => openHelp(), { id: "help" }),
      iconButton("gear", t("settings"), () => openSettings(), { id: "settings" }),
    ),
    h("a", { class: "button primary wide new-button", href: "#/" }, icon("plus"), t("new")),
  );
}

/** Everything anew, in another language. */
function redraw() {
  drawBrand();
  history.build();
  page?.destroy();
  page = null;
  show();
}

function choice(name, values, chosen, onChange) {
  return h(
    "fieldset",
    { class: "choice" },
    h("legend", { class: "label" }, t(name)),
    h(
      "div",
      { class: "segmented" },
      values.map(([value, label]) =>
        h(
          "label",
          {},
          h("input", { type: "radio", name, value, checked: value === chosen, on: { change: () => onChange(value) } }),
          h("span", {}, label),
        ),
      ),
    ),
  );
}

function openSettings() {
  const { theme, locale } = settings();
  const { close } = openDialog({ title: t("settings"), closeLabel: t("close"), className: "dialog-small" }, () => [
    choice(
      "theme",
      ["system", "light", "dark"].map((value) => [value, t(`theme.${value}`)]),
      theme,
      (value) => saveSettings({ theme: value }),
    ),
    choice(
      "locale",
      [
        ["auto", t("locale.auto")],
        ["en", "English"],
        ["pt", "Português"],
      ],
      locale,
      (value) => {
        saveSettings({ locale: value });
        close();
        redraw();
        openSettings();
      },
    ),
    h(
      "div",
      { class: "setting" },
      h("p", { class: "label" }, t("key")),
      h(
        "div",
        { class: "setting-row" },
        h("p", { class: "help" }, t(apiKey() ? "key.used" : "key.none")),
        apiKey()
          ? h(
              "button",
              {
                type: "button",
                class: "button small",
                on: {
                  click: () => {
                    saveApiKey("", false);
                    location.reload();
                  },
                },
              },
              t("key.forget"),
            )
          : h(
              "button",
              {
                type: "button",
                class: "button small",
                on: {
                  click: () => {
                    close();
                    askKey(false).then((isNew) => isNew && redraw());
                  },
                },
              },
              t("key"),
            ),
      ),
    ),
    h("p", { class: "setting-foot" }, h("a", { href: "docs", target: "_blank", rel: "noopener" }, t("api_docs"))),
  ]);
}

/** Asks for a key; whether one was entered. */
async function askKey(isWrong) {
  const field = h("input", {
    type: "password",
    id: "key-field",
    class: "field",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
  });
  const remember = h("input", { type: "checkbox", id: "key-remember" });
  const { closed } = openDialog(
    { title: t("key.title"), closeLabel: t("close"), className: "dialog-small dialog-key" },
    (close) =>
      h(
        "form",
        {
          method: "dialog",
          on: {
            submit: (event) => {
              event.preventDefault();
              if (field.value.trim()) close(field.value.trim());
            },
          },
        },
        h("p", {}, t("key.text")),
        isWrong ? h("p", { class: "form-error", role: "alert" }, t("key.wrong")) : null,
        h("label", { for: "key-field", class: "label" }, t("key")),
        field,
        h("label", { class: "check", for: "key-remember" }, remember, h("span", {}, t("key.remember"))),
        h("div", { class: "dialog-actions" }, h("button", { type: "submit", class: "button primary" }, t("key.enter"))),
      ),
  );
  field.focus();
  const key = await closed;
  if (!key) return false;
  // A header takes visible ASCII only; anything else cannot be a key.
  saveApiKey(key.replace(/[^\x21-\x7e]/g, ""), remember.checked);
  return true;
}

/** Files may be dropped anywhere on the page. */
function acceptDrops() {
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const mark = (isOver) => document.body.classList.toggle("dropping", isOver);
  window.addEventListener("dragenter", (event) => {
    if (hasFiles(event)) {
      depth += 1;
      mark(true);
    }
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (depth === 0) mark(false);
  });
  window.addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  window.addEventListener("drop", (event) => {
    depth = 0;
    mark(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    const files = [...event.dataTransfer.items]
      .filter((item) => item.kind === "file" && !item.webkitGetAsEntry?.()?.isDirectory)
      .map((item) => item.getAsFile())
      .filter(Boolean);
    if (files.length === 0) {
      toast(t("files.none"));
      return;
    }
    if (!(page instanceof ComposePage)) {
      location.hash = "#/";
      show();
    }
    page.addFiles(files);
  });
}

/** A banner while the server cannot be reached, and knocking until it can. */
function watchConnection() {
  const banner = document.getElementById("banner");
  onReachable(async (isReachable) => {
    banner.hidden = isReachable;
    banner.textContent = isReachable ? "" : t("offline");
    for (let wait = 1000; !banner.hidden; wait = Math.min(10_000, wait * 1.5)) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      const isBack = await fetch(new URL("../../health/live", apiUrl("")), { cache: "no-store" }).then(
        (answer) => answer.ok,
        () => false,
      );
      if (!isBack) continue;
      setReachable(true);
      toast(t("online"));
      history.load();
      if (page instanceof JobPage && !page.job) redraw();
    }
  });
  window.addEventListener("offline", () => setReachable(false));
}

uploads.addEventListener("job", ({ detail: { item, job } }) => {
  const known = {
    ...job,
    filename: job.filename ?? item.file?.name,
    source: job.source ?? (item.url ? { kind: "url", url: item.url } : undefined),
  };
  history.update(known);
  if (uploads.items.length === 0 && page instanceof ComposePage && page.sources.length === 0)
    location.hash = `#/t/${job.job_id}`;
  else toast(t("upload.started", { name: sourceName(known) }));
});
window.addEventListener("beforeunload", (event) => {
  if (uploads.isBusy) event.preventDefault();
});
window.addEventListener("hashchange", () => {
  show();
  // Whoever reads by ear goes on in the new view, not in the list.
  main.focus({ preventScroll: true });
});
document.addEventListener("keydown", (event) => handleShortcut(event, page));

onKeyNeeded(askKey);
watchConnection();
acceptDrops();
drawBrand();
history = new History(document.getElementById("history"));
show();
