// Chart: stored candles and volume, why some are missing, the newest as they come, and files.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { useGet } from "../api.js";
import { lengthOf } from "../candles.js";
import { ChartSession } from "../chart_session.js";
import { files, save } from "../download.js";
import { GapTable } from "../gap_list.js";
import { useTopic } from "../live.js";
import { reasonName, reasonText } from "../reasons.js";
import { Card, ErrorBox, Field, go, link, Loading, number, Table, utc } from "../ui.js";

const USUAL = ["1m", "5m", "15m", "1h", "4h", "1d"];
const VALUES = ["open", "high", "low", "close", "volume"];
const price = (value) => value.toLocaleString("en", { maximumFractionDigits: 8 });
const minute = (time) => utc(time).slice(0, 16);

export default function Chart({ path, query }) {
  const symbol = path[0] || "BTCUSDT";
  const timeframe = query.timeframe ?? "1m";
  const { data } = useGet("/tasks/stats");
  const known = data?.data_collector_status;
  const frames = [...new Set([...USUAL, ...(known?.timeframes ?? []), timeframe])];
  const show = (event) => {
    event.preventDefault();
    go(link("chart", event.target.symbol.value.trim().toUpperCase(), { timeframe }));
  };
  return html`<div class="row apart chart-head">
      <form class="row" onSubmit=${show} aria-label="Symbol">
        <input name="symbol" list="chart-symbols" aria-label="Symbol" defaultValue=${symbol} required
          autocomplete="off" spellcheck="false" />
        <datalist id="chart-symbols">
          ${(known?.available_symbols ?? []).map((name) => html`<option value=${name} />`)}
        </datalist>
        <button>Show</button>
      </form>
      <div class="segments" role="group" aria-label="Timeframe">
        ${frames.sort((one, other) => lengthOf(one) - lengthOf(other)).map((frame) => html`
          <button type="button" aria-pressed=${frame === timeframe ? "true" : "false"}
            onClick=${() => go(link("chart", symbol, { timeframe: frame }))}>${frame}</button>`)}
      </div>
    </div>
    <${Drawn} key=${`${symbol} ${timeframe}`} symbol=${symbol} timeframe=${timeframe} />`;
}

/** The session of one symbol and timeframe, and what it knows. */
function useSession(box, symbol, timeframe) {
  const [state, setState] = useState({ phase: "loading", look: [null, null] });
  const session = useRef(null);
  useEffect(() => {
    const onChange = (changes) => setState((before) => ({ ...before, ...changes }));
    const onLook = (row, gap) => onChange({ look: [row, gap] });
    const made = new ChartSession(box.current, symbol, timeframe, { onChange, onLook });
    session.current = made;
    return () => made.close();
  }, []);
  useTopic(
    `candles:${symbol}:${timeframe}`,
    (message) => session.current?.heard(message),
    () => session.current?.poll(),
  );
  return { ...state, session };
}

const KEYS = {
  ArrowLeft: (chart) => chart.move(-0.25),
  ArrowRight: (chart) => chart.move(0.25),
  PageUp: (chart) => chart.move(-1),
  PageDown: (chart) => chart.move(1),
  "+": (chart) => chart.zoom(0.7),
  "-": (chart) => chart.zoom(1.4),
  End: (chart) => chart.newest(),
};

