// The handle: what a program holds. It joins the outbox, the feeds, the connection and the tabs.

import { advice, retryAfter } from "./codes";
import { type Command, type Confirmation, type Intent, Mint } from "./command";
import { Connection, type ConnectionState } from "./connection";
import { OverSocket, posting } from "./delivery";
import { complain, GaveUp, Rejected } from "./errors";
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
import { type OpenTabs, openTabs, type Outcome, type Refusal, type TabMessage, type Tabs } from "./tabs";
import { type Clock, DEFAULT_TIMING, realClock, type Time, type Timing } from "./timing";
import { type TokenSource, Tokens } from "./token";
import type { Link, OpenLink, ServerMessage } from "./transport";
import { openSse } from "./transport/sse";
import { openWebSocket } from "./transport/websocket";
import { Views } from "./views";
import type { Event, Receipt, Error as WireError } from "./wire";

/** What a client is made of. Only the user and the token are needed; feeds need models. */
export interface Options {
  /** The server, as `https://host`; that of the page if it is left out. */
  url?: string;
  /** The user that the tokens are of. Each user has an outbox of their own. */
  user: string;
  /** The tenant of the user, if a browser may hold the same name of several. */
  tenant?: string;
  /** Gives the token that the user signs in with. */
  token: TokenSource;
  /** How feeds become states: one model for each category. */
  // Each model has a state of its own, which only its followers name.
  models?: Model<any>[];
  /** How messages come; in turn, if the first does not open. */
  transports?: OpenLink[];
  /** How commands go: posted, or over the socket. A stream carries none, so then they are posted. */
  send?: "http" | "socket";
  /** Where the outbox outlives the page: IndexedDB where there is one, else memory. */
  storage?: Storage;
  /** How requests are made beside the connection; the platform's own if it is left out. */
  fetch?: typeof fetch;
  /** How the tabs of this user find each other: by Web Locks and a BroadcastChannel, where the browser has them. */
  tabs?: OpenTabs;
  /** How long to wait for what, where `DEFAULT_TIMING` does not fit. */
  timing?: Partial<Timing>;
  /** A plain object, for tests. */
  clock?: Clock;
}

/** How a client stands. */
export interface Status {
  /** Whether the server is reached; `ConnectionState` says what each word means. */
  connection: ConnectionState;
  /** By which way it is connected; nothing while it is not. */
  transport: Link["transport"] | undefined;
  /** Whether this tab is the one that sends. */
  sends: boolean;
  /** How many commands are not settled. */
  pending: number;
  /**
   * `failing`: what was kept cannot be read, or what is clicked cannot be kept. It is sent all the same, and lost
   * only if the page ends before that. The storage is tried again and again.
   */
  storage: "ok" | "failing";
}

type Listener<T> = (value: T) => void;
type Stop = () => void;

/** How many commands are posted at once, and how many are on the socket. A feed has only one on its way. */
const HTTP_WINDOW = 6;
const SOCKET_WINDOW = 64;
/** An accepted command whose receipt may have been missed is sent again after so many milliseconds. */
const CATCH_UP = 500;

/**
 * The outbox and the feeds of one user. It takes commands at once, connected or not, keeps them, and sends them until
 * it knows what became of them; it follows feeds, and shows them with the commands that are pending on top.
 *
 * It begins by itself when it is made, and ends with `close`.
 */
export class Client {
  private readonly time: Time;
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
  private sends = false;
  private closed = false;
  private wanted: "online" | "offline" = "online";
  private readonly ending = new AbortController();

  /**
   * Resolves once what was kept from earlier is here. Rejects if the storage cannot be read: then the client works
   * from memory, and `status.storage` says so.
   */
  readonly ready: Promise<void>;

  constructor(private readonly options: Options) {
    const url = (options.url ?? globalThis.location?.origin ?? "").replace(/\/$/, "");
    this.time = { ...DEFAULT_TIMING, ...options.timing, ...(options.clock ?? realClock) };
    // Of names that may hold anything, a colon too, no two triples make the same.
    const name = ["sillage", url, options.tenant ?? "", options.user].map(encodeURIComponent).join(":");
    this.keeper = new Keeper(
      options.storage ??
        (typeof indexedDB === "undefined" ? new MemoryStorage() : new IndexedDbStorage(name)),
      {
        loaded: (commands) => this.loaded(commands),
        kept: (commands, where) => this.kept(commands, where),
        turned: () => this.closed || this.statusChanged(),
      },
      this.time,
    );
    this.tokens = new Tokens(options.token, this.time);
    this.connection = new Connection(
      url,
      this.tokens,
      options.transports ?? (typeof WebSocket === "undefined" ? [openSse] : [openWebSocket, openSse]),
      {
        changed: () => this.connectionChanged(),
        opened: () => this.opened(),
        messages: (messages) => this.heard(messages),
      },
      this.time,
    );
    const request = options.fetch ?? ((input, init) => fetch(input, init));
    const http = new Http(url, request, this.tokens, this.time);
    this.feeds = new Feeds(
      {
        me: options.user,
        time: this.time,
        modelOf: this.modelOf,
        pending: (feed) => this.pending(feed).map(({ command }) => command),
        views: new Views(http),
        confirmed: (confirmation) => this.confirm(confirmation, "tell"),
        changed: (feed) => this.changed(feed),
      },
      this.keeper,
      this.connection,
    );
    this.socket = new OverSocket((action) => this.connection.send(action), this.time);
    this.outbox = this.outboxOver(http);
    this.tabs = (options.tabs ?? openTabs)(name, (message) => this.heardFromTab(message));
    this.listenToPage();
    this.ready = this.keeper.load().finally(() => {
      if (this.wanted === "online" && !this.closed) this.connection.reconnect();
    });
    this.ready.catch(() => {});
  }

