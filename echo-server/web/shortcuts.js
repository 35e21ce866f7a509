/*
 * Keyboard shortcuts, and the list of them.
 *
 * Single keys act only where nobody is typing, and can be turned off, as WCAG 2.1.4 asks.
 */

import { h, openDialog } from "./dom.js";
import { t } from "./i18n.js";
import { saveSettings, settings } from "./settings.js";

/** Keys, what they are called in the list, and what they do to a result. */
const KEYS = [
  { keys: [" "], shown: ["keys.space"], text: "keys.play", act: (result) => result.player.toggle() },
  { keys: ["ArrowLeft"], shown: ["←", "→"], text: "keys.seek", act: (result) => result.player.skip(-5) },
  { keys: ["ArrowRight"], act: (result) => result.player.skip(5) },
  { keys: ["j"], shown: ["J", "K"], text: "keys.segment", act: (result) => result.transcript.stepRow(1) },
  { keys: ["k"], act: (result) => result.transcript.stepRow(-1) },
  { keys: ["["], shown: ["[", "]"], text: "keys.speed", act: (result) => result.player.stepSpeed(-1) },
  { keys: ["]"], act: (result) => result.player.stepSpeed(1) },
  { keys: ["/"], shown: ["/", "Ctrl F"], text: "keys.search", act: (result) => result.focusSearch() },
  { keys: ["f"], shown: ["F"], text: "keys.follow", act: (result) => result.transcript.follow() },
  {
    keys: ["n"],
    shown: ["N"],
    text: "keys.new",
    act: () => {
      location.hash = "#/";
    },
    isEverywhere: true,
  },
  { keys: ["?"], shown: ["?"], text: "keys.help", act: () => openHelp(), isEverywhere: true },
];

/** Acts on a key that was pressed while `page` is shown. */
export function handleShortcut(event, page) {
  if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const result = page?.result ?? null;
  const isFind = (event.ctrlKey || event.metaKey) && event.key === "f";
  if (isFind && result && document.activeElement !== result.searchField) {
    // Only rows in sight exist, so the browser's own search would miss the rest. A second time it gets its turn.
    event.preventDefault();
    result.focusSearch();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !settings().shortcuts || isTyping(event)) return;
  const entry = KEYS.find(({ keys }) => keys.includes(event.key.length === 1 ? event.key.toLowerCase() : event.key));
  if (!entry || !(result || entry.isEverywhere)) return;
  event.preventDefault();
  entry.act(result);
}

/** Whether the key belongs to what has the focus. */
function isTyping(event) {
  const { target } = event;
  if (target.closest("textarea, select, input:not([type=range]):not([type=checkbox]):not([type=radio]), [role=menu]"))
    return true;
  const pressesIt = event.key === " " && target.closest("button, a, summary, input, [role=menuitem]");
  const movesIt = event.key.startsWith("Arrow") && target.closest("input, [role=slider]");
  return Boolean(pressesIt || movesIt);
}

/** The list of shortcuts. */
export function openHelp() {
  const shown = (key) => h("kbd", {}, key.startsWith("keys.") ? t(key) : key);
  openDialog({ title: t("shortcuts"), closeLabel: t("close"), className: "dialog-small" }, () => [
    h(
      "dl",
      { class: "keys" },
      KEYS.filter((entry) => entry.shown).map((entry) =>
        h("div", {}, h("dt", {}, t(entry.text)), h("dd", {}, entry.shown.map(shown))),
      ),
    ),
    h(
      "label",
      { class: "check", for: "keys-on" },
      h("input", {
        type: "checkbox",
        id: "keys-on",
        checked: settings().shortcuts,
        on: { change: (event) => saveSettings({ shortcuts: event.target.checked }) },
      }),
      h("span", {}, t("keys.on")),
    ),
  ]);
}
