// Choose symbols, timeframes and a range; see what it takes and what is held; start it.
import { useEffect, useMemo, useState } from "../vendor/preact.js";
import { post, useGet } from "../api.js";
import { Held, Quote } from "../quote.js";
import { denied } from "../session.js";
import { Symbols } from "../symbols.js";
import { Button, Card, ErrorBox, Field, go, html, link, Loading, toast } from "../ui.js";

export const TIMEFRAMES = ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"];
const RANGES = {
  new: "What is new: from the newest stored candle, or the last 1,000",
  range: "A range of time",
  gaps: "Only what is missing",
};
// So long nothing is chosen before it is quoted.
const SETTLES_MS = 500;

const list = (text) => (text ? text.split(",") : []);

/** `query` may hold symbols, timeframes (with commas), start and end (ISO 8601). */
export default function Collect({ query }) {
  const stats = useGet("/tasks/stats");
  const [entries, setEntries] = useState(list(query.symbols));
  const [timeframes, setTimeframes] = useState(query.timeframes ? list(query.timeframes) : null);
  const [range, setRange] = useState({
    kind: query.start || query.end ? "range" : "new", start: minute(query.start), end: minute(query.end),
  });
  const [priority, setPriority] = useState("normal");
  const known = stats.data?.data_collector_status;
  const chosen = timeframes || known?.timeframes || [];
  const body = useMemo(() => requestOf(entries, chosen, range, priority),
    [entries.join(), chosen.join(), range, priority]);
  const quote = useQuote(known ? body : null);
  if (!known) return stats.problem ? html`<${ErrorBox} problem=${stats.problem} retry=${stats.reload} />` : html`<${Loading} />`;
  const toggle = (timeframe) => setTimeframes(TIMEFRAMES.filter((each) => (each === timeframe) !== chosen.includes(each)));
  return html`
    ${known.symbols_count === 0 && html`<${NoSymbols} reload=${stats.reload} />`}
    <div class="collect">
      <div>
        <${Card} title="Symbols"><${Symbols} names=${known.available_symbols} entries=${entries} change=${setEntries} /><//>
        <${Card} title="Timeframes"><fieldset><legend class="visually-hidden">Timeframes</legend><div class="choices">
          ${TIMEFRAMES.map((each) => html`<label><input type="checkbox" checked=${chosen.includes(each)}
            onChange=${() => toggle(each)} />${each}</label>`)}</div></fieldset><//>
        <${Card} title="Range"><${Range} range=${range} change=${setRange} />
          <div class="fields gap"><${Field} label="Priority">
            <select onChange=${(event) => setPriority(event.target.value)}>
              ${["high", "normal", "low"].map((each) => html`<option value=${each} selected=${each === priority}>${each}</option>`)}</select><//></div><//>
      </div>
      <aside aria-label="What it takes">
        <${Card} title="Before you start"><${Quote} quote=${quote} empty=${empty(entries, chosen)} />
          <${Start} body=${body} ready=${!empty(entries, chosen)} /><//>
        <${Held} entries=${entries} timeframes=${chosen} />
      </aside>
    </div>`;
}

const minute = (time) => (time ? new Date(time).toISOString().slice(0, 16) : "");

function empty(entries, timeframes) {
  if (entries.length === 0) return "Choose symbols first.";
  return timeframes.length === 0 ? "Choose at least one timeframe." : "";
}

function requestOf(entries, timeframes, { kind, start, end }, priority) {
  if (empty(entries, timeframes)) return null;
  const body = { timeframes, priority };
  // The pattern of all is what a request without symbols means.
  if (entries.join() !== "*") body.symbols = entries;
  if (kind === "gaps") body.fill = "gaps";
  if (kind !== "new" && start) body.start = `${start}Z`;
  if (kind !== "new" && end) body.end = `${end}Z`;
  return body;
}

function useQuote(body) {
  const [state, set] = useState({});
  const text = body && JSON.stringify(body);
  useEffect(() => {
    if (text === null || denied("collect")) {
      set({});
      return undefined;
    }
    const stop = new AbortController();
    set((old) => ({ ...old, busy: true }));
    const timer = setTimeout(() => {
      post("/start", { ...body, dry_run: true }, { once: null, signal: stop.signal }).then(
        (found) => set({ found }),
        (problem) => problem.name === "AbortError" || set({ problem }));
    }, SETTLES_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text]);
  return state;
}

function Range({ range, change }) {
  const input = (name) => html`<input type="datetime-local" value=${range[name]} max="9999-12-31T23:59"
    onInput=${(event) => change({ ...range, [name]: event.target.value })} />`;
  return html`<fieldset><legend class="visually-hidden">Range</legend><div class="stack tight">
    ${Object.entries(RANGES).map(([kind, name]) => html`<label class="choice"><input type="radio" name="range" value=${kind}
      checked=${range.kind === kind} onChange=${() => change({ ...range, kind })} />${name}</label>`)}</div>
    ${range.kind !== "new" && html`<div class="fields gap">
      <${Field} label="From (UTC)" help=${range.kind === "gaps" ? "Without: from the first stored candle." : "Without: from the newest stored candle."}>${input("start")}<//>
      <${Field} label="To (UTC)" help="Without: up to the last closed candle.">${input("end")}<//></div>`}
  </fieldset>`;
}

function Start({ body, ready }) {
  const [busy, setBusy] = useState(false);
  const [problem, fail] = useState(null);
  useEffect(() => fail(null), [body]);
  const start = async () => {
    setBusy(true);
    try {
      const made = await post("/start", body);
      toast(made.deduplicated ? "The same collection runs already: this is it." : "Started.");
      go(link("tasks", made.task_id));
    } catch (error) {
      fail(error);
    }
    setBusy(false);
  };
  return html`<${ErrorBox} problem=${problem} />
    <${Button} kind="primary whole" why=${denied("collect")} disabled=${!ready || busy} onClick=${start}>Start collecting<//>`;
}

function NoSymbols({ reload }) {
  const refresh = async () => {
    try {
      await post("/refresh-symbols");
      toast("The exchange is asked for its symbols. Load them in a moment.");
      setTimeout(reload, 4_000);
    } catch (problem) {
      toast(problem);
    }
  };
  return html`<div class="notice warn"><span>No symbols are known yet.</span>
    <${Button} kind="small" why=${denied("collect")} onClick=${refresh}>Ask the exchange for its symbols<//></div>`;
}
