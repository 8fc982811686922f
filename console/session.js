// Who uses the console. The key is kept for this tab alone; it is never put into a URL.
import { useEffect, useState } from "./vendor/preact.js";

const KEY = "key";
const listeners = new Set();
// `needed`: why somebody has to sign in, null while nobody has to.
let session = { key: sessionStorage.getItem(KEY), caller: null, needed: null };

/** none, keys or iam: how requests show who sent them. */
export const authentication = document.body.dataset.authentication;

export const current = () => session;

export function change(news) {
  session = { ...session, ...news };
  for (const listener of listeners) listener(session);
}

export function signIn(key, caller) {
  sessionStorage.setItem(KEY, key);
  change({ key, caller, needed: null });
}

export function signOut(needed = "") {
  sessionStorage.removeItem(KEY);
  change({ key: null, caller: null, needed });
}

export function useSession() {
  const [found, set] = useState(session);
  useEffect(() => {
    listeners.add(set);
    set(session);
    return () => listeners.delete(set);
  }, []);
  return found;
}

/** null where the caller may do what needs `scope`, or else the sentence that says why not. */
export function denied(scope) {
  const caller = session.caller;
  if (!caller || caller.scopes.includes(scope)) return null;
  return `This needs a key with the scope “${scope}”; yours has ${caller.scopes.join(", ")}.`;
}