function Drawn({ symbol, timeframe }) {
  const box = useRef(null);
  const { phase, problem, rows, gaps, hasMoreGaps, older, message, look, session } =
    useSession(box, symbol, timeframe);
  const show = (gap) => {
    session.current.chart.lookAt(gap);
    box.current.scrollIntoView({ block: "center" });
  };
  const typed = (event) => {
    const chart = session.current?.chart;
    if (!chart || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key](chart);
  };
  return html`<section class="card chart-card" data-phase=${phase} data-rows=${rows?.length ?? 0}
      data-last=${rows?.at(-1)?.time} aria-label="Chart">
      <${Looked} row=${look[0] ?? (look[1] ? null : rows?.at(-1))} gap=${look[1]} older=${older} />
      <div ref=${box} class="chart-box" tabindex="0" role="application" onKeyDown=${typed}
        aria-label="Chart of ${symbol} ${timeframe}. Arrow keys scroll, plus and minus zoom, End goes to the newest candle. Tables below have the gaps and the newest values."></div>
      ${phase === "loading" && !problem && html`<div class="chart-note"><${Loading} /></div>`}
      ${phase === "empty" && html`<div class="chart-note"><p>${message ?? "Nothing is stored here."}</p>
        <p><a class="button" href=${link("collect", { symbols: symbol, timeframes: timeframe })}>Collect it</a></p></div>`}
      <${ErrorBox} problem=${problem} retry=${() => session.current.start()} />
      <p class="credit"><small>Times are UTC. Charts by <a href="https://www.tradingview.com/" target="_blank"
        rel="noreferrer">TradingView Lightweight Charts™</a></small></p>
    </section>
    ${gaps && html`<${Card} title="Gaps in what is loaded">
      <${GapTable} symbol=${symbol} timeframe=${timeframe} gaps=${[...gaps].reverse()}
        hasMore=${hasMoreGaps} onLook=${show}
        onCollected=${() => session.current.renew(0)} />
    <//>`}
    ${rows?.length > 0 && html`<${Files} symbol=${symbol} timeframe=${timeframe} session=${session} />`}
    ${rows?.length > 0 && html`<${Newest} rows=${rows} symbol=${symbol} timeframe=${timeframe} />`}`;
}

/** What is under the cursor: a candle, or a gap and its reason. */
function Looked({ row, gap, older }) {
  return html`<p class="looked">
    ${row && html`<span>${minute(row.time * 1000)}</span>
      ${VALUES.map((name) => html`<span><abbr title=${name}>${name[0].toUpperCase()}</abbr> ${price(row[name])}</span>`)}`}
    ${!row && gap && html`<strong>${reasonName(gap.reason)}</strong>
      <span>${number(gap.candles)} candles, ${minute(gap.start)} to ${minute(gap.end)}. ${reasonText(gap.reason)}</span>`}
    ${older && html`<span class="muted" role="status">Loading older candles …</span>`}
  </p>`;
}

function Newest({ rows, symbol, timeframe }) {
  const columns = [
    { name: "Opens (UTC)", cell: (row) => utc(row.time * 1000) },
    ...VALUES.map((name) => ({
      name: name[0].toUpperCase() + name.slice(1), class: "right", cell: (row) => price(row[name]),
    })),
  ];
  return html`<details class="card">
    <summary>The newest candles as a table</summary>
    <${Table} label="The newest candles of ${symbol} ${timeframe}" columns=${columns}
      rows=${rows.slice(-20).reverse()} keyOf=${(row) => row.time} />
  </details>`;
}

function Files({ symbol, timeframe, session }) {
  const [state, setState] = useState({});
  const form = useRef(null);
  const stopping = useRef(null);
  useEffect(() => () => stopping.current?.abort(), []);
  const prefill = () => {
    const seen = session.current?.chart?.visible();
    if (!seen) return;
    form.current.start.value = new Date(seen.start).toISOString().slice(0, 16);
    form.current.end.value = new Date(seen.end).toISOString().slice(0, 16);
  };
  useEffect(prefill, []);
  const submit = async (event) => {
    event.preventDefault();
    const { start, end } = form.current;
    stopping.current = new AbortController();
    setState({ busy: true, text: "Reading …" });
    const asked = {
      symbol, timeframe, start: `${start.value}Z`, end: `${end.value}Z`, format: event.submitter.value,
    };
    const names = [];
    try {
      const said = (pages) => setState({ busy: true, text: `Page ${pages} …` });
      for await (const file of files(asked, said, stopping.current.signal)) {
        save(file);
        names.push(file.name);
      }
      setState({ text: `Saved ${names.join(", ")}` });
    } catch (problem) {
      setState(problem.name === "AbortError" ? { text: "Stopped." } : { problem });
    }
  };
  return html`<${Card} title="Download">
    <form ref=${form} onSubmit=${submit} class="stack" aria-label="Download">
      <div class="fields">
        <${Field} label="From (UTC)"><input type="datetime-local" name="start" required /><//>
        <${Field} label="To (UTC)"><input type="datetime-local" name="end" required /><//>
      </div>
      <div class="row">
        <button class="primary" value="csv" disabled=${state.busy}>CSV</button>
        <button class="primary" value="parquet" disabled=${state.busy}>Parquet</button>
        <button type="button" onClick=${prefill}>The range that is shown</button>
        ${state.busy && html`<button type="button" onClick=${() => stopping.current.abort()}>Stop</button>`}
        <small role="status">${state.text}</small>
      </div>
      <${ErrorBox} problem=${state.problem} />
    </form>
  <//>`;
}
