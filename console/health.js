// What the overview says: reasons from /status, /metrics and /schedules, and the last day from /history.
import { useCallback, useEffect, useState } from "./vendor/preact.js";
import { get, post } from "./api.js";
import { HOUR_MS, HOURS } from "./bars.js";
import { denied } from "./session.js";
import { duration, link, plural, utc } from "./ui.js";

// Prices are stored once a minute, the list of symbols once an hour.
const STALE_PRICES_S = 180, STALE_CATALOGUE_S = 2 * 3600;
const MOST_PAGES = 10, REFRESH_MS = 60_000;

/** Samples of Prometheus's text format: one(name) is the value of a series without labels. */
export function prometheus(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [series, value] = line.split(/ (?=[^ ]+$)/);
    if (value && !line.startsWith("#")) found.set(series.replace("data_collector_", ""), Number(value));
  }
  return { one: (name) => found.get(name) };
}

/** Why something is not as it should be: [{tone, text, href}], the worst first. */
export function healthOf(status, samples, schedules) {
  const reasons = [];
  const say = (tone, text, href) => reasons.push({ tone, text, href });
  const dead = ["dead_letters", "webhook_dead_letters"].map((name) => status.queues?.[name].visible || 0);
  if (dead[0]) say("bad", `${plural(dead[0], "message")} that no worker could handle wait in the dead letters.`);
  if (dead[1]) say("warn", `${plural(dead[1], "webhook message")} could not be delivered.`);
  if (status.breaker.open)
    say("bad", `All workers wait for the exchange until ${utc(status.breaker.until)} UTC: ${status.breaker.reason}.`);
  if (status.pause)
    say("warn", `Paused by ${status.pause.by} since ${utc(status.pause.since)} UTC${status.pause.until
      ? ` until ${utc(status.pause.until)} UTC` : ""}${status.pause.reason ? ` (${status.pause.reason})` : ""}.`);
  for (const each of schedules) {
    const promise = each.freshness;
    if (promise?.breached_since)
      say("bad", `“${each.name}” promises ${duration(promise.promised_seconds)} and is ${duration(promise.lag_seconds)} behind.`, link("schedules"));
    const stopped = each.stopped_because || each.sync_error || each.refusal;
    if (stopped) say("warn", `“${each.name}” does not run as it should: ${stopped.detail || stopped}.`, link("schedules"));
  }
  const prices = samples?.one("prices_age_seconds"), catalogue = samples?.one("catalogue_age_seconds");
  if (prices > STALE_PRICES_S) say("warn", `Prices are ${duration(prices)} old.`);
  if (catalogue > STALE_CATALOGUE_S) say("warn", `The list of symbols is ${duration(catalogue)} old.`);
  if (samples && catalogue === undefined && samples.one("catalogue_symbols") === 0)
    say("warn", "No symbols are known yet: refresh them on “New collection”.", link("collect"));
  for (const [name, { limit, used }] of Object.entries(status.limits))
    if (limit !== null && used >= limit) say("warn", `Your limit of ${name.replaceAll("_", " ")} is used up.`);
  return reasons.sort((one, other) => (one.tone === "bad" ? 0 : 1) - (other.tone === "bad" ? 0 : 1));
}

async function lastDay(signal) {
  const first = Math.floor(Date.now() / HOUR_MS) * HOUR_MS - (HOURS - 1) * HOUR_MS;
  const query = { since: new Date(first).toISOString(), page_size: 100 };
  const hours = { candles: Array(HOURS).fill(0), failed: Array(HOURS).fill(0), units: Array(HOURS).fill(0) };
  let tasks = 0, latest = null, token = null;
  for (let page = 0; page === 0 || (token && page < MOST_PAGES); page += 1) {
    const answer = await get("/history", { ...query, page_token: token }, { signal });
    for (const task of answer.tasks) {
      const hour = Math.floor((new Date(task.completed_at) - first) / HOUR_MS);
      if (!task.completed_at || hour < 0 || hour >= HOURS) continue;
      tasks += 1;
      if (task.task_type === "data_collection") latest ||= task;
      hours.candles[hour] += task.candles || 0;
      hours.failed[hour] += task.units?.failed || 0;
      hours.units[hour] += task.task_type === "data_collection" ? task.units?.succeeded || 0 : 0;
    }
    token = answer.next_page_token;
  }
  return { hours, tasks, latest, complete: !token };
}

/** {hours: {candles, failed, units}: a number an hour, tasks, latest, complete, problem, reload}. */
export function useLastDay() {
  const [state, set] = useState({});
  const [asked, ask] = useState(0);
  const reload = useCallback(() => ask((count) => count + 1), []);
  useEffect(() => {
    const stop = new AbortController();
    const read = () => lastDay(stop.signal).then(set, (problem) =>
      problem.name === "AbortError" || set((old) => ({ ...old, problem })));
    read();
    const every = setInterval(() => !document.hidden && read(), REFRESH_MS);
    return () => {
      stop.abort();
      clearInterval(every);
    };
  }, [asked]);
  return { ...state, reload };
}

/** What a unit costs: the quote of what the latest task collected, divided by its units. */
export function useUnitPrice(latest) {
  const [price, set] = useState({ known: false, dollars: 0 });
  const id = latest?.task_id;
  useEffect(() => {
    const { symbol_names: symbols = [], timeframes } = latest?.asked || {};
    if (!id || denied("collect") || symbols.length === 0) return undefined;
    const stop = new AbortController();
    const body = { symbols: symbols.slice(0, 20), timeframes, dry_run: true };
    post("/start", body, { once: null, signal: stop.signal }).then((quote) => {
      if (quote.units.total) set({ known: true, dollars: quote.dollars / quote.units.total });
    }, () => {});
    return () => stop.abort();
  }, [id]);
  return price;
}
