/*
 * A long list of rows of unknown height, of which only those in sight exist.
 *
 * Heights are guessed until a row has been drawn, then known. Their prefix sums lie in a Fenwick tree,
 * so that finding the row at an offset and correcting a height are both O(log n). When a height above
 * the view turns out otherwise than guessed, the scroll position is corrected by the difference, so
 * that what is being read stays where it is.
 */

/** Rows drawn beyond each edge, in pixels, so that fast scrolling shows no gap. */
const MARGIN_PX = 600;

/** Prefix sums of heights that change. */
export class Heights {
  #tree;
  #heights;

  constructor(count, heightOf) {
    this.#heights = new Float64Array(count);
    this.#tree = new Float64Array(count + 1);
    for (let index = 0; index < count; index += 1) this.set(index, heightOf(index));
  }

  /** Gives a row a height; how much it grew. */
  set(index, height) {
    const growth = height - this.#heights[index];
    this.#heights[index] = height;
    for (let at = index + 1; at < this.#tree.length; at += at & -at) this.#tree[at] += growth;
    return growth;
  }

  /** The height of a row. */
  get(index) {
    return this.#heights[index];
  }

  /** Where row `index` begins; the height of all for the count. */
  offset(index) {
    let sum = 0;
    for (let at = index; at > 0; at -= at & -at) sum += this.#tree[at];
    return sum;
  }

  /** The row at an offset, clamped to the list. */
  rowAt(offset) {
    const count = this.#heights.length;
    let at = 0;
    let rest = Math.max(0, offset);
    for (let step = 2 ** Math.floor(Math.log2(Math.max(1, count))); step > 0; step = Math.floor(step / 2)) {
      if (at + step <= count && this.#tree[at + step] <= rest) {
        at += step;
        rest -= this.#tree[at];
      }
    }
    return Math.max(0, Math.min(at, count - 1));
  }
}

/** Draws rows into `content`, which scrolls inside `scroller`. */
export class VirtualList {
  /**
   * `render(index)` makes a row's element, `guess(index, widthPx)` its height. `onDraw()` is called
   * after rows have come or gone.
   */
  constructor({ scroller, content, count, guess, render, onDraw = () => {} }) {
    Object.assign(this, { scroller, content, count, guess, render, onDraw });
    this.rows = new Map();
    this.width = 0;
    this.observer = new ResizeObserver((entries) => this.#measure(entries));
    this.frame = 0;
    this.onScroll = () => this.#schedule();
    scroller.addEventListener("scroll", this.onScroll, { passive: true });
    this.observer.observe(scroller);
    this.#reset();
  }

  /** Forgets everything that was drawn, for instance when names have changed. */
  refresh() {
    const offset = this.scroller.scrollTop;
    for (const element of this.rows.values()) this.#drop(element);
    this.rows.clear();
    this.#draw();
    this.scroller.scrollTop = offset;
  }

  /** The element of a row, if it is drawn. */
  element(index) {
    return this.rows.get(index);
  }

  /** Whether all of a row's `element` or the row itself is in sight. */
  isVisible(index, element = this.element(index)) {
    if (!element) return false;
    const view = this.scroller.getBoundingClientRect();
    const box = element.getBoundingClientRect();
    return box.top >= view.top && box.bottom <= view.bottom;
  }

  /** Scrolls so that a row stands at `share` of the view's height. */
  scrollToRow(index, { share = 0.3, isSmooth = false } = {}) {
    const target = () =>
      Math.max(0, this.content.offsetTop + this.heights.offset(index) - this.scroller.clientHeight * share);
    const distance = Math.abs(target() - this.scroller.scrollTop);
    if (isSmooth && distance < this.scroller.clientHeight * 2) {
      this.scroller.scrollTo({ top: target(), behavior: "smooth" });
      return;
    }
    // Rows near the target get their true heights as they are drawn, which moves it a little.
    for (let round = 0; round < 3; round += 1) {
      this.scroller.scrollTop = target();
      this.#draw();
    }
  }

  /** Stops listening. */
  destroy() {
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.scroller.removeEventListener("scroll", this.onScroll);
  }

  #reset() {
    this.width = this.content.clientWidth;
    this.heights = new Heights(this.count, (index) => this.guess(index, this.width));
    this.#draw();
  }

  #schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.#draw();
    });
  }

  #drop(element) {
    this.observer.unobserve(element);
    element.remove();
  }

  #draw() {
    if (this.count === 0) return;
    const top = this.scroller.scrollTop - this.content.offsetTop;
    const first = this.heights.rowAt(top - MARGIN_PX);
    const last = this.heights.rowAt(top + this.scroller.clientHeight + MARGIN_PX);
    for (const [index, element] of this.rows) {
      if ((index < first || index > last) && !element.contains(document.activeElement)) {
        this.#drop(element);
        this.rows.delete(index);
      }
    }
    const fresh = [];
    for (let index = first; index <= last; index += 1) {
      if (this.rows.has(index)) continue;
      const element = this.render(index);
      element.dataset.row = String(index);
      this.rows.set(index, element);
      this.#insert(index, element);
      fresh.push([index, element]);
    }
    // All reads of layout after all writes: one layout for a batch of rows, not one for each.
    this.#settle(fresh.map(([index, element]) => [index, element.offsetHeight]));
    for (const [, element] of fresh) this.observer.observe(element);
    this.#place();
    this.onDraw();
  }

  /** Keeps the order of the document that of the text, for screen readers and for selecting. */
  #insert(index, element) {
    let next = null;
    for (const [other, candidate] of this.rows) {
      if (other > index && (next === null || other < Number(next.dataset.row))) next = candidate;
    }
    this.content.insertBefore(element, next);
  }

  #place() {
    for (const [index, element] of this.rows) {
      element.style.transform = `translateY(${this.heights.offset(index)}px)`;
    }
    this.content.style.height = `${this.heights.offset(this.count)}px`;
  }

  /** Takes measured heights over; holds still what is in view. */
  #settle(measured) {
    const top = this.scroller.scrollTop - this.content.offsetTop;
    const anchor = this.heights.rowAt(top);
    let above = 0;
    for (const [index, height] of measured) {
      const growth = this.heights.set(index, height);
      if (index < anchor) above += growth;
    }
    if (Math.abs(above) < 0.5) return;
    this.content.style.height = `${this.heights.offset(this.count)}px`;
    this.scroller.scrollTop += above;
  }

  #measure(entries) {
    const width = this.content.clientWidth;
    if (width !== this.width) {
      const anchor = this.heights.rowAt(this.scroller.scrollTop - this.content.offsetTop);
      this.#reset();
      this.#settle([...this.rows].map(([index, element]) => [index, element.offsetHeight]));
      this.scrollToRow(anchor, { share: 0 });
      return;
    }
    const measured = entries
      .filter((entry) => this.rows.get(Number(entry.target.dataset.row)) === entry.target)
      .map((entry) => [Number(entry.target.dataset.row), entry.target.offsetHeight])
      .filter(([index, height]) => this.heights.get(index) !== height);
    if (measured.length > 0) {
      this.#settle(measured);
      this.#place();
    }
    this.#schedule();
  }
}
