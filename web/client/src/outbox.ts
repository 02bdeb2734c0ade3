// The commands that are not settled yet, and their way to the server.
//
// Invariants: a command is written to the storage before it is sent for the first time, unless the storage fails;
// the commands of a feed are sent in the order of their ids, the next one after the server has taken the one before;
// a command leaves the outbox only when it is settled, refused or too old. It may be sent often, always with the
// same id.

import type { Command } from "./command";
import { byId } from "./storage";
import type { Outcome } from "./tabs";
import { pause, type Time } from "./timing";

/** How a try to send a command has ended. */
export type Delivery =
  /**
   * `accepted`: the server has it, and what became of it is told by the feeds; `retry`: not now, or not before so many
   * milliseconds; `sign_in`: nothing is sent before there is another token.
   */
  | { kind: "accepted" | "retry" | "sign_in"; after?: number | undefined }
  /** It will never be taken. */
  | { kind: "give_up"; code: string; message: string };

/** Brings one command to the server. What throws is given up. */
export type Deliver = (command: Command) => Promise<Delivery>;

/** How far a command has come: `sent` is accepted, and not settled. */
export type Progress = "pending" | "sent";

interface Entry {
  command: Command;
  /** Whether it stands in the storage. */
  stored: boolean;
  /** Its way to the server, while it is on it. */
  sending?: Promise<void> | undefined;
  progress: Progress;
  /** How often it was tried without being accepted, or sent again without being settled. */
  tries: number;
  /** When it was minted; it is told by the clock that does not jump, like the moments below. */
  minted: number;
  /** Not before this moment. */
  due: number;
  /** Nor before this one, which the server has asked for, even when a new connection is there. */
  asked: number;
}

export interface OutboxEvents {
  /** It was accepted. */
  accepted(command: Command): void;
  /** It is to be given up. */
  gaveUp(commandId: string, code: string, message: string): void;
  /** The server wants another token. */
  signIn(): void;
}

/** How many commands that have left are remembered. */
const MAX_LEFT = 10_000;

export class Outbox {
  private readonly entries = new Map<string, Entry>();
  /** Of each feed what was not accepted yet, in the order of the ids. */
  private readonly lanes = new Map<string, Entry[]>();
  /** What was accepted and waits to be settled. */
  private readonly sent = new Set<Entry>();
  /** How the last ones have left: a tab that has read them in the storage must not bring them back. */
  private readonly left = new Map<string, Outcome>();
  private inFlight = 0;
  private timer: (() => void) | undefined;
  private open = false;

  constructor(
    private readonly deliver: Deliver,
    private readonly events: OutboxEvents,
    private readonly time: Time,
    /** How many commands may be on their way at once. */
    private readonly window: number,
  ) {}

  get size(): number {
    return this.entries.size;
  }

  /** All commands, in the order of their ids, and how far they have come. */
  list(): { command: Command; progress: Progress }[] {
    const all = [...this.entries.values()].map(({ command, progress }) => ({ command, progress }));
    return all.sort((a, b) => byId(a.command, b.command));
  }

  /** Takes a command; `false` if it is here already, or was. It is sent once it is stored. */
  add(command: Command, where: "stored" | "unstored"): boolean {
    if (this.entries.has(command.commandId)) {
      if (where === "stored") this.stored(command.commandId);
      return false;
    }
    if (this.left.has(command.commandId)) return false;
    const stored = where === "stored";
    // The wall clock tells only how old it is by now; what it does later makes nothing older.
    const minted = this.time.elapsed() - Math.max(0, this.time.now() - command.createdAt);
    const due = Number.NEGATIVE_INFINITY;
    const entry: Entry = {
      command,
      stored,
      progress: "pending",
      tries: 0,
      minted,
      due,
      asked: due,
    };
    this.entries.set(command.commandId, entry);
    const lane = this.lanes.get(command.feed) ?? [];
    const behind = lane.findLastIndex((other) => other.command.commandId < command.commandId);
    lane.splice(behind + 1, 0, entry);
    this.lanes.set(command.feed, lane);
    return true;
  }

  /** It stands in the storage now. */
  stored(commandId: string): void {
    const entry = this.entries.get(commandId);
    if (entry) entry.stored = true;
  }

  /** Another tab has seen it accepted. Answers the command if that is news. */
  acceptedElsewhere(commandId: string): Command | undefined {
    const entry = this.entries.get(commandId);
    if (entry?.progress !== "pending") return undefined;
    this.accept(entry);
    return entry.command;
  }

  /** How a command has left. */
  outcome(commandId: string): Outcome | undefined {
    return this.left.get(commandId);
  }

  /** What stands in the storage and is not settled. */
  kept(): Command[] {
    return [...this.entries.values()].flatMap(({ command, stored }) => (stored ? command : []));
  }

