/// <reference types="node" />

/** A path, a `file:` URL, the bytes of a file, a stream of them, or samples with their rate. */
export type AudioSource =
  | string
  | URL
  | Uint8Array
  | ArrayBuffer
  | Samples
  | Blob
  | NodeJS.ReadableStream
  | AsyncIterable<Uint8Array>;

/** Decoded sound of one channel. */
export interface Samples {
  /** From -1 to 1. */
  samples: Float32Array;
  sampleRateHz: number;
}

/** What {@link loadAudio} gives; a source for every transcription that is asked of it. */
export interface Audio extends Samples {
  sampleRateHz: 16000;
  /** Seconds. */
  duration: number;
  /** What was wrong with the source although it could be decoded. */
  warnings: string[];
}

/** Why Echo could not do what was asked, by what you can do about it. */
export type ErrorCode =
  | "audio"
  | "model"
  | "device"
  | "option"
  | "transcript"
  | "io"
  | "cancelled"
  | "inference";

export class EchoError extends Error {
  constructor(message: string, code?: ErrorCode | (string & {}), options?: ErrorOptions);
  readonly name: "EchoError";
  /** The same word in Rust, Python and REST. */
  readonly code: ErrorCode | (string & {});
  /** The file or folder, where `code` is `io`. */
  readonly path?: string;
}

/** How far a run is: `fraction` never falls and ends at exactly 1. */
export interface Progress {
  stage: "decoding" | "detecting" | "transcribing" | "aligning" | "diarizing" | (string & {});
  fraction: number;
}

/** How far a download is. */
export interface Download {
  model: string;
  source: string;
  file: string;
  doneBytes: number;
  totalBytes: number | null;
}

export interface LoadOptions {
  /** A name of the catalogue, a hub repository, a folder or a file. Default `base`. */
  model?: string;
  /** Default `auto`. */
  device?: "auto" | "cpu" | "cuda" | `cuda:${number}` | "metal" | `metal:${number}`;
  /** Default `auto`. */
  computeType?: "auto" | "f32" | "bf16" | "f16" | "int8";
  /** Threads for work on the CPU. Default: one for each processor. */
  threads?: number;
  /** Windows decoded at once in batched mode. Default 8. */
  batchSize?: number;
  /** An acoustic model of the language spoken, which places words better than attention. */
  aligner?: string;
  /**
   * What tells speakers apart: `campplus` (the default), `community-1` (needs `HF_TOKEN` to be downloaded), a hub
   * repository, or a folder laid out as that one.
   */
  diarizationModel?: string;
  /** The folder of the models. Default: the user's cache folder. */
  cache?: string;
  /** Open no socket. Default: as `HF_HUB_OFFLINE` says. */
  offline?: boolean;
  onDownload?: (download: Download) => void;
  signal?: AbortSignal;
}

/** Rules of decoding, with the reference implementation's defaults. */
export interface DecodeOptions {
  beamSize?: number;
  bestOf?: number;
  patience?: number;
  lengthPenalty?: number | null;
  repetitionPenalty?: number;
  noRepeatNgramSize?: number;
  temperatures?: number[];
  compressionRatioThreshold?: number | null;
  logprobThreshold?: number | null;
  noSpeechThreshold?: number | null;
  conditionOnPreviousText?: boolean;
  promptResetOnTemperature?: number;
  initialPrompt?: string | null;
  prefix?: string | null;
  hotwords?: string | null;
  suppressBlank?: boolean;
  suppressTokens?: number[];
  withoutTimestamps?: boolean;
  maxInitialTimestamp?: number;
  maxNewTokens?: number | null;
  seed?: number;
}

/** Rules of voice activity detection. */
export interface VadOptions {
  /** What hears where speech is. Default `silero`. */
  model?: "silero" | "pyannote" | "none";
  onset?: number;
  offset?: number;
  minSpeechMs?: number;
  minSilenceMs?: number;
  padMs?: number;
  maxChunkSeconds?: number;
}

/** How speakers are told apart. */
export interface Diarization {
  /** At least so many speakers, where there is speech of so many. */
  minSpeakers?: number | null;
  /** At most so many speakers. */
  maxSpeakers?: number | null;
  /** Default `auto`: `vbx` where the diarization model has a PLDA, else `average`. */
  clustering?: "auto" | "average" | "centroid" | "vbx";
  /** Voices farther apart than this are different speakers. */
  threshold?: number | null;
  /** Shorter turns are dropped. Default 100. */
  minTurnMs?: number;
  /** Shorter pauses within a turn are filled. Default 300. */
  minGapMs?: number;
}

/** What is asked of one transcription. */
export interface TranscribeOptions extends DecodeOptions {
  /** As a code or an English name; detected by default. */
  language?: string | null;
  /** Detect the language of every window anew. */
  multilingual?: boolean;
  task?: "transcribe" | "translate";
  /** Batched chunks (the default), or one window after the other as the reference does. */
  mode?: "batched" | "sequential";
  /** Only these stretches of the source, in seconds. */
  clips?: { start: number; end: number }[];
  channels?: "mix" | "each" | { one: number };
  /** The audio track, counted from 0. */
  track?: number | null;
  /** Find the words of every segment, with their times. */
  words?: boolean;
  /** How the times of words are found. Default `auto`. */
  align?: "auto" | "ctc" | "attention" | "none";
  /** Make each segment a sentence; needs words, which are found for it. */
  sentences?: boolean;
  vad?: VadOptions;
  /** Tell speakers apart by their voices; `{}` leaves their number to the voices. */
  diarize?: Diarization | null;
}

