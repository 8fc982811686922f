// What runs, live, and what has ended. With an id in the address: that task.
import { useCallback, useEffect, useRef, useState } from "../vendor/preact.js";
import { get } from "../api.js";
import { useConnection } from "../live.js";
import { ActiveTasks, subject } from "../running.js";
import { Task } from "../task.js";
import { hasEnded } from "../task_age.js";
import { Ago, Card, compact, duration, ErrorBox, go, html, link, Loading, number, Pill, Table } from "../ui.js";

export default function Tasks({ path, query }) {
  if (path[0]) return html`<${Task} id=${path[0]} />`;
  return html`<${List} query=${query} />`;
}

const STATES = ["completed", "failed", "cancelled"];
const TYPES = { data_collection: "Collections", symbol_refresh: "Refreshes of symbols" };
// Ends are in the history some seconds after they happened.
const SETTLES_MS = 4_000, POLL_MS = 10_000;

function List({ query }) {
  const history = useHistory(query);
  const timer = useRef();
  useEffect(() => () => clearTimeout(timer.current), []);
  const connection = useConnection();
  // Without the stream nothing says that a short task has come and gone.
  useEffect(() => {
    if (connection !== "polling") return undefined;
    const every = setInterval(history.reload, POLL_MS);
    return () => clearInterval(every);
  }, [connection, history.reload]);
  const later = () => {
    clearTimeout(timer.current);
    history.reload();
    timer.current = setTimeout(history.reload, SETTLES_MS);
  };
  const choose = (name) => (event) =>
    go(link("tasks", { ...query, [name]: event.target.value }), { replace: true });
  const filters = html`<div class="row">
    <label class="row">State <select onChange=${choose("status")}>
      <option value="">all</option>${STATES.map((state) => html`<option value=${state} selected=${query.status === state}>${state}</option>`)}</select></label>
    <label class="row">Kind <select onChange=${choose("task_type")}>
      <option value="">all</option>${Object.entries(TYPES).map(([type, name]) => html`<option value=${type} selected=${query.task_type === type}>${name}</option>`)}</select></label>
  </div>`;
  return html`
    <${Card} title="Running" more=${html`<a class="button small" href=${link("collect")}>New collection</a>`}>
      <${ActiveTasks} onEnd=${later} empty="Nothing runs now." /><//>
    <${Card} title="History" more=${filters}>
      <${ErrorBox} problem=${history.problem} retry=${history.reload} />
      ${history.tasks ? html`<${Table} label="Tasks that have ended" columns=${COLUMNS} rows=${history.tasks}
        keyOf=${keyOf} empty="No task has ended that fits." />` : !history.problem && html`<${Loading} />`}
      ${history.more && html`<p class="row end older"><button type="button" class="small" disabled=${history.busy}
        onClick=${history.more}>Older</button></p>`}
    <//>`;
}

const keyOf = (task) => `${task.task_id} ${task.attempt}`;
const seconds = (task) => (new Date(task.completed_at) - new Date(task.started_at || task.created_at)) / 1000;
const COLUMNS = [
  { name: "What", cell: (task) => html`<a href=${link("tasks", task.task_id)}>${subject(task)}</a>` },
  { name: "State", cell: (task) => html`<${Pill} state=${task.status} />` },
  { name: "Ended", cell: (task) => html`<${Ago} time=${task.completed_at} />` },
  { name: "Took", cell: (task) => duration(seconds(task)) },
  { name: "Units", class: "right", cell: ({ units }) => number(units?.succeeded) },
  { name: "Failed", class: "right", cell: ({ units }) => html`<span class=${units?.failed ? "bad-text" : "faint"}>${number(units?.failed)}</span>` },
  { name: "Candles", class: "right", cell: ({ candles }) => compact(candles) },
];

/** Ends from the history, before them those that are not in it yet. {tasks, more, busy, problem, reload} */
function useHistory({ status, task_type }) {
  const [pages, set] = useState(null);
  const [problem, fail] = useState(null);
  const [busy, setBusy] = useState(false);
  const query = { status, task_type, page_size: 25 };
  // Readings by number: what comes behind a later one, or another filter, is not shown any more.
  const begun = useRef(0), shown = useRef(0);
  const reload = useCallback(async () => {
    begun.current += 1;
    const mine = begun.current;
    try {
      const [recent, ended] = await Promise.all([get("/tasks", query), filled(query)]);
      if (mine <= shown.current) return;
      shown.current = mine;
      const known = new Set(ended.tasks.map(keyOf));
      const fresh = recent.tasks.filter((task) => hasEnded(task) && !known.has(keyOf(task)));
      fail(null);
      set({ fresh, tasks: ended.tasks, token: ended.token });
    } catch (error) {
      if (mine > shown.current) fail(error);
    }
  }, [status, task_type]);
  useEffect(() => {
    shown.current = begun.current;
    set(null);
    reload();
  }, [status, task_type]);
  const more = async () => {
    const mine = shown.current;
    setBusy(true);
    try {
      const next = await filled(query, pages.token);
      if (mine === shown.current) set((old) => ({ ...old, tasks: [...old.tasks, ...next.tasks], token: next.token }));
    } catch (error) {
      if (mine === shown.current) fail(error);
    }
    setBusy(false);
  };
  const tasks = pages && [...pages.fresh, ...pages.tasks].sort((one, other) =>
    (other.completed_at || "").localeCompare(one.completed_at || ""));
  return { tasks, problem, busy, reload, more: pages?.token ? more : null };
}

/** A page may be empty although there are more: goes on until there is something, or no more. */
async function filled(query, token = null) {
  for (let tries = 0; ; tries += 1) {
    const page = await get("/history", { ...query, page_token: token });
    token = page.next_page_token;
    if (page.tasks.length > 0 || token === null || tries === 5) return { tasks: page.tasks, token };
  }
}
