/*
 * A transcript as paragraphs to read and as units to play, made once from the result.
 *
 * A unit is a word with its time, or a whole segment where there are no words. A row is a paragraph:
 * units of one speaker until a pause, or about four lines. The text is the segment's own, punctuation
 * and all: each word is looked for in it, and what lies between words stays between them, which also
 * holds for languages written without spaces. Three hours are about 30,000 units and 1,000 rows.
 */

/** A paragraph ends after a pause of this length, in seconds. */
const PAUSE_SECONDS = 2.5;
/** And at the end of the segment that makes it longer than this, in characters. */
const ROW_CHARS = 320;

/**
 * `{rows, starts, ends, rowOf, hasWords, speakers, duration}`. A row is `{start, end, speaker,
 * isNewSpeaker, parts}`, a part `{text, unit}` where `unit` is -1 between words.
 */
export function buildModel(result) {
  const model = { rows: [], starts: [], ends: [], rowOf: [], hasWords: false, duration: result.duration ?? 0 };
  let row = null;
  for (const segment of result.segments ?? []) {
    for (const run of speakerRuns(segment)) {
      const needsRow =
        !row || row.speaker !== run.speaker || run.start - row.end > PAUSE_SECONDS || row.chars > ROW_CHARS;
      if (needsRow) {
        row = {
          start: run.start,
          end: run.end,
          speaker: run.speaker,
          parts: [],
          chars: 0,
          isNewSpeaker: row?.speaker !== run.speaker,
        };
        model.rows.push(row);
      }
      addRun(model, row, run);
      model.hasWords ||= run.isWords;
    }
  }
  model.starts = Float64Array.from(model.starts);
  model.ends = Float64Array.from(model.ends);
  model.rowOf = Int32Array.from(model.rowOf);
  model.speakers = speakerIds(result, model.rows);
  return model;
}

/** The words of a segment that one speaker says in a row; the segment itself if it has no words. */
function speakerRuns(segment) {
  const speaker = segment.speaker ?? null;
  const words = (segment.words ?? []).filter((word) => Number.isFinite(word.start) && Number.isFinite(word.end));
  const text = segment.text ?? "";
  if (words.length === 0) {
    const unit = { start: segment.start, end: segment.end, text: text.trim(), gap: "" };
    return unit.text ? [{ ...unit, speaker, isWords: false, units: [unit], tail: "" }] : [];
  }
  const runs = [];
  let from = 0;
  for (const word of words) {
    const said = (word.word ?? word.text ?? "").trim();
    const at = said ? text.indexOf(said, from) : -1;
    // A word that the text does not have is shown all the same, after a space.
    const unit = { start: word.start, end: word.end, text: said, gap: at < 0 ? " " : text.slice(from, at) };
    if (at >= 0) from = at + said.length;
    const by = word.speaker ?? speaker;
    const last = runs.at(-1);
    if (last && last.speaker === by) {
      last.units.push(unit);
      last.end = Math.max(last.end, unit.end);
    } else {
      runs.push({ speaker: by, start: unit.start, end: unit.end, units: [unit], isWords: true, tail: "" });
    }
  }
  runs.at(-1).tail = text.slice(from).trimEnd();
  return runs;
}

function addRun(model, row, run) {
  for (const [index, unit] of run.units.entries()) {
    const isFirst = row.parts.length === 0;
    const gap = isFirst ? unit.gap.trimStart() : gapBefore(unit.gap, index, row);
    if (gap) row.parts.push({ text: gap, unit: -1 });
    row.parts.push({ text: unit.text, unit: model.starts.length });
    row.chars += gap.length + unit.text.length;
    model.starts.push(unit.start);
    model.ends.push(Math.max(unit.start, unit.end));
    model.rowOf.push(model.rows.length - 1);
  }
  if (run.tail) row.parts.push({ text: run.tail, unit: -1 });
  row.end = Math.max(row.end, run.end);
}

/** What stands before a unit: between segments a space, unless the script has none. */
function gapBefore(gap, index, row) {
  if (index > 0 || gap.trim() !== "") return index > 0 || /^\s/.test(gap) ? gap : ` ${gap}`;
  const last = row.parts.at(-1)?.text ?? "";
  return /[\u2E80-\u9FFF\u0E00-\u0EFF\u1000-\u109F\uFF00-\uFFEF]$/.test(last) ? "" : " ";
}

/** Labels of speakers, in order of first appearance. */
function speakerIds(result, rows) {
  const listed = (result.speakers ?? []).map((speaker) => (typeof speaker === "string" ? speaker : speaker.id));
  const heard = rows.map((row) => row.speaker).filter((speaker) => speaker !== null);
  return [...new Set([...listed, ...heard])];
}

/** Seconds each speaker talks, by label. */
export function talkingTimes(model) {
  const times = new Map();
  for (const row of model.rows) {
    if (row.speaker !== null) times.set(row.speaker, (times.get(row.speaker) ?? 0) + Math.max(0, row.end - row.start));
  }
  return times;
}

/** The last unit that has begun by `time`, or -1; by binary search. */
export function unitAt(model, time) {
  let low = 0;
  let high = model.starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (model.starts[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Letters as people search for them: without case, without accents. */
export function fold(text) {
  return text
    .normalize("NFD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase();
}

/** Places of `query`: `{row, from, to}`, the first and the last part that it touches. */
export function search(model, query) {
  const wanted = fold(query.trim()).replace(/\s+/g, " ");
  const hits = [];
  if (!wanted) return hits;
  for (const [index, row] of model.rows.entries()) {
    row.folded ??= foldRow(row);
    const { text, ends } = row.folded;
    let part = 0;
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
      while (ends[part] <= at) part += 1;
      let to = part;
      while (ends[to] < at + wanted.length) to += 1;
      hits.push({ row: index, from: part, to });
    }
  }
  return hits;
}

/** The folded text of a row, and where each part ends in it. */
function foldRow(row) {
  let text = "";
  const ends = row.parts.map((part) => {
    text += fold(part.text).replace(/\s+/g, " ");
    return text.length;
  });
  return { text, ends };
}

/** The whole transcript as text, a paragraph a line, with names of speakers where they change. */
export function plainText(model, nameOf) {
  return model.rows
    .map((row) => {
      const text = row.parts
        .map((part) => part.text)
        .join("")
        .trim();
      return row.speaker !== null && row.isNewSpeaker ? `${nameOf(row.speaker)}: ${text}` : text;
    })
    .join("\n\n");
}
