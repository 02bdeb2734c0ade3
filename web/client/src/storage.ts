// Where the outbox keeps its commands, and each feed the last truth that it heard. The contract; the ways to
// keep it are in the folder of this name.

import type { Command } from "./command";

/** The last confirmed state of a feed, to begin with after a reload, also without a network. */
export interface Checkpoint {
  feed: string;
  epoch: string;
  sequence: number;
  state: unknown;
  /** When it was taken, in milliseconds since 1970: of too many the oldest are forgotten. */
  at: number;
  /** The last commands of the user that are in the state: pending ones among them are not put on top of it. */
  own: string[];
}

/** What is kept. */
export interface Stored {
  /** In the order of their ids. */
  commands: Command[];
  checkpoints: Checkpoint[];
}

/** What is to be kept from now on, and what no longer. */
export interface Changes {
  put: Command[];
  remove: string[];
  checkpoints: Checkpoint[];
  /** The feeds whose checkpoints are no longer kept. */
  forget?: string[];
}

/** Keeps commands and checkpoints. Several tabs may share one. */
export interface Storage {
  load(): Promise<Stored>;
  /**
   * All of it, or nothing, after all that was to be written before. A checkpoint with a lower sequence than the one
   * that is kept, of the same epoch, is passed over: another tab knows more.
   */
  write(changes: Changes): Promise<void>;
  close(): void;
}

/** Whether a checkpoint is to take the place of the one that is kept. */
export function supersedes(checkpoint: Checkpoint, kept: Checkpoint | undefined): boolean {
  return !kept || kept.epoch !== checkpoint.epoch || kept.sequence < checkpoint.sequence;
}

export function byId(a: Command, b: Command): number {
  return a.commandId < b.commandId ? -1 : 1;
}
