// One feed as this client sees it: what is confirmed, and on top of it what this user has asked for.
//
// Invariant: the state shown is a confirmed state, which is a fold of the server's events without a gap, with
// the overlay's commands predicted on top, in their order. A command leaves the overlay when it is refused, or
// when the confirmed state contains all of its events; never only because the server has taken it. So nothing
// flickers.
//
// What was missed is folded out of sight, up to the end that the server has named: nobody sees history replayed,
// nor half of a command that is on top.

import type { Command, Confirmation } from "./command";
import { complain } from "./errors";
import type { Model } from "./model";
import type { Checkpoint } from "./storage";
import type { Event, Snapshot } from "./wire";

/** What an event, or a snapshot, was to a feed. */
export type Applied = "new" | "old" | "gap";

/** That, and the commands that the confirmed state contains now. */
export interface Step {
  applied: Applied;
  released: Overlaid[];
}

/** A state of the server. */
interface Truth<State> {
  /** The log that it is of, if that was told. */
  epoch: string | undefined;
  /** The number of the last event in it. */
  sequence: number;
  state: State;
  /** The last commands of this user that are in it, whichever tab has sent them. */
  own: string[];
}

/** A command on top of the confirmed state. */
export interface Overlaid {
  command: Command;
  /** Once it is confirmed: the confirmed state contains it from this sequence number on. */
  until?: number;
  /** As long as that number may be another: the question whose answer will tell it. */
  question?: number | undefined;
  /** What its events have told. */
  heard?: Confirmation;
}

/** How many of this user's commands in the state are remembered. */
const MAX_OWN = 200;

export class Feed<State = unknown> {
  /** Whether what is shown comes from the server, be it from an earlier visit. */
  known = false;
  /** The last question about the end of the feed; whoever asks now can answer all up to this one. */
  question = 0;

  private base!: Truth<State>;
  private folded!: Truth<State>;
  /** The end of the feed, as far as it was told: what is folded is shown from there on. */
  private head = 0;
  /** In the order of the ids. */
  private overlay = new Map<string, Overlaid>();
  /** How many of the overlay are confirmed and wait for the state to contain them. */
  private waiting = 0;
  /** The command of the last event that is folded, while more of its events come, or may come. */
  private open: Overlaid | undefined;
  private lastId = "";
  private shown: { state: State } | undefined;

