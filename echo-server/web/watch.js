/*
 * Follows one job until it ends: by its events where they get through, by asking otherwise.
 *
 * The stream resumes after the last event seen. Where a proxy holds streams back or the server has
 * none, the job is asked for every one to five seconds. Losing the server stops nothing: the next
 * connection starts with a snapshot of the job.
 */

import { ApiError, call, isFinal, send } from "./api.js";
import { EventParser } from "./sse.js";

/** Nothing at all for so long means that something on the way swallows the stream. */
const SILENCE_MS = 40_000;
const POLL_MS = [1000, 1000, 2000, 3000, 5000];

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });

/**
 * Calls `onJob(changes)` with what changed, `onSegment(segment)` with text as it is recognised, and
 * `onEnd()` once when the job is over. Stops by `signal`.
 */
export async function watchJob(jobId, { onJob, onSegment, onEnd, onGone }, signal) {
  const parser = { current: new EventParser() };
  let failures = 0;
  while (!signal.aborted) {
    try {
      const isOver =
        failures < 3
          ? await readEvents(
              jobId,
              parser,
              {
                onJob,
                onSegment,
                onProgress: () => {
                  failures = 0;
                },
              },
              signal,
            )
          : await poll(jobId, onJob, signal);
      if (isOver) return onEnd();
      failures += 1;
      await pause(parser.current.retryMs ?? 1000, signal);
    } catch (error) {
      if (signal.aborted) return undefined;
      if (error instanceof ApiError && error.status === 404 && error.code === "job_not_found") return onGone?.();
      failures = error instanceof ApiError && error.status >= 400 ? 3 : failures + 1;
      await pause(Math.min(15_000, 1000 * 2 ** Math.min(failures, 4)), signal);
    }
  }
  return undefined;
}

/** Reads one connection; whether the job is over. */
async function readEvents(jobId, parser, { onJob, onSegment, onProgress }, signal) {
  const { lastId, retryMs } = parser.current;
  parser.current = Object.assign(new EventParser(), { lastId, retryMs });
  const connection = new AbortController();
  const stop = () => connection.abort();
  signal.addEventListener("abort", stop, { once: true });
  let silence = setTimeout(stop, SILENCE_MS);
  try {
    const headers = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) };
    const response = await send(`transcription/${jobId}/events`, { headers, signal: connection.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return false;
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE_MS);
      for (const event of parser.current.push(value)) {
        onProgress();
        if (handle(event, onJob, onSegment)) return true;
      }
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", stop);
    connection.abort();
  }
}

/** Passes one event on; whether it was the last. */
function handle({ event, data }, onJob, onSegment) {
  let body;
  try {
    body = JSON.parse(data);
  } catch {
    return false;
  }
  if (event === "segment") onSegment(body.segment ?? body);
  else if (event === "progress") onJob({ status: "processing", ...body });
  else if (event === "status" || event === "done") onJob(body);
  return event === "done" || (event === "status" && isFinal(body));
}

/** Asks a few times; whether the job is over. */
async function poll(jobId, onJob, signal) {
  for (const wait of POLL_MS) {
    const job = await call(`transcription/${jobId}?include=none`, { signal });
    onJob(job);
    if (isFinal(job)) return true;
    await pause(wait, signal);
    if (signal.aborted) return false;
  }
  return false;
}
