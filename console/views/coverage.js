// Coverage: what is held of which symbol and when, why the rest is not, and collecting it.

import { html, useCallback, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { get, post, useGet } from "../api.js";
import { CoverageGrid } from "../coverage_grid.js";
import {
  columnLabel, columnsOf, describe, placed, requestsFor, resolutionFor, symbolsOf, totalOf,
} from "../coverage_map.js";
import { GapList } from "../gap_list.js";
import { denied } from "../session.js";
import { TaskLine } from "../task_line.js";
import { Button, Card, Empty, ErrorBox, Field, go, link, Loading, plural } from "../ui.js";

const DAY = 864e5;
/** Symbols that one query names: its URL stays short. */
const NAMED = 100;
/** Rows that are loaded before the reader asks for more, and tasks that one press may start. */
const ROWS = 40;
const MOST_TASKS = 20;
const USUAL = ["1m", "5m", "15m", "1h", "4h", "1d"];

const isoDay = (time) => new Date(time).toISOString().slice(0, 10);

export default function Coverage({ query }) {
  const { data, problem, reload } = useGet("/tasks/stats");
  const known = data?.data_collector_status;
  const end = Date.parse(query.end ?? "") || Math.floor(Date.now() / DAY) * DAY + DAY;
  const start = Date.parse(query.start ?? "") || end - 30 * DAY;
  const asked = { symbols: query.symbols ?? "", timeframes: query.timeframes ?? "", start, end };
  const set = (changes) => go(link("coverage", { ...query, ...changes }));
  if (!known) return problem ? html`<${ErrorBox} problem=${problem} retry=${reload} />` : html`<${Loading} />`;
  return html`<${Filter} key=${`filter ${JSON.stringify(query)}`} asked=${asked} known=${known} onChange=${set} />
    <${CoverageMap} key=${JSON.stringify(asked)} asked=${asked} known=${known} onZoom=${set} />`;
}

function Filter({ asked, known, onChange }) {
  const [wrong, setWrong] = useState(null);
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    if (form.get("start") > form.get("end")) {
      setWrong({ title: "Wrong dates", message: "The first day comes after the last one.", hint: "Swap them." });
      return;
    }
    if (/[!=]/.test(form.get("symbols"))) {
      setWrong({ title: "No such filter", message: "The map takes names and patterns.",
        hint: "Write BTCUSDT or *USDT; ! and = are for collections." });
      return;
    }
    onChange({
      symbols: form.get("symbols").trim(),
      timeframes: form.getAll("timeframe").join(","),
      start: form.get("start"),
      end: isoDay(Date.parse(form.get("end")) + DAY),
    });
  };
  const frames = [...new Set([...USUAL, ...known.timeframes])];
  const chosen = asked.timeframes.split(",");
  return html`<${Card}><form class="stack" onSubmit=${submit} aria-label="What the map shows">
    <div class="fields">
      <${Field} label="Symbols">
        <input name="symbols" list="coverage-symbols" defaultValue=${asked.symbols}
          placeholder="all that trade; BTCUSDT, ETH*" autocomplete="off" spellcheck="false" />
      <//>
      <${Field} label="First day (UTC)"><input type="date" name="start" required defaultValue=${isoDay(asked.start)} /><//>
      <${Field} label="Last day (UTC)"><input type="date" name="end" required defaultValue=${isoDay(asked.end - DAY)} /><//>
    </div>
    <datalist id="coverage-symbols">
      ${known.available_symbols.map((symbol) => html`<option value=${symbol} />`)}
    </datalist>
    <div class="row apart">
      <fieldset>
        <legend>Timeframes <small>none: those that are stored</small></legend>
        <div class="choices">${frames.map((frame) => html`<label>
          <input type="checkbox" name="timeframe" value=${frame} defaultChecked=${chosen.includes(frame)} />${frame}
        </label>`)}</div>
      </fieldset>
      <button class="primary">Show</button>
    </div>
    <${ErrorBox} problem=${wrong} />
  </form><//>`;
}

