// Requests to the server beside the connection.

import type { Clock, Timing } from "./timing";

/** An answer, read to its end. */
export interface Answer {
  ok: boolean;
  status: number;
  statusText: string;
  retryAfter: string | null;
  text: string;
}

export class Http {
  constructor(
    private readonly url: string,
    private readonly request: typeof fetch,
    private readonly timing: Timing,
    private readonly clock: Clock,
  ) {}

  /** Asks as the owner of the token. Throws without a whole answer in time. */
  async fetch(path: string, token: string, init: RequestInit = {}): Promise<Answer> {
    const late = new AbortController();
    const stop = this.clock.after(this.timing.answer, () => late.abort());
    const headers = { ...init.headers, Authorization: `Bearer ${token}` };
    try {
      const response = await this.request(this.url + path, { ...init, headers, signal: late.signal });
      const { ok, status, statusText } = response;
      return {
        ok,
        status,
        statusText,
        retryAfter: response.headers.get("Retry-After"),
        text: await response.text(),
      };
    } finally {
      stop();
    }
  }
}
