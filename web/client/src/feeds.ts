// The feeds that are followed: each has a subscription on the open connection, from where its state is.

import type { Command, Confirmation } from "./command";
import type { Connection } from "./connection";
import { Feed } from "./feed";
import type { Keeper } from "./keeper";
import type { Ask, Model } from "./model";
import { type Clock, pause, type Timing } from "./timing";
import type { Event } from "./wire";

/** A feed that is followed until it is closed. */
export interface Following<State> {
  readonly name: string;
  /** What to show: the confirmed state with the pending commands on top. The same object until it changes. */
  readonly state: State;
  /** What the server has said. */
  readonly confirmed: State;
  /** The number of the last event in it. */
  readonly sequence: number;
  /** Whether `confirmed` comes from the server, be it from an earlier visit. */
  readonly known: boolean;
  readonly pending: Command[];
  close(): void;
}

interface Followed {
  feed: Feed;
  followers: number;
  /** Whether it is subscribed to, or about to be, on the open connection. */
  begun: boolean;
  /** What was asked about its end on the open connection; the answers come in the same order. */
  questions: number[];
  /** How often in a row something was missing, and what will be done about it. */
  gaps: number;
  mending: (() => void) | undefined;
}

export interface FeedsOptions {
  clock: Clock;
  timing: Timing;
  me: string;
  modelOf(feed: string): Model<unknown> | undefined;
  /** The commands of a feed that are not settled. */
  pending(feed: string): Command[];
  ask: Ask;
  changed(feed: string): void;
}

const UNBEGUN = { begun: false, questions: [], mending: undefined };

export class Feeds {
  private readonly followed = new Map<string, Followed>();

  constructor(
    private readonly options: FeedsOptions,
    private readonly keeper: Keeper,
    private readonly connection: Connection,
  ) {}

  get(name: string): Feed | undefined {
    return this.followed.get(name)?.feed;
  }

  follow<State>(name: string): Following<State> {
    const model = this.options.modelOf(name);
    if (!model) throw new Error(`there is no model for the category of ${name}`);
    let entry = this.followed.get(name);
    if (!entry) {
      entry = {
        feed: new Feed(name, model, this.options.me),
        followers: 0,
        gaps: 0,
        ...UNBEGUN,
        questions: [],
      };
      this.followed.set(name, entry);
      this.recall(entry.feed);
      this.subscribe(name);
    }
    entry.followers += 1;
    return following(entry.feed as Feed<State>, () => this.unfollow(name));
  }

  /** What was kept from earlier is here. */
  loaded(): void {
    for (const { feed } of this.followed.values()) this.recall(feed);
  }

  /** A connection is open. */
  opened(): void {
    for (const entry of this.followed.values()) {
      entry.mending?.();
      Object.assign(entry, UNBEGUN, { questions: [] });
    }
    for (const name of this.followed.keys()) this.subscribe(name);
  }

  /** Subscribes again, as if to a feed that was just followed. */
  resubscribe(name: string): void {
    const entry = this.followed.get(name);
    if (entry) entry.begun = false;
    this.subscribe(name);
  }

  /** Takes an event, if it is of a feed that is followed. Answers whether it is new. */
  apply(event: Event): "new" | "old" {
    const feed = this.get(event.feed);
    if (!feed) return "old";
    try {
      const { applied, released } = feed.apply(event);
      this.keeper.forget(released);
      if (applied !== "gap") {
        const entry = this.followed.get(event.feed);
        if (entry && applied === "new") entry.gaps = 0;
        return applied;
      }
    } catch (error) {
      console.error(`sillage: the model cannot take an event of ${event.feed}`, error);
    }
    this.mend(event.feed);
    return "old";
  }

  /** Something is missing: it is asked for again, with longer and longer pauses. */
  private mend(name: string): void {
    const entry = this.followed.get(name);
    if (!entry || entry.mending) return;
    const { clock, timing } = this.options;
    entry.mending = clock.after(pause(timing, clock, entry.gaps), () => {
      entry.mending = undefined;
      this.resubscribe(name);
    });
    entry.gaps += 1;
  }