/** Rows of the map, page by page. `renew(symbols)` reads some of them again. */
function useRows(asked, known, resolution, columns) {
  const [state, setState] = useState({ rows: new Map(), busy: true, problem: null, more: null });
  const current = useRef(true);
  // Rows that were read again, by which reading: newer than what a page brings.
  const renewed = useRef(new Map());
  const readings = useRef(0);
  const show = (rows, more) => setState((old) => ({
    ...more, rows: new Map([...rows, ...[...renewed.current.keys()].map((key) => [key, old.rows.get(key)])]),
  }));
  const names = useMemo(() => symbolsOf(asked.symbols, known.available_symbols), [asked.symbols]);
  const query = {
    ...(asked.timeframes ? { timeframes: asked.timeframes } : {}),
    start: new Date(asked.start).toISOString(),
    end: new Date(asked.end).toISOString(),
    resolution,
    explain: "false",
    page_size: 40,
  };
  const load = useCallback(async (from, before) => {
    show(before, { busy: true, problem: null, more: null });
    let rows = before;
    let place = from;
    try {
      while (place && rows.size < before.size + ROWS) {
        const some = names?.slice(place.at, place.at + NAMED);
        const page = await get("/coverage", {
          ...query,
          ...(some ? { symbols: some.join() } : {}),
          ...(place.token ? { page_token: place.token } : {}),
        });
        if (!current.current) return;
        rows = placed(resolution, columns, page.coverage, new Map(rows));
        const behind = place.at + NAMED;
        if (page.next_page_token) place = { at: place.at, token: page.next_page_token };
        else place = names && behind < names.length ? { at: behind } : null;
        show(rows, { busy: place !== null, problem: null, more: null });
      }
      show(rows, { busy: false, problem: null, more: place });
    } catch (problem) {
      if (current.current) show(rows, { busy: false, problem, more: place });
    }
  }, []);
  useEffect(() => {
    current.current = true;
    if (names && !names.length) setState({ rows: new Map(), busy: false, problem: null, more: null });
    else load({ at: 0 }, new Map());
    return () => {
      current.current = false;
    };
  }, []);
  const renew = async (symbols) => {
    readings.current += 1;
    const mine = readings.current;
    let found = new Map();
    for (let at = 0; at < symbols.length; at += NAMED) {
      let token = null;
      do {
        const page = await get("/coverage", {
          ...query,
          explain: "true",
          symbols: symbols.slice(at, at + NAMED).join(),
          ...(token ? { page_token: token } : {}),
        });
        if (!current.current) return;
        found = placed(resolution, columns, page.coverage, found);
        token = page.next_page_token;
      } while (token);
    }
    for (const key of [...found.keys()])
      if (renewed.current.get(key) > mine) found.delete(key);
      else renewed.current.set(key, mine);
    setState((before) => ({ ...before, rows: new Map([...before.rows, ...found]) }));
  };
  // The quick answer counts what was asked for in vain by whole files, so that one candle of years ago
  // is a doubt in each day since: rows with doubts are read again, exactly.
  const exactly = () => {
    const doubtful = [...state.rows.values()].filter(({ key, cells }) =>
      !renewed.current.has(key) && cells.some((cell) => cell?.uncertain));
    if (!doubtful.length) return;
    for (const { key } of doubtful) renewed.current.set(key, 0);
    setState((old) => ({ ...old, problem: null }));
    renew([...new Set(doubtful.map(({ symbol }) => symbol))]).catch((problem) => {
      for (const { key } of doubtful) if (renewed.current.get(key) === 0) renewed.current.delete(key);
      if (current.current) setState((old) => ({ ...old, problem }));
    });
  };
  useEffect(() => {
    if (!state.busy) exactly();
  }, [state.busy, state.rows]);
  const again = () => (state.more || !state.rows.size ? load(state.more ?? { at: 0 }, state.rows) : exactly());
  return { ...state, again, renew };
}

