// Writes what is to outlive the page: new commands at once, everything else a little later and together.
//
// Invariants: what is written together is kept together, so a command disappears from the storage in the same
// step in which the checkpoint that contains it appears, or later. What could not be written is written later.
// A storage that fails, or does not answer, holds up nobody: the commands are told as if they were kept.

import type { Command } from "./command";
import { complain } from "./errors";
import type { Checkpoint, Storage, Stored } from "./storage";
import { inTime, pause, type Time } from "./timing";

export interface KeeperEvents {
  /** What was kept earlier is here. */
  loaded(commands: Command[]): void;
  /** These commands stand in the storage now; or it fails, and they are not to wait for it. */
  kept(commands: Command[], where: "stored" | "unstored"): void;
  /** The storage fails, or no longer. */
  turned(): void;
}

/** How many feeds are kept: those that have changed last. */
const MAX_CHECKPOINTS = 1_000;
/** What was read less than so many milliseconds ago is not read again. */
const JUST_READ = 1_000;

export class Keeper {
  // While the storage fails, what is to be written grows with what is clicked, as the outbox does.
  private readonly put = new Map<string, Command>();
  private readonly remove = new Set<string>();
  /** What is to be kept of each feed; `undefined` if it is to be forgotten. */
  private readonly unwritten = new Map<string, Checkpoint | undefined>();
  /** Of the commands that are to be written those that wait for it. */
  private fresh: Command[] = [];
  /** What is known of each feed; those that have changed last come last. */
  private checkpoints = new Map<string, Checkpoint>();
  private reading: Promise<void> | undefined;
  private readAt = Number.NEGATIVE_INFINITY;
  /** The last writing, however long it takes; and the same as whoever waits for it has it. */
  private pass: Promise<unknown> = Promise.resolve();
  private writing: Promise<unknown> = this.pass;
  private queued = false;
  private closed = false;
  private timer: (() => void) | undefined;
  private failures = 0;

  constructor(
    private readonly storage: Storage,
    private readonly events: KeeperEvents,
    private readonly time: Time,
  ) {}

  get state(): "ok" | "failing" {
    return this.failures > 0 ? "failing" : "ok";
  }

  /** Reads what was kept earlier; rejects if that fails now. It is tried again. */
  load(): Promise<void> {
    this.write();
    return inTime(this.read(), this.time);
  }

  /** The commands that are kept now, by whichever tab, unless they were just read. */
  async commands(): Promise<Command[]> {
    if (this.time.elapsed() - this.readAt < JUST_READ) return [];
    return (await inTime(this.storage.load(), this.time)).commands;
  }

  /** What was last kept of a feed. */
  recall(feed: string): Checkpoint | undefined {
    return this.checkpoints.get(feed);
  }

  /** Keeps a command. Those of one click after the other, in one go, are written together. */
  keep(command: Command): void {
    this.put.set(command.commandId, command);
    this.fresh.push(command);
    queueMicrotask(() => (this.failures > 0 ? this.release() : this.write()));
  }

  /** The commands are settled. */
  forget(commandIds: string[]): void {
    for (const commandId of commandIds) {
      this.put.delete(commandId);
      this.remove.add(commandId);
      this.writeSoon();
    }
  }

  /** Keeps what is known of a feed now, if anything is. */
  remember(known: Omit<Checkpoint, "at"> | undefined): void {
    if (!known) return;
    const { feed } = known;
    const checkpoint = { ...known, at: this.time.now() };
    this.checkpoints.delete(feed);
    this.checkpoints.set(feed, checkpoint);
    this.unwritten.set(feed, checkpoint);
    this.trim();
    this.writeSoon();
  }

  /** Writes everything that waits; what the storage does not take in time is told all the same. */
  async flush(): Promise<void> {
    this.write();
    await this.writing;
  }

  close(): void {
    this.timer?.();
    this.closed = true;
    this.storage.close();
  }

  private read(): Promise<void> {
    return (this.reading ??= this.storage.load().then(
      (stored) => this.take(stored),
      (error) => {
        this.reading = undefined;
        throw error;
      },
    ));
  }

  private take({ commands, checkpoints }: Stored): void {
    this.readAt = this.time.elapsed();
    checkpoints.sort((a, b) => a.at - b.at);
    // What this page has learnt meanwhile is newer.
    const learnt = this.checkpoints.values();
    this.checkpoints = new Map(
      [...checkpoints, ...learnt].map((checkpoint) => [checkpoint.feed, checkpoint]),
    );
    this.trim();
    this.events.loaded(commands);
  }

  private writeSoon(): void {
    this.timer ??= this.time.after(this.time.write, () => this.write());
  }

  private write(): void {
    if (this.queued) return;
    this.queued = true;
    // One after the other, also after one that has failed; one that hangs is not waited for by anybody else.
    const next = () => this.writeAll();
    this.pass = this.pass.then(next, next);
    this.writing = inTime(this.pass, this.time).catch((error) => this.failed(error));
  }

  private async writeAll(): Promise<void> {
    this.queued = false;
    this.timer?.();
    this.timer = undefined;
    const failures: unknown[] = [];
    const failed = (error: unknown) => failures.push(error);
    await (this.closed || this.read().catch(failed));
    // It may have waited for longer than the client lived.
    if (this.closed) return;
    // A storage that cannot be read may still be written.
    await Promise.all([this.writeCommands().catch(failed), this.writeRest().catch(failed)]);
    if (failures.length > 0) throw failures[0];
    if (this.failures > 0) {
      this.failures = 0;
      this.events.turned();
    }
  }

  private failed(error: unknown): void {
    complain("the storage", error);
    this.timer?.();
    this.timer = this.time.after(pause(this.time, this.failures), () => this.write());
    this.failures += 1;
    this.events.turned();
    this.release();
  }

  /** Alone, so that a checkpoint that cannot be written does not keep them from being kept. */
  private async writeCommands(): Promise<void> {
    const put = [...this.put.values()];
    if (put.length === 0) return;
    await this.storage.write({ put, remove: [], checkpoints: [] });
    // Some may have been settled meanwhile.
    const kept = put.filter(({ commandId }) => this.put.delete(commandId));
    this.fresh = this.fresh.filter(({ commandId }) => this.put.has(commandId));
    this.events.kept(kept, "stored");
  }

  private async writeRest(): Promise<void> {
    const remove = [...this.remove];
    const feeds = [...this.unwritten];
    if (remove.length + feeds.length === 0) return;
    const checkpoints = feeds.flatMap(([, checkpoint]) => checkpoint ?? []);
    const forget = feeds.flatMap(([feed, checkpoint]) => (checkpoint ? [] : feed));
    await this.storage.write({ put: [], remove, checkpoints, forget });
    for (const commandId of remove) this.remove.delete(commandId);
    for (const [feed, checkpoint] of feeds) {
      if (this.unwritten.get(feed) === checkpoint) this.unwritten.delete(feed);
    }
  }

  /** Nobody waits for a storage that fails. */
  private release(): void {
    const released = this.fresh;
    this.fresh = [];
    if (released.length > 0) this.events.kept(released, "unstored");
  }

  private trim(): void {
    for (const feed of this.checkpoints.keys()) {
      if (this.checkpoints.size <= MAX_CHECKPOINTS) break;
      this.checkpoints.delete(feed);
      this.unwritten.set(feed, undefined);
    }
  }
}
