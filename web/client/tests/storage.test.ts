// Every storage keeps the contract: one suite, run on each of them.

import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Command, IndexedDbStorage, MemoryStorage, type Storage } from "../src";
import { FileStorage } from "../src/node";

const folder = mkdtempSync(join(tmpdir(), "sillage-"));
afterEach(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});

function command(n: number): Command {
  const commandId = `018bcfe5-6864-7000-8000-${String(n).padStart(12, "0")}`;
  return { commandId, feed: "like-a", type: "LikeAdd", data: { n }, createdAt: n };
}
const ids = (commands: Command[]) => commands.map(({ data }) => (data as { n: number }).n);
const nothing = { put: [], remove: [], checkpoints: [] };
const checkpoint = (sequence: number, epoch = "e") => ({
  feed: "like-a",
  epoch,
  sequence,
  state: { sequence },
  at: sequence,
  own: [],
});

const memory = new MemoryStorage();
const kinds: [string, () => Storage][] = [
  ["memory", () => memory],
  ["indexeddb", () => new IndexedDbStorage("test")],
  ["file", () => new FileStorage(join(folder, "outbox"))],
];

describe.each(kinds)("%s", (_, open) => {
  beforeEach(async () => {
    const { commands } = await memory.load();
    await memory.write({ ...nothing, remove: commands.map(({ commandId }) => commandId) });
    Reflect.get(memory, "checkpoints").clear();
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
  });

  test("begins empty, and finds again what was kept, in the order of the ids", async () => {
    const storage = open();
    expect(await storage.load()).toEqual({ commands: [], checkpoints: [] });
    await storage.write({ ...nothing, put: [command(3), command(1)] });
    await storage.write({ ...nothing, put: [command(2)], checkpoints: [checkpoint(4)] });
    storage.close();
    const again = await open().load();
    expect(ids(again.commands)).toEqual([1, 2, 3]);
    expect(again.checkpoints).toEqual([checkpoint(4)]);
  });

  test("forgets what is removed, and does not mind what is not there", async () => {
    const storage = open();
    await storage.load();
    await storage.write({ ...nothing, put: [command(1), command(2)] });
    await storage.write({ ...nothing, remove: [command(1).commandId, command(7).commandId] });
    storage.close();
    expect(ids((await open().load()).commands)).toEqual([2]);
  });

  test("keeps the checkpoint that knows more, of the log that is named last", async () => {
    const storage = open();
    await storage.load();
    for (const [next, kept] of [
      [checkpoint(5), checkpoint(5)],
      [checkpoint(4), checkpoint(5)],
      [checkpoint(6), checkpoint(6)],
      [checkpoint(1, "f"), checkpoint(1, "f")],
    ] as const) {
      await storage.write({ ...nothing, checkpoints: [next] });
      expect((await open().load()).checkpoints).toEqual([kept]);
    }
  });

  test("forgets the feeds that are named", async () => {
    const storage = open();
    await storage.load();
    await storage.write({ ...nothing, checkpoints: [checkpoint(5), { ...checkpoint(6), feed: "like-b" }] });
    await storage.write({ ...nothing, checkpoints: [checkpoint(7)], forget: ["like-b", "like-c"] });
    storage.close();
    expect((await open().load()).checkpoints).toEqual([checkpoint(7)]);
  });

  test("keeps ten thousand commands", async () => {
    const storage = open();
    await storage.load();
    const all = Array.from({ length: 10_000 }, (_, n) => command(n));
    await storage.write({ ...nothing, put: all });
    storage.close();
    expect((await open().load()).commands).toEqual(all);
  });
});

describe("a file", () => {
  const path = join(folder, "outbox");
  beforeEach(() => void mkdirSync(folder, { recursive: true }));

  test("whose last line a crash has torn loses only that", async () => {
    const storage = new FileStorage(path);
    await storage.load();
    await storage.write({ ...nothing, put: [command(1)] });
    appendFileSync(path, '{"put":[{"comm');
    const again = new FileStorage(path);
    expect(ids((await again.load()).commands)).toEqual([1]);
    await again.write({ ...nothing, put: [command(2)] });
    expect(ids((await new FileStorage(path).load()).commands)).toEqual([1, 2]);
  });

  test("that is damaged before its end is not taken for an empty one", async () => {
    appendFileSync(path, '{"put":[{"comm\n{"put":[],"remove":[],"checkpoints":[]}\n');
    await expect(new FileStorage(path).load()).rejects.toThrow();
    expect(readFileSync(path, "utf8")).toContain('{"comm');
  });
  test("that is damaged is not written anew from what little is known, and one that is whole is", async () => {
    const lines = () => readFileSync(path, "utf8").split("\n").length;
    appendFileSync(path, '{"put":[{"comm\n{"put":[],"remove":[],"checkpoints":[]}\n');
    const damaged = new FileStorage(path);
    await expect(damaged.load()).rejects.toThrow();
    // As if very many changes had been written.
    Reflect.set(damaged, "lines", 10_000);
    await damaged.write({ ...nothing, put: [command(1)] });
    expect([lines(), readFileSync(path, "utf8").includes('{"comm\n')]).toEqual([4, true]);
    rmSync(path);
    const whole = new FileStorage(path);
    await whole.load();
    for (const n of [1, 2, 3]) await whole.write({ ...nothing, put: [command(n)] });
    Reflect.set(whole, "lines", 10_000);
    await whole.write({ ...nothing, remove: [command(1).commandId] });
    expect(lines()).toBe(2);
    expect(ids((await new FileStorage(path).load()).commands)).toEqual([2, 3]);
  });
});