  constructor(
    readonly name: string,
    private readonly model: Model<State>,
    private readonly me: string,
  ) {
    this.reset();
    this.base = this.folded;
    this.head = 0;
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
  get cursor(): Pick<Truth<State>, "epoch" | "sequence"> {
    return this.folded;
  }

  /** Whether all is folded that is known to be there. */
  get complete(): boolean {
    return this.folded.sequence >= this.head;
  }

  /** The confirmed state with the pending commands on top. The same object until something changes. */
  get state(): State {
    if (!this.shown) {
      let state = this.base.state;
      for (const { command } of this.overlay.values()) state = this.predict(state, command);
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

  /** Puts a command on top, in the order of the ids, unless the confirmed state contains it. */
  add(command: Command): void {
    const { commandId } = command;
    if (this.overlay.has(commandId) || this.base.own.includes(commandId)) return;
    const overlaid: Overlaid = { command };
    if (this.folded.own.includes(commandId)) this.containedFrom(overlaid, this.folded.sequence);
    this.overlay.set(commandId, overlaid);
    if (this.lastId < commandId) {
      this.lastId = commandId;
      // However many are below it.
      this.shown &&= { state: this.predict(this.shown.state, command) };
    } else {
      this.overlay = new Map([...this.overlay].sort(([a], [b]) => (a < b ? -1 : 1)));
      this.shown = undefined;
    }
  }

  /** Takes a command away: it is refused. */
  drop(commandId: string): void {
    const overlaid = this.overlay.get(commandId);
    if (!overlaid) return;
    if (overlaid.until !== undefined) this.waiting -= 1;
    if (this.open === overlaid) this.open = undefined;
    this.overlay.delete(commandId);
    this.shown = undefined;
  }

  /**
   * The command is confirmed: it stays until the confirmed state contains it. Answers what is contained now.
   * `unchanged` names no event; the state at the end of the feed contains it, if the end is asked for from now on.
   */
  confirm({ commandId, outcome, sequenceNumbers }: Confirmation): Overlaid[] {
    const overlaid = this.overlay.get(commandId);
    if (!overlaid) return [];
    if (outcome === "applied") {
      this.containedFrom(overlaid, Math.max(0, ...sequenceNumbers));
      this.answer(overlaid);
    } else {
      this.containedFrom(overlaid, Number.POSITIVE_INFINITY);
      overlaid.question = ++this.question;
    }
    return this.surface();
  }

  /** Whether somebody needs an answer. */
  get asks(): boolean {
    return this.waiting > 0 && [...this.overlay.values()].some(({ question }) => question);
  }

  /**
   * The server has named the end of the feed, in answer to a question. Answers which commands are contained now.
   */
  headIs(sequence: number, question: number, epoch = this.folded.epoch): Overlaid[] {
    this.folded = { ...this.folded, epoch };
    this.head = sequence;
    if (this.waiting > 0) {
      for (const overlaid of this.overlay.values()) {
        if (!overlaid.question || overlaid.question > question) continue;
        if (overlaid.until === Number.POSITIVE_INFINITY) overlaid.until = sequence;
        this.answer(overlaid);
      }
    }
    return this.surface();
  }

  /** Takes an event. */
  apply(event: Event): Step {
    const { epoch, sequence, state, own } = this.folded;
    const { sequence_number: number, command_id: commandId } = event;
    const isOther = epoch !== undefined && event.epoch !== epoch;
    if (isOther || number !== sequence + 1) {
      return { applied: isOther || number > sequence ? "gap" : "old", released: [] };
    }
    const mine = event.user_id === this.me && commandId !== null;
    this.folded = {
      epoch: event.epoch,
      sequence: number,
      state: this.model.evolve(state, event, this.me),
      own: mine ? [...own.slice(1 - MAX_OWN), commandId] : own,
    };
    this.hear(this.overlay.get(commandId ?? ""), event);
    return { applied: "new", released: this.surface() };
  }

  /** Begins at a state that was folded elsewhere or earlier, with these commands of this user in it. Answers them. */
  begin({ epoch, sequence, state, own = [] }: Omit<Truth<State>, "own"> & { own?: string[] }): Overlaid[] {
    this.open = undefined;
    this.folded = { epoch, sequence, state, own };
    this.show();
    return this.take(({ command }) => own.includes(command.commandId));
  }

  /**
   * Goes on from a state of the server that stands for all events before it. Which of the commands on top it contains
   * nobody can tell: their receipts will.
   */
  jump({ epoch, sequence_number: sequence, state }: Snapshot): Step {
    const { folded, model } = this;
    if (folded.epoch !== undefined && folded.epoch !== epoch) return { applied: "gap", released: [] };
    if (sequence <= folded.sequence) return { applied: "old", released: [] };
    if (!model.snapshot) throw new Error("it takes no snapshots");
    this.open = undefined;
    this.folded = { ...folded, epoch, sequence, state: model.snapshot(state, this.me) };
    return { applied: "new", released: this.surface() };
  }

  /**
   * The log is another, or has lost its end: everything is heard again, and shown when it has been. Answers the
   * commands that were confirmed in what is gone.
   */
  reset(): Overlaid[] {
    this.open = undefined;
    // What is shown until then is of no log any more, and its number says nothing.
    this.base = { ...this.base, epoch: undefined };
    this.folded = { epoch: undefined, sequence: 0, state: this.model.initial, own: [] };
    this.head = Number.POSITIVE_INFINITY;
    return this.take(({ until }) => until !== undefined);
  }

  checkpoint(): Omit<Checkpoint, "at"> | undefined {
    const { epoch } = this.base;
    return epoch ? { ...this.base, feed: this.name, epoch } : undefined;
  }

  /** An event is folded; the command that it is of, if that is on top, may have more of them. */
  private hear(overlaid: Overlaid | undefined, { sequence_number, position }: Event): void {
    // What another command follows had no more events: those of one stand together.
    if (this.open && this.open !== overlaid) this.answer(this.open);
    if (!overlaid) return;
    const { commandId } = overlaid.command;
    const { sequenceNumbers = [] } = overlaid.heard ?? {};
    sequenceNumbers.push(sequence_number);
    overlaid.heard = { commandId, outcome: "applied", sequenceNumbers, position };
    this.open = overlaid;
    // A receipt has told already.
    if (overlaid.until !== undefined && !overlaid.question) return this.answer(overlaid);
    this.containedFrom(overlaid, sequence_number);
    overlaid.question ??= ++this.question;
  }

  /** It is known which is the last event of the command. */
  private answer(overlaid: Overlaid): void {
    overlaid.question = undefined;
    if (this.open === overlaid && (overlaid.until ?? 0) <= this.folded.sequence) this.open = undefined;
  }

  /** Shows what is folded, if that is the end. Answers what it contains. */
  private surface(): Overlaid[] {
    if (this.complete && !this.open && this.folded.epoch !== undefined) this.show();
    if (!this.waiting || !this.base.epoch) return [];
    return this.take(({ until = Number.POSITIVE_INFINITY }) => until <= this.base.sequence);
  }

  /** A model that fails foresees nothing: the command is taken all the same, and its events will show it. */
  private predict(state: State, command: Command): State {
    try {
      return this.model.predict(state, command, this.me);
    } catch (error) {
      complain(`the model of ${this.name}`, error);
      return state;
    }
  }

  private show(): void {
    this.base = this.folded;
    this.known = true;
    this.shown = undefined;
  }

  private containedFrom(overlaid: Overlaid, sequence: number): void {
    if (overlaid.until === undefined) this.waiting += 1;
    overlaid.until = sequence;
  }

  private take(wanted: (overlaid: Overlaid) => boolean): Overlaid[] {
    const taken = [...this.overlay.values()].filter(wanted);
    for (const { command } of taken) this.drop(command.commandId);
    return taken;
  }
}
