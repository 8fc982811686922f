// Candles of one symbol and timeframe, as far as they are loaded: newest first, older ones page by
// page, and what was stored meanwhile. Times are epoch milliseconds; `time` of a row is in seconds,
// as the chart wants it.

export const FIRST_ROWS = 500;
export const OLDER_ROWS = 1000;
const NEWER_ROWS = 1000;
/** Pages that are new at most: after a longer sleep the newest candles are read instead. */
const NEWER_PAGES = 10;
/** Pages of gaps that are asked for: more than that is not looked at on a chart. */
const GAP_PAGES = 5;

const rowOf = (candle) => ({
  time: Date.parse(candle.open_time) / 1000,
  open: candle.open,
  high: candle.high,
  low: candle.low,
  close: candle.close,
  volume: candle.volume,
});

const gapOf = (gap) => ({
  ...gap,
  start: Date.parse(gap.start),
  end: Date.parse(gap.end),
});

export class LoadedCandles {
  /** `get(path, query)` answers the JSON of an API route. */
  constructor(get, symbol, timeframe) {
    this.get = get;
    this.symbol = symbol;
    this.timeframe = timeframe;
    this.rows = [];
    this.gaps = [];
    this.hasMoreGaps = false;
    this.olderToken = null;
    this.message = null;
  }

  ask(path, query) {
    return this.get(path, { symbol: this.symbol, timeframe: this.timeframe, ...query });
  }

  /** The newest candles. */
  async start() {
    const page = await this.ask("/candles", { order: "desc", limit: FIRST_ROWS });
    this.rows = page.candles.map(rowOf).reverse();
    this.olderToken = page.next_page_token;
    this.message = page.message;
  }

  get hasOlder() {
    return this.olderToken !== null;
  }

  /** A page of candles before those that are loaded; how many it had. */
  async older() {
    if (!this.hasOlder) return 0;
    const query = { order: "desc", limit: OLDER_ROWS, page_token: this.olderToken };
    const page = await this.ask("/candles", query);
    // Revised or filled in meanwhile, a page may begin with what is known.
    const first = this.rows[0]?.time ?? Infinity;
    const rows = page.candles.map(rowOf).reverse().filter((row) => row.time < first);
    this.rows = [...rows, ...this.rows];
    this.olderToken = page.next_page_token;
    return rows.length;
  }

  /** When the first and the last loaded candle opens; 0: there is none. */
  get oldestMs() {
    return (this.rows[0]?.time ?? 0) * 1000;
  }

  get newestMs() {
    return (this.rows.at(-1)?.time ?? 0) * 1000;
  }

  /** Everything from `fromMs` on once more: what was revised, filled in, or came after. */
  async renew(fromMs) {
    if (!this.rows.length) return this.start();
    const query = { order: "asc", limit: NEWER_ROWS, start: new Date(fromMs).toISOString() };
    const found = [];
    const most = Math.ceil(this.rows.length / NEWER_ROWS) + NEWER_PAGES;
    let token = null;
    for (let page = 0; page === 0 || token; page += 1) {
      if (page === most) {
        this.gaps = [];
        return this.start();
      }
      const answer = await this.ask("/candles", { ...query, page_token: token });
      found.push(...answer.candles.map(rowOf));
      token = answer.next_page_token;
    }
    this.rows = [...this.rows.filter((row) => row.time * 1000 < fromMs), ...found];
    return undefined;
  }

  /** A candle behind the last one. */
  put(candle) {
    this.rows = [...this.rows, rowOf(candle)];
  }

  /** Why candles are missing in [fromMs, untilMs), of what is loaded; without an end: up to now. */
  async explain(fromMs, untilMs = Infinity) {
    if (!this.rows.length) return;
    const end = untilMs === Infinity ? null : new Date(untilMs).toISOString();
    const query = { start: new Date(fromMs).toISOString(), end, page_size: 100 };
    const found = [];
    let token = null;
    for (let page = 0; page === 0 || (token && page < GAP_PAGES); page += 1) {
      const answer = await this.ask("/coverage/gaps", { ...query, page_token: token });
      found.push(...answer.gaps.map(gapOf));
      token = answer.next_page_token;
    }
    this.hasMoreGaps ||= token !== null;
    const shown = found.filter((gap) => gap.candles > 0 && gap.reason !== "not_yet_final");
    const others = this.gaps.filter((gap) => gap.end <= fromMs || gap.start >= untilMs);
    this.gaps = [...others, ...shown].sort((one, other) => one.start - other.start);
  }
}

/** How long a timeframe is, in milliseconds; a month: 30 days. */
export function lengthOf(timeframe) {
  const unit = { s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5, M: 2592e6 }[timeframe.at(-1)];
  return Number.parseInt(timeframe, 10) * unit;
}

/** Rows with places for the gaps between them: at most `most` for a gap, evenly spread. The chart
 * draws time by places, so that without them a gap would have no width. */
export function withPlaces(rows, gaps, timeframe, most = 100) {
  if (!gaps.length) return rows;
  const step = lengthOf(timeframe);
  const taken = new Set(rows.map((row) => row.time));
  const places = [];
  for (const gap of gaps) {
    const count = Math.max(1, Math.min(most, gap.candles));
    const stride = Math.max(step, (gap.end - gap.start) / count);
    // Weeks begin on Mondays, and candles of three days where the exchange lets them.
    const first = step < 864e5 ? Math.ceil(gap.start / step) * step : gap.start;
    for (let at = 0; at < count; at += 1) {
      const time = first + Math.floor((at * stride) / step) * step;
      const seconds = (timeframe.endsWith("M") ? gap.start + at * stride : time) / 1000;
      if (seconds * 1000 >= gap.end || taken.has(seconds)) continue;
      taken.add(seconds);
      places.push({ time: seconds });
    }
  }
  return [...rows, ...places].sort((one, other) => one.time - other.time);
}
