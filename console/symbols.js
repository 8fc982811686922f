// Selecting symbols: names, patterns, quote assets, the N largest. docs/API.md has the rules.
import { useMemo, useState } from "./vendor/preact.js";
import { Field, html, number, plural, toast } from "./ui.js";

const MOST_SHOWN = 24;
// Where the exchange names no quote asset, it is the longest of these that a name ends with.
const QUOTES = ["USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY"];
const isSelector = (text) => /[*=!]/.test(text);

/** Which of `names` fit what was typed: a pattern with *, or a part of the name. */
export function fitting(names, typed) {
  const text = typed.trim().toUpperCase();
  if (!text) return [];
  if (!text.includes("*")) return names.filter((name) => name.includes(text));
  const pattern = new RegExp(`^${text.replace(/[^A-Z0-9*]/g, "").replaceAll("*", ".*")}$`);
  return names.filter((name) => pattern.test(name));
}

export function Symbols({ names, entries, change }) {
  const [typed, setTyped] = useState("");
  const [top, setTop] = useState("");
  const found = useMemo(() => fitting(names, typed), [names, typed]);
  const quotes = useMemo(() => QUOTES.filter((quote) => names.some((name) => name.endsWith(quote))), [names]);
  const add = (entry) => {
    const key = entry.match(/^(quote|top)=/)?.[0];
    const kept = entries.filter((each) => each !== entry && !(key && each.startsWith(key)) && each !== "*");
    change([...kept, entry]);
  };
  const enter = (event) => {
    event.preventDefault();
    const text = typed.trim();
    const entry = isSelector(text) ? text : names.includes(text.toUpperCase()) ? text.toUpperCase() : found[0];
    if (!entry) return toast(`No symbol fits “${text}”. A part of a name is enough: BTC.`, "warn");
    add(entry.includes("=") ? entry : entry.toUpperCase());
    return setTyped("");
  };
  const quote = entries.find((each) => each.startsWith("quote="))?.slice(6) || "";
  const without = (start) => entries.filter((each) => !each.startsWith(start));
  return html`<div class="stack">
    <form onSubmit=${enter} class="row search">
      <${Field} label="Search" help="A part of a name, or a pattern: *USDT, BTC*, !*UP*. Enter adds it.">
        <input type="search" name="search" value=${typed} autocomplete="off" spellcheck="false" placeholder="BTC"
          onInput=${(event) => setTyped(event.target.value)} /><//>
    </form>
    ${typed && html`<div class="found" role="group" aria-label="Symbols found">
      <p class="muted small-text" role="status">${plural(found.length, "symbol")} ${found.length === 1 ? "fits" : "fit"}</p>
      ${typed.includes("*") && found.length > 0 && html`<button type="button" class="small primary" onClick=${() => {
        add(typed.trim().toUpperCase());
        setTyped("");
      }}>Add the pattern ${typed.trim().toUpperCase()}</button>`}
      ${found.slice(0, MOST_SHOWN).map((name) => html`<button type="button" key=${name} class="small"
        disabled=${entries.includes(name)} onClick=${() => add(name)}>+ ${name}</button>`)}
      ${found.length > MOST_SHOWN && html`<small>and ${number(found.length - MOST_SHOWN)} more</small>`}</div>`}
    <div class="fields">
      <${Field} label="Quote asset"><select onChange=${(event) =>
        change(event.target.value ? [...without("quote="), `quote=${event.target.value}`] : without("quote="))}>
        <option value="" selected=${!quote}>any</option>${quotes.map((each) => html`<option value=${each} selected=${each === quote}>${each}</option>`)}</select><//>
      <${Field} label="Only the largest, by volume"><input type="number" min="1" max="5000" inputmode="numeric" placeholder="all"
        value=${entries.find((each) => each.startsWith("top="))?.slice(4) || top} onInput=${(event) => {
          const count = event.target.value;
          setTop(count);
          change(Number(count) >= 1 ? [...without("top="), `top=${Number(count)}`] : without("top="));
        }} /><//>
    </div>
    <div class="selected" role="group" aria-label="Selected">
      ${entries.map((entry) => html`<span class="chip" key=${entry}>${entry}
        <button type="button" class="plain" aria-label="Remove ${entry}"
          onClick=${() => change(entries.filter((each) => each !== entry))}>✕</button></span> `)}
      ${entries.length === 0 && html`<span class="muted">Nothing selected. </span>
        <button type="button" class="small" onClick=${() => change(["*"])}>All ${number(names.length)} symbols</button>`}
      ${entries.length > 1 && html`<button type="button" class="link small-text" onClick=${() => change([])}>Remove all</button>`}
    </div>
  </div>`;
}
