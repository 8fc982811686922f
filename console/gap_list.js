// Gaps with their reasons, each of which can be collected: of one cell of the map, or of a chart.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { post, useGet } from "./api.js";
import { denied } from "./session.js";
import { Button, Empty, ErrorBox, Loading, number, plural, Table, utc } from "./ui.js";
import { isMissing, reasonClass, reasonName, reasonText } from "./reasons.js";
import { TaskLine } from "./task_line.js";

const iso = (time) => new Date(time).toISOString();

/** The gaps of [start, end), times in epoch ms; read again where `version` changes. */
export function GapList({ symbol, timeframe, start, end, version, onCollected }) {
  const query = { symbol, timeframe, start: iso(start), end: iso(end), page_size: 100 };
  const { data, problem, reload } = useGet("/coverage/gaps", query);
  const seen = useRef(version);
  useEffect(() => {
    if (seen.current !== version) reload();
    seen.current = version;
  }, [version]);
  const collected = () => {
    reload();
    onCollected?.();
  };
  return html`<${ErrorBox} problem=${problem} retry=${reload} />
    ${!data && !problem && html`<${Loading} what="Looking up why" />`}
    ${data &&
    html`<${GapTable} symbol=${symbol} timeframe=${timeframe} gaps=${data.gaps}
      hasMore=${data.next_page_token !== null} onCollected=${collected} />`}`;
}

/** `onLook(gap)`: where a gap can be shown. Asks for what is missing, or once more for the rest. */
export function GapTable({ symbol, timeframe, gaps, hasMore, onCollected, onLook }) {
  const [tasks, setTasks] = useState([]);
  const [problem, setProblem] = useState(null);
  const why = denied("collect");
  const collect = async (gap) => {
    setProblem(null);
    const asked = { symbols: [symbol], timeframes: [timeframe], start: iso(gap.start), end: iso(gap.end) };
    try {
      const made = isMissing(gap.reason)
        ? await post("/coverage/fill", asked)
        : await post("/start", { ...asked, fill: "all" });
      setTasks((before) => [made.task_id, ...before]);
    } catch (failed) {
      setProblem(failed);
    }
  };
  const columns = [
    { name: "From (UTC)", cell: (gap) => utc(gap.start) },
    { name: "To (UTC)", cell: (gap) => utc(gap.end) },
    { name: "Candles", class: "right", cell: (gap) => number(gap.candles) },
    {
      name: "Reason",
      cell: (gap) => html`<span><i class="mark ${reasonClass(gap.reason)}" aria-hidden="true"></i>
        ${reasonName(gap.reason)} <small class="why">${reasonText(gap.reason)}</small></span>`,
    },
    {
      name: "Asked",
      cell: (gap) => gap.evidence
        ? html`<span title="Last at ${utc(gap.evidence.last_asked)} UTC">${plural(gap.evidence.times_asked, "time")}</span>`
        : "never",
    },
    {
      name: "",
      cell: (gap) => html`<span class="row end">
        ${onLook && html`<button type="button" class="small" onClick=${() => onLook(gap)}
          aria-label="Show the gap from ${utc(gap.start)}">Show</button>`}
        ${gap.reason !== "not_yet_final" && html`<${Button} why=${why} kind="small" onClick=${() => collect(gap)}
          aria-label="${isMissing(gap.reason) ? "Collect" : "Ask again for"} the gap from ${utc(gap.start)}">
          ${isMissing(gap.reason) ? "Collect" : "Ask again"}<//>`}
      </span>`,
    },
  ];
  return html`<${ErrorBox} problem=${problem} />
    ${tasks.map((id) => html`<${TaskLine} key=${id} id=${id} onEnd=${onCollected} />`)}
    <${Table} label="Gaps of ${symbol} ${timeframe}" columns=${columns} rows=${gaps}
      keyOf=${(gap) => gap.start} empty="No candle is missing here." />
    ${hasMore && html`<${Empty}>There are more gaps than are listed here.<//>`}`;
}
