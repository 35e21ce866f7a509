"use strict";

const { fromJson } = require("./errors.cjs");
const { finished } = require("./jobs.cjs");
const { camelCased, snakeCased } = require("./names.cjs");
const native = require("./native.cjs");
const { fileURLToPath } = require("node:url");

/** Everything that was said in one source. Plain data that may be changed and then written. */
class Transcript {
  constructor(members = {}) {
    const empty = { version: 1, language: null, duration: 0, segments: [], speakers: [], warnings: [] };
    Object.assign(this, empty, members);
    this.segments = this.segments.map(asSegment);
  }

  /** The transcript of an object or a text of the documented JSON. */
  static fromJSON(json) {
    // The names of speakers stay as they are.
    const { speaker_embeddings: voices, ...members } = typeof json === "string" ? JSON.parse(json) : json;
    return new Transcript({ ...camelCased(members), ...(voices && { speakerEmbeddings: voices }) });
  }

  static fromSrt(text) {
    return Transcript.fromJSON(answer(native.parseTranscript(text, "srt")));
  }

  static fromVtt(text) {
    return Transcript.fromJSON(answer(native.parseTranscript(text, "vtt")));
  }

  /** Reads SubRip, WebVTT or JSON, told apart by their content. */
  static async load(path) {
    const { value } = await finished(() => native.loadTranscript(asPath(path)));
    return Transcript.fromJSON(value);
  }

  get text() {
    return answer(native.text(JSON.stringify(this)));
  }

  /** Every word of every segment, in order. */
  *words() {
    for (const segment of this.segments) yield* segment.words;
  }

  /** The transcript in a format: `txt`, `srt`, `vtt`, `tsv`, `json`, `whisperx` or `rttm`. */
  write(format = "txt", cues = {}) {
    return answer(native.format(JSON.stringify(this), format, JSON.stringify(snakeCased(cues))));
  }

  /** Writes a file, in the format given or the one that its name ends in; whole or not at all. */
  async save(path, { format, ...cues } = {}) {
    const settings = JSON.stringify(snakeCased(cues));
    await finished(() => native.save(JSON.stringify(this), asPath(path), format ?? null, settings));
  }

  /** The object of the documented JSON, whose members are written with underscores. */
  toJSON() {
    const { language = null, speakers, warnings, speakerEmbeddings, ...members } = this;
    if (speakers.length > 0) members.speakers = speakers;
    if (warnings.length > 0) members.warnings = warnings;
    const json = { ...snakeCased({ ...members, segments: [] }), language, segments: this.segments.map(segmentJson) };
    if (speakerEmbeddings) json.speaker_embeddings = speakerEmbeddings;
    return json;
  }
}

/** Words are `text` in JavaScript as in Rust and Python; JSON calls them `word`. */
function asSegment(segment) {
  const words = (segment.words ?? []).map(({ word, ...rest }) => ({ text: word, ...rest }));
  return { ...segment, words };
}

function segmentJson({ words, ...segment }) {
  const json = snakeCased(segment);
  if (words.length > 0) {
    json.words = words.map(({ text, ...word }) => ({ ...snakeCased(word), word: text }));
  }
  return json;
}

function answer({ value, failure }) {
  if (failure !== undefined && failure !== null) throw fromJson(failure);
  return value;
}

function asPath(path) {
  return path instanceof URL ? fileURLToPath(path) : path;
}

module.exports = { Transcript, asSegment };
