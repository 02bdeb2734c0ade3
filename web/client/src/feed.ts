// One feed as this client sees it: what is confirmed, and on top of it what this user has asked for.
//
// Invariant: the state shown is a confirmed state, which is a fold of the server's events without a gap, with
// the overlay's commands predicted on top, in their order. A command leaves the overlay when it is refused, or
// when the confirmed state contains it; never only because the server has taken it. So nothing flickers.
//
// What was missed is folded out of sight, up to the end that the server has named: nobody sees history replayed.

import type { Command, Confirmation } from "./command";
import type { Model } from "./model";
import type { Checkpoint } from "./storage";
import type { Event } from "./wire";

/** What an event was to a feed. */
export type Applied = "new" | "old" | "gap";

/** A state of the server. */
interface Truth<State> {
  /** The log that it is of, if that was told. */
  epoch: string | undefined;
  /** The number of the last event in it. */
  sequence: number;
  state: State;
}

/** A command on top of the confirmed state. */
interface Overlaid {
  command: Command;
  /** Once it is confirmed: the confirmed state contains it from this sequence number on. */
  until?: number;
  /** As long as that number is not known: the question whose answer will tell it. */
  question?: number;
}

/** How many of this user's commands in the state are remembered. */
const MAX_OWN = 200;

export class Feed<State = unknown> {
  /** Whether what is shown comes from the server, be it from an earlier visit. */
  known = false;

  private base: Truth<State>;
  private folded: Truth<State>;
  /** The end of the feed, as far as it was told: what is folded is shown from there on. */
  private head = 0;
  /** In the order of the ids. */
  private overlay = new Map<string, Overlaid>();
  /** How many of the overlay are confirmed and wait for the state to contain them. */
  private waiting = 0;
  /** The last question about the end of the feed that somebody needs an answer to. */
  private questions = 0;
  private lastId = "";
  /** The last commands of this user that are in what is folded, whichever tab has sent them. */
  private own: string[] = [];
  private shown: { state: State } | undefined;

  constructor(
    readonly name: string,
    private readonly model: Model<State>,
    private readonly me: string,
  ) {
    this.base = this.folded = { epoch: undefined, sequence: 0, state: model.initial };
  }

  /** The last confirmed state. */
  get confirmed(): State {
    return this.base.state;
  }

  /** The number of the last event in the confirmed state. */
  get sequence(): number {
    return this.base.sequence;
  }

  /** From where on events are wanted. */
  get cursor(): Omit<Truth<State>, "state"> {
    return this.folded;
  }

  /** The confirmed state with the pending commands on top. The same object until something changes. */
  get state(): State {
    if (!this.shown) {
      let state = this.base.state;
      for (const { command } of this.overlay.values()) state = this.model.predict(state, command, this.me);
      this.shown = { state };
    }
    return this.shown.state;
  }

  /** The commands on top, oldest first. */
  get pending(): Command[] {
    return [...this.overlay.values()].map(({ command }) => command);
  }

  has(commandId: string): boolean {
    return this.overlay.has(commandId);
  }

  /** Puts a command on top, in the order of the ids, unless its event was there before it. */
  add(command: Command): void {
    if (this.overlay.has(command.commandId) || this.own.includes(command.commandId)) return;
    this.overlay.set(command.commandId, { command });
    if (this.lastId < command.commandId) this.lastId = command.commandId;
    else this.overlay = new Map([...this.overlay].sort(([a], [b]) => (a < b ? -1 : 1)));
    this.shown = undefined;
  }

  /** Takes a command away: it is refused. */
  drop(commandId: string): void {
    const overlaid = this.overlay.get(commandId);
    if (!overlaid) return;
    if (overlaid.until !== undefined) this.waiting -= 1;
    this.overlay.delete(commandId);
    this.shown = undefined;
  }

