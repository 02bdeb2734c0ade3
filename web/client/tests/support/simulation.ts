// A server, a network and a clock for tests: the same seed gives the same run.
//
// The server keeps lists: `Append` always adds its command, `Pair` adds it in two events, `Put` adds a key unless it
// is there already, and a list that is closed refuses all. So a command that counted twice, or a prediction shown twice, can be seen.

import type { Command } from "../../src/command";
import type { Model } from "../../src/model";
import type { Changes, Storage, Stored } from "../../src/storage";
import type { OpenTabs, TabMessage } from "../../src/tabs";
import type { Clock } from "../../src/timing";
import type { ClientMessage, Link, LinkEvents, OpenLink, ServerMessage } from "../../src/transport";
import type { Action, Event, Receipt, Snapshot } from "../../src/wire";

export const EPOCH = "epoch-1";

/** Time that passes only when it is told to. */
export class VirtualClock implements Clock {
  /** What has passed, and what the clock on the wall says. */
  time = 1_000_000;
  wall = 1_700_000_000_000;
  private timers: { at: number; order: number; run: () => void }[] = [];
  private order = 0;

  constructor(private readonly dice: () => number) {}

  now(): number {
    return Math.floor(this.wall);
  }

  elapsed(): number {
    return this.time;
  }

  random(): number {
    return this.dice();
  }

