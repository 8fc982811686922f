// What a request would take, and what is held already of what it asks for.
import { useGet } from "./api.js";
import { denied } from "./session.js";
import { Bar, Card, compact, dollars, duration, Empty, ErrorBox, Figure, html, link, Loading, number, plural } from "./ui.js";

const bytes = (count) => (count < 1e6 ? `${Math.ceil(count / 1e3)} KB` : count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(1)} GB`);

export function Quote({ quote, empty }) {
  const why = denied("collect");
  if (why) return html`<${Empty}>${why}<//>`;
  if (empty) return html`<${Empty}>${empty}<//>`;
  const { found, problem, busy } = quote;
  if (problem) return html`<${ErrorBox} problem=${problem} />`;
  if (!found) return html`<${Loading} what="Asking what it takes" />`;
  const { units, sources } = found;
  const archive = sources.archive?.requests || 0;
  return html`<div class="quote" aria-busy=${busy ? "true" : "false"}>
    <dl class="figures">
      <${Figure} name="Units" value=${number(units.total)} note=${units.from_store ? `${number(units.from_store)} held already`
        : plural(found.symbols, "symbol")} />
      <${Figure} name="Requests" value=${number(found.requests)} note=${archive ? `${number(archive)} of them to the archive` : "to the exchange"} />
      <${Figure} name="Time" value=${duration(found.seconds)} note="about" />
      <${Figure} name="Cost" value=${dollars(found.dollars)} note="on AWS, prices of ${found.prices.as_of}" />
      <${Figure} name="Candles" value=${compact(found.candles)} note="that are not held" />
      <${Figure} name="Storage" value=${bytes(found.bytes_stored)} note="${dollars(found.storage_dollars_per_month)} a month" />
    </dl>
    ${found.unknown_symbols.length > 0 && html`<div class="notice bad">Unknown: ${found.unknown_symbols.join(", ")}. Remove them, or the request is refused.</div>`}
    ${found.delisted_symbols.length > 0 && html`<div class="notice warn">No longer listed: ${found.delisted_symbols.join(", ")}.</div>`}
    <details><summary>What these figures take for granted</summary><ul>${found.assumptions.map((each) => html`<li>${each}</li>`)}</ul></details>
  </div>`;
}

const MOST_SYMBOLS = 6;

/** Coverage of the first symbols that are selected by name. */
export function Held({ entries, timeframes }) {
  const names = entries.filter((entry) => !/[*=!]/.test(entry)).slice(0, MOST_SYMBOLS);
  const asked = names.length > 0 && timeframes.length > 0;
  const { data, problem, reload } = useGet(asked ? "/coverage" : null,
    { symbols: names.join(","), timeframes: timeframes.join(","), resolution: "all", page_size: 100 });
  if (!asked) return null;
  const rows = (data?.coverage || []).filter(({ held }) => held > 0);
  const more = html`<a href=${link("coverage", { symbols: names.join(","), timeframes: timeframes.join(",") })}>Coverage</a>`;
  return html`<${Card} title="Held already" more=${more}>
    <${ErrorBox} problem=${problem} retry=${reload} />
    ${!data && !problem && html`<${Loading} />`}
    ${data && rows.length === 0 && html`<${Empty}>Nothing of this is stored yet.<//>`}
    <ul class="held">${rows.map((row) => html`<li><span>${row.symbol} ${row.timeframe}</span>
      <${Bar} value=${row.percent ?? 0} label="Held of ${row.symbol} ${row.timeframe}" tone="good" />
      <span class="right">${row.percent ?? 0} %<small>${compact(row.held)} since ${row.start.slice(0, 10)}</small></span></li>`)}</ul>
    ${entries.length > names.length && html`<small>Of symbols that are named in full, at most ${MOST_SYMBOLS}.</small>`}<//>`;
}
