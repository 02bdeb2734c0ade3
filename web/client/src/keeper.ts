// Writes what is to outlive the page: new commands at once, everything else a little later and together.
//
// Invariant: what is written together is kept together. So a command disappears from the storage in the same
// step in which the checkpoint that contains it appears, or later.

import type { Command } from "./command";
import type { Changes, Checkpoint, Storage, Stored } from "./storage";
import type { Clock } from "./timing";

export interface KeeperEvents {
  /** These commands stand in the storage now. */
  kept(commands: Command[]): void;
  /** These are in it no longer. */
  removed(commandIds: string[]): void;
  /** The checkpoint of a feed that has changed. */
  checkpoint(feed: string): Checkpoint | undefined;
}

export class Keeper {
  private put: Command[] = [];
  private readonly remove = new Set<string>();
  private readonly dirty = new Set<string>();
  private readonly checkpoints = new Map<string, Checkpoint>();
  private readonly unwritten = new Map<string, Checkpoint>();
  private loading: Promise<Stored> | undefined;
  private writing: Promise<void> = Promise.resolve();
  private timer: (() => void) | undefined;

  constructor(
    private readonly storage: Storage,
    private readonly events: KeeperEvents,
    private readonly clock: Clock,
    /** How long changes wait for others, in milliseconds. */
    private readonly delay: number,
  ) {}

  /** What was kept earlier. */
  load(): Promise<Stored> {
    this.loading ??= this.storage.load().then((stored) => {
      for (const checkpoint of stored.checkpoints) this.checkpoints.set(checkpoint.feed, checkpoint);
      return stored;
    });
    return this.loading;
  }

  /** The commands that are kept now, by whichever tab. */
  async commands(): Promise<Command[]> {
    return (await this.storage.load()).commands;
  }

  /** What was last kept of a feed. */
  recall(feed: string): Checkpoint | undefined {
    return this.checkpoints.get(feed);
  }

  /** Keeps a command. Those of one click after the other, in one go, are written together. */
  keep(command: Command): void {
    this.put.push(command);
    if (this.put.length === 1) queueMicrotask(() => this.write());
  }

  /** The commands are settled. */
  forget(commandIds: string[]): void {
    for (const commandId of commandIds) this.remove.add(commandId);
    if (commandIds.length > 0) this.writeSoon();
  }

  /** The feed has changed. */
  touch(feed: string): void {
    this.dirty.add(feed);
    this.writeSoon();
  }

  /** The feed is no longer followed: what is known of it is kept as it is now. */
  leave(feed: string): void {
    this.remember(feed);
    this.writeSoon();
  }

  /** Writes everything that waits. */
  async flush(): Promise<void> {
    this.write();
    await this.writing;
  }

  close(): void {
    this.storage.close();
  }

  private writeSoon(): void {
    this.timer ??= this.clock.after(this.delay, () => this.write());
  }

  private write(): void {
    const failed = (error: unknown) => console.error("sillage: the outbox could not go on", error);
    this.writing = this.writing.then(() => this.writeNow()).catch(failed);
  }

  private async writeNow(): Promise<void> {
    this.timer?.();
    this.timer = undefined;
    // A storage that cannot be read may still be written.
    await this.load().catch(() => {});
    for (const feed of this.dirty) this.remember(feed);
    const changes = { put: this.put, remove: [...this.remove], checkpoints: [...this.unwritten.values()] };
    this.put = [];
    this.dirty.clear();
    this.unwritten.clear();
    if (changes.put.length + changes.remove.length + changes.checkpoints.length === 0) return;
    await this.store(changes);
    // Until now they might have been read again.
    for (const commandId of changes.remove) this.remove.delete(commandId);
    if (changes.remove.length > 0) this.events.removed(changes.remove);
    if (changes.put.length > 0) this.events.kept(changes.put);
  }

  private remember(feed: string): void {
    const checkpoint = this.events.checkpoint(feed);
    if (!checkpoint) return;
    this.checkpoints.set(feed, checkpoint);
    this.unwritten.set(feed, checkpoint);
  }

  private async store(changes: Changes): Promise<void> {
    try {
      await this.storage.write(changes);
    } catch (error) {
      // A click that cannot be kept is sent all the same: it is lost only if the page ends before that.
      console.error("sillage: the outbox cannot be written", error);
    }
  }
}