  /** The user of `Options`. */
  get user(): string {
    return this.options.user;
  }

  /** How it stands now. */
  get status(): Status {
    const { state, transport } = this.connection;
    const storage = this.keeper.state;
    return { connection: state, transport, sends: this.sends, pending: this.outbox.size, storage };
  }

  /**
   * Takes a command. It is kept, sent, and sent again until its outcome is known. Throws only if the data is no JSON;
   * after `close` nothing is taken, and the promises of the answer reject.
   */
  send<State = unknown>(intent: Intent): Sent<State> {
    // What is kept and sent is JSON, whatever it was made from; what is not is refused here, to the caller.
    const data: unknown = JSON.parse(JSON.stringify(intent.data));
    const command: Command = { ...intent, data, ...this.mint.next(this.time.now()) };
    const promises = this.waiters.add(command.commandId);
    let feed: Feed<State> | undefined;
    if (this.closed) this.waiters.close();
    else {
      this.outbox.add(command, "unstored");
      this.keeper.keep(command);
      feed = this.feeds.get(command.feed) as Feed<State> | undefined;
      feed?.add(command);
      this.changed(command.feed);
      this.statusChanged();
    }
    return { command, optimistic: feed?.state, ...promises };
  }

  /** The commands of a feed, or of all, that are not settled, and how far they have come. */
  pending(feed?: string): { command: Command; progress: Progress }[] {
    return this.outbox.list().filter(({ command }) => feed === undefined || command.feed === feed);
  }

  /**
   * One pass over the outbox: keeps what is to be kept, sends what is due, and resolves when that has been answered or
   * has failed. Nobody has to call it: the client passes by itself.
   */
  async outboxProcessOnce(): Promise<void> {
    await this.ready.catch(() => {});
    await this.keeper.flush();
    await this.outbox.processOnce();
  }

  /** Follows a feed until the answer is closed. Throws if its category has no model. */
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

  /** Hears how the client stands, whenever that may have changed. */
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

  /** Ends everything, in at most `timing.answer`. What is not settled stays in the storage. */
  async close(): Promise<void> {
    this.closed = true;
    this.ending.abort();
    this.connection.stop("paused");
    await this.keeper.flush();
    this.tabs.close();
    this.keeper.close();
    this.waiters.close();
  }

  // --- what it is made of

  private outboxOver(http: Http): Outbox {
    const post = posting(http, this.modelOf);
    const bySocket = this.options.send === "socket";
    return new Outbox(
      (command) =>
        bySocket && this.connection.transport === "websocket" ? this.socket.deliver(command) : post(command),
      {
        accepted: (command) => {
          this.tabs.tell({ kind: "accepted", commandId: command.commandId });
          this.accepted(command);
        },
        gaveUp: (commandId, code, message) => {
          this.refuse({ kind: "gave-up", commandId, code, message }, "tell");
        },
        signIn: () => {
          if (this.wanted === "online") this.connection.stop("needs-sign-in");
        },
      },
      this.time,
      bySocket ? SOCKET_WINDOW : HTTP_WINDOW,
    );
  }

  private listenToPage(): void {
    const { signal } = this.ending;
    const online = () => this.connection.state === "offline" && this.connection.reconnect();
    globalThis.addEventListener?.("online", online, { signal });
    // A page that stands still must not keep the others from sending.
    globalThis.document?.addEventListener("freeze", () => this.leaveSending(), { signal });
    globalThis.document?.addEventListener("resume", () => this.connectionChanged(), { signal });
  }

  // --- what was kept

  private loaded(commands: Command[]): void {
    if (this.closed) return;
    this.feeds.loaded();
    this.take(commands, "stored");
    // The tab that kept them may have ended before it could tell.
    if (commands.length > 0) this.tabs.tell({ kind: "added", commands, where: "stored" });
  }

