// Transcribing: every kind of source, options, segments, many, progress, cancellation.

import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { EchoError, Transcriber, Transcript, diarize, loadAudio, models } from "../lib/index.mjs";
import { cache, dialogue, skip, transcriber } from "./support.mjs";

const greedy = { beamSize: 1 };

/** Four minutes of speech: more than any test waits for. */
async function longAudio() {
  const { samples, sampleRateHz } = await loadAudio(dialogue);
  const long = new Float32Array(samples.length * 8);
  for (let copy = 0; copy < 8; copy++) long.set(samples, copy * samples.length);
  return { samples: long, sampleRateHz };
}

test("a path, a URL, bytes, streams and samples give the same sound", async () => {
  const audio = await loadAudio(dialogue);
  const bytes = await readFile(dialogue);
  const sources = [
    pathToFileURL(dialogue),
    bytes,
    new Uint8Array(bytes),
    createReadStream(dialogue),
    new Blob([bytes]).stream(),
    new Blob([bytes]),
    audio,
  ];
  for (const source of sources) assert.deepEqual(await loadAudio(source), audio);
});

test("samples and a file give the same text", { skip }, async () => {
  const echo = await transcriber();
  const whole = await echo.transcribe(dialogue, greedy);
  assert.match(whole.text, /bees/);
  assert.deepEqual(await echo.transcribe(await loadAudio(dialogue), greedy), whole);
});

test("segments come one by one, and leaving the loop stops the work", { skip }, async () => {
  const echo = await transcriber();
  const whole = await echo.transcribe(dialogue, greedy);
  const found = [];
  for await (const segment of echo.segments(dialogue, greedy)) found.push(segment);
  assert.deepEqual(found, whole.segments);
  const started = performance.now();
  for await (const segment of echo.segments(await longAudio(), greedy)) {
    assert.ok(segment.text);
    break;
  }
  assert.ok(performance.now() - started < 60_000);
});

test("many sources keep their order, and a bad one costs itself", { skip }, async () => {
  const echo = await transcriber();
  const outcomes = [];
  for await (const outcome of echo.transcribeMany([dialogue, "missing.wav", dialogue], greedy)) {
    outcomes.push(outcome);
  }
  assert.deepEqual(outcomes.map(({ source }) => source), [dialogue, "missing.wav", dialogue]);
  assert.equal(outcomes[1].error.code, "io");
  assert.equal(outcomes[0].transcript.text, outcomes[2].transcript.text);
});

test("progress never falls and ends at one", { skip }, async () => {
  const reports = [];
  const onProgress = (progress) => reports.push(progress);
  await (await transcriber()).transcribe(dialogue, { ...greedy, onProgress });
  const fractions = reports.map(({ fraction }) => fraction);
  assert.deepEqual(fractions, [...fractions].sort((a, b) => a - b));
  assert.equal(fractions.at(-1), 1);
  assert.ok(reports.some(({ stage }) => stage === "transcribing"));
});

test("what the callback throws comes out", { skip }, async () => {
  const onProgress = () => {
    throw new RangeError("enough");
  };
  await assert.rejects((await transcriber()).transcribe(dialogue, { onProgress }), /enough/);
});

test("a signal rejects with its reason at once", { skip }, async () => {
  const echo = await transcriber();
  const source = await longAudio();
  const started = performance.now();
  await assert.rejects(echo.transcribe(source, { signal: AbortSignal.timeout(100) }), {
    name: "TimeoutError",
  });
  // 250 ms on an idle machine; tests share theirs.
  assert.ok(performance.now() - started < 5000, `${performance.now() - started} ms`);
  const aborted = AbortSignal.abort(new Error("never mind"));
  await assert.rejects(echo.transcribe(source, { signal: aborted }), /never mind/);
});

test("several runs share a transcriber and the event loop goes on", { skip }, async () => {
  const echo = await transcriber();
  let ticks = 0;
  const ticker = setInterval(() => ticks++, 5);
  const short = { ...greedy, language: "en", clips: [{ start: 0, end: 5 }] };
  const runs = await Promise.all([1, 2, 3, 4].map(() => echo.transcribe(dialogue, short)));
  clearInterval(ticker);
  for (const run of runs) assert.deepEqual(run.segments, runs[0].segments);
  assert.ok(ticks > 3, `${ticks} ticks`);
});

test("options reach the core", { skip }, async () => {
  const found = await (await transcriber()).transcribe(dialogue, {
    language: "English",
    words: true,
    mode: "sequential",
    beamSize: 1,
    clips: [{ start: 14, end: 20 }],
    vad: { minSilenceMs: 200 },
  });
  assert.equal(found.language, "en");
  assert.equal(found.languageProbability, undefined);
  assert.ok([...found.words()].length > 5);
  assert.ok([...found.words()].every(({ start, end, text }) => start <= end && text.length > 0));
  assert.ok(found.segments.every(({ start, end }) => start >= 13.9 && end <= 20.1));
});

