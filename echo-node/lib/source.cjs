"use strict";
// From what programs have to what the native half reads.

const { fileURLToPath } = require("node:url");

const { optionError } = require("./errors.cjs");

const EXPECTED =
  "a path, a file: URL, a Uint8Array, a stream, or { samples: Float32Array, sampleRateHz }";

/** Tells what `source` is; reads it first if it is a stream. */
async function asSource(source, signal) {
  if (typeof source === "string") return { path: source };
  if (source instanceof URL) {
    if (source.protocol !== "file:") throw optionError("source", source.href, "a file: URL");
    return { path: fileURLToPath(source) };
  }
  if (source instanceof Uint8Array) return { bytes: source };
  if (source instanceof ArrayBuffer) return { bytes: new Uint8Array(source) };
  if (source !== null && typeof source === "object") {
    if ("samples" in source) return fromSamples(source);
    if (typeof source[Symbol.asyncIterator] === "function") return fromStream(source, signal);
    if (typeof source.arrayBuffer === "function") {
      return { bytes: new Uint8Array(await source.arrayBuffer()) };
    }
  }
  throw new TypeError(`source is ${named(source)}, expected ${EXPECTED}`);
}

function fromSamples({ samples, sampleRateHz }) {
  if (!(samples instanceof Float32Array)) {
    throw new TypeError(`samples is ${named(samples)}, expected a Float32Array`);
  }
  if (sampleRateHz === undefined) {
    throw optionError("sampleRateHz", "missing", "the rate of the samples given");
  }
  if (!Number.isInteger(sampleRateHz) || sampleRateHz < 0 || sampleRateHz > 0xffff_ffff) {
    throw optionError("sampleRateHz", String(sampleRateHz), "1,000 to 768,000");
  }
  return { samples, sampleRateHz };
}

async function fromStream(stream, signal) {
  const parts = [];
  for await (const part of stream) {
    signal?.throwIfAborted();
    if (!(part instanceof Uint8Array)) {
      throw new TypeError(`the stream gave ${named(part)}, expected bytes`);
    }
    parts.push(part);
  }
  return { bytes: Buffer.concat(parts) };
}

function named(value) {
  if (value === null || value === undefined) return String(value);
  return typeof value === "object" ? (value.constructor?.name ?? "an object") : typeof value;
}

module.exports = { asSource };
