/*
 * The page of one transcription, in each of its states: waiting, running, done, failed, gone.
 */

import { ApiError, call, errorSentence, isFinal, sourceName } from "./api.js";
import { announce, fill, h, icon, iconButton, menuButton, openDialog, toast } from "./dom.js";
import { spokenDuration, when } from "./format.js";
import { t } from "./i18n.js";
import { languageName } from "./languages.js";
import { ProgressView } from "./progress.js";
import { ResultView } from "./result.js";
import { watchJob } from "./watch.js";

/** Shows the job `jobId` in `main`. `onChange(job)` tells the history, `null` that it was deleted. */
export class JobPage {
  constructor(main, jobId, onChange) {
    Object.assign(this, { main, jobId, onChange });
    this.abort = new AbortController();
    this.view = null;
    this.job = null;
    fill(main, h("div", { class: "loading", role: "status" }, h("span", { class: "spinner" })));
    this.#load();
  }

  /** The parts that shortcuts act on, where there is a result. */
  get result() {
    return this.view instanceof ResultView ? this.view : null;
  }

  destroy() {
    this.abort.abort();
    this.view?.destroy();
  }

  async #load() {
    const { signal } = this.abort;
    try {
      this.job = await call(`transcription/${this.jobId}`, { signal });
    } catch (error) {
      if (!signal.aborted) this.#showProblem(error);
      return;
    }
    document.title = `${sourceName(this.job)} · Echo`;
    this.#show();
    if (!isFinal(this.job)) this.#watch();
  }

  #watch() {
    watchJob(
      this.jobId,
      {
        onJob: (changes) => {
          this.job = { ...this.job, ...changes };
          this.onChange(this.job);
          if (this.view instanceof ProgressView) this.view.update(this.job);
        },
        onSegment: (segment) => this.view instanceof ProgressView && this.view.addSegment(segment),
        onEnd: () => this.#finish(),
        onGone: () => this.#showProblem(new ApiError({ status: 404, code: "job_not_found" })),
      },
      this.abort.signal,
    );
  }

  async #finish() {
    await this.#load();
    if (!this.job || this.abort.signal.aborted) return;
    this.onChange(this.job);
    announce(this.job.status === "completed" ? t("job.done") : t(`status.${this.job.status}`));
  }

  #show() {
    this.view?.destroy();
    this.view = null;
    const body = h("div", { class: "job-body" });
    const actions = h("div", { class: "job-actions" });
    fill(this.main, h("article", { class: "job" }, this.#header(actions), body));
    if (this.job.status === "completed" && this.job.result) {
      this.view = new ResultView(this.job, body, actions);
    } else if (this.job.status === "completed") {
      this.#showEmpty(body, "clock", t("job.expired"), t("job.expired.help"), true);
    } else if (this.job.status === "failed" || this.job.status === "cancelled") {
      this.#showFailure(body);
    } else {
      this.view = new ProgressView(this.job, body, () => this.#cancel());
    }
    if (isFinal(this.job)) actions.append(this.#menu());
  }

  #header(actions) {
    const { job } = this;
    const seconds = job.source?.duration_seconds ?? job.duration_seconds ?? job.result?.duration;
    const language = job.result?.language ?? job.options?.language;
    const facts = [
      job.created_at ? when(job.created_at) : null,
      seconds ? spokenDuration(seconds) : null,
      languageName(language),
      job.options?.model ?? job.result?.model?.id,
      job.cached ? t("job.cached") : null,
    ].filter(Boolean);
    return h(
      "header",
      { class: "job-head" },
      h(
        "a",
        { class: "icon-button back", href: "#/", "aria-label": t("job.back"), title: t("job.back") },
        icon("left"),
      ),
      h(
        "div",
        { class: "job-title" },
        h("h1", { title: sourceName(job), dir: "auto" }, sourceName(job)),
        h(
          "p",
          { class: "facts" },
          facts.map((fact) => h("span", {}, fact)),
        ),
      ),
      actions,
    );
  }

  #menu() {
    const button = iconButton("more", t("more"), () => {});
    return menuButton(button, () => [
      ...(this.result ? [{ label: t("job.copy"), icon: "copy", action: () => this.result.copy() }] : []),
      { label: t("job.copy.id"), icon: "file", action: () => this.#copyId() },
      { label: t("job.delete"), icon: "trash", danger: true, action: () => this.#delete() },
    ]);
  }

  async #copyId() {
    await navigator.clipboard?.writeText(this.jobId).then(
      () => toast(t("job.copied")),
      () => toast(t("job.copy.failed"), "error"),
    );
  }

  #showFailure(body) {
    const { error, status } = this.job;
    const isCancelled = status === "cancelled";
    const text = isCancelled ? "" : errorSentence(error?.code, error?.message);
    const detail = isCancelled ? "" : [error?.code, error?.message].filter(Boolean).join(": ");
    this.#showEmpty(
      body,
      isCancelled ? "close" : "alert",
      t(isCancelled ? "job.cancelled" : "job.failed"),
      text,
      true,
      detail,
    );
  }

  #showEmpty(body, iconName, title, text, canRetry, detail = "") {
    fill(
      body,
      h(
        "div",
        { class: "empty" },
        icon(iconName, "icon empty-icon"),
        h("h2", {}, title),
        text ? h("p", {}, text) : null,
        detail ? h("p", { class: "detail" }, detail) : null,
        canRetry
          ? h(
              "button",
              { type: "button", class: "button primary", on: { click: () => this.#retry() } },
              icon("retry"),
              t("job.retry"),
            )
          : h("a", { class: "button", href: "#/" }, t("new")),
      ),
    );
  }

  #showProblem(error) {
    this.view?.destroy();
    this.view = null;
    const isMissing = error.status === 404;
    const body = h("div", { class: "job-body" });
    fill(this.main, h("article", { class: "job" }, body));
    this.#showEmpty(
      body,
      "alert",
      isMissing ? t("job.missing") : (error.sentence ?? String(error)),
      isMissing ? t("job.missing.help") : "",
      false,
    );
    if (error.requestId && !isMissing)
      body.firstChild.append(h("p", { class: "detail" }, `${t("job.reference")}: ${error.requestId}`));
    if (!isMissing) {
      body.firstChild.append(
        h("button", { type: "button", class: "button primary", on: { click: () => this.#load() } }, t("retry")),
      );
    }
  }

  async #cancel() {
    try {
      this.job = { ...this.job, ...(await call(`transcription/${this.jobId}`, { method: "DELETE" })) };
      this.onChange(this.job);
      if (this.view instanceof ProgressView) this.view.update(this.job);
    } catch (error) {
      toast(error.sentence ?? String(error), "error");
    }
  }

  async #retry() {
    try {
      const job = await call(`transcription/${this.jobId}/retry`, { method: "POST" });
      this.onChange({ ...job, filename: sourceName(this.job) });
      location.hash = `#/t/${job.job_id}`;
    } catch (error) {
      toast(error.sentence ?? String(error), "error");
    }
  }

  async #delete() {
    const { closed } = openDialog({ title: t("job.delete.title"), closeLabel: t("close") }, (close) => [
      h("p", {}, t("job.delete.text")),
      h(
        "div",
        { class: "dialog-actions" },
        h("button", { type: "button", class: "button", on: { click: () => close(false) } }, t("cancel")),
        h("button", { type: "button", class: "button danger", on: { click: () => close(true) } }, t("job.delete")),
      ),
    ]);
    if (!(await closed)) return;
    try {
      await call(`transcription/${this.jobId}?purge=true`, { method: "DELETE" });
      toast(t("job.deleted"));
      this.onChange(null);
      location.hash = "#/";
    } catch (error) {
      toast(error.sentence ?? String(error), "error");
    }
  }
}
