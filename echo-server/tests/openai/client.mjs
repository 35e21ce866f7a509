// The official Node client against $ECHO_TEST_URL: every format x granularity x stream.
import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.ECHO_TEST_NODE_MODULES}/`);
const { default: OpenAI, toFile, BadRequestError, NotFoundError, APIError } = require("openai");

const FORMATS = ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"];
const GRANULARITIES = [undefined, ["word"], ["segment"], ["word", "segment"]];
const SOUND = process.env.ECHO_TEST_SOUND;
const TEXT = "pretended";

const client = new OpenAI({
  baseURL: `${process.env.ECHO_TEST_URL}/v1`, apiKey: process.env.ECHO_TEST_TOKEN, maxRetries: 0, timeout: 60_000,
});

/** The parameter that OpenAI's documentation does not allow together with the others. */
function refused(format, granularities, stream) {
  if (granularities && format !== "verbose_json") return "timestamp_granularities";
  return stream && !["json", "text", "diarized_json"].includes(format) ? "stream" : null;
}

async function transcribe(response_format, timestamp_granularities, stream) {
  const model = response_format === "diarized_json" ? "gpt-4o-transcribe-diarize" : "whisper-1";
  const request = { file: createReadStream(SOUND), model, response_format, stream };
  if (timestamp_granularities) request.timestamp_granularities = timestamp_granularities;
  const answer = await client.audio.transcriptions.create(request);
  return stream ? await all(answer) : answer;
}

async function all(events) {
  const list = [];
  for await (const event of events) list.push(event);
  return list;
}

function checkEvents(events, format) {
  const last = events.at(-1);
  assert.deepEqual([last.type, last.text], ["transcript.text.done", TEXT]);
  const before = events.slice(0, -1);
  if (format === "diarized_json") {
    assert.deepEqual(before.map((event) => [event.type, event.speaker]), [["transcript.text.segment", "A"]]);
  } else {
    assert(before.every((event) => event.type === "transcript.text.delta"));
    assert.equal(before.map((event) => event.delta).join(""), TEXT);
  }
}

function checkAnswer(answer, format, granularities) {
  const beginning = { text: TEXT, srt: "1\n00:00:00,", vtt: "WEBVTT" }[format];
  if (beginning) {
    assert.equal(typeof answer, "string");
    assert(answer.startsWith(beginning) && answer.includes(TEXT), answer);
    return;
  }
  assert.equal(answer.text, TEXT);
  if (format === "json") {
    assert.deepEqual(answer.usage, { type: "duration", seconds: 2 });
  } else if (format === "diarized_json") {
    assert.deepEqual(answer.segments.map((segment) => segment.speaker), ["A"]);
  } else {
    assert.deepEqual([answer.language, answer.duration, answer.task], ["english", 2, "transcribe"]);
    assert.equal(Boolean(answer.segments), !granularities || granularities.includes("segment"));
    assert.equal(Boolean(answer.words), Boolean(granularities?.includes("word")));
    for (const part of [...(answer.segments ?? []), ...(answer.words ?? [])]) {
      assert(part.start >= 0 && part.start < part.end && part.end <= 2, JSON.stringify(part));
    }
  }
}

let count = 0;
for (const format of FORMATS) {
  for (const granularities of GRANULARITIES) {
    for (const stream of [false, true]) {
      count += 1;
      const param = refused(format, granularities, stream);
      const answer = transcribe(format, granularities, stream);
      if (param) {
        await assert.rejects(answer, (error) => {
          assert(error instanceof BadRequestError, String(error));
          assert.deepEqual([error.param, error.code], [param, "invalid_option"]);
          return true;
        });
      } else if (stream) {
        checkEvents(await answer, format);
      } else {
        checkAnswer(await answer, format, granularities);
      }
    }
  }
}

const translated = await client.audio.translations.create({
  file: createReadStream(SOUND), model: "whisper-1", response_format: "verbose_json",
});
assert.deepEqual([translated.text, translated.task], [TEXT, "translate"]);
// Bytes without a name, and every field that the client knows.
const plain = await client.audio.transcriptions.create({
  file: await toFile(readFileSync(SOUND)), model: "whisper-1", language: "en", prompt: "Echo", temperature: 0.2,
  include: ["logprobs"], chunking_strategy: { type: "server_vad", threshold: 0.4 },
});
assert.equal(plain.text, TEXT);
const names = (await all(await client.models.list())).map((model) => model.id);
assert(names.includes("whisper-1"));
assert.equal((await client.models.retrieve(names[0])).owned_by, "echo");
const file = () => toFile(Buffer.from("<html>"), "page.html");
for (const [call, expected] of [
  [() => client.models.retrieve("gpt-9"), NotFoundError],
  [() => client.audio.transcriptions.create({ file: createReadStream(SOUND), model: "gpt-9" }), NotFoundError],
  [async () => client.audio.transcriptions.create({ file: await file(), model: "whisper-1" }), APIError],
]) {
  await assert.rejects(call, (error) => error instanceof expected && Boolean(error.code) && Boolean(error.requestID));
}
console.log(`Node's client ${require("openai/version").VERSION}: ${count} combinations`);