function CoverageMap({ asked, known, onZoom }) {
  const resolution = resolutionFor(asked.start, asked.end);
  const columns = useMemo(() => columnsOf(resolution, asked.start, asked.end), []);
  const { rows, busy, problem, more, again, renew } = useRows(asked, known, resolution, columns);
  const [selected, setSelected] = useState(new Map());
  const [cursor, setCursor] = useState(null);
  const select = (next, place) => {
    setSelected(next);
    setCursor(place);
  };
  const zoom = (column) =>
    onZoom({ start: isoDay(column.start), end: isoDay(Math.min(column.end, Date.now() + DAY)) });
  return html`<${Card} title="Held, by ${resolution}" more=${html`<${Legend} />`} class="map-card">
      <${ErrorBox} problem=${problem} retry=${again} />
      ${rows.size > 0 && html`<${CoverageGrid} rows=${rows} columns=${columns} resolution=${resolution}
        selected=${selected} onSelect=${select} />`}
      ${!rows.size && !busy && !problem && html`<${Empty}>Nothing is stored of what you chose. Choose
        timeframes to see what could be collected, or start a <a href=${link("collect")}>new collection</a>.<//>`}
      <p class="row map-foot" role="status">
        ${busy ? html`<${Loading} />` : html`<small>${plural(rows.size, "row")}. Each cell is a ${resolution}, UTC.</small>`}
        ${more && !busy && html`<button type="button" class="small" onClick=${again}>Load more rows</button>`}
      </p>
    <//>
    <${Selection} selected=${selected} rows=${rows} columns=${columns} resolution=${resolution}
      cursor=${cursor} onClear=${() => setSelected(new Map())} onCollected=${renew} onZoom=${zoom} />`;
}

function Legend() {
  const entry = (name, text) => html`<li><i class="map-cell ${name}" aria-hidden="true"></i>${text}</li>`;
  return html`<ul class="legend" aria-label="What cells mean">
    ${entry("is-held level-5", "all held")}
    ${entry("is-gaps level-5", "the exchange has gaps")}
    ${entry("is-part level-3", "partly missing")}
    ${entry("is-missing level-0", "missing")}
    ${entry("is-explained level-5", "not traded")}
  </ul>`;
}

/** Starts what a selection comes to: [{id, symbols}] of the tasks, newest first. */
function useTasks() {
  const [tasks, setTasks] = useState([]);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const start = async (requests, again) => {
    setProblem(null);
    if (requests.length > MOST_TASKS) {
      setProblem({
        title: "Too many parts",
        message: `This selection comes to ${requests.length} tasks.`,
        hint: "Select rectangles: rows that share their time become one task.",
      });
      return;
    }
    setBusy(true);
    try {
      for (const request of requests) {
        const made = again
          ? await post("/start", { ...request, fill: "all" })
          : await post("/coverage/fill", request);
        setTasks((before) => [{ id: made.task_id, symbols: request.symbols }, ...before]);
      }
    } catch (failed) {
      setProblem(failed);
    }
    setBusy(false);
  };
  return { tasks, problem, busy, start };
}

function Selection({ selected, rows, columns, resolution, cursor, onClear, onCollected, onZoom }) {
  const { tasks, problem, busy, start } = useTasks();
  const total = totalOf(selected, rows);
  const collect = (again) => start(requestsFor(selected, rows, columns), again);
  const why = denied("collect") ?? (busy ? "The last request is being sent." : null);
  const one = total.cells === 1 && cursor ? rows.get(cursor.key) : null;
  const column = one && columns[cursor.at];
  return html`<section class="card selection" aria-label="Selection">
      <p role="status">${total.cells
        ? html`<strong>${plural(total.cells, "cell")}</strong>: ${describe(total)}.`
        : html`<span class="muted">Drag over cells to select them, or move with the arrow keys and press
          Space. A row's or column's name selects all of it.</span>`}</p>
      ${total.cells > 0 && html`<div class="row">
        <${Button} kind="primary" why=${why ?? (total.missing ? null : "Nothing of it is missing.")}
          onClick=${() => collect(false)}>Collect what is missing<//>
        <${Button} why=${why} onClick=${() => collect(true)}>Collect all again<//>
        <button type="button" class="plain" onClick=${onClear}>Clear</button>
      </div>`}
      <${ErrorBox} problem=${problem} />
      ${tasks.map(({ id, symbols }) =>
        html`<${TaskLine} key=${id} id=${id} onEnd=${() => onCollected(symbols)} />`)}
    </section>
    ${one && html`<${Card} title="${one.symbol} ${one.timeframe}, ${columnLabel(resolution, column)}"
      more=${html`<span class="row">
        ${resolution !== "day" && html`<button type="button" class="small" onClick=${() => onZoom(column)}>Zoom in</button>`}
        <a href=${link("chart", one.symbol, { timeframe: one.timeframe })}>Chart</a></span>`}>
      <${GapList} key=${`${cursor.key} ${cursor.at}`} version=${total.missing} symbol=${one.symbol}
        timeframe=${one.timeframe} start=${column.start} end=${column.end}
        onCollected=${() => onCollected([one.symbol])} />
    <//>`}`;
}
