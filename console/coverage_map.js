// The coverage map's data: columns of time, the cells of rows in them, and what a selection asks
// for. Nothing here touches the page. Times are epoch milliseconds, UTC.

const DAY = 864e5;
/** Columns of one map at most: where days would be more, months are shown, then years. */
const MOST_COLUMNS = 124;

export function resolutionFor(start, end) {
  if ((end - start) / DAY <= MOST_COLUMNS) return "day";
  return (end - start) / (30 * DAY) <= MOST_COLUMNS ? "month" : "year";
}

const startOf = (resolution, time) => {
  const date = new Date(time);
  const month = resolution === "year" ? 0 : date.getUTCMonth();
  const day = resolution === "day" ? date.getUTCDate() : 1;
  return Date.UTC(date.getUTCFullYear(), month, day);
};

const nextOf = (resolution, time) => {
  const date = new Date(time);
  if (resolution === "day") return time + DAY;
  if (resolution === "month") return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
  return Date.UTC(date.getUTCFullYear() + 1, 0);
};

/** [{start, end}] of the calendar's days, months or years that [start, end) touches. */
export function columnsOf(resolution, start, end) {
  const columns = [];
  for (let at = startOf(resolution, start); at < end; at = nextOf(resolution, at)) {
    columns.push({ start: at, end: nextOf(resolution, at) });
  }
  return columns;
}

export const columnLabel = (resolution, column) =>
  new Date(column.start).toISOString().slice(0, { day: 10, month: 7, year: 4 }[resolution]);

export const rowKey = (row) => `${row.symbol} ${row.timeframe}`;

const sum = (one, other) => {
  if (!one) return other;
  const explained = { ...one.explained };
  for (const [reason, count] of Object.entries(other.explained)) {
    explained[reason] = (explained[reason] ?? 0) + count;
  }
  return {
    expected: one.expected + other.expected,
    held: one.held + other.held,
    missing: one.missing + other.missing,
    uncertain: one.uncertain + other.uncertain,
    explained,
  };
};

/** Rows of the API, which may come in parts, as rows with a cell (or null) for each column. */
export function placed(resolution, columns, rowsFound, rows = new Map()) {
  const places = new Map(columns.map((column, at) => [column.start, at]));
  for (const row of rowsFound) {
    const key = rowKey(row);
    const known = rows.get(key);
    const cells = known ? [...known.cells] : columns.map(() => null);
    for (const found of row.cells) {
      const cell = { uncertain: 0, ...found }; // exact answers have no doubts, and do not say so
      const at = places.get(startOf(resolution, Date.parse(cell.start)));
      if (at !== undefined) cells[at] = sum(cells[at], cell);
    }
    rows.set(key, { symbol: row.symbol, timeframe: row.timeframe, key, cells });
  }
  return rows;
}

/** How a cell is drawn: its state, and how much of it is filled, in fifths. */
export function lookOf(cell) {
  if (!cell || !cell.expected) return { state: "none", level: 0 };
  const known = Object.values(cell.explained).reduce((all, count) => all + count, 0);
  if (!cell.held && !cell.missing && !cell.uncertain) return { state: "explained", level: 5 };
  const share = (cell.held + known + cell.uncertain) / cell.expected;
  const level = cell.missing ? Math.min(4, Math.floor(share * 5)) : 5;
  if (cell.missing) return { state: level ? "part" : "missing", level };
  return { state: cell.uncertain || known ? "gaps" : "held", level };
}

const count = (number) => number.toLocaleString("en");

/** A cell in words. */
export function describe(cell) {
  if (!cell || !cell.expected) return "nothing expected";
  const parts = [`${count(cell.held)} of ${count(cell.expected)} candles held`];
  if (cell.missing) parts.push(`${count(cell.missing)} missing`);
  for (const [reason, number] of Object.entries(cell.explained)) {
    parts.push(`${count(number)} ${reason.replaceAll("_", " ")}`);
  }
  if (cell.uncertain) parts.push(`up to ${count(cell.uncertain)} the exchange did not have`);
  return parts.join(", ");
}

/**
 * The requests that a selection comes to: the cells of a row that touch are one range, and symbols
 * that share a timeframe and range are one request. `selected`: keys of rows -> set of columns.
 */
export function requestsFor(selected, rows, columns, now = Date.now()) {
  const ranges = new Map();
  for (const [key, places] of selected) {
    const row = rows.get(key);
    if (!row) continue;
    for (const [first, last] of runsOf([...places])) {
      const start = columns[first].start;
      const end = Math.min(columns[last].end, now);
      if (start >= end) continue;
      const name = `${row.timeframe} ${start} ${end}`;
      const request = ranges.get(name) ?? { symbols: [], timeframe: row.timeframe, start, end };
      request.symbols.push(row.symbol);
      ranges.set(name, request);
    }
  }
  const merged = new Map();
  for (const { symbols, timeframe, start, end } of ranges.values()) {
    const name = `${symbols.join()} ${start} ${end}`;
    const request = merged.get(name) ?? {
      symbols,
      timeframes: [],
      start: new Date(start).toISOString(),
      end: new Date(end).toISOString(),
    };
    request.timeframes.push(timeframe);
    merged.set(name, request);
  }
  return [...merged.values()];
}

function runsOf(places) {
  const runs = [];
  for (const at of places.sort((one, other) => one - other)) {
    const last = runs.at(-1);
    if (last && last[1] === at - 1) last[1] = at;
    else runs.push([at, at]);
  }
  return runs;
}

/** The counts of all selected cells together. */
export function totalOf(selected, rows) {
  let total = null;
  let cells = 0;
  for (const [key, places] of selected) {
    for (const at of places) {
      const cell = rows.get(key)?.cells[at];
      cells += 1;
      if (cell) total = sum(total, cell);
    }
  }
  return { cells, ...(total ?? { expected: 0, held: 0, missing: 0, uncertain: 0, explained: {} }) };
}

/** Symbols that names and patterns such as `BTC*` select; null: all. */
export function symbolsOf(text, known) {
  const entries = text.toUpperCase().split(/[\s,]+/).filter(Boolean);
  if (!entries.length) return null;
  const found = new Set();
  for (const entry of entries) {
    if (!entry.includes("*")) {
      found.add(entry);
      continue;
    }
    const pattern = entry.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\/]/g, "\\$&"));
    const whole = new RegExp(`^${pattern.join(".*")}$`, "u");
    for (const symbol of known) if (whole.test(symbol)) found.add(symbol);
  }
  return [...found];
}
