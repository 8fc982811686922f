// One task: live, with what failed by reason, and what can be done about it.
import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";
import { get, post } from "./api.js";
import { useTopic } from "./live.js";
import { cancel, pace, rate, subject, TaskBar } from "./running.js";
import { denied } from "./session.js";
import { hasEnded, newer } from "./task_age.js";
import { Ago, Button, Card, compact, duration, ErrorBox, Figure, html, link, Loading, number, Pill, plural, Table, toast, utc } from "./ui.js";

const DETAILS = ["failures", "rejections", "webhook"];

function useTask(id) {
  const [task, set] = useState(null);
  const [problem, fail] = useState(null);
  const reading = useRef(false);
  const read = useCallback(async () => {
    if (reading.current) return;
    reading.current = true;
    try {
      const found = await get(`/task/${id}`);
      set((old) => newer(old, found));
      fail(null);
    } catch (error) {
      fail(error);
    }
    reading.current = false;
  }, [id]);
  useEffect(() => void read(), [id]);
  const failed = task?.units?.failed || 0, state = task?.status;
  const seen = useRef(`${failed} ${state}`);
  // Updates do not hold what failed: it is read again where that has changed.
  useEffect(() => {
    const now = `${failed} ${state}`;
    if (task && seen.current !== now) read();
    seen.current = now;
  }, [failed, state]);
  const take = ({ type, task: news }) => {
    const known = type === "snapshot" ? news : Object.fromEntries(Object.entries(news).filter(([name]) => !DETAILS.includes(name)));
    set((old) => newer(old, known));
  };
  useTopic(problem && !task ? null : `task:${id}`, take, read);
  return { task, problem, read };
}

