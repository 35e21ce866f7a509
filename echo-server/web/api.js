/*
 * The server's REST interface: requests with the key, problems as errors, uploads with progress.
 *
 * Paths are relative to the page, so that it also works behind a proxy that serves it under a prefix.
 * A 401 asks for a key once and then repeats the request. Errors are `ApiError`s with the server's
 * stable `code`, or `network` where it could not be reached.
 */

import { has, t } from "./i18n.js";
import { apiKey } from "./settings.js";

const ROOT = new URL("api/v1/", document.baseURI);

/** The URL of `path` below `/api/v1/`. */
export function apiUrl(path) {
  return new URL(path, ROOT);
}

/** Why a request was not done. */
export class ApiError extends Error {
  constructor({ status = 0, code = "network", detail = "", retryAfter = null, requestId = null, errors = [] }) {
    super(detail || code);
    Object.assign(this, { status, code, detail, retryAfter, requestId, errors });
  }

  /** A sentence for people, in their language where there is one. */
  get sentence() {
    return errorSentence(this.code, this.detail);
  }
}

/** A sentence for a stable code, or what the server said. */
export function errorSentence(code, detail) {
  if (has(`error.${code}`)) return t(`error.${code}`);
  return detail || code || "";
}

let keyAsker = async () => false;
let lastQuestion = null;

/** Sets what asks for a key; it answers whether there is a new one. */
export function onKeyNeeded(asker) {
  keyAsker = asker;
}

/** Asks for a key, once for all the requests that want one at the same time. */
function askForKey(isWrong) {
  lastQuestion ??= keyAsker(isWrong).finally(() => {
    lastQuestion = null;
  });
  return lastQuestion;
}

const reachability = new EventTarget();
let isReachable = true;

/** Calls `listener(true|false)` whenever the server becomes reachable or unreachable. */
export function onReachable(listener) {
  reachability.addEventListener("change", () => listener(isReachable));
}

/** Notes whether the last request reached the server. */
export function setReachable(value) {
  if (value === isReachable) return;
  isReachable = value;
  reachability.dispatchEvent(new Event("change"));
}

function authorization() {
  const key = apiKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** The error of an answer that is not a success. */
async function problemOf(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // A proxy's page of HTML: the status alone has to do.
  }
  return problemFrom(response.status, problem, (name) => response.headers.get(name));
}

function problemFrom(status, problem, header) {
  const wait = Number(header("retry-after") ?? problem.retry_after);
  return new ApiError({
    status,
    code: problem.code ?? (status >= 500 ? "internal" : `http_${status}`),
    detail: problem.detail ?? problem.title ?? `HTTP ${status}`,
    retryAfter: wait > 0 ? wait : null,
    requestId: problem.request_id ?? header("x-request-id"),
    errors: problem.errors ?? [],
  });
}

/** A request below `/api/v1/`; the answer is a `Response` of a success or 304. */
export async function send(path, { method = "GET", json, headers = {}, signal } = {}) {
  for (;;) {
    const key = apiKey();
    const body = json === undefined ? undefined : JSON.stringify(json);
    const type = json === undefined ? {} : { "Content-Type": "application/json" };
    let response;
    try {
      response = await fetch(apiUrl(path), {
        method,
        body,
        signal,
        cache: "no-store",
        headers: { ...type, ...authorization(), ...headers },
      });
    } catch (cause) {
      if (signal?.aborted) throw cause;
      setReachable(false);
      throw new ApiError({});
    }
    setReachable(true);
    if (response.status === 401) {
      // Somebody may have entered a key while this request was under way.
      if (apiKey() !== key || (await askForKey(key !== ""))) continue;
    }
    if (response.ok || response.status === 304) return response;
    throw await problemOf(response);
  }
}

/** A request whose answer is JSON; `null` where there is none. */
export async function call(path, options) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

/**
 * Sends a body. `onProgress(loaded, total)` counts its bytes. The answer is `{done, abort}`; the promise
 * `done` gives the request with its answer.
 *
 * `XMLHttpRequest`, because `fetch` does not tell how much of a body has left.
 */
export function push(method, path, headers, body, onProgress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open(method, apiUrl(path));
    request.responseType = "text";
    for (const [name, value] of Object.entries({ ...authorization(), ...headers })) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      setReachable(true);
      if (request.status >= 200 && request.status < 300) resolve(request);
      else reject(problemFrom(request.status, parsed(request), (name) => request.getResponseHeader(name)));
    });
    request.addEventListener("error", () => reject(new ApiError({})));
    request.addEventListener("abort", () => reject(new ApiError({ code: "aborted" })));
    request.send(body);
  });
  return { done, abort: () => request.abort() };
}

/** The answer as JSON; nothing where it is none, as that of a proxy. */
function parsed(request) {
  try {
    return JSON.parse(request.responseText) ?? {};
  } catch {
    return {};
  }
}

/** Sends one file in one request; as `push`, but `done` gives the job. */
export function uploadFile(file, options, idempotencyKey, onProgress) {
  const form = new FormData();
  form.append("options", JSON.stringify(options));
  form.append("file", file, file.name);
  const sent = push("POST", "upload/file", { "Idempotency-Key": idempotencyKey }, form, onProgress);
  const done = sent.done.then((request) => {
    const job = parsed(request);
    if (job.job_id) return job;
    throw problemFrom(request.status, job, (name) => request.getResponseHeader(name));
  });
  return { done, abort: sent.abort };
}

/**
 * A URL that an `<audio>` element can read: media elements send no headers, so a key is exchanged for
 * a ticket that opens this one recording for a while. A server without tickets has to send all of it.
 */
export async function mediaUrl(jobId) {
  const url = apiUrl(`transcription/${jobId}/audio`);
  if (!apiKey()) return url.href;
  try {
    const { ticket } = await call("tickets", { method: "POST", json: { job_id: jobId, use: "audio" } });
    url.searchParams.set("ticket", ticket);
    return url.href;
  } catch (error) {
    if (error.code !== "not_found" && error.code !== "method_not_allowed") throw error;
  }
  const response = await send(`transcription/${jobId}/audio`);
  return URL.createObjectURL(await response.blob());
}

/** Saves `blob` under `name` as a download of the browser. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** How a job's source is called. */
export function sourceName(job) {
  const source = job.source ?? {};
  const filename = source.filename ?? job.filename;
  if (filename) return filename;
  if (source.url) {
    try {
      const url = new URL(source.url);
      const last = decodeURIComponent(url.pathname.split("/").filter(Boolean).pop() ?? "");
      return last || url.hostname;
    } catch {
      return source.url;
    }
  }
  return job.job_id;
}

/** Whether a job never changes again. */
export function isFinal(job) {
  return job.status === "completed" || job.status === "failed" || job.status === "cancelled";
}
