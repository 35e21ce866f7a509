/*
 * The page's modules that need no browser: events, transcripts, downloads, heights, words.
 */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { downloadName, withNames } from "../../web/downloads.js";
import { EventParser } from "../../web/sse.js";
import { en } from "../../web/strings-en.js";
import { pt } from "../../web/strings-pt.js";
import { buildModel, plainText, search, talkingTimes, unitAt } from "../../web/transcript-model.js";
import { Heights } from "../../web/virtual-list.js";

const WEB = new URL("../../web/", import.meta.url);

const word = (text, start, end, speaker) => ({ word: text, start, end, speaker });

test("events are the same however the network cuts them", () => {
  const stream =
    ': hello\r\nid: 7\r\nretry: 2500\r\nevent: progress\r\ndata: {"a":\r\ndata: 1}\r\n\r\nevent: empty\n\ndata: é\n\n';
  const expected = [
    { event: "progress", data: '{"a":\n1}', id: "7" },
    { event: "message", data: "é", id: "7" },
  ];
  for (let size = 1; size <= stream.length; size += 1) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < stream.length; at += size) events.push(...parser.push(stream.slice(at, at + size)));
    assert.deepEqual(events, expected, `in pieces of ${size}`);
    assert.equal(parser.retryMs, 2500);
    assert.equal(parser.lastId, "7");
  }
});

test("the text of a paragraph is the segments' own, punctuation and all", () => {
  const model = buildModel({
    duration: 9,
    segments: [
      {
        start: 0,
        end: 2,
        text: " Well, “yes” — it is.",
        words: [word("Well", 0, 0.4), word("yes", 0.5, 0.9), word("it", 1, 1.2), word("is", 1.3, 1.6)],
      },
      { start: 2, end: 4, text: "No words here." },
    ],
  });
  assert.equal(model.rows.length, 1);
  assert.equal(model.rows[0].parts.map((part) => part.text).join(""), "Well, “yes” — it is. No words here.");
  assert.equal(model.starts.length, 5);
  assert.deepEqual([...model.rowOf], [0, 0, 0, 0, 0]);
});

test("scripts without spaces get none", () => {
  const model = buildModel({
    segments: [
      { start: 0, end: 1, text: "你好", words: [word("你", 0, 0.4), word("好", 0.4, 0.8)] },
      { start: 1, end: 2, text: "世界", words: [word("世", 1, 1.4), word("界", 1.4, 1.8)] },
    ],
  });
  assert.equal(model.rows[0].parts.map((part) => part.text).join(""), "你好世界");
});

test("a word that the text lacks is shown all the same", () => {
  const model = buildModel({
    segments: [{ start: 0, end: 1, text: "one two", words: [word("one", 0, 0.2), word("2", 0.3, 0.5)] }],
  });
  assert.ok(model.rows[0].parts.some((part) => part.text === "2" && part.unit === 1));
});

test("a paragraph ends where the speaker changes, pauses, or has said enough", () => {
  const long = Array.from({ length: 40 }, (_, at) => ({
    start: 20 + at,
    end: 20.9 + at,
    text: "some twenty letters.",
    speaker: "B",
  }));
  const model = buildModel({
    segments: [
      { start: 0, end: 2, text: "a b", speaker: "A", words: [word("a", 0, 1, "A"), word("b", 1, 2, "B")] },
      { start: 2, end: 3, text: "more of B", speaker: "B" },
      { start: 9, end: 10, text: "after a pause", speaker: "B" },
      ...long,
    ],
  });
  assert.deepEqual(model.speakers, ["A", "B"]);
  assert.deepEqual(
    model.rows.slice(0, 3).map((row) => [row.speaker, row.isNewSpeaker]),
    [
      ["A", true],
      ["B", true],
      ["B", false],
    ],
  );
  assert.ok(model.rows.length > 5 && model.rows.every((row) => row.chars < 400));
  assert.ok(talkingTimes(model).get("B") > 30);
});

test("the unit at a time is the last that has begun", () => {
  const model = buildModel({
    segments: [{ start: 1, end: 4, text: "x y z", words: [word("x", 1, 1.5), word("y", 2, 2.5), word("z", 3, 3.5)] }],
  });
  assert.deepEqual(
    [0, 1, 1.9, 2, 3.2, 99].map((time) => unitAt(model, time)),
    [-1, 0, 0, 1, 2, 2],
  );
});

test("searching knows no accents and no case, and reaches across words", () => {
  const model = buildModel({
    segments: [
      {
        start: 0,
        end: 3,
        text: "A reunião é AMANHÃ, às nove.",
        words: ["A", "reunião", "é", "AMANHÃ", "às", "nove"].map((text, at) => word(text, at / 2, at / 2 + 0.4)),
      },
    ],
  });
  const hits = search(model, "  E amanha ");
  assert.equal(hits.length, 1);
  const parts = model.rows[0].parts
    .slice(hits[0].from, hits[0].to + 1)
    .map((part) => part.text)
    .join("");
  assert.equal(parts, "é AMANHÃ");
  assert.deepEqual(search(model, "   "), []);
  assert.deepEqual(search(model, "<img"), []);
});