export function Task({ id }) {
  const { task, problem, read } = useTask(id);
  if (!task) {
    if (!problem) return html`<${Loading} />`;
    return html`<${ErrorBox} problem=${problem} retry=${problem.status === 410 || problem.status === 404 ? null : read} />
      <p class="row"><a class="button" href=${link("audit", id)}>Its audit trail</a>
        <a class="button" href=${link("tasks")}>All tasks</a></p>`;
  }
  return html`
    <${Card} class="task" title=${subject(task)} more=${html`<${Pill} state=${task.status} />`}>
      <${TaskBar} task=${task} />
      <p class="row apart" role="status"><span>${task.message}</span><strong>${task.progress} %</strong></p>
      ${task.error && html`<div class="notice bad">${task.error}</div>`}
      ${task.notice && html`<div class="notice warn">${task.notice}</div>`}
      <${Figures} task=${task} />
      <${Actions} task=${task} read=${read} />
    <//>
    ${task.failures?.length > 0 && html`<${Failures} failures=${task.failures} total=${task.units.failed} />`}
    ${task.rejections?.length > 0 && html`<${Card} title="Rejected candles"><${Table} label="Rejected candles"
      columns=${REJECTED} rows=${task.rejections} keyOf=${JSON.stringify} /><//>`}
    ${task.passed_over?.length > 0 && html`<${Card} title="Archive files passed over"><p class="muted">Their candles came from REST.</p>
      <ul class="plain-list">${task.passed_over.map((each) => html`<li><code>${each.reason}</code> ${each.file || each.symbol || ""} ${each.detail || ""}</li>`)}</ul><//>`}
    <${Asked} task=${task} />`;
}

function Figures({ task }) {
  const { units, completed_at: ended } = task;
  const took = ended && task.started_at ? (new Date(ended) - new Date(task.started_at)) / 1000 : null;
  return html`<dl class="figures gap">
    <${Figure} name="Units" value="${number(units.succeeded)} of ${number(units.total)}" note=${units.from_store ? `${number(units.from_store)} held already` : ""} />
    <${Figure} name="Failed" value=${number(units.failed)} tone=${units.failed ? "bad" : ""} />
    <${Figure} name="Candles" value=${compact(task.candles)} note=${task.revised_candles ? `${number(task.revised_candles)} revised` : ""} />
    <${Figure} name="Rate" value=${pace(rate(task))} />
    ${hasEnded(task) ? html`<${Figure} name="Took" value=${duration(took)} note=${html`ended <${Ago} time=${ended} />`} />`
    : html`<${Figure} name="Left" value=${duration(task.eta_seconds)} note=${html`began <${Ago} time=${task.started_at || task.created_at} />`} />`}
    <${Figure} name="Attempt" value=${task.attempt} note="priority ${task.priority}" />
  </dl>`;
}

function Actions({ task, read }) {
  const [busy, setBusy] = useState(false);
  const may = denied("collect");
  const ended = hasEnded(task);
  const retryable = ended && task.task_type === "data_collection" && (task.units.failed > 0 || task.units.remaining > 0);
  const during = (work) => async () => {
    setBusy(true);
    await work().catch(toast);
    await read();
    setBusy(false);
  };
  const retry = during(async () => toast((await post(`/task/${task.task_id}/retry`)).message));
  const left = task.units.failed + task.units.remaining;
  return html`<div class="row">
    ${!ended && html`<${Button} kind="danger" why=${may} disabled=${busy} onClick=${during(() => cancel(task))}>Cancel<//>`}
    ${retryable && html`<${Button} kind="primary" why=${may} disabled=${busy} onClick=${retry}>Retry ${plural(left, "unit")}<//>`}
    <a class="button" href=${link("audit", task.task_id)}>Audit trail</a>
    ${task.schedule_id && html`<a class="button" href=${link("schedules")}>Its schedule</a>`}
    ${task.next_attempt_at && html`<span class="muted">Next attempt <${Ago} time=${task.next_attempt_at} /></span>`}
  </div>`;
}

const MOST_EXAMPLES = 8;

function Failures({ failures, total }) {
  const groups = Object.entries(Object.groupBy(failures, ({ reason }) => reason))
    .map(([reason, found]) => ({ reason, found })).sort((one, other) => other.found.length - one.found.length);
  const named = failures.length < total ? `${number(failures.length)} of ${number(total)} are named` : "";
  const place = ({ symbol, timeframe }) => `${symbol} ${timeframe}`;
  return html`<${Card} title="What failed, by reason" more=${html`<small>${named}</small>`}>
    <${Table} label="Failures by reason" rows=${groups} keyOf=${({ reason }) => reason} columns=${[
      { name: "Reason", cell: ({ reason, found }) => html`<div><code>${reason}</code><div class="muted small-text">${found[0].detail}</div></div>` },
      { name: "Units", class: "right", cell: ({ found }) => number(found.length) },
      { name: "Where", cell: ({ found }) => {
        const places = [...new Set(found.map(place))];
        const more = places.length - MOST_EXAMPLES;
        return `${places.slice(0, MOST_EXAMPLES).join(", ")}${more > 0 ? ` and ${number(more)} more` : ""}`;
      } },
    ]} /><//>`;
}

const REJECTED = [
  { name: "Candle", cell: ({ symbol, timeframe }) => `${symbol} ${timeframe}` },
  { name: "Opened (UTC)", cell: ({ open_time: at }) => utc(at) },
  { name: "Reason", cell: ({ reason, detail }) => html`<span><code>${reason}</code> ${detail || ""}</span>` },
];

function Asked({ task }) {
  const { request } = task;
  const { symbols, timeframes = [], start, end } = request || {};
  const range = start || end ? `${utc(start)} to ${end ? utc(end) : "now"} UTC` : "what is new, up to the last closed candle";
  return html`<${Card} title="Asked for">
    <dl class="pairs">
      ${request && html`<dt>Symbols</dt><dd>${!symbols ? "all" : html`${symbols.map((name) => html`<a class="chip"
        href=${/[*=!]/.test(name) ? null : link("chart", name, { timeframe: timeframes[0] })}>${name}</a> `)}`}
        ${task.symbols_count > (symbols?.length || 0) && html`<small>${number(task.symbols_count)} symbols in all</small>`}</dd>
      <dt>Timeframes</dt><dd>${timeframes.join(" ")}</dd><dt>Range</dt><dd>${range}</dd>`}
      <dt>Created</dt><dd>${utc(task.created_at)} UTC</dd>
      <dt>Task</dt><dd><code>${task.task_id}</code></dd>
    </dl><//>`;
}
