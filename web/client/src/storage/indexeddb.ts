import type { Command } from "../command";
import { type Changes, type Checkpoint, type Storage, type Stored, supersedes } from "../storage";

const VERSION = 1;
const COMMANDS = "commands";
const CHECKPOINTS = "checkpoints";

/** Survives a reload and a crash of the tab, and is shared by the tabs of a browser. */
export class IndexedDbStorage implements Storage {
  private db: Promise<IDBDatabase> | undefined;

  constructor(private readonly name: string) {}

  async load(): Promise<Stored> {
    const transaction = (await this.open()).transaction([COMMANDS, CHECKPOINTS]);
    const all = <T>(store: string) => answer<T[]>(transaction.objectStore(store).getAll());
    const [commands, checkpoints] = await Promise.all([all<Command>(COMMANDS), all<Checkpoint>(CHECKPOINTS)]);
    return { commands, checkpoints };
  }

  async write({ put, remove, checkpoints, forget = [] }: Changes): Promise<void> {
    const transaction = (await this.open()).transaction([COMMANDS, CHECKPOINTS], "readwrite");
    const done = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
    });
    const commands = transaction.objectStore(COMMANDS);
    for (const command of put) commands.put(command);
    for (const id of remove) commands.delete(id);
    const kept = transaction.objectStore(CHECKPOINTS);
    for (const feed of forget) kept.delete(feed);
    for (const checkpoint of checkpoints) {
      const request: IDBRequest<Checkpoint | undefined> = kept.get(checkpoint.feed);
      request.onsuccess = () => {
        if (supersedes(checkpoint, request.result)) kept.put(checkpoint);
      };
    }
    await done;
  }

  close(): void {
    // A database that could not be opened has nothing to close.
    this.db?.then(
      (db) => db.close(),
      () => {},
    );
    this.db = undefined;
  }

  private open(): Promise<IDBDatabase> {
    if (this.db) return this.db;
    const lost = () => {
      this.db = undefined;
    };
    const request = indexedDB.open(this.name, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(COMMANDS, { keyPath: "commandId" });
      request.result.createObjectStore(CHECKPOINTS, { keyPath: "feed" });
    };
    this.db = answer(request).then((db) => {
      // A newer page wants to change the database: it must not wait for this one.
      db.onversionchange = () => {
        db.close();
        lost();
      };
      db.onclose = lost;
      return db;
    });
    this.db.catch(lost);
    return this.db;
  }
}

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
