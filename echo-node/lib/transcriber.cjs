"use strict";

const { EchoError, fromJson, optionError } = require("./errors.cjs");
const { events, finished } = require("./jobs.cjs");
const { camelCased, snakeCased, toSnake } = require("./names.cjs");
const native = require("./native.cjs");
const { asSource } = require("./source.cjs");
const { Transcript, asSegment } = require("./transcript.cjs");

const NAMES = new Set(native.optionNames());
const LOAD_NAMES = [
  "model",
  "device",
  "computeType",
  "threads",
  "batchSize",
  "aligner",
  "diarizationModel",
  "cache",
  "offline",
];

/** A loaded model that transcribes: load once, use from anywhere. */
class Transcriber {
  #native;

  constructor(token, loaded) {
    if (token !== CONSTRUCT) throw new TypeError("use `await Transcriber.load(options)`");
    this.#native = loaded;
  }

  /** Finds, downloads if need be, and loads a model. */
  static async load(options = {}) {
    const { signal, onDownload, ...rest } = typeof options === "string" ? { model: options } : options;
    for (const name of Object.keys(rest)) {
      if (!LOAD_NAMES.includes(name)) throw optionError("options", `\`${name}\``, LOAD_NAMES.join(", "));
    }
    const json = JSON.stringify(snakeCased(rest));
    const { transcriber } = await finished(() => native.load(json), { signal, onDownload });
    return new Transcriber(CONSTRUCT, transcriber);
  }

  /** Transcribes one source. */
  async transcribe(source, options = {}) {
    const { json, ...run } = settings(options);
    const read = await asSource(source, run.signal);
    const start = () => this.#model().transcribe(read, json, run.onProgress !== undefined);
    return Transcript.fromJSON((await finished(start, run)).value);
  }

  /** Yields segments as they are decoded; leaving the loop stops the work. */
  async *segments(source, options = {}) {
    const { json, ...run } = settings(options);
    const read = await asSource(source, run.signal);
    const start = () => this.#model().segments(read, json, run.onProgress !== undefined);
    for await (const { kind, value } of events(start, run)) {
      if (kind === "segment") yield asSegment(camelCased(value));
    }
  }

  /**
   * Transcribes many sources; chunks of several share a batch. Yields each source with its
   * transcript or its error, in order and as soon as they are ready.
   */
  async *transcribeMany(sources, options = {}) {
    const { json, ...run } = settings(options);
    const given = [];
    for await (const source of sources) given.push(source);
    const read = await Promise.all(given.map((source) => asSource(source, run.signal)));
    let index = 0;
    for await (const { kind, value } of events(() => this.#model().transcribeMany(read, json), run)) {
      if (kind === "done") return;
      const source = given[index++];
      if (kind === "refused") yield { source, error: fromJson(value) };
      else yield { source, transcript: Transcript.fromJSON(value) };
    }
  }

  /** The languages of the first speech with their probabilities, likeliest first. */
  async detectLanguage(source, { signal } = {}) {
    const read = await asSource(source, signal);
    const { value } = await finished(() => this.#model().detectLanguage(read), { signal });
    return value.map(([language, probability]) => ({ language, probability }));
  }

  get model() {
    return this.#model().model;
  }

  get device() {
    return this.#model().device;
  }

  get computeType() {
    return this.#model().computeType;
  }

  get isMultilingual() {
    return this.#model().isMultilingual;
  }

  /** Lets go of the model: its memory is freed when no run uses it and the collector has passed. */
  close() {
    this.#native?.close();
    this.#native = undefined;
  }

  #model() {
    if (this.#native === undefined) throw new EchoError("the transcriber is closed", "option");
    return this.#native;
  }
}

const CONSTRUCT = Symbol("construct");

if (Symbol.dispose) {
  Transcriber.prototype[Symbol.dispose] = Transcriber.prototype.close;
}

/** Options of a run: those of the native half as JSON, the others as they are. */
function settings({ signal, onProgress, ...options }) {
  for (const name of Object.keys(options)) {
    if (!NAMES.has(toSnake(name))) throw optionError("options", `\`${name}\``, "the name of an option");
  }
  return { json: JSON.stringify(snakeCased(options), numbers), signal, onProgress };
}

/** JSON would make `null` of what is not a number, and `null` means something. */
function numbers(name, value) {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw optionError(name, String(value), "a number");
  }
  return value;
}

module.exports = { Transcriber };
