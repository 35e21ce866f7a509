/*
 * The languages that Whisper knows, named in the language of the page.
 */

import { locale } from "./i18n.js";

/** In Whisper's own order, which is roughly that of how much it heard of each. */
const CODES = (
  "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk " +
  "te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo " +
  "ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split(" ");

/** Whisper's codes that the rest of the world writes otherwise. */
const STANDARD = { jw: "jv", tl: "fil" };

/** The name of a language; its code where the browser knows no name. */
export function languageName(code) {
  if (!code) return "";
  try {
    const name = new Intl.DisplayNames([locale()], { type: "language" }).of(STANDARD[code] ?? code);
    return name.charAt(0).toLocaleUpperCase(locale()) + name.slice(1);
  } catch {
    return code;
  }
}

/** `[code, name]` of every language, by name. */
export function languages() {
  const collator = new Intl.Collator(locale());
  return CODES.map((code) => [code, languageName(code)]).sort((a, b) => collator.compare(a[1], b[1]));
}
