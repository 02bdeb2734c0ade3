// Server-sent events, read with `fetch`, which tells the status and can resume several feeds.
//
// Invariant: a feed that the server refuses keeps no other from being heard. It refuses all that are asked for
// together, so that the one is looked for by halves.

import { adviceOnStatus, retryAfter } from "../codes";
import { refusal } from "../delivery";
import type { ClientMessage, Ended, Link, LinkEvents, ServerMessage } from "../transport";
import { parseMessage } from "../transport";
import type { Code } from "../wire";

/** Feeds that are asked for within so many milliseconds are asked for together. */
const GATHER = 20;

/** A search that was too much for the server goes on after so many milliseconds, unless it says when. */
const SEARCH_RESTS = 1_000;

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
  /** Those that the server has taken, since it last refused some. */
  private readonly taken = new Set<string>();
  /** How many of the others are asked for at once: all, unless one is looked for that is refused. */
  private width = Number.POSITIVE_INFINITY;
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
      this.leave(message.feed);
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
    clearTimeout(this.gathering);
    this.gathering = undefined;
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    this.follow(request.signal)
      .catch(() => ({ code: 1006 }))
      .then((ended) => {
        if (this.request !== request || this.state === "ended") return;
        if (ended === "again") return this.reopen();
        this.close();
        this.events.ended(ended);
      });
  }

  /** Asks, and listens. Answers how that has ended; `again`: with other feeds it may go on. */
  private async follow(signal: AbortSignal): Promise<Ended | "again"> {
    const others = [...this.feeds.keys()].filter((feed) => !this.taken.has(feed));
    const tried = others.slice(0, this.width);
    const asked = [...this.taken, ...tried];
    const query = ["commands-me", ...asked].map((feed) => `feed=${encodeURIComponent(feed)}`);
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
    const { status, statusText } = response;
    if (!response.ok || !response.body) {
      if (adviceOnStatus(status) === "give_up" && asked.length > 0) {
        const text = await response.text();
        if (!signal.aborted) this.refused(asked, tried, refusal({ status, statusText, text }));
        return "again";
      }
      const after = retryAfter(response.headers.get("Retry-After"));
      if (status === 429 && this.width !== Number.POSITIVE_INFINITY) {
        // The search is what was too much; whoever began it anew would never come to its end.
        await new Promise((resolve) => setTimeout(resolve, after ?? SEARCH_RESTS));
        return "again";
      }
      return { code: closeCode(status), retryAfter: after };
    }
    for (const feed of tried) this.taken.add(feed);
    if (tried.length < others.length) {
      // It is among as many that come next, or one more.
      this.width = (tried.length + 1) >> 1;
      return "again";
    }
    this.width = Number.POSITIVE_INFINITY;
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

  /** One of these is not for this user; at first it may also be one that was. */
  private refused(asked: string[], tried: string[], { code, message }: ReturnType<typeof refusal>): void {
    const among = this.width === Number.POSITIVE_INFINITY ? asked : tried;
    if (among.length > 1) {
      if (among !== tried) this.taken.clear();
      this.width = among.length >> 1;
      return;
    }
    this.width = Number.POSITIVE_INFINITY;
    const [feed] = among;
    // It was left while it was looked for.
    if (feed === undefined || !this.feeds.has(feed)) return;
    this.leave(feed);
    const original_action = { type: "subscribe", feed };
    this.events.messages([{ type: "error", code: code as Code, message, original_action }]);
  }

  private leave(feed: string): void {
    this.feeds.delete(feed);
    this.taken.delete(feed);
  }

  private take(blocks: string[]): void {
    const messages: ServerMessage[] = [];
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      const message = data && parseMessage(data.slice("data: ".length));
      if (!message) continue;
      if (message.type === "event" || message.type === "snapshot") {
        this.passed(message.feed, message.epoch, message.sequence_number);
      }
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
  return status === 429 ? 4429 : 4503;
}
