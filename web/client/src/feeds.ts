// The feeds that are followed: each has a subscription on the open connection, from where its state is.

import type { Command, Confirmation } from "./command";
import type { Connection } from "./connection";
import { complain } from "./errors";
import { Feed, type Overlaid, type Step } from "./feed";
import type { Keeper } from "./keeper";
import type { Model } from "./model";
import { pause, type Time } from "./timing";
import type { Views } from "./views";
import type { Epoch, Event, Snapshot } from "./wire";

/** Why the server does not show a feed. */
export interface FeedError {
  /** A code of the server, such as `not_found`. */
  code: string;
  /** A sentence for a person. */
  message: string;
}

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
  /** Set as long as the server does not show this feed to this user. With each connection it is asked again. */
  readonly refused: FeedError | undefined;
  close(): void;
}

interface Followed {
  feed: Feed;
  followers: number;
  /** Whether it is subscribed to, or about to be, on the open connection. */
  begun: boolean;
  refused: FeedError | undefined;
  /** How often in a row something was missing, and what will be done about it. */
  gaps: number;
  mending: (() => void) | undefined;
}

export interface FeedsOptions {
  time: Time;
  me: string;
  modelOf(feed: string): Model<unknown> | undefined;
  /** The commands of a feed that are not settled. */
  pending(feed: string): Command[];
  views: Views;
  /** The events of a command have told that it is carried out, and the state contains them all. */
  confirmed(confirmation: Confirmation): void;
  changed(feed: string): void;
}

/** What is asked beyond so many questions without an answer counts as not asked. */
const MAX_QUESTIONS = 100;

