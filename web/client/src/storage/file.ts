import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import type { Changes, Stored } from "../storage";
import { MemoryStorage } from "./memory";

/** So many lines may be superfluous before the file is written anew. */
const COMPACT_AFTER = 10_000;

/** Keeps everything in a file of one process, one change a line, so that a crash tears at most the last one. */
export class FileStorage extends MemoryStorage {
  private lines = 0;
  private loaded = false;
  private last: Promise<void> = Promise.resolve();

  constructor(private readonly path: string) {
    super();
  }

  override async load(): Promise<Stored> {
    if (!this.loaded) {
      const lines = read(this.path).split("\n");
      // A crash may have torn the last line, which was never confirmed to anybody.
      lines.pop();
      for (const line of lines) this.apply(JSON.parse(line));
      this.loaded = true;
      this.compact();
    }
    return super.load();
  }

  override write(changes: Changes): Promise<void> {
    const write = async () => {
      this.apply(changes);
      this.lines += 1;
      // A file that could not be read holds more than is known here.
      if (this.loaded && this.lines > COMPACT_AFTER) return this.compact();
      await appendFile(this.path, `${JSON.stringify(changes)}\n`, { flush: true });
    };
    // One after the other; one that failed does not keep the next from being tried.
    const next = this.last.then(write, write);
    this.last = next.catch(() => {});
    return next;
  }

  private compact(): void {
    const all: Changes = {
      put: [...this.commands.values()],
      remove: [],
      checkpoints: [...this.checkpoints.values()],
    };
    writeFileSync(`${this.path}.new`, `${JSON.stringify(all)}\n`, { flush: true });
    renameSync(`${this.path}.new`, this.path);
    this.lines = 1;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