  /** The server has answered where a feed ends. */
  headIs(name: string, sequence: number, epoch?: string): void {
    const entry = this.followed.get(name);
    if (!entry) return;
    this.keeper.forget(entry.feed.headIs(sequence, entry.questions.shift() ?? 0, epoch));
    this.changed(name);
  }

  /** The server has not answered where a feed ends. */
  refused(name: string): void {
    this.followed.get(name)?.questions.shift();
  }

  /** The log of a feed is another. */
  resync(name: string): void {
    const feed = this.get(name);
    if (!feed) return;
    this.keeper.forget(feed.reset());
    this.options.changed(name);
  }

  /** The confirmed state of a feed has changed. */
  changed(name: string): void {
    this.keeper.touch(name);
    this.options.changed(name);
  }

  /** The command is confirmed: it stays on top, and is kept, until the confirmed state contains it. */
  contain({ commandId, feed: name }: Command, confirmation: Confirmation): void {
    const entry = this.followed.get(name);
    if (!entry?.feed.has(commandId)) return this.keeper.forget([commandId]);
    this.keeper.forget(entry.feed.confirm(confirmation));
    if (confirmation.outcome === "unchanged") this.findHead(entry);
    this.options.changed(name);
  }

  /** A feed begins with what was kept of it. */
  private recall(feed: Feed): void {
    const kept = this.keeper.recall(feed.name);
    if (kept && !feed.known) feed.begin(kept, kept.own);
    for (const command of this.options.pending(feed.name)) feed.add(command);
    this.options.changed(feed.name);
  }

  private async subscribe(name: string): Promise<void> {
    const entry = this.followed.get(name);
    if (!entry || entry.begun || this.connection.state !== "connected") return;
    entry.begun = true;
    const { feed } = entry;
    const baseline = feed.known ? undefined : this.options.modelOf(name)?.baseline;
    if (baseline) {
      // Without it the feed is heard from its beginning, which comes to the same.
      const begin = await baseline(name, this.options.ask).catch(() => undefined);
      if (this.followed.get(name) !== entry || !entry.begun) return;
      if (begin && !feed.known) {
        feed.begin({ ...begin, epoch: undefined });
        this.options.changed(name);
      }
    }
    const { epoch, sequence } = feed.cursor;
    const since = {
      ...(epoch === undefined ? {} : { epoch }),
      ...(sequence > 0 ? { last_sequence: sequence } : {}),
    };
    entry.questions.push(feed.question);
    this.connection.send({ type: "subscribe", feed: name, ...since });
  }

  /** Asks where the feed ends. A stream cannot be asked: it is taken to be where it is. */
  private findHead({ feed, questions }: Followed): void {
    const { sequence } = feed.cursor;
    if (this.connection.transport === "websocket") {
      questions.push(feed.question);
      this.connection.send({ type: "sync", feed: feed.name, last_sequence: sequence });
    } else if (this.connection.transport === "sse") {
      // Not while it is still being heard again: then its end is not shown yet.
      if (feed.sequence === sequence) this.keeper.forget(feed.headIs(sequence, feed.question));
    }
  }

  private unfollow(name: string): void {
    const entry = this.followed.get(name);
    if (!entry || --entry.followers > 0) return;
    entry.mending?.();
    this.keeper.leave(name);
    this.keeper.forget(entry.feed.reset());
    this.followed.delete(name);
    this.connection.send({ type: "unsubscribe", feed: name });
  }
}

function following<State>(feed: Feed<State>, stop: () => void): Following<State> {
  let open = true;
  return {
    name: feed.name,
    get state() {
      return feed.state;
    },
    get confirmed() {
      return feed.confirmed;
    },
    get sequence() {
      return feed.sequence;
    },
    get known() {
      return feed.known;
    },
    get pending() {
      return feed.pending;
    },
    close() {
      if (open) stop();
      open = false;
    },
  };
}
