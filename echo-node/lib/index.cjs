"use strict";
// Echo: speech to text, from any audio or video file to a timed transcript.

const { EchoError } = require("./errors.cjs");
const { finished } = require("./jobs.cjs");
const models = require("./models.cjs");
const { snakeCased } = require("./names.cjs");
const native = require("./native.cjs");
const { asSource } = require("./source.cjs");
const { Transcriber } = require("./transcriber.cjs");
const { Transcript } = require("./transcript.cjs");

/** Decodes any audio or video file to 16 kHz mono samples. */
async function loadAudio(source, { signal } = {}) {
  const read = await asSource(source, signal);
  const { samples, value } = await finished(() => native.loadAudio(read), { signal });
  return { samples, sampleRateHz: 16_000, duration: samples.length / 16_000, warnings: value };
}

/** Who speaks when, without what they say: a transcript of turns and speakers. */
async function diarize(source, { model, cache, offline, signal, ...options } = {}) {
  const read = await asSource(source, signal);
  const json = JSON.stringify(snakeCased(options));
  const start = () => native.diarize(read, json, model, cache, offline);
  return Transcript.fromJSON((await finished(start, { signal })).value);
}

module.exports.EchoError = EchoError;
module.exports.Transcriber = Transcriber;
module.exports.Transcript = Transcript;
module.exports.diarize = diarize;
module.exports.loadAudio = loadAudio;
module.exports.models = models;
