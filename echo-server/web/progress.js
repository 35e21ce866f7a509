/*
 * A transcription under way: how far it is, what is being done, and the text as it is heard.
 */

import { fill, h } from "./dom.js";
import { clock, percent, spokenDuration } from "./format.js";
import { has, t } from "./i18n.js";

/** The stage that each step of the page begins with, in order. */
const STEPS = [
  { key: "queued", stages: ["queued", "starting"] },
  { key: "fetching", stages: ["fetching"], isShown: (job) => job.source?.kind === "url" },
  { key: "decoding", stages: ["decoding", "detecting", "detecting_language"] },
  { key: "transcribing", stages: ["transcribing"] },
  { key: "aligning", stages: ["aligning"], isShown: (job) => job.options?.word_timestamps !== false },
  { key: "diarizing", stages: ["diarizing", "finalizing"], isShown: (job) => job.options?.diarize === true },
];
/** Text kept on show while the rest is still being heard. */
const MAX_LIVE_SEGMENTS = 200;

/** Shows one running job in `body`. */
export class ProgressView {
  constructor(job, body, onCancel) {
    this.steps = STEPS.filter((step) => step.isShown?.(job) ?? true);
    this.reached = 0;
    this.bar = h("div", { class: "bar-fill" });
    this.meter = h(
      "div",
      {
        class: "bar",
        role: "progressbar",
        "aria-label": t("job.progress"),
        "aria-valuemin": 0,
        "aria-valuemax": 100,
      },
      this.bar,
    );
    this.stage = h("p", { class: "stage", "aria-live": "polite" });
    this.share = h("p", { class: "share" });
    this.list = h(
      "ol",
      { class: "steps" },
      this.steps.map((step) => h("li", {}, h("span", {}, t(`step.${step.key}`)))),
    );
    this.note = h("p", { class: "note" }, t("job.leave"));
    this.cancelButton = h(
      "button",
      { type: "button", class: "button quiet", on: { click: onCancel } },
      t("job.cancel"),
    );
    this.live = h("div", { class: "live", hidden: true, role: "log", "aria-label": t("job.live"), tabindex: 0 });
    fill(
      body,
      h(
        "div",
        { class: "progress" },
        h("div", { class: "progress-head" }, this.stage, this.share),
        this.meter,
        this.list,
        h("div", { class: "progress-foot" }, this.note, this.cancelButton),
      ),
      this.live,
    );
    this.update(job);
  }

  /** Shows what has changed. */
  update(job) {
    const stage = job.status === "pending" ? "queued" : (job.stage ?? "starting");
    const isCancelling = job.cancel_requested === true;
    const text = isCancelling
      ? t("status.cancelling")
      : has(`stage.${stage}`)
        ? t(`stage.${stage}`)
        : t("status.processing");
    if (this.stage.textContent !== text) this.stage.textContent = text;
    this.cancelButton.disabled = isCancelling;
    const share = Math.min(1, Math.max(0, job.progress ?? 0));
    const isWaiting = job.status === "pending";
    this.share.textContent = isWaiting ? queueText(job) : percent(share);
    this.bar.style.transform = `scaleX(${share})`;
    this.meter.classList.toggle("bar-waiting", isWaiting || (share === 0 && !isCancelling));
    if (isWaiting) this.meter.removeAttribute("aria-valuenow");
    else this.meter.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    const at = this.steps.findIndex((step) => step.stages.includes(stage));
    // Stages may alternate from chunk to chunk; the steps only ever go on.
    this.reached = isWaiting ? 0 : Math.max(this.reached, at);
    for (const [index, item] of [...this.list.children].entries()) {
      item.className = index < this.reached ? "step-done" : index === this.reached ? "step-now" : "";
      if (index === this.reached) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    const isRetry = (job.attempt ?? 1) > 1 && job.max_attempts;
    this.note.textContent = isRetry
      ? t("job.attempt", { attempt: job.attempt, max: job.max_attempts })
      : t("job.leave");
  }

  /** Adds text that was just recognised, in order of time; a second attempt writes over the first. */
  addSegment(segment) {
    const text = (segment.text ?? "").trim();
    if (!text) return;
    const isAtEnd = this.live.scrollHeight - this.live.scrollTop - this.live.clientHeight < 60;
    this.live.hidden = false;
    const line = h("p", {}, h("span", { class: "live-time" }, clock(segment.start)), h("span", { dir: "auto" }, text));
    line.start = segment.start;
    const before = [...this.live.children].findLast((other) => other.start <= segment.start);
    if (before?.start === segment.start) before.replaceWith(line);
    else if (before) before.after(line);
    else this.live.prepend(line);
    while (this.live.childElementCount > MAX_LIVE_SEGMENTS) this.live.firstElementChild.remove();
    if (isAtEnd) this.live.scrollTop = this.live.scrollHeight;
  }

  destroy() {}
}

function queueText(job) {
  const parts = [];
  if (job.queue_position > 0) parts.push(t("queue.position", { position: job.queue_position }));
  if (job.estimated_start_seconds > 0)
    parts.push(t("queue.estimate", { time: spokenDuration(job.estimated_start_seconds) }));
  return parts.join(" · ");
}
