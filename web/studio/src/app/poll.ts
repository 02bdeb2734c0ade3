// Asks the server again and again while somebody looks.

import { useEffect, useState } from "react";

/** How often, in milliseconds. */
const EVERY = 5_000;
/** When to stop waiting for an answer, in milliseconds. */
const PATIENCE = 4_000;

export interface Polled<T> {
  /** The last answer; it stays when the next one fails. */
  value: T | undefined;
  /** When that came, in milliseconds since 1970. */
  at: number | undefined;
  /** How the last try ended. */
  outcome: "waiting" | "answered" | "refused" | "unreachable";
}

const NOTHING = { value: undefined, at: undefined, outcome: "waiting" } as const;

/** What `path` answers, as JSON with one of these statuses. Without a path nothing is asked. */
export function usePoll<T>(
  path: string | undefined,
  statuses: readonly number[],
  token?: string | undefined,
): Polled<T> {
  const [polled, setPolled] = useState<Polled<T>>(NOTHING);
  const accepted = statuses.join(" ");
  useEffect(() => {
    setPolled(NOTHING);
    if (path === undefined) return;
    let current = true;
    const ask = async () => {
      if (document.hidden) return;
      const next = await answerOf<T>(path, accepted, token);
      if (current) setPolled((last) => ({ ...last, ...next }));
    };
    void ask();
    const timer = setInterval(ask, EVERY);
    document.addEventListener("visibilitychange", ask);
    return () => {
      current = false;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, [path, accepted, token]);
  return polled;
}

async function answerOf<T>(
  path: string,
  accepted: string,
  token?: string | undefined,
): Promise<Partial<Polled<T>>> {
  try {
    const headers: HeadersInit = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    const response = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!accepted.split(" ").includes(String(response.status))) {
      return { outcome: response.status >= 500 ? "unreachable" : "refused" };
    }
    return { value: await response.json(), at: Date.now(), outcome: "answered" };
  } catch {
    return { outcome: "unreachable" };
  }
}
