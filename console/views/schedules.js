// Schedules: when each runs next, whether it keeps its promise, and changing, running and making
// them.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { call, get, post } from "../api.js";
import { useLoaded } from "../loaded.js";
import { denied } from "../session.js";
import { TaskLine } from "../task_line.js";
import { Ago, Button, Card, Empty, ErrorBox, Field, link, Loading, number, Pill, utc, duration } from "../ui.js";

const RENEW_MS = 10_000;
const EXAMPLES = [
  ["rate(1 minute)", "every minute"],
  ["rate(1 hour)", "every hour"],
  ["cron(5 * * * ? *)", "five past each hour"],
  ["cron(0 6 ? * MON-FRI *)", "at 6 on working days"],
];

export default function Schedules() {
  const [tokens, setTokens] = useState([]);
  const list = useLoaded(async () => {
    const page = await get("/schedules", { page_size: 20, page_token: tokens.at(-1) });
    // The list does not measure lags: each schedule's own answer does.
    const found = await Promise.allSettled(
      page.schedules.map((one) => get(`/schedules/${one.schedule_id}`)),
    );
    const schedules = page.schedules.map((one, at) => found[at].value ?? one);
    return { next: page.next_page_token, schedules };
  }, [tokens.length]);
  useEffect(() => {
    const renew = setInterval(() => document.hidden || list.again(), RENEW_MS);
    return () => clearInterval(renew);
  }, [tokens.length]);
  const { value, problem, again } = list;
  return html`<${ErrorBox} problem=${problem} retry=${again} />
    ${!value && !problem && html`<${Loading} />`}
    ${value?.schedules.length === 0 && html`<${Card}><${Empty}>There is no schedule yet. Make one below: it
      collects what is new, at fixed times or at a rate.<//><//>`}
    ${value?.schedules.map((one) => html`<${Schedule} key=${one.schedule_id} schedule=${one} onChanged=${again} />`)}
    ${(tokens.length > 0 || value?.next) && html`<p class="row">
      <button type="button" disabled=${!tokens.length} onClick=${() => setTokens(tokens.slice(0, -1))}>Before</button>
      <button type="button" disabled=${!value?.next} onClick=${() => setTokens([...tokens, value.next])}>Next</button>
    </p>`}
    <${Maker} onMade=${again} />`;
}

/** One fact of a schedule. */
const Fact = ({ name, children }) => html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;

function Schedule({ schedule, onChanged }) {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const [asked, setAsked] = useState(false);
  const [tasks, setTasks] = useState([]);
  const id = schedule.schedule_id;
  const act = async (work) => {
    setBusy(true);
    setProblem(null);
    try {
      await work();
      await onChanged();
    } catch (failed) {
      setProblem(failed);
    }
    setBusy(false);
  };
  const run = () =>
    act(async () => {
      const made = await post(`/schedules/${id}/run`);
      setTasks((before) => [made.task_id, ...before]);
    });
  const enable = () =>
    act(() => call("PATCH", `/schedules/${id}`, { body: { enabled: !schedule.enabled } }));
  const remove = () => {
    if (asked) act(() => call("DELETE", `/schedules/${id}`));
    setAsked(!asked);
  };
  const why = denied("collect") ?? (busy ? "The last change is being made." : null);
  const state = html`<${Pill} state=${schedule.enabled ? "enabled" : "disabled"} tone=${schedule.enabled ? "good" : "idle"} />`;
  return html`<section class="card schedule" data-schedule=${id} aria-label=${schedule.name || schedule.expression}>
    <header><h2>${schedule.name || schedule.expression}</h2>${state}</header>
    <${Facts} schedule=${schedule} />
    <${Troubles} schedule=${schedule} />
    <div class="row">
      <${Button} kind="primary" why=${why} onClick=${run}>Run now<//>
      <${Button} why=${why} onClick=${enable}>${schedule.enabled ? "Disable" : "Enable"}<//>
      <${Button} why=${why} kind=${asked ? "danger" : ""} onClick=${remove}>${asked ? "Really delete it" : "Delete"}<//>
      ${asked && html`<button type="button" onClick=${() => setAsked(false)}>Keep it</button>`}
      <a href=${link("audit", `schedule:${id}`)}>Trail</a>
    </div>
    <${ErrorBox} problem=${problem} />
    ${tasks.map((task) => html`<${TaskLine} key=${task} id=${task} onEnd=${onChanged} />`)}
  </section>`;
}

function Facts({ schedule }) {
  const { request, last_run: last, runs } = schedule;
  const symbols = request?.symbols;
  return html`<dl class="facts">
    <${Fact} name="When"><code>${schedule.expression}</code> <small>${schedule.timezone}</small><//>
    <${Fact} name="Next run">${schedule.next_run_at
      ? html`<${Ago} time=${schedule.next_run_at} /> <small>${utc(schedule.next_run_at)} UTC</small>`
      : schedule.enabled ? "never again" : "none while it is disabled"}
      ${schedule.queued_for && html`<small>one waits for the last run's end</small>`}<//>
    <${Fact} name="Lag against promise"><${Freshness} freshness=${schedule.freshness} /><//>
    <${Fact} name="Last run">${last
      ? html`<${Ago} time=${last.at} /> <small>by ${last.by}${last.status ? `, ${last.status}` : ""}:${" "}
          <a href=${link("audit", `task:${last.task_id}`)}>trail</a></small>`
      : "none yet"}<//>
    <${Fact} name="Runs">${number(runs.started)} started
      <small>${number(runs.skipped)} skipped, ${number(runs.missed)} missed</small><//>
    ${request && html`<${Fact} name="Collects">${symbols ? symbols.slice(0, 6).join(", ") : "all that trade"}
      ${symbols?.length > 6 && ` and ${number(symbols.length - 6)} more`}
      <small>${request.timeframes.join(", ")}</small><//>`}
  </dl>`;
}

/** What keeps it from running, and what to do. */
function Troubles({ schedule }) {
  const said = [
    schedule.stopped_because && `It was stopped: ${schedule.stopped_because}. Enable it to go on with your key.`,
    schedule.sync_error && `Its timer could not be set: ${schedule.sync_error}. That is tried again by itself.`,
    schedule.refusal && `Its last run was refused: ${schedule.refusal}`,
  ].filter(Boolean);
  return said.map((text) => html`<p class="notice bad">${text}</p>`);
}

function Freshness({ freshness }) {
  if (!freshness) return html`<span class="muted">nothing promised</span>`;
  const { promised_seconds: promised, lag_seconds: lag, breached_since: since } = freshness;
  if (lag === null) return html`${duration(promised)} promised <small>not measured yet</small>`;
  const late = lag > promised;
  return html`<span class=${late ? "is-late" : "is-kept"}>${late ? "late" : "kept"}:
      ${duration(lag)} of ${duration(promised)}</span>
    <meter min="0" max=${promised * 2} high=${promised} optimum="0" value=${Math.min(lag, promised * 2)}
      aria-label="Lag against promise"></meter>
    <small>broken ${number(freshness.breaches)} times${since ? `, now since ${utc(since)} UTC` : ""}</small>`;
}

/** The form of a new schedule. */
function Maker({ onMade }) {
  const form = useRef(null);
  const [problem, setProblem] = useState(null);
  const [made, setMade] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setProblem(null);
    setMade(null);
    try {
      setMade(await post("/schedules", definition(new FormData(form.current))));
      form.current.reset();
      await onMade();
    } catch (failed) {
      setProblem(failed);
    }
  };
  return html`<details class="card maker">
    <summary>New schedule</summary>
    <form ref=${form} onSubmit=${submit} class="stack">
      <div class="fields">
        <${Field} label="Name"><input name="name" maxlength="100" placeholder="mornings" /><//>
        <${Field} label="When" help="rate(…), or cron(minutes hours day month weekday year)">
          <input name="expression" required list="schedule-examples" placeholder="rate(1 hour)" spellcheck="false" /><//>
        <${Field} label="Time zone"><input name="timezone" placeholder="UTC" spellcheck="false" /><//>
        <${Field} label="Symbols"><input name="symbols" placeholder="all that trade; BTCUSDT quote=USDT" spellcheck="false" /><//>
        <${Field} label="Timeframes"><input name="timeframes" placeholder="1m 5m 15m 1h 4h 1d" spellcheck="false" /><//>
        <${Field} label="Promised lag, seconds"><input name="lag" type="number" min="1" max="2592000" placeholder="none" /><//>
        <${Field} label="While the last run goes on"><select name="overlap">
          <option value="skip">skip the run</option><option value="queue">let one wait</option></select><//>
      </div>
      <datalist id="schedule-examples">
        ${EXAMPLES.map(([value, label]) => html`<option value=${value} label=${label} />`)}
      </datalist>
      <label class="row"><input type="checkbox" name="catch_up" /> Make up for missed runs</label>
      <div class="row">
        <${Button} why=${denied("collect")} kind="primary" type="submit">Make it<//>
        <small role="status">${made && `Made. It runs next at ${utc(made.next_run_at)} UTC.`}</small>
      </div>
      <${ErrorBox} problem=${problem} />
    </form>
  </details>`;
}

/** The body of POST /schedules that a form holds. */
function definition(data) {
  const words = (name) => data.get(name).split(/[\s,]+/).filter(Boolean);
  const lag = Number(data.get("lag"));
  return {
    name: data.get("name"),
    expression: data.get("expression").trim(),
    timezone: data.get("timezone").trim() || "UTC",
    overlap: data.get("overlap"),
    catch_up: data.get("catch_up") === "on",
    request: {
      ...(words("symbols").length ? { symbols: words("symbols") } : {}),
      ...(words("timeframes").length ? { timeframes: words("timeframes") } : {}),
    },
    ...(lag ? { freshness: { max_lag_seconds: lag } } : {}),
  };
}
