// Audit: the trail of a task, schedule, key or market, its chain of hashes verified on this page,
// and what that finds when an entry is altered.

import { html, useEffect, useState } from "../vendor/preact.js";
import { get, useGet } from "../api.js";
import { canHash, parseExact, plain, verify } from "../chain.js";
import { useLoaded } from "../loaded.js";
import { Card, Empty, ErrorBox, Field, go, link, Loading, Pill, plural, utc } from "../ui.js";

/** Kind of subject -> its parameter of GET /audit. */
const KINDS = { task: "task_id", schedule: "schedule_id", key: "key_id", market: "exchange" };
/** Pages that are read: a chain is verified as a whole. */
const MOST_PAGES = 100;

/** All events of a subject, as exact values. */
async function readTrail(subject) {
  const [kind, ...rest] = subject.split(":");
  const query = { [KINDS[kind]]: rest.join(":"), page_size: 100 };
  const events = [];
  let token = null;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const response = await get("/audit", { ...query, page_token: token }, { as: "response" });
    const answer = parseExact(await response.text());
    events.push(...answer.get("events"));
    token = answer.get("next_page_token");
    if (token === null) return { events, whole: true };
  }
  return { events, whole: false };
}

/** An id alone is that of a task. */
const subjectOf = (text) => {
  const found = text.trim();
  return Object.keys(KINDS).includes(found.split(":")[0]) ? found : `task:${found}`;
};

export default function Audit({ path }) {
  const subject = path[0] ? subjectOf(path[0]) : null;
  const submit = (event) => {
    event.preventDefault();
    go(link("audit", subjectOf(event.target.subject.value)));
  };
  return html`<${Card}><form class="row audit-ask" onSubmit=${submit} role="search" aria-label="Whose trail">
      <${Field} label="Id of a task, or schedule:id, key:id, market:exchange">
        <input name="subject" required defaultValue=${subject ?? ""} autocomplete="off" spellcheck="false" maxlength="120" />
      <//>
      <button class="primary">Show the trail</button>
    </form><//>
    ${subject ? html`<${Trail} subject=${subject} />` : html`<${Recent} />`}`;
}

function Recent() {
  const { data, problem, reload } = useGet("/history", { page_size: 20 });
  return html`<${Card} title="How tasks ended lately">
    <${ErrorBox} problem=${problem} retry=${reload} />
    ${!data && !problem && html`<${Loading} />`}
    ${data?.tasks.length === 0 && html`<${Empty}>No task has ended yet.<//>`}
    <ul class="plain-list">${data?.tasks.map((task) => html`<li key=${`${task.task_id} ${task.attempt}`}>
      <${Pill} state=${task.status} />
      <a href=${link("audit", `task:${task.task_id}`)}>${task.message || task.task_type}</a>
      <small>${utc(task.completed_at)} UTC, ${task.owner}</small></li>`)}</ul>
  <//>`;
}

