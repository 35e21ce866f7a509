"use strict";
// Echo: speech to text, from any audio or video file to a timed transcript.

const { EchoError } = require("./errors.cjs");
const { finished } = require("./jobs.cjs");
const models = require("./models.cjs");
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

module.exports.EchoError = EchoError;
module.exports.Transcriber = Transcriber;
module.exports.Transcript = Transcript;
module.exports.loadAudio = loadAudio;
module.exports.models = models;
