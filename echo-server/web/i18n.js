/*
 * The words of the page in English and Portuguese.
 *
 * `t("key", {name})` fills `{name}`; `key.one` and `key.other` are chosen by `{count}`. English stands
 * in for anything that a language lacks, and a test sees to it that none does.
 */

import { settings } from "./settings.js";
import { en } from "./strings-en.js";
import { pt } from "./strings-pt.js";

const TABLES = { en, pt };

/** The language of the page, `en` or `pt`. */
export function language() {
  const { locale: chosen } = settings();
  if (chosen in TABLES) return chosen;
  return navigator.language?.toLowerCase().startsWith("pt") ? "pt" : "en";
}

/** The locale for numbers and dates. */
export function locale() {
  const own = navigator.language ?? "en";
  if (own.toLowerCase().startsWith(language())) return own;
  return language() === "pt" ? "pt-BR" : "en";
}

/** The text of `key`, with its places filled from `values`. */
export function t(key, values = {}) {
  const table = TABLES[language()];
  let text = table[key] ?? en[key];
  if (text === undefined && "count" in values) {
    const form = `${key}.${new Intl.PluralRules(locale()).select(values.count)}`;
    text = table[form] ?? table[`${key}.other`] ?? en[`${key}.other`];
  }
  return (text ?? key).replace(/\{(\w+)\}/g, (place, name) => (name in values ? String(values[name]) : place));
}

/** Whether there is a text of `key`. */
export function has(key) {
  return key in en;
}
