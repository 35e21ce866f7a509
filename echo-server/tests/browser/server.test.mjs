/*
 * The page in Chromium against the real server with a real model: from a file to a download.
 *
 * `ECHO_TEST_SERVER` is the program, `ECHO_TEST_STORE` a folder of models with `base`; speakers are told
 * apart if it has the models for that, else the recording has none to be named. The server gets a folder
 * and a port of its own, and an environment without the variables of the tests.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { axeFaults, launch, missing, openPage, shot } from "./support.mjs";

const PROGRAM = process.env.ECHO_TEST_SERVER;
const STORE = process.env.ECHO_TEST_STORE;
const DIALOGUE = fileURLToPath(new URL("../../../examples/media/dialogue.opus", import.meta.url));
const KEY = "echo_sk_a-key-of-the-browser-tests-and-of-nothing-else0";

const skip =
  missing() ??
  (PROGRAM && existsSync(PROGRAM) ? null : "skipped: set ECHO_TEST_SERVER to the program echo-server") ??
  (STORE && existsSync(join(STORE, "base")) ? null : "skipped: set ECHO_TEST_STORE to a folder of models with base");
if (skip) console.log(skip);
const canDiarize = !skip && ["segmentation-3.0", "campplus"].every((name) => existsSync(join(STORE, name)));

let browser;
const servers = [];
before(async () => {
  if (!skip) browser = await launch();
});
after(async () => {
  await browser?.close();
  for (const { child, folder } of servers) {
    await stop(child);
    rmSync(folder, { recursive: true, force: true });
  }
});

/** Ends a server, by force if it does not follow. */
async function stop(child) {
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  // Twice: the second one means at once.
  child.kill("SIGTERM");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await ended;
  clearTimeout(timer);
}

const freePort = () =>
  new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

