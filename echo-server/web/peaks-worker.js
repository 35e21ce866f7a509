/*
 * Peaks of samples for the waveform, off the main thread.
 *
 * In: `{samples: Float32Array, points}`. Out: a `Float32Array` of `points` loudness values of 0 to 1:
 * the root mean square of each bucket, relative to the loudest, on a curve near to how loud it sounds.
 */

self.addEventListener("message", ({ data: { samples, points } }) => {
  const peaks = new Float32Array(points);
  let loudest = 0;
  for (let point = 0; point < points; point += 1) {
    const from = Math.floor((point * samples.length) / points);
    const to = Math.max(from + 1, Math.floor(((point + 1) * samples.length) / points));
    let energy = 0;
    for (let at = from; at < to && at < samples.length; at += 1) energy += samples[at] * samples[at];
    peaks[point] = Math.sqrt(energy / (to - from));
    loudest = Math.max(loudest, peaks[point]);
  }
  // Below a thousandth of full scale it is noise of the recorder: drawn flat, not blown up.
  const scale = loudest > 0.001 ? 1 / loudest : 0;
  for (let point = 0; point < points; point += 1) peaks[point] = Math.pow(peaks[point] * scale, 0.7);
  self.postMessage(peaks, { transfer: [peaks.buffer] });
});
