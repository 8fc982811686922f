// Candles as files: pages of GET /candles joined in the browser. CSV becomes one file. Parquet
// files cannot be joined, so that each page is one.

import { get } from "./api.js";

export const ROWS = { csv: 10_000, parquet: 30_000 };

/** The query of the next page, as the header Link names it; null: there is none. */
export function following(link) {
  const found = /<\?([^>]*)>;\s*rel="next"/.exec(link ?? "");
  return found && Object.fromEntries(new URLSearchParams(found[1]));
}

/**
 * Files of one symbol and timeframe: yields {name, blob}. `onPage(pages)` is told of progress;
 * `signal` ends it. Throws Problem.
 */
export async function* files({ symbol, timeframe, start, end, format }, onPage, signal) {
  const name = `${symbol}-${timeframe}-${start.slice(0, 10)}-${end.slice(0, 10)}`;
  let query = { symbol, timeframe, start, end, format, limit: ROWS[format] };
  let pages = 0;
  const parts = [];
  while (query) {
    const response = await get("/candles", query, { as: "response", signal });
    query = following(response.headers.get("link"));
    pages += 1;
    onPage(pages);
    if (format === "parquet") {
      const number = query || pages > 1 ? `-${pages}` : "";
      yield { name: `${name}${number}.parquet`, blob: await response.blob() };
      continue;
    }
    const text = await response.text();
    parts.push(pages === 1 ? text : text.slice(text.indexOf("\n") + 1));
  }
  if (format === "csv") yield { name: `${name}.csv`, blob: new Blob(parts, { type: "text/csv" }) };
}

export function save({ name, blob }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