/** Starts a server; its address. */
async function serve(variables = {}) {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "echo-browser-"));
  const { PATH, HOME } = process.env;
  const child = spawn(PROGRAM, ["serve"], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH,
      HOME,
      PORT: String(port),
      ECHO_MODEL: "base",
      ECHO_CACHE: STORE,
      ECHO_MIN_FREE_DISK: "1MB",
      ECHO_DRAIN_DELAY: "0",
      ...variables,
    },
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (piece) => {
      log = (log + piece).slice(-4000);
    });
  servers.push({ child, folder });
  const address = `http://127.0.0.1:${port}/`;
  for (let round = 0; round < 200; round += 1) {
    if (child.exitCode !== null) break;
    if (
      await fetch(`${address}health/live`).then(
        (answer) => answer.ok,
        () => false,
      )
    )
      return address;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the server did not start:\n${log}`);
}

test("from a file to a named speaker and a download", { skip: skip ?? false, timeout: 600_000 }, async () => {
  const address = await serve();
  const page = await openPage(browser);
  const first = await page.goto(address);
  assert.match(first.headers()["content-security-policy"], /default-src 'self'/);
  assert.doesNotMatch(first.headers()["content-security-policy"], /unsafe/);
  await page.waitForSelector("text=No transcriptions yet");

  await page.setInputFiles("#file", DIALOGUE);
  if (canDiarize) await page.click("label.switch-row[for=opt-diarize]");
  const drawn = page.waitForResponse((answer) => answer.url().includes("/waveform?"), { timeout: 500_000 });
  await page.click("#start");
  await page.waitForURL(/#\/t\/[0-9a-f-]{36}$/);
  const id = page.url().split("/").pop();
  await page.waitForSelector(".steps");
  await shot(page, "server-progress");
  await page.waitForSelector(".word", { timeout: 500_000 });
  await page.waitForSelector(".job-completed");
  assert.equal((await drawn).status(), 200, "the waveform is measured by the server");

  const job = await (await fetch(`${address}api/v1/transcription/${id}`)).json();
  const words = job.result.segments.flatMap((segment) => segment.words ?? []);
  assert.ok(words.length > 20, "the model heard words");
  const text = (await page.locator(".row-text").allTextContents()).join(" ").replace(/\s+/g, "");
  assert.equal(
    text,
    job.result.segments
      .map((segment) => segment.text)
      .join(" ")
      .replace(/\s+/g, ""),
  );

  await playAndFollow(page, words);
  await download(page, address, id, job);
  await shot(page, "server-result");
  assert.deepEqual(await axeFaults(page), []);

  await page.reload();
  await page.waitForSelector(".word");
  if (canDiarize) assert.equal(await page.textContent(".chip-name"), "Ana & <Rui>");
  await page.click(".job-actions [aria-label=More]");
  await page.click(".menu-item.danger");
  await page.click(".dialog .button.danger");
  await page.waitForSelector("text=No transcriptions yet");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

/** Plays, and compares the marked word with the clock. */
async function playAndFollow(page, words) {
  await page.waitForFunction(() => document.querySelector("audio").readyState > 0);
  await page.click(".play-button");
  const middle = Math.floor(words.length / 2);
  await page.click(`.word[data-unit="${middle}"]`);
  await page.waitForFunction((unit) => Number(document.querySelector(".now")?.dataset.unit) > unit, middle);
  const { unit, time } = await page.evaluate(() => ({
    unit: Number(document.querySelector(".now").dataset.unit),
    time: document.querySelector("audio").currentTime,
  }));
  // Frames may pass between the mark and the question.
  assert.ok(
    words[unit].start <= time + 0.05 && (words[unit + 1]?.start ?? Infinity) > time - 1,
    `word ${unit} at ${time} s`,
  );
  await shot(page, "server-playing");
  await page.click(".play-button");
}

/** Names a speaker, and looks for the name in each download; without names bytes are the server's. */
async function download(page, address, id, job) {
  const save = async (format) => {
    const [file] = await Promise.all([
      page.waitForEvent("download"),
      page.click("#download").then(() => page.click(`[data-key=${format}]`)),
    ]);
    assert.equal(file.suggestedFilename(), `dialogue.${format}`);
    return readFileSync(await file.path(), "utf8");
  };
  const formats = ["txt", "srt", "vtt", "json", "tsv"];
  for (const format of formats) {
    const own = await (await fetch(`${address}api/v1/transcription/${id}/download?format=${format}`)).text();
    assert.equal(await save(format), own, format);
  }
  if (!canDiarize) {
    console.log("speakers are not named: the store has no models of diarization");
    return;
  }
  const label = job.result.speakers[0].id ?? job.result.speakers[0];
  await page.click(".chip");
  await page.fill("#speaker-name", "Ana & <Rui>");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".row-speaker >> text=Ana & <Rui>");
  for (const format of formats) {
    const file = await save(format);
    const name = format === "vtt" ? "Ana &amp; &lt;Rui&gt;" : "Ana & <Rui>";
    const had = await (await fetch(`${address}api/v1/transcription/${id}/download?format=${format}`)).text();
    assert.equal(file.includes(name), had.includes(label), `the name in ${format}`);
    if (format !== "json") assert.ok(!file.includes(label), `the label is gone from ${format}`);
  }
}

test(
  "a job is cancelled while it runs, and a refused file is told",
  { skip: skip ?? false, timeout: 300_000 },
  async () => {
    const address = await serve();
    const page = await openPage(browser, { width: 360, height: 740, colorScheme: "dark" });
    await page.goto(address);
    await page.setInputFiles("#file", {
      name: "notes.txt",
      mimeType: "text/plain",
      buffer: Buffer.from("nothing to hear here, only letters"),
    });
    await page.click("#start");
    await page.waitForSelector(".upload-failed");
    await shot(page, "server-refused-360");
    await page.click(".upload-failed [aria-label^=Stop]");
    await page.setInputFiles("#file", { name: "noise.wav", mimeType: "audio/wav", buffer: noise(600) });
    const line = await slowLine(page);
    await page.click("#start");
    await followUpload(page);
    await shot(page, "server-uploading-360");
    await line.detach();
    await page.waitForSelector(".progress .button.quiet");
    await page.click(".progress .button.quiet");
    await page.waitForSelector("text=This transcription was cancelled", { timeout: 120_000 });
    await shot(page, "server-cancelled-360");
    assert.deepEqual(page.faults, []);
    await page.context().close();
  },
);

test(
  "an upload goes on where it was when the line was cut",
  { skip: skip ?? false, timeout: 120_000 },
  async () => {
    const address = await serve();
    await goOnAfterCut(address);
  },
);

async function goOnAfterCut(address) {
  const sound = noise(300);
  const line = await cutOnce(Number(new URL(address).port), 4_000_000);
  const page = await openPage(browser);
  const sent = [];
  page.on("request", (request) => {
    const path = new URL(request.url()).pathname;
    if (path.startsWith("/api/v1/upload")) sent.push([request.method(), path, request.headers()["upload-offset"]]);
  });
  await page.goto(line.address);
  await page.setInputFiles("#file", { name: "reunião.wav", mimeType: "audio/wav", buffer: sound });
  await page.click("#start");
  await page.waitForSelector("text=The line was cut.", { timeout: 60_000 }).catch(async (error) => {
    await shot(page, "server-not-cut");
    throw new Error(`${error.message}\n${JSON.stringify(sent)}\n${await page.innerText("main")}`);
  });
  await shot(page, "server-cut");
  await page.waitForURL(/#\/t\//, { timeout: 60_000 });
  const id = page.url().split("/").pop();
  const job = await (await fetch(`${address}api/v1/transcription/${id}?include=none`)).json();
  await fetch(`${address}api/v1/transcription/${id}`, { method: "DELETE" });
  const digest = createHash("sha256").update(sound).digest("hex");
  assert.equal(job.source.content_hash, `sha256:${digest}`, "every byte once and in its place");
  assert.equal(job.source.filename, "reunião.wav");
  assert.deepEqual([...new Set(sent.map(([method]) => method))], ["POST", "PATCH", "HEAD"]);
  const [first, second, ...more] = sent.filter(([method]) => method === "PATCH");
  assert.equal(more.length, 0);
  assert.equal(first[2], "0");
  assert.ok(Number(second[2]) > 0, "what had come was not sent again");
  assert.equal(sent.filter(([, path]) => path.endsWith("/uploads")).length, 1);
  assert.equal(sent.at(-1)[1], "/api/v1/upload/complete");
  assert.deepEqual(page.faults, []);
  await page.context().close();
  line.close();
}

/** A line to a port that is cut once, after so many bytes of one connection have gone to the server. */
async function cutOnce(port, bytes) {
  let left = bytes;
  const line = createServer((near) => {
    const far = connect(port, "127.0.0.1").unref();
    near.unref();
    let count = 0;
    let isCut = false;
    near.on("data", (piece) => {
      count += piece.length;
      if (count < left) return;
      left = Number.POSITIVE_INFINITY;
      // What came until then arrives: had the server nothing, the browser would begin anew by itself.
      isCut = true;
      near.unpipe(far);
      near.resetAndDestroy();
      far.end();
    });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ]) {
      from.pipe(to);
      from.on("error", () => isCut || to.destroy());
      from.on("close", () => isCut || to.destroy());
    }
  });
  await new Promise((resolve) => line.listen(0, "127.0.0.1", resolve));
  // A test that fails does not wait for it.
  line.unref();
  return { address: `http://127.0.0.1:${line.address().port}/`, close: () => line.close() };
}

