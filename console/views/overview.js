import { ErrorBox, Figure, html, Loading } from "../ui.js";
import { useGet } from "../api.js";

export default function Overview() {
  const { data, problem, reload } = useGet("/status", {}, { every: 5000 });
  if (!data) return problem ? html`<${ErrorBox} problem=${problem} retry=${reload} />` : html`<${Loading} />`;
  return html`<dl class="figures"><${Figure} name="State" value=${data.status} /></dl>`;
}
