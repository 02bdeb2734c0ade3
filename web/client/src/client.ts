// The handle: what a program holds. It joins the outbox, the feeds, the connection and the tabs.

import { advice, retryAfter } from "./codes";
import { type Command, type Confirmation, type Intent, Mint } from "./command";
import { Connection, type ConnectionState } from "./connection";
import { OverSocket, Post } from "./delivery";
import { GaveUp, Rejected } from "./errors";
import type { Feed } from "./feed";
import { Feeds, type Following } from "./feeds";
import { Http } from "./http";
import { Keeper } from "./keeper";
import { categoryOf, type Model } from "./model";
import { Outbox, type Progress } from "./outbox";
import { type Sent, type Settled, Waiters } from "./sent";
import type { Storage } from "./storage";
import { IndexedDbStorage } from "./storage/indexeddb";
import { MemoryStorage } from "./storage/memory";
import { type OpenTabs, openTabs, type TabMessage, type Tabs } from "./tabs";
import { type Clock, DEFAULT_TIMING, realClock, type Timing } from "./timing";
import { type TokenSource, Tokens } from "./token";
import type { Link, OpenLink, ServerMessage } from "./transport";
import { openSse } from "./transport/sse";
import { openWebSocket } from "./transport/websocket";
import type { Event, Receipt, Error as WireError } from "./wire";

export interface Options {
  /** The server, as `https://host`; that of the page if it is left out. */
  url?: string;
  /** The user that the tokens are of. Each user has an outbox of their own. */
  user: string;
  /** The tenant of the user, if a browser may hold the same name of several. */
  tenant?: string;
  token: TokenSource;
  /** How feeds become states. */
  // Each model has a state of its own, which only its followers name.
  models?: Model<any>[];
  /** How messages come; in turn, if the first does not open. */
  transports?: OpenLink[];
  /** How commands go: posted, or over the socket. A stream carries none, so then they are posted. */
  send?: "http" | "socket";
  storage?: Storage;
  fetch?: typeof fetch;
  tabs?: OpenTabs;
  timing?: Partial<Timing>;
  clock?: Clock;
}

export interface Status {
  connection: ConnectionState;
  transport: Link["transport"] | undefined;
  /** Whether this tab is the one that sends. */
  sends: boolean;
  /** How many commands are not settled. */
  pending: number;
}

type Listener<T> = (value: T) => void;
type Stop = () => void;

/** How many commands are posted at once, and how many are on the socket. A feed has only one on its way. */
const WINDOW = { http: 6, socket: 64 };
/** What another tab has settled, in a way that this one did not hear. */
const UNCHANGED = { outcome: "unchanged" as const, sequenceNumbers: [], position: 0 };
/** An accepted command whose receipt may have been missed is sent again so long after a connection opened. */
const CATCH_UP = 500;

export class Client {
  private readonly clock: Clock;
  private readonly timing: Timing;
  private readonly keeper: Keeper;
  private readonly tokens: Tokens;
  private readonly connection: Connection;
  private readonly outbox: Outbox;
  private readonly socket: OverSocket;
  private readonly tabs: Tabs;
  private readonly mint = new Mint();
  private readonly feeds: Feeds;
  private readonly waiters = new Waiters();
  private readonly listeners = {
    change: new Set<Listener<string>>(),
    event: new Set<Listener<Event>>(),
    settled: new Set<Listener<Settled>>(),
    status: new Set<Listener<Status>>(),
  };
  private readonly http: Http;
  private sends = false;
  private closed = false;
  private wanted: "online" | "offline" = "online";

  /** Resolves once what was kept from earlier is here; rejects if the storage cannot be used. */
  readonly ready: Promise<void>;