  /** Takes commands that stand in the storage, or that another tab could not keep: then this one tries. */
  private take(commands: Command[], where: "stored" | "unstored"): void {
    const touched = new Set<string>();
    for (const command of commands) {
      this.mint.after(command.commandId);
      const outcome = this.outbox.outcome(command.commandId);
      // Whoever still has it did not hear.
      if (outcome) this.tabs.tell(outcome);
      if (!this.outbox.add(command, "stored")) continue;
      if (where === "unstored") this.keeper.keep(command);
      this.feeds.get(command.feed)?.add(command);
      touched.add(command.feed);
    }
    for (const feed of touched) this.changed(feed);
    this.outbox.process();
    this.statusChanged();
  }

  private kept(commands: Command[], where: "stored" | "unstored"): void {
    for (const { commandId } of commands) this.outbox.stored(commandId);
    this.tabs.tell({ kind: "added", commands, where });
    this.outbox.process();
  }

  // --- the connection

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
    this.take(commands, "stored");
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
    if (this.sends) return;
    // What another tab has settled while this one did not hear is told by whoever knows; the rest is sent.
    const commands = this.outbox.kept();
    if (commands.length > 0) this.tabs.tell({ kind: "added", commands, where: "stored" });
  }

  private heard(messages: ServerMessage[]): void {
    const touched = new Set<string>();
    for (const message of messages) {
      try {
        this.hear(message, touched);
      } catch (error) {
        // The rest of what came with it is heard all the same.
        complain("a message", error);
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
      case "snapshot":
        if (this.feeds.snapshot(message) === "old") break;
        touched.add(message.feed);
        // Which commands are in it only their receipts can tell.
        this.outbox.askFor(message.feed, CATCH_UP);
        break;
      case "resync":
        this.feeds.resync(message.feed);
        break;
      case "receipt":
        this.receipt(message);
        touched.add(message.feed);
        break;
      case "error":
        this.error(message);
        break;
    }
  }

  private error(error: WireError): void {
    if (error.code === "token_expired") this.connection.renewToken();
    this.socket.error(error);
    const { code, message, original_action } = error;
    const { type, feed } = original_action ?? {};
    if (type !== "subscribe" && type !== "sync") return;
    // A feed that this user may not follow is not asked for again before the next connection.
    const after = advice(code) === "retry" ? (retryAfter(error.retry_after) ?? 0) : undefined;
    this.feeds.refused(feed as string, type === "sync" ? undefined : { code, message }, after);
  }

  // --- events, receipts and what they settle

  private event(event: Event, touched: Set<string>): void {
    if (this.feeds.apply(event) === "new") {
      touched.add(event.feed);
      tell(this.listeners.event, event);
    }
  }

  private receipt(receipt: Receipt): void {
    const { command_id: commandId, outcome, sequence_numbers: sequenceNumbers, position } = receipt;
    if (outcome === "rejected") {
      const { code = outcome, message = code, details } = receipt;
      this.refuse({ kind: outcome, commandId, code, message, details }, "tell");
    } else {
      this.confirm({ commandId, outcome, sequenceNumbers, position }, "tell");
    }
  }

  /** The command is carried out. It may have been told already, by its events or by another tab. */
  private confirm(confirmation: Confirmation, telling: "tell" | "heard"): void {
    const { commandId, outcome } = confirmation;
    const told: Outcome = { kind: "confirmed", confirmation };
    const command = this.outbox.remove(commandId, told);
    this.socket.settled(commandId);
    if (!command) return;
    this.feeds.contain(command, confirmation);
    if (telling === "tell") this.tabs.tell(told);
    else this.feeds.changed(command.feed);
    this.settle({ outcome, command, confirmation });
  }

  /** The command is refused, or given up. */
  private refuse(refusal: Refusal, telling: "tell" | "heard"): void {
    const { kind: outcome, commandId, code, message, details } = refusal;
    const command = this.outbox.remove(commandId, refusal);
    this.socket.settled(commandId);
    this.keeper.forget([commandId]);
    if (!command) return;
    this.feeds.get(command.feed)?.drop(commandId);
    if (telling === "tell") this.tabs.tell(refusal);
    const Why = outcome === "rejected" ? Rejected : GaveUp;
    this.settle({ outcome, command, error: new Why(command, code, message, details) } as Settled);
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
        return this.take(message.commands, message.where);
      case "accepted":
        return this.accepted(this.outbox.acceptedElsewhere(message.commandId));
      case "confirmed":
        return this.confirm(message.confirmation, "heard");
      default:
        return this.refuse(message, "heard");
    }
  }

  private accepted(command: Command | undefined): void {
    if (!command) return;
    this.waiters.accept(command.commandId);
    this.changed(command.feed);
  }

  // --- those who listen

  private readonly modelOf = (feed: string): Model<unknown> | undefined => {
    const category = categoryOf(feed);
    return this.options.models?.find((model) => model.category === category);
  };

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
      complain("a listener", error);
    }
  }
}

function listen<T>(listeners: Set<Listener<T>>, listener: Listener<T>): Stop {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
