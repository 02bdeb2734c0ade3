// A client of Alice's on a server and a network that do as they are told.

import { Client, type Link, type LinkEvents, MemoryStorage, type OpenLink, type Options } from "../../src";
import type { ClientMessage, ServerMessage } from "../../src/transport";
import type { Code, Event } from "../../src/wire";
import { Browser, dice, lists, Network, Server, VirtualClock } from "./simulation";

export class Scene {
  readonly dice = dice(1);
  readonly clock = new VirtualClock(this.dice);
  readonly server = new Server();
  readonly network = new Network(this.server, this.clock, this.dice);
  readonly storage = new MemoryStorage();

  client(options: Partial<Options> = {}): Client {
    return new Client({
      url: "http://server",
      user: "alice",
      token: () => "token",
      models: [lists],
      transports: [this.network.link("alice")],
      fetch: this.network.fetch("alice"),
      storage: this.storage,
      tabs: new Browser(this.clock, this.dice).open,
      clock: this.clock.ofPage(() => true),
      ...options,
    });
  }

  /** A client whose posts are answered with these statuses, one after the other, then with 202. */
  answering(...statuses: number[]) {
    const posts: string[] = [];
    const fetch: typeof globalThis.fetch = async (_, init) => {
      const { command_id } = JSON.parse(String(init?.body));
      posts.push(command_id);
      const status = statuses.shift() ?? 202;
      const problem = { code: status === 422 ? "invalid_field" : "other", field: "at", detail: "is wrong" };
      return new Response(status >= 400 ? JSON.stringify(problem) : null, { status });
    };
    return { posts, client: this.client({ fetch }) };
  }
}

/** An event of `list-a`, by somebody else unless it is said otherwise. */
export function event(sequence_number: number, fields: Partial<Event> = {}): Event {
  return {
    type: "event",
    feed: "list-a",
    epoch: "e",
    sequence_number,
    position: sequence_number,
    event_type: "Added",
    data: { item: `item ${sequence_number}` },
    user_id: "bob",
    username: "Bob",
    timestamp: "2026-01-19T12:00:00Z",
    command_id: null,
    ...fields,
  };
}

/** A way to connect that a test has in its hand: it opens at once, or never, or fails. */
export class Hand {
  readonly sent: ClientMessage[] = [];
  readonly tokens: string[] = [];
  events!: LinkEvents;

  constructor(
    private readonly how: "opens" | "hangs" | "fails" = "opens",
    private readonly transport: Link["transport"] = "websocket",
  ) {}

  /** How often it was tried. */
  get opened(): number {
    return this.tokens.length;
  }

  readonly open: OpenLink = (_url, token, events) => {
    this.tokens.push(token);
    this.events = events;
    if (this.how === "opens") queueMicrotask(() => events.opened());
    if (this.how === "fails") queueMicrotask(() => events.ended({ code: 1006 }));
    return { transport: this.transport, send: (message) => this.sent.push(message), close() {} };
  };

  tell(...messages: ServerMessage[]): void {
    this.events.messages(messages);
  }

  error(code: Code, original_action: object | null = null, retry_after?: number): void {
    // A program that reads the golden files sees `null` where the description says otherwise.
    const echo = original_action as { [k: string]: unknown };
    const later = retry_after === undefined ? {} : { retry_after };
    this.tell({ type: "error", code, message: "", original_action: echo, ...later });
  }

  /** The server has named the end of `list-a`. */
  subscribed(current_sequence: number, epoch = "e"): void {
    this.tell({ type: "subscribed", feed: "list-a", epoch, current_sequence });
  }
}
