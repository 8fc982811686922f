// The console: frame, navigation, sign-in. README.md beside it says how a view is made.
import { html, render, useEffect, useErrorBoundary, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { get, Problem } from "./api.js";
import { disconnect, useConnection } from "./live.js";
import { authentication, change, signIn, signOut, useSession } from "./session.js";
import { Dialog, ErrorBox, Field, link, Loading, toast, Toasts } from "./ui.js";

// Name in the address -> [title, module in views/, shown in the navigation].
const VIEWS = {
  overview: ["Overview", "overview", true],
  collect: ["New collection", "collect", true],
  tasks: ["Tasks", "tasks", true],
  coverage: ["Coverage", "coverage", true],
  chart: ["Chart", "chart", true],
  schedules: ["Schedules", "schedules", true],
  audit: ["Audit", "audit", true],
};

// An address that somebody has cut off or typed: what cannot be decoded stands for itself.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function read() {
  const [path, text = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decoded);
  return { name: name || "overview", path: rest, query: Object.fromEntries(new URLSearchParams(text)) };
}

function useRoute() {
  const [route, set] = useState(read());
  useEffect(() => {
    const changed = () => set(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

function View({ route }) {
  const [loaded, set] = useState({});
  const [title, module] = Object.hasOwn(VIEWS, route.name) ? VIEWS[route.name] : [];
  const heading = useRef();
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${title || "Not found"} · Market data collector`;
    if (!module) return;
    import(`./views/${module}.js`).then(
      (found) => set({ module, Component: found.default }),
      () => set({ module, problem: { title: "This view could not be loaded",
        message: "A new version may have been deployed: load the page again." } }),
    );
  }, [module]);
  // What is read aloud after a change of view begins at its heading; a page that loads begins at its top.
  // At once: moved later, it would be taken from what somebody has reached by then.
  useLayoutEffect(() => {
    if (!isFirst.current) heading.current?.focus({ preventScroll: true });
    isFirst.current = false;
  }, [route.name, route.path[0]]);
  if (!module) return html`<h1>Not found</h1><p>There is no such view. <a href=${link("overview")}>Overview</a></p>`;
  const { Component, problem } = loaded.module === module ? loaded : {};
  return html`<h1 ref=${heading} tabindex="-1">${title}</h1>
    ${problem ? html`<${ErrorBox} problem=${problem} retry=${() => location.reload()} />`
    : Component ? html`<${Guard} key=${route.path[0]}><${Component} path=${route.path} query=${route.query} /><//>`
    : html`<${Loading} />`}`;
}

/** Says what went wrong where a view fails as it is drawn; the frame stays. */
function Guard({ children }) {
  const [problem, again] = useErrorBoundary((error) => console.error(error));
  if (!problem) return children;
  return html`<${ErrorBox} retry=${again} problem=${{ title: "This view has failed", message: problem.message,
    hint: "Choose another one, or load the page again." }} />`;
}

const SAID = { connecting: "Connecting", live: "Live", polling: "Polling" };
const EXPLAINED = {
  live: "Changes arrive as they happen.",
  polling: "The live connection is lost: the page asks every few seconds and connects again by itself.",
};

function Connection() {
  const state = useConnection();
  if (state === "off") return null;
  return html`<span class="connection ${state}" role="status" title=${EXPLAINED[state]}>${SAID[state]}</span>`;
}

function SignIn({ needed }) {
  const [key, set] = useState("");
  const [problem, fail] = useState(null);
  const enter = async (event) => {
    event.preventDefault();
    try {
      const { caller } = await get("/status", {}, { key: key.trim() });
      signIn(key.trim(), caller);
      disconnect();
    } catch (error) {
      fail(error);
    }
  };
  if (needed === "iam")
    return html`<${Dialog} title="Requests must be signed"><p>This API takes requests that are signed with
      AWS credentials, which a page cannot do. Use the command line: <code>data-collector --sign status</code>.</p><//>`;
  return html`<${Dialog} title="Sign in">
    <form onSubmit=${enter}>
      <p>This API needs a key. ${needed}</p>
      <${Field} label="API key" help="It stays in this tab, until you close it or sign out.">
        <input type="password" name="key" autocomplete="off" required spellcheck="false" placeholder="mdc_…"
          value=${key} onInput=${(event) => set(event.target.value)} />
      <//>
      <${ErrorBox} problem=${problem} />
      <footer><button class="primary">Sign in</button></footer>
    </form><//>`;
}

function Who({ session }) {
  if (authentication !== "keys" || !session.key) return null;
  const { caller } = session;
  const leave = () => {
    signOut();
    disconnect();
  };
  return html`<div class="who"><span title=${caller?.scopes.join(", ")}>${caller?.owner || "…"}</span>
    <button type="button" class="small" onClick=${leave}>Sign out</button></div>`;
}

function App() {
  const route = useRoute();
  const session = useSession();
  useEffect(() => {
    if (session.caller || session.needed !== null) return;
    get("/status").then(({ caller }) => change({ caller }))
      .catch((problem) => problem.status !== 401 && toast(problem));
  }, [session.key, session.needed]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("main h1")?.focus();
    }}>Skip to content</a>
    <header class="top">
      <a class="brand" href=${link("overview")}><img src=${new URL("icon.svg", import.meta.url).href} alt="" width="26" height="26" />
        <span>Market data collector</span></a>
      <nav aria-label="Views">${Object.entries(VIEWS).map(([name, [title]]) => html`
        <a href=${link(name)} aria-current=${route.name === name ? "page" : undefined}>${title}</a>`)}</nav>
      <div class="state"><${Connection} /><${Who} session=${session} /></div>
    </header>
    <main id="main">${session.needed === null && html`<${View} route=${route} />`}</main>
    ${session.needed !== null && html`<${SignIn} needed=${session.needed} />`}
    <${Toasts} />`;
}

render(html`<${App} />`, document.getElementById("app"));