  constructor(private readonly options: Options) {
    const url = (options.url ?? globalThis.location?.origin ?? "").replace(/\/$/, "");
    this.clock = options.clock ?? realClock;
    this.timing = { ...DEFAULT_TIMING, ...options.timing };
    const name = `sillage:${url}:${options.tenant ?? ""}:${options.user}`;
    this.keeper = new Keeper(
      options.storage ?? defaultStorage(name),
      {
        kept: (commands) => this.kept(commands),
        removed: (commandIds) => this.tabs.tell({ kind: "removed", commandIds }),
        checkpoint: (feed) => this.feeds.get(feed)?.checkpoint(),
      },
      this.clock,
      this.timing.write,
    );
    this.tokens = new Tokens(options.token);
    this.connection = new Connection(
      url,
      this.tokens,
      options.transports ?? defaultTransports(),
      {
        changed: () => this.connectionChanged(),
        opened: () => this.opened(),
        messages: (messages) => this.heard(messages),
      },
      this.timing,
      this.clock,
    );
    this.feeds = new Feeds(
      {
        me: options.user,
        clock: this.clock,
        timing: this.timing,
        modelOf: (feed) => this.modelOf(feed),
        pending: (feed) => this.pending(feed).map(({ command }) => command),
        ask: (path) => this.ask(path),
        changed: (feed) => this.changed(feed),
      },
      this.keeper,
      this.connection,
    );
    const request = options.fetch ?? ((input, init) => fetch(input, init));
    this.http = new Http(url, request, this.timing, this.clock);
    const post = new Post(this.http, this.tokens, (feed) => this.modelOf(feed));
    this.socket = new OverSocket((action) => this.connection.send(action), this.timing, this.clock);
    const bySocket = options.send === "socket";
    this.outbox = new Outbox(
      (command) =>
        bySocket && this.connection.transport === "websocket"
          ? this.socket.deliver(command)
          : post.deliver(command),
      {
        accepted: (command) => {
          this.tabs.tell({ kind: "accepted", commandId: command.commandId });
          this.accepted(command);
        },
        gaveUp: (command, code, message) => {
          this.tabs.tell({ kind: "gave-up", commandId: command.commandId, code, message });
          this.gaveUp(command, code, message);
        },
        signIn: () => {
          if (this.wanted === "online") this.connection.stop("needs-sign-in");
        },
      },
      this.timing,
      this.clock,
      bySocket ? WINDOW.socket : WINDOW.http,
    );
    this.tabs = (options.tabs ?? openTabs)(name, (message) => this.heardFromTab(message));
    globalThis.addEventListener?.("online", this.online);
    this.ready = this.load();
    this.ready.catch(() => {});
  }

  get user(): string {
    return this.options.user;
  }

  get status(): Status {
    const { state, transport } = this.connection;
    return { connection: state, transport, sends: this.sends, pending: this.outbox.size };
  }

  /** Takes a command. It is kept, sent, and sent again until its outcome is known. */
  send<State = unknown>(intent: Intent): Sent<State> {
    // What is kept and sent is JSON, whatever it was made from; what is not is refused here, to the caller.
    const data: unknown = JSON.parse(JSON.stringify(intent.data));
    const command: Command = { ...intent, data, ...this.mint.next(this.clock.now()) };
    const promises = this.waiters.add(command.commandId);
    if (this.closed) {
      this.waiters.close();
      return { command, optimistic: undefined, ...promises };
    }
    this.outbox.add(command, "unstored");
    this.keeper.keep(command);
    const feed = this.feeds.get(command.feed) as Feed<State> | undefined;
    feed?.add(command);
    this.changed(command.feed);
    this.statusChanged();
    return { command, optimistic: feed?.state, ...promises };
  }

  /** The commands of a feed, or of all, that are not settled, and how far they have come. */
  pending(feed?: string): { command: Command; progress: Progress }[] {
    return this.outbox.list().filter(({ command }) => feed === undefined || command.feed === feed);
  }

  /** One pass over the outbox: sends what is due, and resolves when that has ended. */
  async outboxProcessOnce(): Promise<void> {
    await this.ready;
    await this.keeper.flush();
    await this.outbox.processOnce();
  }

  /** Follows a feed. Its category needs a model. */
  follow<State>(name: string): Following<State> {
    return this.feeds.follow(name);
  }

  /** Hears the name of each feed whose state, or whose pending commands, have changed. */
  onChange(listener: Listener<string>): Stop {
    return listen(this.listeners.change, listener);
  }

  /** Hears each new event of the feeds that are followed. */
  onEvent(listener: Listener<Event>): Stop {
    return listen(this.listeners.event, listener);
  }

  /** Hears what becomes of every command of this user. */
  onSettled(listener: Listener<Settled>): Stop {
    return listen(this.listeners.settled, listener);
  }

  /** Hears of each command that was refused or given up, also of one that was sent before a reload. */
  onRejected(listener: Listener<Rejected | GaveUp>): Stop {
    return this.onSettled((settled) => {
      if (settled.outcome === "rejected" || settled.outcome === "gave-up") listener(settled.error);
    });
  }

  onStatus(listener: Listener<Status>): Stop {
    return listen(this.listeners.status, listener);
  }

  /** Sends and hears nothing until `goOnline`; commands are kept meanwhile. Another tab may send them. */
  goOffline(): void {
    this.wanted = "offline";
    this.connection.stop("paused");
  }

  /** Connects at once. Also what to call when somebody has signed in. */
  goOnline(): void {
    if (this.closed) return;
    this.wanted = "online";
    this.tokens.forget();
    this.connection.reconnect();
  }

