// What the chart view does with its candles: load, draw, explain, load older ones, keep up. One
// thing at a time: two answers at once would each forget what the other brought.

import { get } from "./api.js";
import { LoadedCandles, lengthOf } from "./candles.js";

export class ChartSession {
  /** `onChange(changes)`: of phase, rows, gaps, problem ...; `onLook(row, gap)`: under the cursor. */
  constructor(element, symbol, timeframe, { onChange, onLook }) {
    this.element = element;
    this.timeframe = timeframe;
    this.onChange = onChange;
    this.onLook = onLook;
    this.loaded = new LoadedCandles(get, symbol, timeframe);
    this.busy = Promise.resolve();
    this.asking = false;
    this.start();
  }

  close() {
    this.ended = true;
    this.chart?.close();
  }

  /** `work()` when what was asked for before is there. What fails is said, and ends nothing. */
  after(work) {
    const safely = async () => {
      if (this.ended) return;
      try {
        await work();
      } catch (problem) {
        this.change({ problem, older: false });
      }
    };
    this.busy = this.busy.then(safely);
    return this.busy;
  }

  change(changes) {
    if (!this.ended) this.onChange(changes);
  }

  start() {
    return this.after(async () => {
      this.change({ problem: null });
      // The drawing library is large: it comes while the candles do.
      const [{ CandleChart }] = await Promise.all([
        import("./chart_canvas.js"),
        this.loaded.start(),
      ]);
      this.CandleChart = CandleChart;
      this.draw({ message: this.loaded.message });
      // The library draws in the next frame, as it asked before this does.
      requestAnimationFrame(() => performance.mark("chart-drawn"));
      await this.explain(this.loaded.oldestMs);
    });
  }

  older() {
    if (this.asking || !this.loaded.hasOlder) return;
    this.asking = true;
    const before = this.loaded.oldestMs;
    this.after(async () => {
      this.change({ older: true });
      await this.loaded.older();
      this.draw({ older: false });
      await this.explain(this.loaded.oldestMs, before);
    }).finally(() => {
      this.asking = false;
    });
  }

  /** Everything from `fromMs` on anew. */
  renew(fromMs) {
    return this.after(() => this.reload(fromMs));
  }

  /** What came since the newest candle; without a WebSocket it is asked for. */
  poll() {
    return this.chart ? this.renew(this.loaded.newestMs) : this.start();
  }

  async reload(fromMs) {
    const from = Math.max(fromMs, this.loaded.oldestMs);
    await this.loaded.renew(from);
    this.draw();
    await this.explain(Math.max(from, this.loaded.oldestMs));
  }

  /** A snapshot or update of the topic. */
  heard({ candle, covered }) {
    if (!candle) return;
    this.after(async () => {
      if (!this.chart) return;
      const { newestMs } = this.loaded;
      const openMs = Date.parse(candle.open_time);
      const fromMs = covered ? Math.min(Date.parse(covered.start), newestMs) : newestMs;
      if (!covered && openMs === newestMs) return;
      const follows = openMs - newestMs === lengthOf(this.timeframe);
      if (follows && fromMs >= newestMs) {
        this.loaded.put(candle);
        this.chart.put(this.loaded.rows);
        this.change({ rows: this.loaded.rows, phase: "drawn" });
      } else await this.reload(fromMs);
    });
  }

  async explain(fromMs, untilMs) {
    await this.loaded.explain(fromMs, untilMs);
    if (this.ended) return;
    this.chart.show(this.loaded.rows, this.loaded.gaps);
    this.change({ gaps: this.loaded.gaps, hasMoreGaps: this.loaded.hasMoreGaps });
  }

  draw(changes = {}) {
    if (this.ended) return;
    this.chart ??= new this.CandleChart(this.element, this.timeframe, {
      onNearStart: () => this.older(),
      onLook: this.onLook,
    });
    const { rows, gaps } = this.loaded;
    this.chart.show(rows, gaps);
    this.change({ ...changes, phase: rows.length ? "drawn" : "empty", rows, problem: null });
  }
}
