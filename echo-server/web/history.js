/*
 * The list of transcriptions: search, filter, more on demand, kept up to date while work is going on.
 */

import { call, isFinal, sourceName } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { clock, percent, when } from "./format.js";
import { t } from "./i18n.js";

const PAGE_SIZE = 30;
const REFRESH_MS = 4000;
const SEARCH_DELAY_MS = 250;
/** The filters, and the states of the API that each stands for. */
const FILTERS = {
  all: [],
  active: ["pending", "processing"],
  completed: ["completed"],
  failed: ["failed", "cancelled"],
};

/** Shows the list in `nav`. */
export class History {
  constructor(nav) {
    this.jobs = [];
    this.cursor = null;
    this.filter = "all";
    this.selected = null;
    this.request = 0;
    this.nav = nav;
    this.build();
    // Only while something is going on and somebody looks.
    setInterval(() => {
      if (!document.hidden && this.jobs.some((job) => !isFinal(job))) this.#refresh();
    }, REFRESH_MS);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#refresh();
    });
  }

  /** Draws the list anew, for instance in another language. */
  build() {
    this.field = h("input", {
      type: "search",
      class: "search-input",
      placeholder: t("history.search"),
      "aria-label": t("history.search"),
      autocomplete: "off",
      spellcheck: "false",
      value: this.field?.value ?? "",
      on: {
        input: () => {
          clearTimeout(this.timer);
          this.timer = setTimeout(() => this.load(), SEARCH_DELAY_MS);
        },
      },
    });
    this.tabs = h(
      "div",
      { class: "segmented", role: "group", "aria-label": t("history.status") },
      Object.keys(FILTERS).map((filter) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": String(filter === this.filter),
            data: { filter },
            on: { click: () => this.#setFilter(filter) },
          },
          t(`history.${filter}`),
        ),
      ),
    );
    this.list = h("ul", { class: "jobs" });
    this.foot = h("div", { class: "history-foot" });
    this.nav.setAttribute("aria-label", t("history"));
    fill(
      this.nav,
      h("h2", { class: "history-title" }, t("history")),
      h("div", { class: "history-tools" }, h("div", { class: "search" }, icon("search"), this.field), this.tabs),
      this.list,
      this.foot,
    );
    return this.load();
  }

  /** Loads the first page. */
  async load() {
    this.cursor = null;
    if (this.jobs.length === 0)
      fill(
        this.list,
        [1, 2, 3].map(() => h("li", { class: "skeleton", "aria-hidden": "true" })),
      );
    await this.#fetch(false);
  }

  /** Marks the job that is open. */
  select(jobId) {
    this.selected = jobId;
    for (const link of this.list.querySelectorAll("a")) {
      if (link.dataset.job === jobId) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /** Takes over what is newly known about a job. */
  update(job) {
    const at = this.jobs.findIndex((other) => other.job_id === job.job_id);
    if (at >= 0) {
      const changed = { ...this.jobs[at], ...job, result: undefined };
      this.jobs[at] = changed;
      const old = this.list.children[at];
      if (old) this.#patch(old, changed);
    } else if (this.filter === "all" || FILTERS[this.filter].includes(job.status)) {
      this.jobs.unshift(job);
      this.#show();
    }
  }

  /** Takes a job out. */
  remove(jobId) {
    this.jobs = this.jobs.filter((job) => job.job_id !== jobId);
    this.#show();
  }

  #setFilter(filter) {
    this.filter = filter;
    for (const tab of this.tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.filter === filter));
    this.jobs = [];
    this.load();
  }

  #query(cursor, limit = PAGE_SIZE) {
    const query = new URLSearchParams({ limit: String(limit) });
    for (const status of FILTERS[this.filter]) query.append("status", status);
    const text = this.field.value.trim();
    if (text) query.set("q", text);
    if (cursor) query.set("cursor", cursor);
    return `transcriptions?${query}`;
  }

  async #fetch(isMore) {
    // An answer that was overtaken by a newer question is dropped.
    const request = ++this.request;
    try {
      const page = await call(this.#query(isMore ? this.cursor : null));
      if (request !== this.request) return;
      this.cursor = page.next_cursor;
      this.jobs = isMore ? [...this.jobs, ...page.items] : page.items;
      this.#show();
    } catch (error) {
      if (request === this.request) this.#showError(error);
    }
  }

  /** The newest page again, without losing what was loaded after it. */
  async #refresh() {
    const request = this.request;
    try {
      const limit = Math.min(100, Math.max(PAGE_SIZE, this.jobs.length));
      const page = await call(this.#query(null, limit));
      if (request !== this.request) return;
      const fresh = new Set(page.items.map((job) => job.job_id));
      const older =
        this.cursor === null && page.next_cursor === null
          ? []
          : this.jobs.slice(page.items.length).filter((job) => !fresh.has(job.job_id));
      const hasSameRows =
        page.items.every((job, at) => this.jobs[at]?.job_id === job.job_id) &&
        page.items.length + older.length === this.jobs.length;
      this.jobs = [...page.items, ...older];
      if (hasSameRows) for (const [at, job] of this.jobs.entries()) this.#patch(this.list.children[at], job);
      else this.#show();
    } catch {
      // The banner tells; the next round tries again.
    }
  }

  #show() {
    const focused = document.activeElement?.dataset?.job;
    fill(
      this.list,
      this.jobs.map((job) => this.#row(job)),
    );
    if (focused) this.list.querySelector(`[data-job="${CSS.escape(focused)}"]`)?.focus();
    fill(this.foot, this.#footText());
  }

  #footText() {
    if (this.jobs.length === 0) {
      const isSearch = this.field.value.trim() !== "" || this.filter !== "all";
      const key = isSearch ? "history.none" : "history.empty";
      return h(
        "div",
        { class: "empty small" },
        icon("wave", "icon empty-icon"),
        h("p", { class: "strong" }, t(key)),
        h("p", {}, t(`${key}.help`)),
      );
    }
    if (!this.cursor) return null;
    return h(
      "button",
      {
        type: "button",
        class: "button wide",
        on: {
          click: (event) => {
            event.target.disabled = true;
            this.#fetch(true);
          },
        },
      },
      t("history.more"),
    );
  }

  #showError(error) {
    if (this.jobs.length === 0) fill(this.list);
    fill(
      this.foot,
      h(
        "div",
        { class: "empty small" },
        icon("alert", "icon empty-icon"),
        h("p", { class: "strong" }, t("history.error")),
        h("p", {}, error.sentence ?? ""),
        h("button", { type: "button", class: "button", on: { click: () => this.load() } }, t("retry")),
      ),
    );
  }

  #row(job) {
    const item = h(
      "li",
      { class: "job-item" },
      h("a", {
        href: `#/t/${job.job_id}`,
        data: { job: job.job_id },
        "aria-current": job.job_id === this.selected ? "page" : null,
      }),
    );
    this.#patch(item, job);
    return item;
  }

  #patch(item, job) {
    const isActive = !isFinal(job);
    const print = [job.status, job.progress, job.cancel_requested, sourceName(job), duration(job)].join("|");
    if (item.dataset.print === print) return;
    item.dataset.print = print;
    item.className = `job-item job-${job.status}`;
    const share = job.progress ?? 0;
    const bar = h("div", { class: "bar-fill" });
    bar.style.transform = `scaleX(${share})`;
    const state = job.cancel_requested && isActive ? t("status.cancelling") : t(`status.${job.status}`);
    const facts = [
      job.status === "completed"
        ? null
        : h(
            "span",
            { class: "job-state" },
            job.status === "processing" && share > 0 ? `${state} · ${percent(share)}` : state,
          ),
      job.created_at ? h("span", {}, when(job.created_at)) : null,
      duration(job) ? h("span", {}, clock(duration(job))) : null,
    ];
    fill(
      item.firstElementChild,
      h("span", { class: "job-name", dir: "auto" }, sourceName(job)),
      h("span", { class: "facts" }, facts),
      job.status === "processing" ? h("div", { class: "bar thin" }, bar) : null,
    );
  }
}

function duration(job) {
  return job.duration_seconds ?? job.source?.duration_seconds ?? 0;
}