  /** Ends everything. What is not settled stays in the storage. */
  async close(): Promise<void> {
    this.closed = true;
    globalThis.removeEventListener?.("online", this.online);
    this.connection.stop("paused");
    await this.ready.catch(() => {});
    await this.keeper.flush();
    this.tabs.close();
    this.keeper.close();
    this.waiters.close();
  }

  // --- what was kept

  private async load(): Promise<void> {
    const { commands } = await this.keeper.load();
    if (this.closed) return;
    this.feeds.loaded();
    this.take(commands);
    // The tab that kept them may have ended before it could tell.
    if (commands.length > 0) this.tabs.tell({ kind: "added", commands });
    if (this.wanted === "online") this.connection.reconnect();
  }

  /** Takes commands that stand in the storage. */
  private take(commands: Command[]): void {
    const touched = new Set<string>();
    for (const command of commands) {
      this.mint.after(command.commandId);
      if (!this.outbox.add(command, "stored")) continue;
      this.feeds.get(command.feed)?.add(command);
      touched.add(command.feed);
    }
    for (const feed of touched) this.changed(feed);
    this.outbox.process();
    this.statusChanged();
  }

  private kept(commands: Command[]): void {
    for (const { commandId } of commands) this.outbox.stored(commandId);
    this.tabs.tell({ kind: "added", commands });
    this.outbox.process();
  }

  // --- the connection

  private readonly online = (): void => {
    if (this.connection.state === "offline") this.connection.reconnect();
  };

  private connectionChanged(): void {
    const { state } = this.connection;
    const active = state !== "paused" && state !== "needs-sign-in" && state !== "stopped";
    if (active) this.tabs.stand(() => this.gained());
    else this.leaveSending();
    if (state !== "connected") this.socket.lost();
    this.statusChanged();
  }

  /** This tab is the one that sends now; what another has kept meanwhile is in the storage. */
  private async gained(): Promise<void> {
    if (this.sends || this.closed) return;
    this.sends = true;
    const commands = await this.keeper.commands().catch(() => []);
    if (!this.sends || this.closed) return;
    this.take(commands);
    this.outbox.setOpen("open");
    this.statusChanged();
  }

  private leaveSending(): void {
    this.sends = false;
    this.outbox.setOpen("closed");
    this.tabs.yield();
  }

  private opened(): void {
    this.feeds.opened();
    this.outbox.hurry(CATCH_UP);
  }

  private async ask(path: string): Promise<unknown> {
    const token = await this.tokens.current();
    if (token === undefined) throw new Error("there is no token");
    const { ok, status, text } = await this.http.fetch(path, token, { cache: "no-store" });
    if (!ok) throw new Error(`${path} was answered with ${status}`);
    return JSON.parse(text);
  }

  private heard(messages: ServerMessage[]): void {
    const touched = new Set<string>();
    for (const message of messages) {
      try {
        this.hear(message, touched);
      } catch (error) {
        // The rest of what came with it is heard all the same.
        console.error("sillage: a message could not be taken", error);
      }
    }
    for (const name of touched) {
      this.feeds.changed(name);
    }
  }

  private hear(message: ServerMessage, touched: Set<string>): void {
    switch (message.type) {
      case "event":
        this.event(message, touched);
        break;
      case "sync_batch":
        for (const event of message.events) this.event(event, touched);
        this.feeds.headIs(message.feed, message.current_sequence);
        break;
      case "subscribed":
        this.feeds.headIs(message.feed, message.current_sequence, message.epoch);
        break;
      case "resync":
        this.feeds.resync(message.feed);
        break;
      case "receipt":
        this.receipt(message);
        break;
      case "error":
        this.error(message);
        break;
      case "unsubscribed":
      case "token_refreshed":
      case "pong":
        break;
    }
  }

  private error(error: WireError): void {
    if (error.code === "token_expired") this.connection.renewToken();
    this.socket.error(error);
    const { type, feed } = error.original_action ?? {};
    if (typeof feed !== "string") return;
    if (type === "subscribe" || type === "sync") this.feeds.refused(feed);
    // A feed that this user may not follow is not asked for again before the next connection.
    if (type === "subscribe" && advice(error.code) === "retry") {
      const after = retryAfter(error.retry_after) ?? this.timing.backoff;
      this.clock.after(after, () => this.feeds.resubscribe(feed));
    }
  }

  // --- events, receipts and what they settle

