// One WebSocket for the whole page. Whoever listens to a topic gets its snapshots and updates; while
// there is no socket, it polls. Protocol: docs/WEBSOCKET.md.
import { useEffect, useRef, useState } from "./vendor/preact.js";
import { post } from "./api.js";
import { current } from "./session.js";

const PING_MS = 4 * 60_000, POLL_MS = 3_000, LONGEST_WAIT_MS = 30_000, SILENCE_MS = 15_000;
const topics = new Map(); // topic -> {listeners, last, at}
const watchers = new Set();
let socket = null, state = "off", failures = 0, timer = 0, opening = 0;

/** off, connecting, live or polling. */
function become(next) {
  state = next;
  for (const watcher of watchers) watcher(next);
}

const isOpen = () => socket !== null && socket.readyState === WebSocket.OPEN;

function send(action, names) {
  if (isOpen()) socket.send(JSON.stringify(names ? { action, topics: names } : { action }));
}

async function open() {
  const mine = ++opening;
  clearTimeout(timer);
  if (state !== "polling") become("connecting");
  let ticket;
  try {
    ticket = await post("/ws-ticket", {}, { once: null });
  } catch (problem) {
    if (mine === opening && problem.status !== 401) later();
    return;
  }
  if (mine !== opening) return;
  if (topics.size === 0) {
    become("off"); // whoever listens next opens it
    return;
  }
  const made = new WebSocket(`${ticket.url}?ticket=${ticket.ticket}`);
  socket = made;
  made.onopen = () => {
    if (socket !== made) return made.close();
    failures = 0;
    become("live");
    for (const topic of topics.keys()) send("subscribe", [topic]);
    return undefined;
  };
  made.onmessage = (event) => socket === made && receive(JSON.parse(event.data));
  made.onclose = () => socket === made && later();
}

function later() {
  socket = null;
  failures += 1;
  if (topics.size === 0) {
    become("off");
    return;
  }
  become("polling");
  const wait = Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures) * (0.5 + Math.random() / 2);
  timer = setTimeout(open, wait);
}

function receive(message) {
  const topic = topics.get(message.topic);
  if (!topic) return;
  const { type, sequence } = message;
  topic.at = Date.now();
  // An update that came before the snapshot, or again, says nothing that is not known.
  if (type === "update" && (topic.last === null || sequence <= topic.last)) return;
  if (type === "update" && sequence > topic.last + 1) send("snapshot", [message.topic]);
  topic.last = sequence;
  for (const listener of topic.listeners) listener(message);
}

/** Calls `listener` with each snapshot and update of a topic. Returns what ends it. */
export function listen(name, listener) {
  let topic = topics.get(name);
  if (topic) {
    topic.listeners.add(listener);
    send("snapshot", [name]);
  } else {
    topic = { listeners: new Set([listener]), last: null, at: Date.now() };
    topics.set(name, topic);
    send("subscribe", [name]);
  }
  if (state === "off") open();
  return () => {
    topic.listeners.delete(listener);
    if (topic.listeners.size > 0) return;
    topics.delete(name);
    send("unsubscribe", [name]);
  };
}

/** Ends the connection, where who uses the console has changed. */
export function disconnect() {
  opening += 1;
  clearTimeout(timer);
  const old = socket;
  socket = null;
  failures = 0;
  if (old) old.close();
  become("off");
  if (topics.size > 0 && !current().needed) open();
}

setInterval(() => send("ping"), PING_MS);
// What an update says may be lost without a trace: after some silence, ask.
setInterval(() => {
  for (const [name, topic] of topics) {
    if (Date.now() - topic.at < SILENCE_MS) continue;
    topic.at = Date.now();
    topic.last = null;
    send("snapshot", [name]);
  }
}, SILENCE_MS / 3);
addEventListener("online", () => state === "polling" && open());

export function useConnection() {
  const [found, set] = useState(state);
  useEffect(() => {
    watchers.add(set);
    set(state);
    return () => watchers.delete(set);
  }, []);
  return found;
}

/**
 * Follows a topic: `take(message)` for each snapshot and update, and while there is no socket
 * `poll()` every three seconds. A topic of null is not followed.
 */
export function useTopic(topic, take, poll) {
  const connection = useConnection();
  const latest = useRef();
  latest.current = { take, poll };
  useEffect(
    () => (topic === null ? undefined : listen(topic, (message) => latest.current.take(message))),
    [topic],
  );
  useEffect(() => {
    if (topic === null || connection !== "polling") return undefined;
    const every = setInterval(() => !document.hidden && latest.current.poll?.(), POLL_MS);
    return () => clearInterval(every);
  }, [topic, connection]);
}
