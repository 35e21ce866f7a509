/*
 * Downloads, with the names that were given to the speakers.
 *
 * The server writes every format. Without names its bytes are saved as they are; with names, only the
 * places where a format puts a speaker are changed: fields of JSON, `<v NAME>` in WebVTT, `[NAME]: `
 * at the start of a line elsewhere. What somebody said is never touched.
 */

/** What can be downloaded, in the order of the menu. */
export const FORMATS = ["txt", "srt", "vtt", "json", "tsv"];

/** `text` in `format` with speakers' labels replaced by `names`. */
export function withNames(text, format, names) {
  if (Object.keys(names).length === 0) return text;
  if (format === "json") return JSON.stringify(nameFields(JSON.parse(text), names), null, 2) + "\n";
  const name = (label) => (Object.hasOwn(names, label) ? oneLine(names[label]) : label);
  if (format === "vtt") {
    return text
      .replace(/<v ([^>\n]+)>/g, (_, label) => `<v ${escapeVtt(name(label))}>`)
      .replace(/^\[([^\]\n]+)\]: /gm, (_, label) => `[${escapeVtt(name(label))}]: `);
  }
  if (format === "tsv") {
    return text.replace(/(^|\t)\[([^\]\n\t]+)\]: /gm, (_, before, label) => `${before}[${name(label)}]: `);
  }
  return text.replace(/^\[([^\]\n]+)\]: /gm, (_, label) => `[${name(label)}]: `);
}

/** Labels in the fields that hold them, at any depth. */
function nameFields(value, names) {
  const named = (label) => (typeof label === "string" && Object.hasOwn(names, label) ? names[label] : label);
  if (Array.isArray(value)) return value.map((item) => nameFields(item, names));
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).map(([key, inner]) => {
    if (key === "speaker") return [key, named(inner)];
    if (key === "speakers" && Array.isArray(inner)) {
      const renamed = inner.map((item) =>
        typeof item === "object" && item !== null && "id" in item ? { ...item, label: named(item.id) } : named(item),
      );
      return [key, renamed];
    }
    return [key, nameFields(inner, names)];
  });
  return Object.fromEntries(entries);
}

/** A name that cannot break a line-based format. */
function oneLine(name) {
  return name.replace(/[\r\n\t\]]+/g, " ").trim();
}

function escapeVtt(name) {
  return name.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** `meeting.mp3` as `meeting.srt`. */
export function downloadName(sourceName, format) {
  const stem = sourceName
    .replace(/\.[A-Za-z0-9]{1,5}$/, "")
    .replace(/[\\/:*?"<>|\u0000-\u001f]+/g, "_")
    .trim();
  return `${stem || "transcript"}.${format}`;
}
