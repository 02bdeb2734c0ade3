import type { Command } from "../command";
import { byId, type Changes, type Checkpoint, type Storage, type Stored, supersedes } from "../storage";

/** Forgets everything with the process. */
export class MemoryStorage implements Storage {
  protected readonly commands = new Map<string, Command>();
  protected readonly checkpoints = new Map<string, Checkpoint>();

  async load(): Promise<Stored> {
    return { commands: [...this.commands.values()].sort(byId), checkpoints: [...this.checkpoints.values()] };
  }

  async write(changes: Changes): Promise<void> {
    this.apply(changes);
  }

  close(): void {}

  protected apply({ put, remove, checkpoints, forget = [] }: Changes): void {
    for (const command of put) this.commands.set(command.commandId, command);
    for (const id of remove) this.commands.delete(id);
    for (const feed of forget) this.checkpoints.delete(feed);
    for (const checkpoint of checkpoints) {
      if (supersedes(checkpoint, this.checkpoints.get(checkpoint.feed))) {
        this.checkpoints.set(checkpoint.feed, checkpoint);
      }
    }
  }
}