  after(millis: number, run: () => void): () => void {
    const timer = { at: this.time + millis, order: this.order++, run };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  /** Lets so much time pass, and everything happen that is due in it. */
  async pass(millis: number): Promise<void> {
    const until = this.time + millis;
    for (;;) {
      await quiet();
      this.timers.sort((a, b) => a.at - b.at || a.order - b.order);
      const next = this.timers[0];
      if (!next || next.at > until) break;
      this.timers.shift();
      this.goTo(Math.max(this.time, next.at));
      next.run();
    }
    this.goTo(until);
  }

  /** The clock of a page, which ends with it. */
  ofPage(isLive: () => boolean): Clock {
    return {
      now: () => this.now(),
      elapsed: () => this.elapsed(),
      random: () => this.random(),
      after: (millis, run) => this.after(millis, () => isLive() && run()),
    };
  }

  private goTo(time: number): void {
    this.wall += time - this.time;
    this.time = time;
  }
}

/** Waits until everything that was waiting only for its turn has had it. */
export async function quiet(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Dice that fall the same way for the same seed (mulberry32). */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface List {
  items: string[];
  /** How many of them came with a snapshot. */
  jumped?: number;
}

function added(state: List, type: string, id: string, key: unknown): List {
  if (type === "Pair") return { items: [...state.items, id, `${id} too`] };
  const item = type === "Put" ? `key ${key}` : id;
  return type === "Put" && state.items.includes(item) ? state : { items: [...state.items, item] };
}

/** How lists are shown. */
export const lists: Model<List> = {
  category: "list",
  initial: { items: [] },
  evolve: (state, { data }) => ({ ...state, items: [...state.items, String(data.item)] }),
  predict: (state, { type, commandId, data }) => {
    // What a snapshot contains already must not be shown twice; nothing else is looked at so kindly.
    if (state.items.slice(0, state.jumped ?? 0).includes(commandId)) return state;
    return { ...state, ...added(state, type, commandId, (data as { key: number }).key) };
  },
  snapshot: (state) => {
    const { all } = state as { all: string[] };
    return { items: all, jumped: all.length };
  },
};

interface ServerLink {
  user: string;
  transport: Link["transport"];
  feeds: Set<string>;
  tell(messages: ServerMessage[]): void;
}

export class Server {
  readonly logs = new Map<string, Event[]>();
  readonly ledger = new Map<string, Receipt>();
  readonly links = new Set<ServerLink>();
  readonly closed = new Set<string>();
  epoch = EPOCH;
  /** The logs that were, before older copies took their place. */
  readonly old: Map<string, Event[]>[] = [];
  /** Of each log the number of events that were dropped: a snapshot stands for them. */
  private readonly dropped = new Map<string, number>();
  /** How many commands came, repeated ones too. */
  received = 0;
  private position = 0;

  items(feed: string, sequence = Number.POSITIVE_INFINITY): string[] {
    return (this.logs.get(feed) ?? []).slice(0, sequence).map(({ data }) => String(data.item));
  }

  /** Drops so large a share of the events of a log. */
  compact(feed: string, share: number): void {
    const log = this.logs.get(feed) ?? [];
    let cut = Math.floor(log.length * share);
    // A baseline stands between two commands.
    while (cut > 0 && log[cut]?.command_id === log[cut - 1]?.command_id) cut -= 1;
    this.dropped.set(feed, Math.max(cut, this.dropped.get(feed) ?? 0));
  }

  /** What comes after an event, from a snapshot if some of it was dropped. */
  private after(feed: string, last: number): { snapshot: Snapshot[]; events: Event[] } {
    const log = this.logs.get(feed) ?? [];
    const dropped = this.dropped.get(feed) ?? 0;
    if (last >= dropped) return { snapshot: [], events: log.slice(last) };
    const state = { all: this.items(feed, dropped) };
    const snapshot: Snapshot = {
      type: "snapshot",
      feed,
      epoch: this.epoch,
      sequence_number: dropped,
      state,
    };
    return { snapshot: [snapshot], events: log.slice(dropped) };
  }

  /** An older copy of each log, of so large a share of its events, stands in its place. */
  restore(share: number): void {
    this.old.push(new Map(this.logs));
    this.epoch = `epoch-${this.old.length + 1}`;
    for (const [feed, log] of this.logs) {
      const copy = log
        .slice(0, Math.floor(log.length * share))
        .map((event) => ({ ...event, epoch: this.epoch }));
      // A command is in it whole, or not at all.
      const cut = log[copy.length]?.command_id;
      this.logs.set(
        feed,
        copy.filter(({ command_id }) => command_id !== cut),
      );
      if ((this.logs.get(feed)?.length ?? 0) < (this.dropped.get(feed) ?? 0)) this.dropped.delete(feed);
    }
    const kept = new Set([...this.logs.values()].flat().map(({ command_id }) => command_id));
    for (const id of this.ledger.keys()) if (!kept.has(id)) this.ledger.delete(id);
  }

  take(action: Pick<Action, "feed" | "event_type" | "command_id" | "data">, user: string): Receipt {
    this.received += 1;
    const { feed, event_type, command_id, data } = action;
    const before = this.logs.get(feed)?.length ?? 0;
    const known = this.ledger.get(command_id);
    const receipt = known ?? this.decide(feed, event_type, command_id, data ?? {}, user);
    this.ledger.set(command_id, receipt);
    const tellReceipt = () => {
      for (const link of this.links) if (link.user === user) link.tell([receipt]);
    };
    // Nobody has promised which of them comes first, nor that they come together.
    if (this.received % 2 === 0) tellReceipt();
    const events = this.logs.get(feed)?.slice(before) ?? [];
    for (const link of this.links) {
      if (!link.feeds.has(feed)) continue;
      // A stream cannot be asked whether there is more: it gets what belongs together in one piece.
      if (link.transport === "sse") link.tell(events);
      else for (const event of events) link.tell([event]);
    }
    if (this.received % 2 === 1) tellReceipt();
    return receipt;
  }

  hear(link: ServerLink, message: ClientMessage): void {
    switch (message.type) {
      case "subscribe": {
        const log = this.logs.get(message.feed) ?? [];
        let last = message.last_sequence ?? 0;
        const { feed } = message;
        link.feeds.add(feed);
        if ((message.epoch && message.epoch !== this.epoch) || last > log.length) {
          link.tell([{ type: "resync", feed, epoch: this.epoch }]);
          last = 0;
        }
        const subscribed: ServerMessage = {
          type: "subscribed",
          feed,
          epoch: this.epoch,
          current_sequence: log.length,
        };
        const { snapshot, events } = this.after(feed, last);
        link.tell([subscribed, ...snapshot, ...events]);
        break;
      }
      case "unsubscribe":
        link.feeds.delete(message.feed);
        break;
      case "sync": {
        const log = this.logs.get(message.feed) ?? [];
        const { feed } = message;
        const { snapshot, events } = this.after(feed, message.last_sequence ?? 0);
        const current_sequence = log.length;
        link.tell([...snapshot, { type: "sync_batch", feed, events, current_sequence, has_more: false }]);
        break;
      }
      case "ping":
        // A sign of life.
        link.tell([]);
        break;
      case "action":
        this.take(message, link.user);
        break;
      case "refresh_token":
        break;
    }
  }

  private decide(feed: string, type: string, id: string, data: object, user: string): Receipt {
    const receipt = { type: "receipt" as const, feed, command_id: id, position: this.position };
    if (this.closed.has(feed)) {
      return {
        ...receipt,
        outcome: "rejected",
        code: "closed",
        message: "It is closed.",
        sequence_numbers: [],
      };
    }
    const log = this.logs.get(feed) ?? [];
    const before = this.items(feed);
    const after = added({ items: before }, type, id, (data as { key?: number }).key).items;
    if (after.length === before.length) return { ...receipt, outcome: "unchanged", sequence_numbers: [] };
    const events = after.slice(before.length).map((item, n): Event => {
      this.position += 1;
      return {
        type: "event",
        feed,
        epoch: this.epoch,
        sequence_number: log.length + 1 + n,
        position: this.position,
        event_type: "Added",
        data: { item },
        user_id: user,
        username: user,
        timestamp: "2026-01-19T12:00:00Z",
        command_id: id,
      };
    });
    this.logs.set(feed, [...log, ...events]);
    return {
      ...receipt,
      outcome: "applied",
      position: this.position,
      sequence_numbers: events.map(({ sequence_number }) => sequence_number),
    };
  }
}

/** What goes wrong between a client and the server, as shares of all messages. */
export interface Weather {
  lost: number;
  doubled: number;
  /** The longest way, in milliseconds. */
  slow: number;
}

export const FINE: Weather = { lost: 0, doubled: 0, slow: 20 };

export class Network {
  weather: Weather = FINE;
  private readonly open = new Set<() => void>();

  constructor(
    private readonly server: Server,
    private readonly clock: VirtualClock,
    private readonly dice: () => number,
  ) {}

  /** Breaks every connection; what is on its way is lost. */
  breakLinks(): void {
    for (const end of [...this.open]) end();
  }

  private way(): number {
    return 1 + this.dice() * this.weather.slow;
  }

  /** Connections of a user: in order, each message late, and gone with the connection. */
  link(user: string, transport: Link["transport"] = "websocket"): OpenLink {
    return (_url, _token, events) => this.connect(user, transport, events);
  }

  private connect(user: string, transport: Link["transport"], events: LinkEvents) {
    let live = true;
    const due = { up: 0, down: 0 };
    const later = (direction: "up" | "down", run: () => void) => {
      due[direction] = Math.max(due[direction], this.clock.elapsed() + this.way());
      this.clock.after(due[direction] - this.clock.elapsed(), () => live && run());
    };
    const server: ServerLink = {
      user,
      transport,
      feeds: new Set(),
      tell: (messages) => {
        // A message that is lost takes its connection with it, as TCP has it.
        if (this.dice() < this.weather.lost) return later("down", end);
        later("down", () => events.messages(structuredClone(messages)));
      },
    };
    const end = () => {
      if (!live) return;
      live = false;
      this.open.delete(end);
      this.server.links.delete(server);
      events.ended({ code: 1006 });
    };
    this.open.add(end);
    later("up", () => {
      if (this.dice() < this.weather.lost) return end();
      this.server.links.add(server);
      later("down", () => events.opened());
    });
    return {
      transport,
      send: (message: ClientMessage) => {
        // A stream only follows feeds.
        if (transport === "sse" && !message.type.endsWith("subscribe")) return;
        later("up", () => this.server.hear(server, structuredClone(message)));
      },
      close: () => {
        live = false;
        this.open.delete(end);
        this.server.links.delete(server);
      },
    };
  }

  /** Requests of a user: lost before or after the server, doubled, and late, each for itself. Posts may not pass. */
  fetch(user: string, posts: "pass" | "fail" = "pass"): typeof fetch {
    return (input, init) =>
      new Promise((resolve, reject) => {
        const lost = () => reject(new TypeError("the network has lost it"));
        init?.signal?.addEventListener("abort", lost);
        if (this.dice() < this.weather.lost) return;
        if (init?.method !== "POST") {
          const receipt = this.server.ledger.get(String(input).split("/").at(-1) ?? "");
          const status = receipt ? 200 : 404;
          return this.clock.after(this.way(), () => resolve(Response.json(receipt ?? null, { status })));
        }
        if (posts === "fail") return lost();
        const action: Action = JSON.parse(String(init?.body));
        const arrive = () => this.server.take(action, user);
        if (this.dice() < this.weather.doubled) this.clock.after(this.way() * 3, arrive);
        this.clock.after(this.way(), () => {
          arrive();
          if (this.dice() < this.weather.lost) return lost();
          this.clock.after(this.way(), () => resolve(new Response(null, { status: 202 })));
        });
      });
  }
}

/** How a disk is: it may refuse, or not answer until it is fine again. */
export interface Disk {
  is: "fine" | "full" | "stuck";
}

/** A storage as one page has it: with the page it ends. */
export class PageStorage implements Storage {
  gone = false;

  constructor(
    private readonly shared: Storage,
    private readonly clock: VirtualClock,
    private readonly disk: Disk,
  ) {}

  async load(): Promise<Stored> {
    await this.answer();
    return this.shared.load();
  }

  async write(changes: Changes): Promise<void> {
    // The disk takes its time, and the page may not live to hear of it.
    await this.turn();
    await this.answer();
    await this.shared.write(structuredClone(changes));
    await this.turn();
    await this.answer();
  }

  private turn(): Promise<void> {
    return new Promise((resolve) => void this.clock.after(5, resolve));
  }

  private async answer(): Promise<void> {
    while (this.disk.is === "stuck") await this.turn();
    if (this.gone) await new Promise(() => {});
    if (this.disk.is === "full") throw new Error("the disk is full");
  }

  /** What is not written by now will not be. */
  close(): void {
    this.gone = true;
  }
}

/** The tabs of one browser: one lock, one channel. */
export class Browser {
  private readonly tabs = new Set<{ hear: (message: TabMessage) => void }>();
  private queue: { gained: () => void; tab: object }[] = [];

  constructor(
    private readonly clock: VirtualClock,
    private readonly dice: () => number,
  ) {}

  readonly open: OpenTabs = (_name, hear) => {
    const tab = { hear };
    let due = 0;
    this.tabs.add(tab);
    const leave = () => {
      const first = this.queue[0]?.tab === tab;
      this.queue = this.queue.filter((waiting) => waiting.tab !== tab);
      if (first) this.queue[0]?.gained();
    };
    return {
      stand: (gained) => {
        if (this.queue.some((waiting) => waiting.tab === tab)) return;
        this.queue.push({ gained, tab });
        if (this.queue.length === 1) gained();
      },
      yield: leave,
      tell: (message) => {
        if (!this.tabs.has(tab)) return;
        // In order, however late.
        due = Math.max(due, this.clock.elapsed() + 1 + this.dice() * 50);
        for (const other of this.tabs) {
          const hear = () => this.tabs.has(other) && other.hear(structuredClone(message));
          if (other !== tab) this.clock.after(due - this.clock.elapsed(), hear);
        }
      },
      close: () => {
        leave();
        this.tabs.delete(tab);
      },
    };
  };
}

/** An intent that the server of this file understands. */
export function intent(feed: string, what: What): Pick<Command, "feed" | "type" | "data"> {
  if (typeof what === "number") return { feed, type: "Put", data: { key: what } };
  return { feed, type: what === "pair" ? "Pair" : "Append", data: {} };
}

/** What to do with a list: a number is the key to put. */
export type What = "append" | "pair" | number;
