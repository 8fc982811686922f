// Healthy or not, and why: the figures of /status, /metrics, /schedules and /history.
import { Bars } from "../bars.js";
import { useGet } from "../api.js";
import { healthOf, prometheus, useUnitPrice, useLastDay } from "../health.js";
import { ActiveTasks } from "../running.js";
import {
  Ago, Bar, Card, compact, dollars, duration, Empty, ErrorBox, Figure, html, link, Loading, number, Pill, plural, Table,
} from "../ui.js";

const sum = (values) => values.reduce((total, value) => total + value, 0);

export default function Overview() {
  const status = useGet("/status", {}, { every: 5_000 });
  const metrics = useGet("/metrics", {}, { every: 15_000 });
  const oldest = useGet("/tasks/active", { page_size: 1 }, { every: 15_000 });
  const schedules = useGet("/schedules", { page_size: 100 }, { every: 30_000 });
  const samples = metrics.data ? prometheus(metrics.data) : null;
  if (!status.data)
    return status.problem ? html`<${ErrorBox} problem=${status.problem} retry=${status.reload} />` : html`<${Loading} />`;
  const promises = schedules.data?.schedules || [];
  const reasons = healthOf(status.data, samples, promises);
  if (status.problem) reasons.unshift({ tone: "bad", text: `${status.problem.message} ${status.problem.hint}` });
  return html`
    <${Health} reasons=${reasons} status=${status.data} />
    <${Card} title="Running" more=${html`<a href=${link("tasks")}>All tasks</a>`}>
      <${ActiveTasks} empty=${html`Nothing is being collected. <a href=${link("collect")}>Collect something</a>`} />
    <//>
    <${LastDay} />
    <div class="columns">
      <div><${Exchange} status=${status.data} samples=${samples} /><${Freshness} schedules=${schedules} /></div>
      <${Queues} queues=${status.data.queues} oldest=${oldest.data?.tasks[0]} />
    </div>`;
}

function Health({ reasons, status }) {
  const worst = ["bad", "warn"].find((tone) => reasons.some((reason) => reason.tone === tone)) || "good";
  const title = { good: "Healthy", warn: "Needs a look", bad: "Not healthy" }[worst];
  return html`<section class="card health ${worst}" aria-label="Health">
    <div class="row apart"><h2>${title}</h2><span class="row"><${Pill} state=${status.status} />
      <span class="muted">exchange ${status.exchange}</span></span></div>
    ${reasons.length === 0
      ? html`<p class="muted">No breaker, no pause, no dead letters, no broken promise.</p>`
      : html`<ul>${reasons.map(({ text, href }) => html`<li>${text} ${href && html`<a href=${href}>Look</a>`}</li>`)}</ul>`}
  </section>`;
}

function LastDay() {
  const day = useLastDay();
  const price = useUnitPrice(day.latest);
  if (day.problem) return html`<${ErrorBox} problem=${day.problem} retry=${day.reload} />`;
  if (!day.hours) return html`<${Card} title="The last day"><${Loading} /><//>`;
  const { candles, failed, units } = day.hours;
  const costs = units.map((count) => count * price.dollars);
  const counted = `${plural(day.tasks, "task")} that ended${day.complete ? "" : " last; there were more"}`;
  return html`<${Card} title="The last day" more=${html`<small>${counted}</small>`}>
    <dl class="figures wide">
      <${Figure} name="Candles" value=${compact(sum(candles))} note=${html`<${Bars} label="Candles" values=${candles} format=${number} />`} />
      <${Figure} name="Failed units" value=${number(sum(failed))} tone=${sum(failed) ? "bad" : ""}
        note=${html`<${Bars} label="Failed units" values=${failed} format=${number} tone="bad" />`} />
      <${Figure} name="AWS cost, estimated" value=${price.known ? dollars(sum(costs)) : "–"}
        note=${price.known
          ? html`<${Bars} label="Cost" values=${costs} format=${dollars} tone="idle" />`
          : "Known where a quote may be asked for (scope collect) and something was collected."} />
    </dl><//>`;
}