function Trail({ subject }) {
  const { value, problem, again } = useLoaded(() => readTrail(subject), []);
  const [altered, setAltered] = useState(null);
  const events = value?.events ?? [];
  const shown = altered ?? events;
  return html`<${ErrorBox} problem=${problem} retry=${again} />
    ${!value && !problem && html`<${Loading} what="Reading the trail" />`}
    ${value && !events.length && html`<${Card}><${Empty}>There is no event of ${subject}. Check the id: a trail is
      kept long after its task has expired, and begins some seconds after it was started.<//><//>`}
    ${events.length > 0 && html`
      <${Verdict} subject=${subject} events=${shown} altered=${altered !== null} whole=${value.whole} />
      <${Tamper} events=${events} altered=${altered} onAlter=${setAltered} />
      <${Card} title=${subject} more=${html`<small>${plural(events.length, "entry", "entries")}</small>`}>
        <ol class="trail">${shown.map((event, at) => html`<${Entry} key=${at} event=${event} />`)}</ol>
      <//>`}`;
}

/** The chain, verified here: nothing is trusted that the server says of it. */
function Verdict({ subject, events, altered, whole }) {
  const [faults, setFaults] = useState(null);
  useEffect(() => {
    let current = true;
    setFaults(null);
    if (canHash()) verify(subject, events).then((found) => current && setFaults(found));
    return () => {
      current = false;
    };
  }, [events]);
  if (!canHash()) {
    return html`<p class="notice bad verdict" role="status">This page cannot verify: browsers hash only
      for pages from https or from this machine. Run
      <code>data-collector audit verify ${subject}</code> instead.</p>`;
  }
  if (faults === null) return html`<p class="notice verdict" role="status">Verifying…</p>`;
  const what = altered ? "The altered copy" : "The chain";
  if (!faults.length) {
    return html`<div class="notice good verdict" role="status" data-verdict="whole"><div>
      <strong>${what} is whole.</strong> ${events.length} entries: the SHA-256 of each was computed
      here, and each names the one before.${!whole && " There are more entries than were read."}
      <small>A trail alone cannot show that its last entries were cut off, or that all of it was made
        anew: the daily export does.</small></div></div>`;
  }
  return html`<div class="notice bad verdict" role="status" data-verdict="broken"><div>
    <p><strong>${what} is broken.</strong> ${altered
      ? "So would the real one be. Nothing was changed but this page's copy."
      : "Somebody changed the Audit table. Keep this page, and compare it with the daily export."}</p>
    <ul>${faults.map(({ seq, kind, detail }) => html`<li><b>${kind}</b>${seq > 0 && ` at entry ${seq}`}: ${detail}</li>`)}</ul>
  </div></div>`;
}

/** Alters this page's copy, to see that it is found. */
function Tamper({ events, altered, onAlter }) {
  const [at, setAt] = useState(0);
  const chosen = Math.min(at, events.length - 1);
  const change = (how) => {
    const copy = events.map((event) => new Map(event));
    if (how === "detail") copy[chosen].set("detail", `${copy[chosen].get("detail") ?? ""} (altered)`);
    if (how === "by") copy[chosen].set("by", "somebody-else");
    if (how === "remove") copy.splice(chosen, 1);
    if (how === "swap") {
      const other = chosen ? chosen - 1 : Math.min(1, copy.length - 1);
      [copy[chosen], copy[other]] = [copy[other], copy[chosen]];
    }
    onAlter(copy);
  };
  return html`<details class="card tamper">
    <summary>Try it: alter a copy of this trail</summary>
    <p class="muted">Only this page's copy changes. The verdict above is computed anew.</p>
    <div class="row">
      <label class="row">Entry <select value=${chosen} onChange=${(event) => setAt(Number(event.target.value))}>
        ${events.map((event, place) => html`<option value=${place}>${place + 1}: ${event.get("action")}</option>`)}
      </select></label>
      <button type="button" onClick=${() => change("detail")}>Change its text</button>
      <button type="button" onClick=${() => change("by")}>Change who did it</button>
      <button type="button" onClick=${() => change("remove")}>Remove it</button>
      <button type="button" onClick=${() => change("swap")}>Move it</button>
      <button type="button" disabled=${!altered} onClick=${() => onAlter(null)}>Put back</button>
    </div>
  </details>`;
}

function Entry({ event }) {
  const value = plain(event);
  const json = (content) => JSON.stringify(content, null, 2);
  return html`<li class="entry">
    <p><strong>${value.action}</strong> <time dateTime=${value.at}>${utc(value.at)} UTC</time>
      <span>by ${value.by}</span>
      ${value.attempt !== null && html`<small>attempt ${value.attempt}</small>`}
      ${value.late && html`<${Pill} state="late" tone="warn" />`}</p>
    ${value.detail && html`<p>${value.detail}</p>`}
    <details><summary>Entry ${value.seq}: <code>${String(value.hash).slice(0, 16)}…</code></summary>
      <pre tabindex="0">${json(value)}</pre></details>
  </li>`;
}