/** A line on which 19 MB take some seconds, until the session is detached. */
async function slowLine(page) {
  const line = await page.context().newCDPSession(page);
  await line.send("Network.enable");
  const unlimited = { offline: false, latency: 0, downloadThroughput: -1 };
  await line.send("Network.emulateNetworkConditions", { ...unlimited, uploadThroughput: 4_000_000 });
  return line;
}

/** The share of an upload is told while it grows, with its speed. */
async function followUpload(page) {
  const meter = ".upload [role=progressbar]";
  const share = async (above) => {
    const grown = ([selector, least]) => {
      const now = Number(document.querySelector(selector)?.getAttribute("aria-valuenow"));
      return now > least && now < 100 ? now : null;
    };
    return (await page.waitForFunction(grown, [meter, above], { timeout: 60_000 })).jsonValue();
  };
  const first = await share(0);
  assert.match(await page.textContent(".upload .file-fact"), /\d+\s?%.*B of .*B\/s/);
  assert.ok((await share(first)) > first);
}

/** A WAV file of speech-like noise, 16 kHz and 16 bits: long enough to be caught at work. */
function noise(seconds) {
  const samples = Buffer.alloc(seconds * 32_000);
  let seed = 1;
  for (let at = 0; at < samples.length; at += 2) {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    samples.writeInt16LE(Math.trunc(((seed / 2147483648) * 2 - 1) * 9000 * Math.abs(Math.sin(at / 60_000))), at);
  }
  const head = Buffer.from(
    "RIFF....WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data....",
    "latin1",
  );
  head.writeUInt32LE(36 + samples.length, 4);
  head.writeUInt32LE(samples.length, 40);
  return Buffer.concat([head, samples]);
}

test("a server with keys lets the page in with one", { skip: skip ?? false, timeout: 120_000 }, async () => {
  const hash = createHash("sha256").update(KEY).digest("hex");
  const address = await serve({ ECHO_API_KEYS: `browser:${hash}` });
  const page = await openPage(browser);
  await page.goto(address);
  await page.fill("#key-field", "echo_sk_wrong");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".dialog-key .form-error");
  await page.fill("#key-field", KEY);
  await page.keyboard.press("Enter");
  await page.waitForSelector("text=No transcriptions yet");
  await page.setInputFiles("#file", DIALOGUE);
  await page.click("#start");
  await page.waitForSelector(".word", { timeout: 100_000 });
  await page.waitForFunction(() => document.querySelector("audio").readyState > 0);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
