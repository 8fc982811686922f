// A small bar chart of the last 24 hours.
import { html } from "./ui.js";

const WIDTH = 240, HEIGHT = 46, GAP = 2;
export const HOURS = 24, HOUR_MS = 3_600_000;

const clock = (at) => new Date(at).toISOString().slice(11, 16);

/** `values`: one number an hour, the running hour last; `format(value)` says one. */
export function Bars({ label, values, format, tone = "busy" }) {
  const most = Math.max(...values, 0);
  const step = WIDTH / values.length;
  const now = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
  const begins = (index) => now - (values.length - 1 - index) * HOUR_MS;
  const peak = values.indexOf(most);
  const said = most === 0 ? "none" : `most at ${clock(begins(peak))} UTC: ${format(most)}`;
  return html`<figure class="bars ${tone}">
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
      aria-label="${label} by hour over the last day; ${said}">
      ${values.map((value, index) => {
        const height = most === 0 || value === 0 ? 1 : Math.max(3, (value / most) * (HEIGHT - 2));
        return html`<rect class=${value === 0 ? "none" : ""} x=${index * step} width=${step - GAP}
          y=${HEIGHT - height} height=${height} rx="1"><title>${clock(begins(index))}: ${format(value)}</title></rect>`;
      })}
    </svg>
    <figcaption><span>${clock(begins(0))}</span><span>now</span></figcaption>
  </figure>`;
}
