/*
 * Where the waveform of a recording comes from, best source first.
 *
 * The server's peaks; else the recording decoded here by Web Audio at 8 kHz, if it is short enough for
 * that; else the words: where somebody speaks the waveform is high. The last costs nothing however
 * long the recording is, and is also what is shown until one of the others is ready.
 */

import { ApiError, send } from "./api.js";

const POINTS = 1600;
/** Decoding holds all samples in memory: 40 minutes at 8 kHz are 77 MB a channel. */
const MAX_DECODED_SECONDS = 2400;
const MAX_DECODED_BYTES = 96 * 1024 * 1024;
const DECODE_RATE_HZ = 8000;

/** Peaks of 0 to 1 from the words of a model: higher where more of the time is filled with speech. */
export function peaksOfWords(model, duration, points = 300) {
  const peaks = new Float32Array(points);
  if (!(duration > 0)) return peaks;
  const bucket = duration / points;
  for (let unit = 0; unit < model.starts.length; unit += 1) {
    const start = model.starts[unit];
    const end = model.ends[unit];
    for (let point = Math.floor(start / bucket); point <= end / bucket && point < points; point += 1) {
      const covered = Math.min(end, (point + 1) * bucket) - Math.max(start, point * bucket);
      peaks[point] += Math.max(0, covered) / bucket;
    }
  }
  // Not a plain block, and the same shape at every visit: it stands for speech, it does not measure it.
  for (let point = 0; point < points; point += 1) {
    peaks[point] = Math.min(1, peaks[point]) * (0.5 + 0.3 * Math.abs(Math.sin(point * 12.9898)));
  }
  return peaks;
}

/** Measured peaks, or `null` where there are none to be had. */
export async function measuredPeaks(job, duration, signal) {
  try {
    const response = await send(`transcription/${job.job_id}/waveform?points=${POINTS}`, { signal });
    const { peaks } = await response.json();
    if (Array.isArray(peaks) && peaks.length > 0) return scaled(peaks);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code === "network") return null;
  }
  const bytes = job.source?.size_bytes ?? Infinity;
  if (duration > MAX_DECODED_SECONDS || bytes > MAX_DECODED_BYTES) return null;
  try {
    return await decodedPeaks(job.job_id, signal);
  } catch {
    // A format that this browser cannot decode: the words have to do.
    return null;
  }
}

/** The server counts to 127; the loudest is made 1. */
function scaled(peaks) {
  const loudest = Math.max(
    1,
    peaks.reduce((most, peak) => Math.max(most, peak), 0),
  );
  return Float32Array.from(peaks, (peak) => Math.pow(Math.max(0, peak) / loudest, 0.8));
}

async function decodedPeaks(jobId, signal) {
  const response = await send(`transcription/${jobId}/audio`, { signal });
  const bytes = await response.arrayBuffer();
  const audio = await new OfflineAudioContext(1, 1, DECODE_RATE_HZ).decodeAudioData(bytes);
  const samples = audio.getChannelData(0).slice();
  const worker = new Worker(new URL("peaks-worker.js", import.meta.url));
  try {
    return await new Promise((resolve, reject) => {
      worker.addEventListener("message", ({ data }) => resolve(data));
      worker.addEventListener("error", reject);
      signal.addEventListener("abort", reject);
      worker.postMessage({ samples, points: POINTS }, [samples.buffer]);
    });
  } finally {
    worker.terminate();
  }
}
