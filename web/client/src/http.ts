// Requests to the server beside the connection.

import type { Time } from "./timing";
import type { Tokens } from "./token";

/** An answer, read to its end. */
export interface Answer {
  status: number;
  statusText: string;
  retryAfter: string | null;
  text: string;
}

export class Http {
  constructor(
    private readonly url: string,
    private readonly request: typeof fetch,
    private readonly tokens: Tokens,
    private readonly time: Time,
  ) {}

  /** Asks as the user. Nothing if that needs a sign-in; throws without a whole answer in time. */
  async fetch(path: string, init: RequestInit): Promise<Answer | undefined> {
    const token = await this.tokens.current();
    if (token === undefined) return undefined;
    const late = new AbortController();
    const stop = this.time.after(this.time.answer, () => late.abort());
    const headers = { ...init.headers, Authorization: `Bearer ${token}` };
    try {
      const response = await this.request(this.url + path, { ...init, headers, signal: late.signal });
      const { status, statusText } = response;
      const text = await response.text();
      // With another token it may be asked again.
      if (status === 401 && (await this.tokens.instead(token)) === undefined) return undefined;
      return { status, statusText, text, retryAfter: response.headers.get("Retry-After") };
    } finally {
      stop();
    }
  }
}