/** How a run is followed and stopped. */
export interface RunOptions extends TranscribeOptions {
  /** Called as the work goes on; what it throws ends the run. */
  onProgress?: (progress: Progress) => void;
  /** Stops the work; the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** A word with its times, in seconds from the start of the source. */
export interface Word {
  start: number;
  end: number;
  text: string;
  probability?: number;
  timing: "aligned" | "attention" | "interpolated" | (string & {});
  speaker?: string;
}

/** What the recogniser knows about a segment beyond its text. */
export interface Decoding {
  tokens: number[];
  temperature: number;
  avgLogprob: number;
  compressionRatio: number;
  noSpeechProb: number;
}

/** A sentence or so, in seconds from the start of the source. */
export interface Segment {
  start: number;
  end: number;
  text: string;
  /** Empty unless words were asked for. */
  words: Word[];
  speaker?: string;
  /** Where it is not the transcript's. */
  language?: string;
  decoding?: Decoding;
}

export type Format = "txt" | "srt" | "vtt" | "tsv" | "json" | "whisperx" | "rttm";

/** How subtitles are cut. */
export interface CueOptions {
  maxLineChars?: number;
  maxLines?: number;
  highlightWords?: boolean;
  /** A cue that would have to be read faster stays longer, as far as the next one lets it. */
  maxCharsPerSecond?: number;
  /** A cue stays until the next one where the gap is at most this. Default 0. */
  closeGapsMs?: number;
}

/** Everything that was said in one source. Plain data that may be changed and then written. */
export class Transcript {
  constructor(members?: Partial<Pick<Transcript, "language" | "duration" | "segments" | "speakers">>);
  /** The transcript of an object or a text of the documented JSON. */
  static fromJSON(json: string | object): Transcript;
  static fromSrt(text: string): Transcript;
  static fromVtt(text: string): Transcript;
  /** Reads SubRip, WebVTT or JSON, told apart by their content. */
  static load(path: string | URL): Promise<Transcript>;

  version: number;
  language: string | null;
  /** Missing when the language was given. */
  languageProbability?: number;
  /** Seconds. */
  duration: number;
  segments: Segment[];
  speakers: string[];
  /** Who speaks when, in order of start, overlapping where people do. */
  turns?: { start: number; end: number; speaker: string }[];
  /** A vector of each speaker's voice; compare two by the cosine of their angle. */
  speakerEmbeddings?: Record<string, number[]>;
  warnings: string[];

  readonly text: string;
  words(): IterableIterator<Word>;
  write(format?: Format, cues?: CueOptions): string;
  save(path: string | URL, options?: CueOptions & { format?: Format }): Promise<void>;
  /** The object of the documented JSON, whose members are written with underscores. */
  toJSON(): Record<string, unknown>;
}

/** A source of {@link Transcriber.transcribeMany} with its transcript or its error. */
export type Outcome<S> =
  | { source: S; transcript: Transcript; error?: undefined }
  | { source: S; error: EchoError; transcript?: undefined };

/** A loaded model that transcribes: load once, use from anywhere. */
export class Transcriber {
  private constructor();
  /** Finds, downloads if need be, and loads a model. */
  static load(options?: LoadOptions | string): Promise<Transcriber>;

  transcribe(source: AudioSource, options?: RunOptions): Promise<Transcript>;
  /** Yields segments as they are decoded; leaving the loop stops the work. */
  segments(source: AudioSource, options?: RunOptions): AsyncGenerator<Segment, void, void>;
  /** In the order of the sources, as soon as they are ready; chunks of several share a batch. */
  transcribeMany<S extends AudioSource>(
    sources: Iterable<S> | AsyncIterable<S>,
    options?: Omit<RunOptions, "onProgress">,
  ): AsyncGenerator<Outcome<S>, void, void>;
  /** Likeliest first. */
  detectLanguage(
    source: AudioSource,
    options?: { signal?: AbortSignal },
  ): Promise<{ language: string; probability: number }[]>;

  readonly model: string;
  readonly device: string;
  readonly computeType: string;
  readonly isMultilingual: boolean;
  /** Frees the model as soon as no run uses it. */
  close(): void;
}

/** Decodes any audio or video file to 16 kHz mono samples. */
export function loadAudio(source: AudioSource, options?: { signal?: AbortSignal }): Promise<Audio>;

/** Who speaks when, without what they say: a transcript of turns and speakers. */
export function diarize(
  source: AudioSource,
  options?: Diarization & { model?: string; cache?: string; offline?: boolean; signal?: AbortSignal },
): Promise<Transcript>;

export interface CatalogEntry {
  name: string;
  aliases: string[];
  licence: string;
  sizeBytes: number;
  isMultilingual: boolean;
  repository: string;
}

export interface StoredModel {
  name: string;
  path: string;
  source: string;
  sizeBytes: number;
}

/** The models known by name, and those on this machine. */
export const models: {
  catalog(): CatalogEntry[];
  list(options?: { cache?: string }): Promise<StoredModel[]>;
  path(name: string, options?: { cache?: string }): Promise<string>;
  pull(
    name: string,
    options?: Pick<LoadOptions, "cache" | "offline" | "onDownload" | "signal">,
  ): Promise<StoredModel>;
  verify(name: string, options?: { cache?: string; signal?: AbortSignal }): Promise<void>;
  remove(name: string, options?: { cache?: string }): Promise<boolean>;
};
