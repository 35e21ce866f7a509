/*
 * Files and links on their way to the server: a queue that outlives the view that filled it.
 *
 * Two files at a time, since one fills most lines and a second hides the pauses between them. A server
 * that is too busy says when to come back, and is asked again then. Each item has an idempotency key,
 * so that trying again after a cut connection makes no second job. Large files go on where they were.
 */

import { ApiError, call, uploadFile } from "./api.js";
import { forget, sendInPieces } from "./pieces.js";

const N_AT_ONCE = 2;
/** Smaller files are sent again as a whole: that is sooner done than asking. */
const RESUMED_FROM_BYTES = 8 << 20;
const MAX_TRIES = 6;
/** 409 and 423: the server is not yet done with what came over the line that was cut. */
const BUSY = new Set([429, 503]);
const BUSY_UPLOAD = new Set([409, 423]);

/** The queue. Dispatches `change` for an item in `detail`, and `job` with `{item, job}` when one is accepted. */
export class Uploads extends EventTarget {
  items = [];

  constructor() {
    super();
    addEventListener("online", () => this.#goOn());
  }

  /** Whether anything would be lost by leaving the page. */
  get isBusy() {
    return this.items.some((item) => item.state === "waiting" || item.state === "sending" || item.state === "busy");
  }

  /** Adds sources, `{file}` or `{url}`, with options; starts as soon as there is room. */
  add(sources, options) {
    for (const source of sources) {
      this.items.push({
        ...source,
        options,
        key: newKey(),
        upload: null,
        name: source.file?.name ?? source.url,
        state: "waiting",
        loaded: 0,
        total: source.file?.size ?? 0,
        speed: 0,
        error: null,
        tries: 0,
      });
    }
    this.#next();
  }

  /** Stops an item and forgets it. */
  remove(item) {
    this.items = this.items.filter((other) => other !== item);
    item.state = "gone";
    item.abort?.();
    clearInterval(item.timer);
    forget(item);
    this.#changed(item);
    this.#next();
  }

  /** Tries a failed item again. */
  retry(item) {
    Object.assign(item, { state: "waiting", error: null, tries: 0 });
    this.#changed(item);
    this.#next();
  }

  #changed(item) {
    this.dispatchEvent(new CustomEvent("change", { detail: item }));
  }

  #next() {
    const sending = this.items.filter((item) => item.state === "sending").length;
    const waiting = this.items.filter((item) => item.state === "waiting");
    for (const item of waiting.slice(0, Math.max(0, N_AT_ONCE - sending))) this.#send(item);
  }

  async #send(item) {
    item.state = "sending";
    item.tries += 1;
    this.#changed(item);
    try {
      const job = item.file ? await this.#sendFile(item) : await this.#sendUrl(item);
      this.items = this.items.filter((other) => other !== item);
      item.state = "done";
      this.#changed(item);
      this.dispatchEvent(new CustomEvent("job", { detail: { item, job } }));
    } catch (error) {
      if (item.state !== "gone") this.#failed(item, error);
    }
    this.#next();
  }

  #sendFile(item) {
    const begin = performance.now();
    let first = null;
    const told = (loaded, total) => {
      first ??= item.upload ? loaded : 0;
      // A line that brings something is worth more tries.
      if (item.upload && loaded > first) item.tries = 1;
      item.loaded = loaded;
      item.total = total;
      item.speed = (loaded - first) / Math.max(0.2, (performance.now() - begin) / 1000);
      this.#changed(item);
    };
    const { done, abort } =
      item.file.size >= RESUMED_FROM_BYTES
        ? sendInPieces(item, told)
        : uploadFile(item.file, item.options, item.key, told);
    item.abort = abort;
    return done;
  }

  #sendUrl(item) {
    const controller = new AbortController();
    item.abort = () => controller.abort();
    return call("upload/url", {
      method: "POST",
      json: { url: item.url, options: item.options },
      headers: { "Idempotency-Key": item.key },
      signal: controller.signal,
    });
  }

  #failed(item, error) {
    if (!item.upload) item.loaded = 0;
    const isOurs = error instanceof ApiError;
    item.isCut = isOurs && item.upload !== null && (error.code === "network" || BUSY_UPLOAD.has(error.status));
    const isBusy = isOurs && (BUSY.has(error.status) || error.code === "idempotency_in_progress");
    if ((isBusy || item.isCut) && error.code !== "quota_exceeded" && item.tries < MAX_TRIES) {
      this.#waitOut(item, error.retryAfter ?? 2 ** item.tries);
      return;
    }
    item.state = "failed";
    item.error = error;
    this.#changed(item);
  }

  /** The line is there again: nobody waits any longer who was cut off. */
  #goOn() {
    for (const item of this.items.filter((one) => one.state === "busy" && one.isCut)) item.seconds = 1;
  }

  #waitOut(item, seconds) {
    item.state = "busy";
    item.seconds = Math.min(600, Math.ceil(seconds));
    this.#changed(item);
    item.timer = setInterval(() => {
      item.seconds -= 1;
      if (item.seconds <= 0) {
        clearInterval(item.timer);
        item.state = "waiting";
        this.#next();
      }
      this.#changed(item);
    }, 1000);
  }
}

/** `randomUUID` exists on secure pages only; a server in the house is often plain HTTP. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