function Exchange({ status, samples }) {
  const { rate_budget: budget, breaker, pause } = status;
  const used = budget ? (100 * budget.used) / budget.limit : 0;
  return html`<${Card} title="Exchange" more=${breaker.open ? html`<${Pill} state="waiting" />`
    : pause ? html`<${Pill} state="paused" />` : html`<${Pill} state="open" tone="good" />`}>
    ${budget && html`<div class="row apart"><span>Budget of this minute</span>
      <span>${number(budget.used)} of ${number(budget.limit)} weight</span></div>
      <${Bar} value=${used} label="Budget used" tone=${used > 97 ? "warn" : "busy"} />`}
    <dl class="figures gap">
      <${Figure} name="Breaker" value=${breaker.open ? "open" : "closed"} tone=${breaker.open ? "warn" : ""}
        note=${breaker.open && html`until <${Ago} time=${breaker.until} />: ${breaker.reason}`} />
      <${Figure} name="Prices" value=${duration(samples?.one("prices_age_seconds"))} note="old" />
      <${Figure} name="Symbols" value=${number(samples?.one("catalogue_symbols_trading"))}
        note=${samples?.one("catalogue_age_seconds") !== undefined && `list is ${duration(samples.one("catalogue_age_seconds"))} old`} />
    </dl><//>`;
}

const QUEUES = {
  plan: "Plan", urgent: "Urgent", work: "Work", dead_letters: "Dead letters",
  webhooks: "Webhooks", webhook_dead_letters: "Webhook dead letters",
};

function Queues({ queues, oldest }) {
  if (!queues) return html`<${Card} title="Queues"><${Empty}>Admins see the queues.<//><//>`;
  const columns = [
    { name: "Queue", cell: ([name]) => QUEUES[name] || name },
    ...["visible", "in_flight", "delayed"].map((state) => ({
      name: { visible: "Waiting", in_flight: "Being worked on", delayed: "Delayed" }[state],
      class: "right",
      cell: ([name, depth]) => html`<span class=${depth[state] && name.endsWith("dead_letters") ? "bad-text" : ""}>${number(depth[state])}</span>`,
    })),
  ];
  const since = oldest ? html`<small>oldest work <${Ago} time=${oldest.created_at} /></small>` : html`<small>nothing waits</small>`;
  return html`<${Card} title="Queues" more=${since}><${Table} label="Queues" columns=${columns} rows=${Object.entries(queues)} keyOf=${([name]) => name} /><//>`;
}

function Freshness({ schedules }) {
  const rows = (schedules.data?.schedules || []).filter(({ freshness }) => freshness);
  const columns = [
    { name: "Schedule", cell: ({ name }) => html`<a href=${link("schedules")}>${name}</a>` },
    { name: "Promised", cell: ({ freshness }) => duration(freshness.promised_seconds) },
    { name: "Lag", cell: ({ freshness }) => duration(freshness.lag_seconds) },
    { name: "State", cell: ({ freshness }) => freshness.breached_since
      ? html`<${Pill} state="broken" tone="bad" /> since <${Ago} time=${freshness.breached_since} />`
      : freshness.lag_seconds === null ? html`<${Pill} state="not measured yet" />` : html`<${Pill} state="kept" tone="good" />` },
    { name: "Breaches", class: "right", cell: ({ freshness }) => number(freshness.breaches) },
  ];
  return html`<${Card} title="Promised freshness">
    ${schedules.problem && html`<${ErrorBox} problem=${schedules.problem} retry=${schedules.reload} />`}
    ${schedules.data && html`<${Table} label="Promised freshness" columns=${columns} rows=${rows} keyOf=${({ schedule_id: id }) => id}
      empty=${html`No schedule promises freshness. <a href=${link("schedules")}>Schedules</a>`} />`}<//>`;
}
