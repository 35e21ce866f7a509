/*
 * What the page remembers on this device: theme, language, shortcuts, the last options, names of speakers.
 *
 * Kept in `localStorage` under `echo.*`. A browser that keeps nothing (private windows, blocked site
 * data) still works: everything then lasts as long as the page.
 */

const memory = new Map();

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null");
  } catch {
    return memory.get(key) ?? null;
  }
}

function write(key, value) {
  memory.set(key, value);
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Full or forbidden: the value lives in `memory` until the page closes.
  }
}

const DEFAULTS = { theme: "system", locale: "auto", shortcuts: true, speed: 1, volume: 1 };

/** The settings, with defaults for what was never set. */
export function settings() {
  return { ...DEFAULTS, ...(read("echo.settings") ?? {}) };
}

/** Changes some settings. */
export function saveSettings(changes) {
  write("echo.settings", { ...settings(), ...changes });
  if ("theme" in changes) applyTheme();
}

/** Puts the chosen theme into force. */
export function applyTheme() {
  const { theme } = settings();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  window.dispatchEvent(new Event("echo-theme"));
}

/** The options of the last transcription that was started here. */
export function lastOptions() {
  return read("echo.options") ?? {};
}

/** Remembers the options for the next time. */
export function saveLastOptions(options) {
  write("echo.options", options);
}

/** The names given to the speakers of one job: `{SPEAKER_00: "Ana"}`. */
export function speakerNames(jobId) {
  return read(`echo.speakers.${jobId}`) ?? {};
}

/** Remembers the names of one job's speakers; forgets them when there are none. */
export function saveSpeakerNames(jobId, names) {
  write(`echo.speakers.${jobId}`, Object.keys(names).length ? names : null);
}

const KEY = "echo.key";

/** The API key, or an empty string. */
export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? memory.get(KEY) ?? "";
  } catch {
    return memory.get(KEY) ?? "";
  }
}

/** Keeps the API key for this tab, or for this device. An empty key forgets it everywhere. */
export function saveApiKey(key, isForDevice) {
  memory.set(KEY, key);
  try {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    if (key) (isForDevice ? localStorage : sessionStorage).setItem(KEY, key);
  } catch {
    // Nothing can be kept: `memory` has it.
  }
}
