// Reading what takes more than one request (api.js has useGet for one).

import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";

/** {value, problem, again} of `work()`, which runs when it appears and where `inputs` change. What
 * was read stays until something newer is there. */
export function useLoaded(work, inputs) {
  const [state, set] = useState({});
  const run = useRef(0);
  const again = useCallback(async () => {
    run.current += 1;
    const mine = run.current;
    try {
      const value = await work();
      if (mine === run.current) set({ value });
    } catch (problem) {
      if (mine === run.current) set((old) => ({ ...old, problem }));
    }
  }, inputs);
  useEffect(() => {
    again();
    return () => {
      run.current += 1;
    };
  }, [again]);
  return { ...state, again };
}
