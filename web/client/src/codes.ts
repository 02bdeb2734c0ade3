// What to do about an error, and about a closed socket. The tests compare this with the server's own tables.

import type { Code } from "./wire";

/** What helps about an error: another try, another token, or nothing that a program could do. */
export type Advice = "retry" | "sign_in" | "give_up";

const ADVICE: Partial<Record<Code, Advice>> = {
  unauthorized: "sign_in",
  token_expired: "sign_in",
  rate_limited: "retry",
  view_behind: "retry",
  overloaded: "retry",
  unavailable: "retry",
  internal: "retry",
};

/**
 * What to do about an error code of the server. One of a later version is for a person to judge: trying it again
 * and again would hold up whatever waits behind it.
 */
export function advice(code: string): Advice {
  return ADVICE[code as Code] ?? "give_up";
}

/** What to do about the status of a command that was posted. Only the status is read. */
export function adviceOnStatus(status: number): Advice | "accepted" {
  if (status >= 200 && status < 300) return "accepted";
  if (status === 401) return "sign_in";
  if (status >= 500 || [408, 425, 429].includes(status)) return "retry";
  return "give_up";
}

/** What to do once a connection is closed. */
export type Verdict = "reconnect" | "sign_in" | "stay_away" | "give_up";

/** What a closing frame means. */
export function verdict(code: number): Verdict {
  if (code === 4401 || code === 4403) return "sign_in";
  if (code === 4400 || code === 4404) return "give_up";
  return code === 4409 ? "stay_away" : "reconnect";
}

/** The longest time, in milliseconds, that a server can keep a client away. */
const MAX_RETRY_AFTER = 600_000;

/** Reads a number of seconds, as in `retry_after` and the header `Retry-After`, as milliseconds. */
export function retryAfter(seconds: unknown): number | undefined {
  const millis = Number(seconds) * 1_000;
  return millis > 0 ? Math.min(millis, MAX_RETRY_AFTER) : undefined;
}
