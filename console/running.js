// Tasks as they move: hooks that follow them, and how one is shown in a list.
import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";
import { get, post } from "./api.js";
import { useTopic } from "./live.js";
import { denied } from "./session.js";
import { hasEnded, newer } from "./task_age.js";
import { Bar, Button, compact, duration, Empty, ErrorBox, html, link, Loading, number, Pill, plural, toast } from "./ui.js";

// So long a task that has ended stays in the list of what runs.
const FAREWELL_MS = 6_000;

/** {tasks: oldest first, problem, reload}; `onEnd(task)` is called once for each that ends. */
export function useActiveTasks(onEnd = () => {}) {
  const [tasks, set] = useState(null);
  const [problem, fail] = useState(null);
  const told = useRef(onEnd);
  told.current = onEnd;
  const shown = useRef({});
  shown.current = tasks || {};
  const replace = useCallback((found) => {
    fail(null);
    const ids = new Set(found.map((task) => task.task_id));
    Object.values(shown.current).filter((task) => !ids.has(task.task_id) && !hasEnded(task)).forEach((task) => told.current(task));
    set((old) => Object.fromEntries(found.map((task) => [task.task_id, newer(old?.[task.task_id], task)])));
  }, []);
  const reload = useCallback(
    () => get("/tasks/active", { page_size: 100 }).then((page) => replace(page.tasks), fail), []);
  const take = ({ type, tasks: found }) => {
    if (type === "snapshot") return replace(found);
    const ended = found.filter(hasEnded);
    set((old) => found.reduce((all, task) => ({ ...all, [task.task_id]: newer(all[task.task_id], task) }), old || {}));
    if (ended.length === 0) return undefined;
    ended.forEach((task) => told.current(task));
    return setTimeout(() => set((old) => Object.fromEntries(
      Object.entries(old).filter(([, task]) => !hasEnded(task)))), FAREWELL_MS);
  };
  useEffect(() => void reload(), []);
  useTopic("tasks", take, reload);
  const sorted = tasks && Object.values(tasks).sort((one, other) => one.created_at.localeCompare(other.created_at));
  return { tasks: sorted, problem, reload };
}

/** What a task is about, in a few words. */
export function subject(task) {
  if (task.task_type === "symbol_refresh") return "Refresh of symbols";
  const { symbols, timeframes = [] } = task.request || task.asked || {};
  const names = Array.isArray(symbols) ? symbols : task.asked?.symbol_names || [];
  const frames = timeframes.join(" ");
  if (names.some((name) => /[*=!]/.test(name)))
    return `${names.join(", ")}${task.symbols_count ? ` (${plural(task.symbols_count, "symbol")})` : ""} · ${frames}`;
  const count = task.symbols_count ?? (typeof symbols === "number" ? symbols : names.length);
  const some = names.length === 0 ? "All symbols" : names.slice(0, 3).join(", ");
  const more = count > Math.min(names.length, 3) && names.length ? ` and ${plural(count - Math.min(names.length, 3), "more", "more")}` : "";
  return `${some}${more} · ${frames}`;
}

/** Units a second since the attempt began; null before the first. */
export function rate(task) {
  const { total = 0, remaining = 0 } = task.units || {};
  const end = task.completed_at || task.stopped_at || Date.now();
  const seconds = (new Date(end) - new Date(task.started_at)) / 1000;
  return task.started_at && seconds > 0 && total > remaining ? (total - remaining) / seconds : null;
}

export const pace = (value) =>
  value === null ? "–" : `${value >= 10 ? Math.round(value) : value.toFixed(1)} units/s`;

export async function cancel(task) {
  try {
    const receipt = await post(`/task/${task.task_id}/cancel`);
    toast(`${receipt.message}. What was collected stays.`);
    return receipt;
  } catch (problem) {
    toast(problem);
    return null;
  }
}

const TONE = { completed: "good", failed: "bad", cancelled: "idle" };
export const TaskBar = ({ task }) =>
  html`<${Bar} value=${task.progress} tone=${TONE[task.status]} label="Progress of ${subject(task)}" />`;

export function ActiveTasks({ onEnd, empty }) {
  const { tasks, problem, reload } = useActiveTasks(onEnd);
  if (!tasks) return problem ? html`<${ErrorBox} problem=${problem} retry=${reload} />` : html`<${Loading} />`;
  if (tasks.length === 0) return html`<${Empty}>${empty}<//>`;
  return html`<ul class="running">${tasks.map((task) => html`<li key=${task.task_id}>
    <div class="row apart"><a href=${link("tasks", task.task_id)}>${subject(task)}</a>
      <span class="row"><${Pill} state=${task.status} />
      ${!hasEnded(task) && html`<${Button} kind="small" why=${denied("collect")} onClick=${() => cancel(task)}
        aria-label="Cancel ${subject(task)}">Cancel<//>`}</span></div>
    <${TaskBar} task=${task} />
    <div class="row apart muted small-text"><span>${task.message}</span>
      <span>${task.units?.failed ? html`<b class="bad-text">${number(task.units.failed)} failed</b> · ` : ""}${compact(task.candles || 0)} candles
        · ${pace(rate(task))}${task.eta_seconds !== null && !hasEnded(task) ? ` · ${duration(task.eta_seconds)} left` : ""}</span></div>
  </li>`)}</ul>`;
}