  /** It is settled, or given up; what it was. */
  remove(commandId: string, outcome: Outcome): Command | undefined {
    const entry = this.entries.get(commandId);
    if (!entry) return undefined;
    this.entries.delete(commandId);
    this.left.set(commandId, outcome);
    const [oldest] = this.left.keys();
    if (this.left.size > MAX_LEFT && oldest !== undefined) this.left.delete(oldest);
    this.sent.delete(entry);
    this.leaveLane(entry);
    return entry.command;
  }

  /** From now on commands are sent, or no longer. What is on its way comes back by itself. */
  setOpen(open: "open" | "closed"): void {
    this.open = open === "open";
    this.process();
  }

  /** There is a new connection or token: what was not accepted is tried at once, what was is asked for soon. */
  hurry(soon: number): void {
    for (const lane of this.lanes.values()) for (const entry of lane) entry.due = entry.asked;
    this.askFor(undefined, soon);
  }

  /** What was accepted, of a feed or of all, is sent again soon: the answer tells what became of it. */
  askFor(feed: string | undefined, soon: number): void {
    const due = this.time.elapsed() + soon;
    for (const entry of this.sent) {
      if (feed === undefined || entry.command.feed === feed) entry.due = Math.min(entry.due, due);
    }
    this.process();
  }

  /** One pass: sends whatever is due, and resolves when nothing of that is on its way any more. */
  async processOnce(): Promise<void> {
    this.pass();
    await Promise.all([...this.entries.values()].map(({ sending }) => sending));
  }

  /** Passes now, and again when something is due. */
  process(): void {
    this.timer?.();
    this.timer = undefined;
    this.pass();
    if (!this.open || this.inFlight >= this.window) return;
    let due = Number.POSITIVE_INFINITY;
    for (const entry of this.candidates()) due = Math.min(due, entry.due);
    if (due < Number.POSITIVE_INFINITY) {
      this.timer = this.time.after(Math.max(0, due - this.time.elapsed()), () => this.process());
    }
  }

  private pass(): void {
    if (!this.open) return;
    for (const entry of [...this.candidates()]) {
      if (this.inFlight >= this.window) break;
      const { command, minted, due, sending } = entry;
      if (this.time.elapsed() - minted > this.time.maxAge) {
        this.events.gaveUp(command.commandId, "expired", "It is too old.");
      } else if (due <= this.time.elapsed() && !sending) {
        // Giving up another may have sent it.
        entry.sending = this.send(entry);
      }
    }
  }

  /** Of each feed the first command that was not accepted; and all that were, to be sent again. */
  private *candidates(): Iterable<Entry> {
    for (const [first] of this.lanes.values()) if (first?.stored && !first.sending) yield first;
    for (const entry of this.sent) if (!entry.sending) yield entry;
  }

  private async send(entry: Entry): Promise<void> {
    const { command } = entry;
    this.inFlight += 1;
    // A way that cannot even be begun, such as a route that throws, will not be there later either.
    // It begins when this entry is marked as on its way.
    const delivery = await Promise.resolve(command)
      .then(this.deliver)
      .catch((error: unknown): Delivery => {
        return { kind: "give_up", code: "unsendable", message: String(error) };
      });
    this.inFlight -= 1;
    entry.sending = undefined;
    try {
      // It may have been settled while it was on its way.
      if (this.entries.get(command.commandId) === entry) this.take(entry, delivery);
    } finally {
      this.process();
    }
  }

  private take(entry: Entry, delivery: Delivery): void {
    switch (delivery.kind) {
      case "accepted": {
        const first = entry.progress === "pending";
        this.accept(entry);
        if (first) this.events.accepted(entry.command);
        break;
      }
      case "retry":
        entry.due = this.time.elapsed() + (delivery.after ?? pause(this.time, entry.tries));
        entry.asked = delivery.after ? entry.due : Number.NEGATIVE_INFINITY;
        entry.tries += 1;
        break;
      case "sign_in":
        entry.due = Number.POSITIVE_INFINITY;
        this.events.signIn();
        break;
      case "give_up":
        this.events.gaveUp(entry.command.commandId, delivery.code, delivery.message);
        break;
    }
  }

  private accept(entry: Entry): void {
    const first = entry.progress === "pending";
    entry.tries = first ? 0 : entry.tries + 1;
    entry.progress = "sent";
    entry.due = this.time.elapsed() + this.time.resend * 2 ** Math.min(entry.tries, 5);
    this.leaveLane(entry);
    this.sent.add(entry);
  }

  private leaveLane(entry: Entry): void {
    const lane = this.lanes.get(entry.command.feed);
    const at = lane?.indexOf(entry) ?? -1;
    if (at >= 0) lane?.splice(at, 1);
    if (lane?.length === 0) this.lanes.delete(entry.command.feed);
  }
}
