// Parts that the views share: texts, times, numbers, bars, tables, dialogs, notices.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { Problem } from "./api.js";

export { html };

// --- links -------------------------------------------------------------------------------------

/** Address of a view: link("tasks", id), link("chart", "BTCUSDT", {timeframe: "1h"}). */
export function link(...parts) {
  const query = typeof parts.at(-1) === "object" ? parts.pop() : {};
  const given = Object.entries(query).filter(([, value]) => (value ?? "") !== "");
  const text = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Go there; with `replace` the present address is not kept for “back”. */
export function go(address, { replace = false } = {}) {
  if (replace) location.replace(address);
  else location.hash = address;
}

// --- numbers and times -------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const compact = (value) => (value >= 100_000 ? short.format(value) : number(value));
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const dollars = (value) =>
  value === 0 ? "$0" : value < 0.01 ? `$${Number(value.toPrecision(2))}` : `$${value.toFixed(2)}`;

/** 75 -> "1 min 15 s"; with `most` 1: "1 min". */
export function duration(seconds, most = 2) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return seconds > 0 ? "< 1 s" : "0 s";
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.round(seconds);
  const parts = [];
  for (const [name, size] of units) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count) parts.push(`${count} ${name}`);
    else if (parts.length) break;
    if (parts.length === most) break;
  }
  return parts.join(" ");
}

/** "2026-11-23 13:22:18", UTC; null: a dash. */
export const utc = (time) =>
  time ? new Date(time).toISOString().slice(0, 19).replace("T", " ") : "–";

const clocks = new Set();
setInterval(() => clocks.forEach((tick) => tick(Date.now())), 1000);
/** The time in ms, once a second. */
export function useNow() {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    clocks.add(set);
    return () => clocks.delete(set);
  }, []);
  return now;
}

/** How long ago, or in how long; the exact time (UTC) is its title. */
export function Ago({ time }) {
  const now = useNow();
  if (!time) return html`<span class="faint">–</span>`;
  const seconds = (now - new Date(time)) / 1000;
  const text = duration(Math.max(1, Math.abs(seconds)), 1);
  const said = Math.abs(seconds) < 2 ? "now" : seconds > 0 ? `${text} ago` : `in ${text}`;
  return html`<time datetime=${new Date(time).toISOString()} title="${utc(time)} UTC">${said}</time>`;
}

/** "no such key" -> "No such key." */
export const sentence = (text) =>
  text && text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

// --- states ------------------------------------------------------------------------------------

const TONES = {
  completed: "good", collecting: "good", running: "busy", pending: "busy", waiting: "warn",
  paused: "warn", failed: "bad", cancelled: "idle", idle: "idle",
};
/** A state in words and colour. `tone`: good, busy, warn, bad or idle. */
export const Pill = ({ state, tone = TONES[state] || "idle" }) =>
  html`<span class="pill ${tone}">${state}</span>`;

export const Bar = ({ value, label, tone = "busy" }) => html`
  <div class="bar ${tone}" role="progressbar" aria-label=${label}
    aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(value)}>
    <svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">
      <rect width=${value} height="1" />
    </svg>
  </div>`;

export const Card = ({ title, more, children, class: extra = "" }) => html`
  <section class="card ${extra}">
    ${(title || more) && html`<header><h2>${title}</h2>${more}</header>`}
    ${children}
  </section>`;

/** A figure with its name. */
export const Figure = ({ name, value, note, tone = "" }) => html`
  <div class="figure ${tone}"><dt>${name}</dt><dd>${value}${note && html`<small>${note}</small>`}</dd></div>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export const Loading = ({ what = "Loading" }) =>
  html`<p class="loading" role="status"><span class="spinner"></span>${what} …</p>`;

/** What went wrong and what to do. `retry`: what a button “Try again” calls. */
export function ErrorBox({ problem, retry }) {
  if (!problem) return null;
  const { errors = [], hint = "", title = "Error", message = "" } = problem;
  return html`<div class="notice bad" role="alert">
    <div><strong>${title}.</strong> ${errors.length === 0 && sentence(message)} ${hint}
      ${errors.length > 0 && html`<ul>${errors.map((each) => html`
        <li>${each.pointer && html`<code>${each.pointer.slice(1)}</code>: `}${each.detail}</li>`)}</ul>`}
    </div>
    ${retry && html`<button type="button" class="small" onClick=${retry}>Try again</button>`}
  </div>`;
}

/** A button that `why` (a sentence, see session.denied) disables, with its reason. */
export const Button = ({ why, kind = "", children, ...rest }) => html`
  <button type="button" ...${rest} class=${kind} aria-disabled=${why ? "true" : undefined}
    title=${why || rest.title} onClick=${why ? (event) => (event.preventDefault(), toast(why, "warn"))
    : rest.onClick}>${children}</button>`;

/**
 * A table. `columns`: [{name, cell(row), class}]; `keyOf(row)`; `empty`: what is said without rows.
 * On narrow screens each row becomes a block, with the columns' names beside its cells.
 */
export function Table({ label, columns, rows, keyOf, empty = "Nothing here." }) {
  if (rows.length === 0) return html`<${Empty}>${empty}<//>`;
  return html`<div class="scroll"><table aria-label=${label}>
    <thead><tr>${columns.map(({ name, class: kind = "" }) => html`<th scope="col" class=${kind}>${name}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${keyOf(row)}>${columns.map(({ name, cell, class: kind = "" }) =>
      html`<td class=${kind} data-name=${name}>${cell(row)}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

export const Field = ({ label, help, children }) => html`
  <label class="field"><span>${label}</span>${children}${help && html`<small>${help}</small>`}</label>`;

// --- dialogs and notices -----------------------------------------------------------------------

/** A modal dialog while it is there. `onClose` is called by Escape as well. */
export function Dialog({ title, onClose, children }) {
  const element = useRef();
  useEffect(() => element.current.showModal(), []);
  const cancel = (event) => {
    event.preventDefault();
    if (onClose) onClose();
  };
  return html`<dialog ref=${element} aria-label=${title} onCancel=${cancel}>
    <header><h2>${title}</h2>${onClose && html`
      <button type="button" class="plain" aria-label="Close" onClick=${onClose}>✕</button>`}</header>
    ${children}
  </dialog>`;
}

let show = () => {};
/** Says something for some seconds. `tone`: good, warn or bad; a Problem may be said, too. */
export function toast(what, tone) {
  const isProblem = what instanceof Problem;
  const text = isProblem ? `${sentence(what.message)} ${what.hint}` : String(what.message || what);
  show({ text, tone: tone || (what instanceof Error ? "bad" : "good"), id: Math.random() });
}

export function Toasts() {
  const [shown, set] = useState([]);
  useEffect(() => {
    show = (news) => {
      set((old) => [...old, news].slice(-4));
      setTimeout(() => set((old) => old.filter(({ id }) => id !== news.id)), 8000);
    };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${shown.map(({ id, text, tone }) => html`<p key=${id} class="toast ${tone}">${text}</p>`)}
  </div>`;
}

/** What a custom property of style.css is now, as a colour that canvases take: colour("--accent"). */
export function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
