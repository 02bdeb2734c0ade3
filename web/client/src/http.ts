// Requests to the server beside the connection.

import type { Clock, Timing } from "./timing";

export class Http {
  constructor(
    private readonly url: string,
    private readonly request: typeof fetch,
    private readonly timing: Timing,
    private readonly clock: Clock,
  ) {}

  /** Asks as the owner of the token. Throws without an answer in time. */
  async fetch(path: string, token: string, init: RequestInit = {}): Promise<Response> {
    const late = new AbortController();
    const stop = this.clock.after(this.timing.answer, () => late.abort());
    const headers = { ...init.headers, Authorization: `Bearer ${token}` };
    try {
      return await this.request(this.url + path, { ...init, headers, signal: late.signal });
    } finally {
      stop();
    }
  }
}