  private event(event: Event, touched: Set<string>): void {
    if (this.feeds.apply(event) === "new") {
      touched.add(event.feed);
      tell(this.listeners.event, event);
    }
    const { command_id: commandId, sequence_number, position } = event;
    if (commandId !== null && this.outbox.get(commandId)) {
      this.confirm({ commandId, outcome: "applied", sequenceNumbers: [sequence_number], position }, "tell");
    }
  }

  private receipt({
    command_id: commandId,
    outcome,
    sequence_numbers = [],
    position,
    ...why
  }: Receipt): void {
    if (outcome === "rejected") {
      const { code = "rejected", message = code, details = {} } = why;
      this.tabs.tell({ kind: "rejected", commandId, code, message, details });
      this.reject(commandId, code, message, details);
    } else {
      this.confirm({ commandId, outcome, sequenceNumbers: sequence_numbers, position }, "tell");
    }
  }

  /** The command is carried out. It may have been told already, by its event or by another tab. */
  private confirm(confirmation: Confirmation, telling: "tell" | "heard"): void {
    const { commandId, outcome } = confirmation;
    const command = this.outbox.remove(commandId);
    this.socket.settled(commandId);
    if (!command) return;
    this.feeds.contain(command, confirmation);
    if (telling === "tell") this.tabs.tell({ kind: "confirmed", confirmation });
    this.settle({ outcome, command, confirmation });
  }

  private reject(commandId: string, code: string, message: string, details: Record<string, unknown>): void {
    const command = this.outbox.remove(commandId);
    this.socket.settled(commandId);
    this.keeper.forget([commandId]);
    if (!command) return;
    this.feeds.get(command.feed)?.drop(commandId);
    this.settle({ outcome: "rejected", command, error: new Rejected(command, code, message, details) });
    this.changed(command.feed);
  }

  private gaveUp(command: Command, code: string, message: string): void {
    this.keeper.forget([command.commandId]);
    this.feeds.get(command.feed)?.drop(command.commandId);
    this.settle({ outcome: "gave-up", command, error: new GaveUp(command, code, message) });
    this.changed(command.feed);
  }

  private settle(settled: Settled): void {
    this.waiters.settle(settled);
    tell(this.listeners.settled, settled);
    this.outbox.process();
    this.statusChanged();
  }

  private heardFromTab(message: TabMessage): void {
    switch (message.kind) {
      case "added":
        return this.take(message.commands);
      case "accepted":
        return this.accepted(this.outbox.acceptedElsewhere(message.commandId));
      case "confirmed":
        return this.confirm(message.confirmation, "heard");
      case "rejected":
        return this.reject(message.commandId, message.code, message.message, message.details);
      case "removed":
        return this.settledElsewhere(message.commandIds);
      case "gave-up": {
        const command = this.outbox.remove(message.commandId);
        if (command) this.gaveUp(command, message.code, message.message);
      }
    }
  }

  /** Another tab has settled these, and this one did not hear how: the ledger knows. */
  private settledElsewhere(commandIds: string[]): void {
    for (const commandId of commandIds) {
      if (!this.outbox.get(commandId)) continue;
      const receipt = this.ask(`/api/commands/${commandId}`);
      receipt.then(
        (receipt) => this.receipt(receipt as Receipt),
        () => this.settledSomehow(commandId),
      );
    }
  }

  /** Nobody is there to say how; the state at the end of the feed contains it, if anything does. */
  private settledSomehow(commandId: string): void {
    const command = this.outbox.remove(commandId);
    if (command) this.feeds.contain(command, { commandId, ...UNCHANGED });
    this.statusChanged();
  }

  private accepted(command: Command | undefined): void {
    if (!command) return;
    this.waiters.accept(command.commandId);
    this.changed(command.feed);
  }

  // --- those who listen

  private modelOf(feed: string): Model<unknown> | undefined {
    const category = categoryOf(feed);
    return this.options.models?.find((model) => model.category === category);
  }

  private changed(feed: string): void {
    tell(this.listeners.change, feed);
  }

  private statusChanged(): void {
    tell(this.listeners.status, this.status);
  }
}

/** A listener that fails is the program's own affair: the others hear, and the outbox goes on. */
function tell<T>(listeners: Set<Listener<T>>, value: T): void {
  for (const listener of listeners) {
    try {
      listener(value);
    } catch (error) {
      console.error("sillage: a listener has failed", error);
    }
  }
}

function listen<T>(listeners: Set<Listener<T>>, listener: Listener<T>): Stop {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function defaultStorage(name: string): Storage {
  return typeof indexedDB === "undefined" ? new MemoryStorage() : new IndexedDbStorage(name);
}

function defaultTransports(): OpenLink[] {
  return typeof WebSocket === "undefined" ? [openSse] : [openWebSocket, openSse];
}
