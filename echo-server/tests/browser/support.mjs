/*
 * What the browser tests share: Chromium, a stand-in for the API, transcripts of any length, axe.
 *
 * `ECHO_TEST_NODE_MODULES` is where `playwright-core` and `axe-core` are, `CHROMIUM` the browser. Where
 * either is missing the tests say `skipped:` and pass. Screenshots go to `ECHO_TEST_SHOTS`.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("../../web/", import.meta.url));
const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const SHOTS = process.env.ECHO_TEST_SHOTS ?? join(ROOT, "target/browser/screenshots");
const TYPES = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};
/** As strict as the server's own, which the test against the server compares. */
const POLICY =
  "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/** The address that the stand-in answers at; nothing listens there. */
export const MOCKED = "http://echo.test/";

/** Why the tests cannot run, or `null`. */
export function missing() {
  if (!process.env.ECHO_TEST_NODE_MODULES)
    return "skipped: set ECHO_TEST_NODE_MODULES to a folder with playwright-core and axe-core";
  if (!browserPath()) return "skipped: there is no Chromium; set CHROMIUM";
  return null;
}

function browserPath() {
  const named = process.env.CHROMIUM;
  if (named) return existsSync(named) ? named : null;
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
    } catch {
      // The next name.
    }
  }
  return null;
}

const modules = () => createRequire(join(process.env.ECHO_TEST_NODE_MODULES, "from.js"));

/** A browser that plays without being touched first, and makes no sound. */
export async function launch() {
  const { chromium } = modules()("playwright-core");
  return chromium.launch({
    executablePath: browserPath(),
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio", "--disable-dev-shm-usage"],
  });
}

/** A page whose errors and violated policies are kept in `page.faults`. */
export async function openPage(browser, { width = 1280, height = 800, mock, ...options } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    locale: "en-GB",
    acceptDownloads: true,
    ...options,
  });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error.stack ?? String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      page.faults.push(message.text());
  });
  if (mock) await standIn(context, mock);
  return page;
}

/** Keeps a screenshot as an artefact of the test. */
export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** What axe finds that is serious or worse, in words. */
export async function axeFaults(page) {
  // As a script of the test's own world: the page's policy does not allow others, and shall not.
  await page.evaluate(readFileSync(modules().resolve("axe-core/axe.min.js"), "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, help, nodes }) =>
        `${id}: ${help}: ${nodes
          .slice(0, 4)
          .map((node) => `${node.target.join(" ")} ${node.any[0]?.message ?? ""}`)
          .join("; ")}`,
    );
}

/** Answers the page's files from disk and its API from `mock`. */
async function standIn(context, mock) {
  await context.route(`${MOCKED}**`, async (route) => {
    const request = route.request();
    const url = new URL(request.url());
    const path = url.pathname;
    if (path.startsWith("/api/v1/") || path.startsWith("/health")) return answer(route, mock, request, url);
    const name = path === "/" ? "index.html" : path.replace(/^\/assets\//, "");
    const file = join(WEB, name);
    if (name.includes("/") || !existsSync(file)) return route.fulfill({ status: 404 });
    return route.fulfill({
      body: readFileSync(file),
      headers: {
        "content-type": TYPES[name.split(".").pop()],
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
      },
    });
  });
}

/** The API of a stand-in: `mock.jobs` by id, `mock.handle(method, path, request)` before them. */
async function answer(route, mock, request, url) {
  const path = url.pathname.replace("/api/v1/", "");
  const own = await mock.handle?.(request.method(), path, request, url);
  if (own) return own === "abort" ? route.abort() : route.fulfill(own);
  if (path === "/health/live") return route.fulfill(json({ status: "ok" }));
  if (path === "transcriptions") {
    const items = Object.values(mock.jobs).map(({ result, ...job }) => job);
    return route.fulfill(json({ items, next_cursor: null }));
  }
  const [, id, rest] = /^transcription\/([^/]+)(?:\/(.*))?$/.exec(path) ?? [];
  const job = mock.jobs[id];
  if (job && !rest) return route.fulfill(json(job));
  if (job && rest === "audio") return route.fulfill(part(silence(job.duration_seconds), request.headers().range));
  const code = id && !job ? "job_not_found" : "not_found";
  return route.fulfill({ ...json({ code, detail: "there is nothing here" }), status: 404 });
}

/** The part of a recording that a `Range` asks for; players cannot seek without. */
function part(bytes, range) {
  const headers = { "content-type": "audio/wav", "accept-ranges": "bytes" };
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  if (from === undefined) return { body: bytes, headers };
  const last = Math.min(bytes.length - 1, to ? Number(to) : bytes.length - 1);
  headers["content-range"] = `bytes ${from}-${last}/${bytes.length}`;
  return { status: 206, body: bytes.subarray(Number(from), last + 1), headers };
}

/** An answer of JSON. */
export const json = (body, status = 200) => ({ status, contentType: "application/json", body: JSON.stringify(body) });

/** A job as the API shows it. */
export function makeJob(id, name, changes = {}) {
  const duration = changes.result?.duration ?? 0;
  return {
    job_id: id,
    status: "completed",
    stage: null,
    progress: 1,
    cached: false,
    filename: name,
    duration_seconds: duration,
    cancel_requested: false,
    created_at: "2026-11-20T10:00:00.000Z",
    attempt: 1,
    max_attempts: 3,
    error: null,
    options: { model: "base", word_timestamps: true, diarize: true },
    source: { kind: "file", filename: name, size_bytes: 1000, duration_seconds: duration },
    ...changes,
  };
}

const SAID =
  "and so the question becomes where to put every single word so that people find it again when they need it most".split(
    " ",
  );

/** A transcript of `seconds` with about three words a second, by `nSpeakers` in turn. */
export function makeTranscript(seconds, nSpeakers = 3, speak = (word) => word) {
  const segments = [];
  let time = 0;
  let said = 0;
  while (time < seconds - 5) {
    const start = time;
    const words = [];
    for (let at = 0; at < 12; at += 1) {
      const text = speak(SAID[said % SAID.length], said);
      words.push({ word: text, start: round(time), end: round(time + 0.3), score: 0.9 });
      time += 0.355;
      said += 1;
    }
    const speaker = nSpeakers ? { speaker: `SPEAKER_0${Math.floor(segments.length / 3) % nSpeakers}` } : {};
    segments.push({
      id: segments.length,
      start: round(start),
      end: round(time),
      text: `${words.map(({ word }) => word).join(" ")}.`,
      words,
      ...speaker,
    });
  }
  return {
    version: 1,
    language: "en",
    duration: seconds,
    segments,
    speakers: Array.from({ length: nSpeakers }, (_, at) => `SPEAKER_0${at}`),
  };
}

const round = (value) => Math.round(value * 1000) / 1000;

/** A WAV file of silence, 8 kHz and 8 bits, short of memory: at most a minute. */
function silence(seconds) {
  const samples = Buffer.alloc(8000 * Math.min(60, Math.max(1, Math.round(seconds || 1))), 128);
  const head = Buffer.from(
    "RIFF....WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data....",
    "latin1",
  );
  head.writeUInt32LE(36 + samples.length, 4);
  head.writeUInt32LE(samples.length, 40);
  return Buffer.concat([head, samples]);
}
