/*
 * Server-sent events out of a stream of bytes, as the HTML standard describes them.
 *
 * `EventSource` cannot send a key, so the page reads the stream itself: lines end in CR, LF or both, a
 * field may be cut anywhere by the network, comments start with a colon, and an event without data is
 * none. `id` and `retry` stay with the parser for the next connection.
 */

/** Makes events `{event, data, id}` of pieces of text. */
export class EventParser {
  lastId = null;
  retryMs = null;
  #rest = "";
  #event = "";
  #data = [];

  /** The events that `text` completes. */
  push(text) {
    const events = [];
    this.#rest += text;
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      // A CR at the very end may be half of a CR LF.
      if (end < 0 || (this.#rest[end] === "\r" && end === this.#rest.length - 1)) return events;
      const width = this.#rest.startsWith("\r\n", end) ? 2 : 1;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + width);
      const event = this.#line(line);
      if (event) events.push(event);
    }
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    if (line.startsWith(":")) return null;
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.lastId = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  #dispatch() {
    const event = { event: this.#event || "message", data: this.#data.join("\n"), id: this.lastId };
    const isEmpty = this.#data.length === 0;
    this.#event = "";
    this.#data = [];
    return isEmpty ? null : event;
  }
}