test("copied text names the speakers", () => {
  const model = buildModel({
    segments: [
      { start: 0, end: 1, text: "Hi.", speaker: "S0" },
      { start: 1, end: 2, text: "Ho.", speaker: "S1" },
    ],
  });
  assert.equal(
    plainText(model, (id) => `<${id}>`),
    "<S0>: Hi.\n\n<S1>: Ho.",
  );
});

test("names change the places of speakers in each format and nothing that was said", () => {
  const names = { SPEAKER_00: "Ana <i> & co", SPEAKER_01: "Rui]\nx" };
  const said = "he said SPEAKER_00 and [SPEAKER_00]: twice";
  assert.equal(
    withNames(`[SPEAKER_00]: ${said}\n[SPEAKER_02]: x\n`, "txt", names),
    `[Ana <i> & co]: ${said}\n[SPEAKER_02]: x\n`,
  );
  assert.equal(
    withNames(`1\n00:00 --> 00:01\n[SPEAKER_01]: ${said}\n`, "srt", names),
    `1\n00:00 --> 00:01\n[Rui x]: ${said}\n`,
  );
  assert.equal(
    withNames("WEBVTT\n\n00:00 --> 00:01\n<v SPEAKER_00>hi</v>\n", "vtt", names),
    "WEBVTT\n\n00:00 --> 00:01\n<v Ana &lt;i&gt; &amp; co>hi</v>\n",
  );
  assert.equal(
    withNames(`start\tend\ttext\n0\t1\t[SPEAKER_00]: ${said}\n`, "tsv", names),
    `start\tend\ttext\n0\t1\t[Ana <i> & co]: ${said}\n`,
  );
  const json = JSON.parse(
    withNames(
      JSON.stringify({
        speakers: ["SPEAKER_00", "SPEAKER_02"],
        turns: [{ speaker: "SPEAKER_00" }],
        segments: [
          { text: "SPEAKER_00", speaker: "SPEAKER_00", words: [{ word: "SPEAKER_00", speaker: "SPEAKER_01" }] },
        ],
      }),
      "json",
      names,
    ),
  );
  assert.deepEqual(json.speakers, ["Ana <i> & co", "SPEAKER_02"]);
  assert.equal(json.turns[0].speaker, "Ana <i> & co");
  assert.equal(json.segments[0].text, "SPEAKER_00");
  assert.deepEqual(json.segments[0].words[0], { word: "SPEAKER_00", speaker: "Rui]\nx" });
  assert.equal(withNames("[SPEAKER_00]: x", "txt", {}), "[SPEAKER_00]: x");
});

test("a download is called after its source", () => {
  assert.equal(downloadName("reunião 3.final.mp3", "srt"), "reunião 3.final.srt");
  assert.equal(downloadName("a/b\\c:d", "txt"), "a_b_c_d.txt");
  assert.equal(downloadName("", "vtt"), "transcript.vtt");
});

test("rows are found by offset after any change of heights", () => {
  const count = 1000;
  const plain = Array.from({ length: count }, (_, at) => 20 + (at % 7));
  const heights = new Heights(count, (at) => plain[at]);
  let seed = 7;
  const random = (below) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  for (let round = 0; round < 500; round += 1) {
    const row = random(count);
    plain[row] = 1 + random(300);
    heights.set(row, plain[row]);
  }
  let offset = 0;
  for (let row = 0; row < count; row += 1) {
    assert.equal(heights.offset(row), offset);
    assert.equal(heights.rowAt(offset), row);
    assert.equal(heights.rowAt(offset + plain[row] - 0.5), row);
    offset += plain[row];
  }
  assert.equal(heights.rowAt(-5), 0);
  assert.equal(heights.rowAt(offset + 100), count - 1);
  assert.equal(new Heights(0, () => 1).rowAt(0), 0);
});

test("both languages have every text, with the same places", () => {
  const places = (text) =>
    [...text.matchAll(/\{(\w+)\}/g)]
      .map((match) => match[1])
      .sort()
      .join();
  assert.deepEqual(Object.keys(pt).sort(), Object.keys(en).sort());
  for (const key of Object.keys(en)) assert.equal(places(pt[key]), places(en[key]), key);
});

test("the page holds no markup out of strings, no inline style, nothing from elsewhere", () => {
  for (const name of readdirSync(WEB)) {
    const text = readFileSync(new URL(name, WEB), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/, name);
    assert.doesNotMatch(text, /https?:\/\/(?!www\.w3\.org\/2000\/svg)[a-z]/i, name);
    if (name.endsWith(".html")) assert.doesNotMatch(text, /\sstyle=|\son[a-z]+=|<script>|<style/, name);
  }
});
