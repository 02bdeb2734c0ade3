// Server-sent events, read with `fetch`, which tells the status and can resume several feeds.

import { retryAfter } from "../codes";
import {
  type ClientMessage,
  type Link,
  type LinkEvents,
  parseMessage,
  type ServerMessage,
} from "../transport";

/** Feeds that are asked for within so many milliseconds are asked for together. */
const GATHER = 20;

/** No message is longer, in characters: what has no end is no stream of the server. */
const MAX_REST = 8 << 20;

/** Follows feeds over `/api/stream`. Commands have to be posted beside it. */
export function openSse(url: string, token: string, events: LinkEvents): Link {
  const link = new SseLink(url, token, events);
  link.reopen();
  return link;
}

/** How far a feed has come; no sequence: from the beginning. */
interface Cursor {
  epoch: string | undefined;
  sequence: number | undefined;
}

class SseLink implements Link {
  readonly transport = "sse";
  private readonly feeds = new Map<string, Cursor>();
  private request: AbortController | undefined;
  private gathering: ReturnType<typeof setTimeout> | undefined;
  private state: "opening" | "open" | "ended" = "opening";

  constructor(
    private readonly url: string,
    private readonly token: string,
    private readonly events: LinkEvents,
  ) {}

  send(message: ClientMessage): void {
    if (message.type === "subscribe") {
      this.feeds.set(message.feed, { epoch: message.epoch, sequence: message.last_sequence });
    } else if (message.type === "unsubscribe") {
      this.feeds.delete(message.feed);
    } else {
      return;
    }
    this.gathering ??= setTimeout(() => this.reopen(), GATHER);
  }

  close(): void {
    this.state = "ended";
    clearTimeout(this.gathering);
    this.request?.abort();
  }

  /** Asks for the feeds as they are now, from where each of them is. */
  reopen(): void {
    this.gathering = undefined;
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    this.follow(request.signal).then(
      (ended) => this.end(request, ended),
      () => this.end(request, { code: 1006 }),
    );
  }

  private end(request: AbortController, ended: { code: number; retryAfter?: number | undefined }): void {
    if (this.request !== request || this.state === "ended") return;
    this.close();
    this.events.ended(ended);
  }

  private async follow(signal: AbortSignal) {
    const query = ["commands-me", ...this.feeds.keys()].map((feed) => `feed=${encodeURIComponent(feed)}`);
    const resume = this.lastEventId();
    const headers = {
      Accept: "text/event-stream",
      Authorization: `Bearer ${this.token}`,
      ...(resume && { "Last-Event-ID": resume }),
    };
    const response = await fetch(`${this.url}/api/stream?${query.join("&")}`, {
      headers,
      signal,
      cache: "no-store",
    });
    if (!response.ok || !response.body) {
      return {
        code: closeCode(response.status),
        retryAfter: retryAfter(response.headers.get("Retry-After")),
      };
    }
    if (this.state === "opening") {
      this.state = "open";
      this.events.opened();
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { code: 1006 };
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      if (rest.length > MAX_REST) return { code: 1006 };
      if (!signal.aborted) this.take(blocks);
    }
  }

  private take(blocks: string[]): void {
    const messages: ServerMessage[] = [];
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      const message = data && parseMessage(data.slice("data: ".length));
      if (!message) continue;
      if (message.type === "event") this.passed(message.feed, message.epoch, message.sequence_number);
      if (message.type === "resync") this.passed(message.feed);
      messages.push(message);
    }
    if (messages.length > 0) this.events.messages(messages);
    else this.events.alive();
  }

  private passed(feed: string, epoch?: string, sequence?: number): void {
    if (this.feeds.has(feed)) this.feeds.set(feed, { epoch, sequence });
  }

  /** `epoch:feed=sequence,…`; feeds of another epoch are left out, and so begin anew. */
  private lastEventId(): string | undefined {
    const epoch = [...this.feeds.values()].find((cursor) => cursor.epoch !== undefined)?.epoch;
    const known = [...this.feeds].filter(
      ([, cursor]) => cursor.epoch === epoch && cursor.sequence !== undefined,
    );
    if (epoch === undefined || known.length === 0) return undefined;
    // As the server writes names: what URLSearchParams makes of them.
    const named = new URLSearchParams(known.map(([feed, { sequence }]) => [feed, `${sequence}`]));
    return `${epoch}:${named}`.replaceAll("&", ",");
  }
}

/** The close code that a socket would have had. */
function closeCode(status: number): number {
  if (status === 401) return 4401;
  // One feed that this user may not follow must not end the others for good.
  return status === 429 ? 4429 : 4503;
}