export class Feeds {
  private readonly followed = new Map<string, Followed>();
  /**
   * What was asked about the end of each feed on the open connection. The answers come in the same order, also to
   * whoever has left the feed meanwhile and come back.
   */
  private readonly questions = new Map<string, number[]>();

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
    if (!model) throw new Error(`no model for ${name}`);
    let entry = this.followed.get(name);
    if (!entry) {
      entry = {
        feed: new Feed(name, model, this.options.me),
        followers: 0,
        begun: false,
        refused: undefined,
        gaps: 0,
        mending: undefined,
      };
      this.followed.set(name, entry);
      this.recall(entry.feed);
      this.subscribe(name);
    }
    entry.followers += 1;
    return following(entry as Followed & { feed: Feed<State> }, () => this.unfollow(name));
  }

  /** What was kept from earlier is here. */
  loaded(): void {
    for (const { feed } of this.followed.values()) this.recall(feed);
  }

  /** A connection is open. */
  opened(): void {
    this.questions.clear();
    for (const entry of this.followed.values()) {
      entry.mending?.();
      entry.mending = undefined;
      entry.begun = false;
    }
    for (const name of this.followed.keys()) this.subscribe(name);
  }

  /** Takes an event, if it is of a feed that is followed. Answers whether it is new. */
  apply(event: Event): "new" | "old" {
    return this.advance(event.feed, (feed) => feed.apply(event));
  }

  /** Takes a state that stands for what was before it. Answers whether it is news. */
  snapshot(snapshot: Snapshot): "new" | "old" {
    return this.advance(snapshot.feed, (feed) => feed.jump(snapshot));
  }

  private advance(name: string, step: (feed: Feed) => Step): "new" | "old" {
    const entry = this.followed.get(name);
    if (!entry) return "old";
    try {
      const { applied, released } = step(entry.feed);
      this.release(released);
      if (applied === "new") entry.gaps = 0;
      if (applied !== "gap") return applied;
    } catch (error) {
      complain(`the model of ${name}`, error);
    }
    this.mend(name);
    return "old";
  }

  /** Something is missing: the feed is subscribed to again, with longer and longer pauses. */
  private mend(name: string, after = 0): void {
    const entry = this.followed.get(name);
    if (!entry || entry.mending) return;
    const { time } = this.options;
    entry.mending = time.after(Math.max(after, pause(time, entry.gaps)), () => {
      entry.mending = undefined;
      entry.begun = false;
      this.subscribe(name);
    });
    entry.gaps += 1;
  }

  /** The server has answered where a feed ends. */
  headIs(name: string, sequence: number, epoch?: Epoch): void {
    const question = this.answered(name);
    const entry = this.followed.get(name);
    if (!entry) return;
    entry.refused = undefined;
    const { epoch: known } = entry.feed.cursor;
    // A stream gives a feed of another log whole, and says nothing else of it.
    if (epoch && known && epoch !== known) this.resync(name);
    this.release(entry.feed.headIs(sequence, question, epoch));
    this.changed(name);
  }

  /** The server has not answered where a feed ends; after so many milliseconds it may, or never. */
  refused(name: string, why: FeedError | undefined, after: number | undefined): void {
    this.answered(name);
    const entry = this.followed.get(name);
    if (!entry) return;
    if (after !== undefined) return this.mend(name, after);
    entry.refused = why ?? entry.refused;
    this.options.changed(name);
  }

  private ask(name: string, question: number): void {
    const asked = this.questions.get(name) ?? [];
    if (asked.length < MAX_QUESTIONS) this.questions.set(name, [...asked, question]);
  }

  /** Which question was answered; 0 if it is one that nobody has any more. */
  private answered(name: string): number {
    const [question = 0, ...rest] = this.questions.get(name) ?? [];
    if (rest.length > 0) this.questions.set(name, rest);
    else this.questions.delete(name);
    return question;
  }

  /** The log of a feed is another. */
  resync(name: string): void {
    const feed = this.get(name);
    if (!feed) return;
    this.release(feed.reset());
    this.options.changed(name);
  }

  /** The confirmed state of a feed has changed. */
  changed(name: string): void {
    this.options.changed(name);
    const entry = this.followed.get(name);
    if (!entry) return;
    this.keeper.remember(entry.feed.checkpoint());
    this.findHead(entry);
  }

  /**
   * The command is confirmed: it stays on top, and is kept, until the confirmed state contains it. `changed` is to be
   * called when all is heard that came with this, its events perhaps.
   */
  contain({ commandId, feed: name }: Command, confirmation: Confirmation): void {
    const entry = this.followed.get(name);
    if (!entry?.feed.has(commandId)) return this.keeper.forget([commandId]);
    this.release(entry.feed.confirm(confirmation));
  }

  /** These are contained in what is shown. */
  private release(released: Overlaid[]): void {
    this.keeper.forget(released.map(({ command }) => command.commandId));
    for (const { heard } of released) if (heard) this.options.confirmed(heard);
  }

  /** A feed begins with what was kept of it. */
  private recall(feed: Feed): void {
    const kept = this.keeper.recall(feed.name);
    if (kept && !feed.known) this.release(feed.begin(kept));
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
      let epoch: Epoch | undefined;
      const ask = async (path: string) => {
        const answer = await this.options.views.ask(path);
        epoch = answer.epoch;
        return answer.value;
      };
      const begin = await baseline(name, ask).catch(() => undefined);
      if (this.followed.get(name) !== entry || !entry.begun) return;
      if (begin && !feed.known && Number.isSafeInteger(begin.sequence)) {
        feed.begin({ ...begin, epoch });
        this.options.changed(name);
      }
    }
    const { epoch, sequence } = feed.cursor;
    this.ask(name, feed.question);
    this.connection.send({
      type: "subscribe",
      feed: name,
      ...(epoch && { epoch }),
      ...(sequence && { last_sequence: sequence }),
    });
  }

  /**
   * Asks where the feed ends, if somebody needs to know: one question at a time, so that however many need it the
   * answers are few. A stream cannot be asked: it is taken to be where it is.
   */
  private findHead({ feed }: Followed): void {
    if (!feed.asks || this.questions.has(feed.name)) return;
    const { sequence } = feed.cursor;
    const { transport } = this.connection;
    if (transport === "websocket") {
      this.ask(feed.name, feed.question);
      this.connection.send({ type: "sync", feed: feed.name, last_sequence: sequence });
    } else if (transport && feed.complete) {
      this.release(feed.headIs(sequence, feed.question));
      this.changed(feed.name);
    }
  }

  private unfollow(name: string): void {
    const entry = this.followed.get(name);
    if (!entry || --entry.followers > 0) return;
    entry.mending?.();
    this.release(entry.feed.reset());
    this.followed.delete(name);
    // Whoever comes back has questions of their own.
    if (this.connection.transport === "websocket") this.questions.get(name)?.fill(0);
    // A stream is opened anew for whoever comes back, and answers once.
    else this.questions.delete(name);
    this.connection.send({ type: "unsubscribe", feed: name });
  }
}

function following<State>(entry: Followed & { feed: Feed<State> }, stop: () => void): Following<State> {
  const { feed } = entry;
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
    get refused() {
      return entry.refused;
    },
    close() {
      if (open) stop();
      open = false;
    },
  };
}