  /**
   * The command is confirmed: it stays until the confirmed state contains it. Answers what is contained now.
   * `unchanged` names no event; the state at the end of the feed contains it, if the end is asked for from now on.
   */
  confirm({ commandId, outcome, sequenceNumbers }: Confirmation): string[] {
    const overlaid = this.overlay.get(commandId);
    const applied = outcome === "applied";
    this.containedFrom(overlaid, applied ? Math.max(...sequenceNumbers) : Number.POSITIVE_INFINITY);
    if (overlaid && !applied) overlaid.question = ++this.questions;
    return this.release();
  }

  /** Whoever asks for the end of the feed now can answer all questions up to this one. */
  get question(): number {
    return this.questions;
  }

  /**
   * The server has named the end of the feed, in answer to a question. Answers which commands are contained now.
   */
  headIs(sequence: number, question: number, epoch = this.folded.epoch): string[] {
    this.folded = { ...this.folded, epoch };
    this.head = sequence;
    if (this.waiting > 0) {
      for (const overlaid of this.overlay.values()) {
        const { until, question: own = 0 } = overlaid;
        if (until === Number.POSITIVE_INFINITY && own <= question) overlaid.until = sequence;
      }
    }
    return this.surface();
  }

  /** Takes an event. `released` are the commands that the confirmed state contains now. */
  apply(event: Event): { applied: Applied; released: string[] } {
    const { epoch, sequence, state } = this.folded;
    if (epoch !== undefined && event.epoch !== epoch) return { applied: "gap", released: [] };
    if (event.sequence_number <= sequence) return { applied: "old", released: [] };
    if (event.sequence_number > sequence + 1) return { applied: "gap", released: [] };
    this.folded = {
      epoch: event.epoch,
      sequence: event.sequence_number,
      state: this.model.evolve(state, event, this.me),
    };
    const own = event.command_id === null ? undefined : this.overlay.get(event.command_id);
    if (event.user_id === this.me && event.command_id !== null) {
      this.own = [...this.own.slice(1 - MAX_OWN), event.command_id];
    }
    // As long as no receipt tells of more events, this one is all that there is of the command.
    if (!Number.isFinite(own?.until)) this.containedFrom(own, event.sequence_number);
    return { applied: "new", released: this.surface() };
  }

  /** Begins at a state that was folded elsewhere or earlier, with these commands of this user in it. */
  begin({ epoch, sequence, state }: Truth<State>, own: string[] = []): void {
    this.own = own;
    this.show({ epoch, sequence, state });
  }

  private show(truth: Truth<State>): void {
    this.base = this.folded = truth;
    this.known = true;
    this.shown = undefined;
  }

  /**
   * The log is another, or has lost its end: everything is heard again, and shown when it has been. Answers the
   * commands that were confirmed in what is gone.
   */
  reset(): string[] {
    this.folded = { epoch: undefined, sequence: 0, state: this.model.initial };
    this.own = [];
    this.head = Number.POSITIVE_INFINITY;
    return this.take(({ until }) => until !== undefined);
  }

  checkpoint(): Checkpoint | undefined {
    const { epoch, sequence, state } = this.base;
    if (epoch === undefined || !this.known) return undefined;
    return { feed: this.name, epoch, sequence, state, own: this.own };
  }

  /** Shows what is folded, if that is the end. */
  private surface(): string[] {
    if (this.folded.sequence < this.head) return [];
    this.show(this.folded);
    return this.release();
  }

  private containedFrom(overlaid: Overlaid | undefined, sequence: number): void {
    if (!overlaid) return;
    if (overlaid.until === undefined) this.waiting += 1;
    overlaid.until = sequence;
  }

  /** Takes away what the confirmed state contains. */
  private release(): string[] {
    if (this.waiting === 0) return [];
    return this.take(({ until }) => until !== undefined && until <= this.base.sequence);
  }

  private take(wanted: (overlaid: Overlaid) => boolean): string[] {
    const taken = [...this.overlay].filter(([, overlaid]) => wanted(overlaid)).map(([id]) => id);
    for (const id of taken) this.drop(id);
    return taken;
  }
}
