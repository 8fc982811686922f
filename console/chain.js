// The audit trail's chains, verified in the browser by the rule of chalicelib/audit/chain.py.
//
// A hash is made over canonical JSON: keys sorted by code point, no blanks, ASCII. Numbers keep the
// text that the API sent: JavaScript would write 1.0 as 1 and 1e-07 as 1e-7, and large integers
// would lose digits.

export const GENESIS = "0".repeat(64);

/** A number, as the text that stands for it. */
export class Literal {
  constructor(text) {
    this.text = text;
  }
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const BLANK = /[ \t\n\r]*/y;
const WORDS = [["true", true], ["false", false], ["null", null]];

/** The value of a JSON text: objects are Maps, numbers Literals. Throws SyntaxError. */
export function parseExact(text) {
  let at = 0;
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const fail = () => {
    throw new SyntaxError(`no JSON at character ${at}`);
  };
  const take = (character) => {
    match(BLANK);
    if (text[at] !== character) return false;
    at += 1;
    return true;
  };
  const string = () => {
    match(BLANK);
    return JSON.parse(match(STRING) ?? fail());
  };
  const several = (end, one) => {
    if (take(end)) return;
    do one();
    while (take(","));
    if (!take(end)) fail();
  };
  const value = () => {
    if (take("{")) {
      const found = new Map();
      several("}", () => {
        const name = string();
        if (!take(":")) fail();
        found.set(name, value());
      });
      return found;
    }
    if (take("[")) {
      const found = [];
      several("]", () => found.push(value()));
      return found;
    }
    if (text[at] === '"') return string();
    for (const [word, meaning] of WORDS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    return new Literal(match(NUMBER) ?? fail());
  };
  const whole = value();
  match(BLANK);
  if (at !== text.length) fail();
  return whole;
}

const byCodePoint = (one, other) => {
  const left = [...one];
  const right = [...other];
  for (let at = 0; at < Math.min(left.length, right.length); at += 1) {
    const difference = left[at].codePointAt(0) - right[at].codePointAt(0);
    if (difference) return difference;
  }
  return left.length - right.length;
};

const escaped = (text) =>
  JSON.stringify(text).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** Canonical JSON of what parseExact gave. */
export function canonical(value) {
  if (value instanceof Literal) return value.text;
  if (typeof value === "string") return escaped(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value instanceof Map) {
    const names = [...value.keys()].sort(byCodePoint);
    return `{${names.map((name) => `${escaped(name)}:${canonical(value.get(name))}`).join(",")}}`;
  }
  return String(value);
}

/** What parseExact gave, as ordinary values: for showing, not for hashing. */
export function plain(value) {
  if (value instanceof Literal) return Number(value.text);
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) {
    return Object.fromEntries([...value].map(([name, each]) => [name, plain(each)]));
  }
  return value;
}

/** Whether this page may hash: browsers offer it to pages from https or this machine alone. */
export const canHash = () => Boolean(globalThis.crypto?.subtle);

/** The SHA-256 of an event, in hexadecimal; its own `hash` is left out. */
export async function digest(event) {
  const content = new Map([...event].filter(([name]) => name !== "hash"));
  const bytes = new TextEncoder().encode(canonical(content));
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const numberOf = (event) => {
  const text = event.get("seq") instanceof Literal ? event.get("seq").text : "";
  return /^[1-9][0-9]{0,14}$/.test(text) ? Number(text) : null;
};

/**
 * All that is wrong with the chain of `subject`: [{seq, kind, detail}], by number.
 * `events`: Maps of parseExact, in the order in which they were found.
 */
export async function verify(subject, events) {
  if (!events.length) return [{ seq: 0, kind: "missing", detail: "there is no event at all" }];
  const faults = [];
  const bySeq = new Map();
  let previous = 0;
  for (const event of events) {
    const seq = numberOf(event);
    if (seq === null) {
      const detail = `an event has ${canonical(event.get("seq") ?? null)} for its number`;
      faults.push({ seq: 0, kind: "altered", detail });
      continue;
    }
    if (seq === previous) {
      faults.push({ seq, kind: "reordered", detail: `event ${seq} stands there twice` });
    } else if (seq < previous) {
      const detail = `event ${seq} stands behind event ${previous}`;
      faults.push({ seq, kind: "reordered", detail });
    }
    previous = seq;
    bySeq.set(seq, event);
  }
  const ordered = [...bySeq].sort(([one], [other]) => one - other);
  for (const [seq, event] of ordered) faults.push(...(await alteredIn(subject, seq, event)));
  faults.push(...brokenLinks(ordered), ...missingIn(ordered));
  return faults.sort((one, other) => one.seq - other.seq);
}

async function alteredIn(subject, seq, event) {
  if (event.get("subject") !== subject || event.get("id") !== `${subject}:${seq}`) {
    const detail = `event ${seq} says that it is '${event.get("id")}' of '${event.get("subject")}'`;
    return [{ seq, kind: "altered", detail }];
  }
  const found = await digest(event);
  if (found === event.get("hash")) return [];
  const detail =
    `event ${seq} (${event.get("action")}) was altered: its content gives the hash ` +
    `${found.slice(0, 12)}..., and it holds ${String(event.get("hash")).slice(0, 12)}...`;
  return [{ seq, kind: "altered", detail }];
}

function brokenLinks(ordered) {
  const faults = [];
  const [first] = ordered;
  if (first && first[0] === 1 && first[1].get("previous_hash") !== GENESIS) {
    const detail = "event 1 follows something, as no first one does";
    faults.push({ seq: 1, kind: "altered", detail });
  }
  for (let at = 1; at < ordered.length; at += 1) {
    const [before, one] = ordered[at - 1];
    const [seq, event] = ordered[at];
    if (seq !== before + 1 || event.get("previous_hash") === one.get("hash")) continue;
    const detail =
      `event ${before} is not the one that event ${seq} followed: one of them was replaced`;
    faults.push({ seq: before, kind: "altered", detail });
  }
  return faults;
}

function missingIn(ordered) {
  const faults = [];
  let expected = 1;
  for (const [seq, event] of ordered) {
    if (seq > expected) {
      const which =
        seq - 1 === expected ? `event ${expected} is` : `events ${expected} to ${seq - 1} are`;
      const detail = `${which} missing before event ${seq} (${event.get("action")})`;
      faults.push({ seq: expected, kind: "missing", detail });
    }
    expected = seq + 1;
  }
  return faults;
}