test("languages are detected, likeliest first", { skip }, async () => {
  const table = await (await transcriber()).detectLanguage(dialogue);
  assert.equal(table[0].language, "en");
  const sum = table.reduce((total, { probability }) => total + probability, 0);
  assert.ok(Math.abs(sum - 1) < 1e-3);
});

test("speakers are told apart without a recogniser", { skip }, async (context) => {
  const names = (await models.list({ cache })).map(({ name }) => name);
  if (!names.includes("campplus")) return context.skip("the store has no networks for speakers");
  const { speakers, turns } = await diarize(dialogue, { cache, offline: true, maxSpeakers: 2 });
  assert.equal(speakers.length, 2);
  assert.ok(turns.length > 3);
});

test("a closed transcriber says so", { skip }, async () => {
  const echo = await Transcriber.load({ model: "base", cache, offline: true, device: "cpu" });
  assert.deepEqual([echo.model, echo.device, echo.isMultilingual], ["base", "cpu", true]);
  echo.close();
  await assert.rejects(echo.transcribe(dialogue), /closed/);
  assert.throws(() => echo.model, EchoError);
});

test("models are listed and found", { skip }, async () => {
  assert.ok(models.catalog().some(({ name, sizeBytes }) => name === "base" && sizeBytes > 1e8));
  assert.ok((await models.list({ cache })).some(({ name }) => name === "base"));
  assert.match(await models.path("base", { cache }), /base/);
  assert.equal((await models.pull("base", { cache, offline: true })).name, "base");
});

test("bad input is the right error with value and expectation", { skip }, async () => {
  const echo = await transcriber();
  const samples = new Float32Array(16);
  const cases = [
    [42, {}, TypeError, /source is number, expected a path/],
    [null, {}, TypeError, /source is null/],
    [{ samples: [0], sampleRateHz: 16_000 }, {}, TypeError, /samples is Array.*Float32Array/],
    [{ samples: new Float64Array(4), sampleRateHz: 16_000 }, {}, TypeError, /Float64Array/],
    [{ samples }, {}, "option", /`sampleRateHz` is missing/],
    [{ samples, sampleRateHz: 10 }, {}, "option", /10, expected 1,000/],
    [{ samples, sampleRateHz: 1.5 }, {}, "option", /1.5, expected/],
    [{ samples: new Float32Array([NaN]), sampleRateHz: 16_000 }, {}, "option", /index 0/],
    [new URL("http://localhost/a.mp3"), {}, "option", /file: URL/],
    [Buffer.from("no sound at all"), {}, "audio", /15 bytes/],
    ["missing.wav", {}, "io", /missing.wav/],
    [dialogue, { beamSize: 0 }, "option", /`beam_size` is 0, expected 1 or more/],
    [dialogue, { beamSize: "five" }, "option", /"five", expected a whole number/],
    [dialogue, { patience: NaN }, "option", /NaN/],
    [dialogue, { beam: 5 }, "option", /`beam`/],
    [dialogue, { language: "klingon" }, "option", /klingon/],
  ];
  for (const [source, options, kind, message] of cases) {
    await assert.rejects(echo.transcribe(source, options), (error) => {
      if (typeof kind === "string") assert.ok(error instanceof EchoError && error.code === kind, `${error}`);
      else assert.ok(error instanceof kind, `${error}`);
      assert.match(error.message, message);
      return true;
    });
  }
  await assert.rejects(Transcriber.load({ model: "bass", cache, offline: true }), { code: "model" });
  await assert.rejects(Transcriber.load({ device: "abacus" }), { code: "option" });
  await assert.rejects(Transcriber.load({ modell: "base" }), { code: "option" });
});

test("a transcript goes to JSON and back, and is written", async () => {
  const transcript = new Transcript({
    language: "en",
    duration: 3,
    segments: [
      {
        start: 0.5,
        end: 2,
        text: "Good morning.",
        words: [{ start: 0.5, end: 1, text: "Good", timing: "attention" }],
        speaker: "SPEAKER_00",
        decoding: { tokens: [1], temperature: 0, avgLogprob: -0.25, compressionRatio: 1, noSpeechProb: 0 },
      },
      { start: 2, end: 3, text: "Hello." },
    ],
    speakers: ["SPEAKER_00"],
  });
  const json = transcript.write("json");
  assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify(transcript)));
  assert.equal(JSON.parse(json).segments[0].words[0].word, "Good");
  assert.equal(JSON.parse(json).segments[0].decoding.avg_logprob, -0.25);
  assert.deepEqual(Transcript.fromJSON(json), transcript);
  assert.equal(transcript.text, "Good morning. Hello.");
  assert.deepEqual([...transcript.words()].map(({ text }) => text), ["Good"]);
  assert.match(transcript.write("srt", { maxLineChars: 20 }), /SPEAKER_00/);
  assert.equal(Transcript.fromSrt(transcript.write("srt")).segments.length, 2);
  assert.equal(Transcript.fromVtt(transcript.write("vtt")).segments.length, 2);
  assert.throws(() => transcript.write("docx"), { code: "option" });
  assert.throws(() => Transcript.fromSrt("1\n00:00:01 --> never\nHello\n"), { code: "transcript" });
});
