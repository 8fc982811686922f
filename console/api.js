// The HTTP API: one call, its errors as Problem, and hooks that read.
import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";
import { authentication, current, signOut } from "./session.js";

/** Everything is below it, on the page's own origin. */
export const ROOT = new URL("../../v1/data-collector/", import.meta.url);

const HINTS = {
  0: "Is the collector running, and this machine online? The page tries again by itself.",
  401: "Check the key, or ask an admin for one.",
  403: "Sign in with another key, or ask an admin for one.",
  404: "It may have been removed. Look for it in the lists.",
  409: "Its state has changed meanwhile. Load it again.",
  410: "It has expired. Its audit trail and its line in the history remain.",
  429: "Wait a moment, then try again.",
  503: "The collector is busy or not ready. Try again in a few seconds.",
};

/** An answer that is an error. `hint` says what to do, `errors` which fields are wrong. */
export class Problem extends Error {
  constructor(status, body, wait) {
    super(body.detail || body.title || `HTTP ${status}`);
    Object.assign(this, { status, reason: body.reason || "", title: body.title || "Error" });
    this.errors = body.errors || [];
    const seconds = wait ? ` The API asks for ${wait} seconds.` : "";
    this.hint = (HINTS[status] || (status >= 500 ? HINTS[503] : "")) + seconds;
  }
}

function address(path, query = {}) {
  const url = new URL(path.replace(/^\//, ""), ROOT);
  for (const [name, value] of Object.entries(query))
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  return url;
}

/**
 * The answer to a request: parsed JSON, text, or with `as: "response"` the Response itself.
 * `once`: an Idempotency-Key, so that a repeated POST is done once. `key`: another than the session's.
 * Throws Problem; an aborted call throws AbortError.
 */
export async function call(method, path, { query, body, signal, once, key, as } = {}) {
  const used = key || current().key;
  const headers = {};
  if (used) headers.Authorization = `Bearer ${used}`;
  if (once) headers["Idempotency-Key"] = once;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path, query), {
      method, headers, signal, cache: "no-store", credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "No answer", detail: "The API does not answer." });
  }
  if (!response.ok) throw await refused(response, key);
  if (as === "response") return response;
  const isJson = (response.headers.get("Content-Type") || "").includes("json");
  return isJson ? response.json() : response.text();
}

async function refused(response, key) {
  const body = await response.json().catch(() => ({}));
  if (response.status === 401 && !key) {
    const signed = authentication === "iam";
    signOut(signed ? "iam" : body.reason === "KEY_REQUIRED" ? "" : body.detail || "Sign in again.");
  }
  return new Problem(response.status, body, response.headers.get("Retry-After"));
}

export const get = (path, query, options) => call("GET", path, { ...options, query });
/** A POST that is done once, however often the network has it repeated; `once` null: or more often. */
export const post = (path, body = {}, { once = newKey(), ...options } = {}) =>
  call("POST", path, { ...options, once, body });

// randomUUID is missing where the page came over plain HTTP.
const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * What `GET path` answers, asked for again every `every` ms while the page is visible.
 * {data, problem, loading, reload}; `data` stays while something newer is asked for, and is dropped
 * where path or query change. With `path` null nothing is asked.
 */
export function useGet(path, query = {}, { every = 0 } = {}) {
  const target = path === null ? null : `${path} ${JSON.stringify(query)}`;
  const [state, set] = useState({ target });
  const [asked, ask] = useState(0);
  const reload = useCallback(() => ask((count) => count + 1), []);
  const waiting = useRef(0);
  useEffect(() => {
    if (target === null) return undefined;
    const stop = new AbortController();
    const again = () => {
      if (every) waiting.current = setTimeout(read, document.hidden ? every * 5 : every);
    };
    const read = () =>
      get(path, query, { signal: stop.signal })
        .then((data) => set({ target, data }))
        .catch((problem) => {
          if (problem.name === "AbortError") throw problem;
          set((old) => ({ target, data: old.target === target ? old.data : undefined, problem }));
        })
        .then(again, () => {});
    read();
    return () => {
      stop.abort();
      clearTimeout(waiting.current);
    };
  }, [target, asked, every]);
  const fresh = state.target === target ? state : {};
  const { data, problem } = fresh;
  return { data, problem, loading: target !== null && !data && !problem, reload };
}
