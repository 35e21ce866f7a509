"use strict";
// Work of the native half: waiting for it, hearing of it, stopping it.

const { EchoError, fromJson } = require("./errors.cjs");
const { camelCased } = require("./names.cjs");

const REPORTS = { progress: "onProgress", download: "onDownload" };

/**
 * Every event of a job but reports, which go to their callbacks, up to `done`. Leaving early stops
 * the work, and so does a signal, whose reason is thrown.
 */
async function* events(start, { signal, ...callbacks } = {}) {
  signal?.throwIfAborted();
  const job = start();
  const abort = () => job.cancel();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    for (;;) {
      const event = await job.next();
      signal?.throwIfAborted();
      if (event.kind === "failed") throw fromJson(event.json);
      const value = JSON.parse(event.json);
      if (event.kind in REPORTS) {
        callbacks[REPORTS[event.kind]]?.(camelCased(value));
        continue;
      }
      yield { ...event, value };
      if (event.kind === "done") return;
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    job.cancel();
  }
}

/** The last event of a job. */
async function finished(start, options) {
  for await (const event of events(start, options)) {
    if (event.kind === "done") return event;
  }
  throw new EchoError("the work ended without an answer", "inference");
}

module.exports = { events, finished };
