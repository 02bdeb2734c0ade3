// A storage that fails, or does not answer, holds nobody up; and what it could not take is kept later.

import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Closed, IndexedDbStorage, MemoryStorage } from "../src";
import { event, Hand, Scene } from "./support/scene";
import { Browser, intent, type List, quiet } from "./support/simulation";

let log: { mock: { calls: unknown[][] } };
beforeEach(() => {
  log = vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => void vi.restoreAllMocks());

/** A storage that does what the test wants. */
class Moody extends MemoryStorage {
  reads: "well" | "fails" | "hangs" = "well";
  writes: "well" | "fails" | "hangs" = "well";
  tries = 0;
  loads = 0;
  private hanging: (() => void)[] = [];

  go(): void {
    for (const resolve of this.hanging.splice(0)) resolve();
  }

  override async load() {
    this.loads += 1;
    await this.mood(this.reads);
    return super.load();
  }

  override async write(changes: Parameters<MemoryStorage["write"]>[0]) {
    this.tries += 1;
    await this.mood(this.writes);
    return super.write(structuredClone(changes));
  }

  private mood(mood: typeof this.reads): Promise<void> | undefined {
    if (mood === "fails") throw new Error("on purpose");
    if (mood !== "hangs") return undefined;
    return new Promise((resolve) => void this.hanging.push(resolve));
  }
}

/** A client that reaches its server, which takes nothing. */
function unheard(storage: Moody) {
  const scene = new Scene();
  const posts: string[] = [];
  const fetch: typeof globalThis.fetch = async (_, init) => {
    posts.push(JSON.parse(String(init?.body)).command_id);
    return new Response(null, { status: 503 });
  };
  const server = new Hand();
  return { scene, posts, server, client: scene.client({ storage, fetch, transports: [server.open] }) };
}
const kept = async (storage: MemoryStorage) =>
  (await MemoryStorage.prototype.load.call(storage)).commands.map(({ commandId }) => commandId);

test("a click that cannot be written is sent, and written when that can be done", async () => {
  const storage = new Moody();
  const { scene, posts, client } = unheard(storage);
  const states: string[] = [];
  client.onStatus((status) => states.push(status.storage));
  await scene.clock.pass(100);
  storage.writes = "fails";
  const ids = ["list-a", "list-b"].map((feed) => client.send(intent(feed, "append")).command.commandId);
  await quiet();
  expect(new Set(posts)).toEqual(new Set(ids));
  expect([client.status.storage, await kept(storage)]).toEqual(["failing", []]);
  await scene.clock.pass(120_000);
  expect(storage.tries, "again, but not all the time").toBeGreaterThan(3);
  expect(storage.tries).toBeLessThan(15);
  ids.push(client.send(intent("list-c", "append")).command.commandId);
  await quiet();
  expect(posts).toContain(ids[2]);
  storage.writes = "well";
  await scene.clock.pass(30_000);
  expect([client.status.storage, states.at(-1), await kept(storage)]).toEqual(["ok", "ok", ids]);
  expect(log.mock.calls.length, "it is said once for each try").toBeLessThan(15);
});

test("a storage that does not answer a write holds a click up for a while only", async () => {
  const storage = new Moody();
  const { scene, posts, client } = unheard(storage);
  await scene.clock.pass(100);
  storage.writes = "hangs";
  const first = client.send(intent("list-a", "append")).command.commandId;
  await scene.clock.pass(9_000);
  expect([posts, client.status.storage]).toEqual([[], "ok"]);
  await scene.clock.pass(2_000);
  expect(new Set(posts)).toEqual(new Set([first]));
  expect(client.status.storage).toBe("failing");
  const second = client.send(intent("list-b", "append")).command.commandId;
  await quiet();
  expect(posts).toContain(second);
  await scene.clock.pass(120_000);
  expect(storage.tries, "one that hangs is not asked again and again").toBe(1);
  storage.writes = "well";
  storage.go();
  await scene.clock.pass(1_000);
  expect([client.status.storage, await kept(storage)]).toEqual(["ok", [first, second]]);
});

test("what is settled before it could be written is not written any more", async () => {
  const scene = new Scene();
  const storage = new Moody();
  const client = scene.client({ storage });
  await scene.clock.pass(100);
  storage.writes = "fails";
  const { confirmed } = client.send(intent("list-a", "append"));
  await scene.clock.pass(5_000);
  await confirmed;
  storage.writes = "well";
  const write = vi.spyOn(storage, "write");
  await scene.clock.pass(60_000);
  expect([client.status.storage, await kept(storage)]).toEqual(["ok", []]);
  expect(write.mock.calls.flatMap(([{ put }]) => put)).toEqual([]);
});

test("a checkpoint that cannot be kept does not keep the clicks from being kept", async () => {
  const storage = new Moody();
  const scene = new Scene();
  const server = new Hand();
  const model = {
    category: "list",
    initial: {},
    evolve: () => ({ f: () => {} }),
    predict: (state: object) => state,
  };
  const client = scene.client({ storage, models: [model], transports: [server.open] });
  client.follow("list-a");
  await scene.clock.pass(100);
  server.subscribed(1);
  server.tell(event(1));
  await scene.clock.pass(1_000);
  expect(client.status.storage).toBe("failing");
  const { command } = client.send(intent("list-b", "append"));
  await scene.clock.pass(60_000);
  expect(await kept(storage)).toEqual([command.commandId]);
});

test.each(["fails", "hangs"] as const)(
  "a storage whose reading %s leaves a client that works",
  async (how) => {
    const storage = new Moody();
    const former = { ...intent("list-z", "append"), commandId: "018bcfe5-0000-7000-8000-000000000001" };
    const createdAt = new Scene().clock.now();
    await storage.write({ put: [{ ...former, createdAt }], remove: [], checkpoints: [] });
    storage.reads = how;
    const { scene, posts, client } = unheard(storage);
    const ready = client.ready.then(
      () => "resolved",
      () => "rejected",
    );
    await scene.clock.pass(11_000);
    expect(await ready).toBe("rejected");
    expect(client.status).toMatchObject({ connection: "connected", storage: "failing" });
    const { command } = client.send(intent("list-a", "append"));
    await scene.clock.pass(11_000);
    expect(client.status.sends).toBe(true);
    expect(posts).toContain(command.commandId);
    expect(posts).not.toContain(former.commandId);
    await Promise.all([client.outboxProcessOnce(), scene.clock.pass(10_000)]);
    expect(storage.loads, "not all the time").toBeLessThan(10);
    storage.reads = "well";
    storage.go();
    await scene.clock.pass(60_000);
    expect(client.status.storage).toBe("ok");
    expect(posts, "what was kept is here now").toContain(former.commandId);
  },
);

test("a database that never opens leaves neither `ready` nor `close` waiting for ever", async () => {
  const factory = new IDBFactory();
  factory.open = () => ({}) as IDBOpenDBRequest;
  vi.stubGlobal("indexedDB", factory);
  const scene = new Scene();
  const client = scene.client({ storage: new IndexedDbStorage("blocked") });
  const list = client.follow<List>("list-a");
  await scene.clock.pass(11_000);
  await expect(client.ready).rejects.toThrow();
  const sent = client.send(intent("list-a", "append"));
  await scene.clock.pass(15_000);
  await sent.confirmed;
  expect(list.confirmed.items).toEqual([sent.command.commandId]);
  const late = client.send(intent("list-b", "append"));
  await Promise.all([client.close(), scene.clock.pass(10_000)]);
  // It may have been carried out before that.
  await late.confirmed.catch((error) => expect(error).toBeInstanceOf(Closed));
  vi.unstubAllGlobals();
});

test("a storage is read once at the start", async () => {
  const storage = new Moody();
  const { scene, client } = unheard(storage);
  await scene.clock.pass(1_000);
  expect([client.status.sends, storage.loads]).toEqual([true, 1]);
});

test("so many feeds are kept, those that have changed last; the others are forgotten here and in the storage", async () => {
  const storage = new Moody();
  const { scene, server, client } = unheard(storage);
  await scene.clock.pass(100);
  const change = async (n: number, sequence: number) => {
    const feed = `list-${n}`;
    const following = client.follow(feed);
    server.tell({ type: "subscribed", feed, epoch: "e", current_sequence: sequence });
    server.tell(event(sequence, { feed }));
    following.close();
    if (n % 100 === 0) await scene.clock.pass(200);
  };
  for (let n = 0; n < 1_000; n++) await change(n, 1);
  await change(0, 2);
  for (let n = 1_000; n < 1_010; n++) await change(n, 1);
  await scene.clock.pass(1_000);
  const { checkpoints } = await storage.load();
  const feeds = new Set(checkpoints.map(({ feed }) => feed));
  expect(feeds.size).toBe(1_000);
  expect(["list-0", "list-1", "list-10", "list-11", "list-1009"].map((feed) => feeds.has(feed))).toEqual([
    true,
    false,
    false,
    true,
    true,
  ]);
  expect(client.follow("list-1").known).toBe(false);
  expect(client.follow("list-11").known).toBe(true);
  // The next page knows which are the oldest.
  const next = scene.client({ storage, transports: [server.open] });
  await scene.clock.pass(100);
  const following = next.follow("list-2000");
  server.tell({ type: "subscribed", feed: "list-2000", epoch: "e", current_sequence: 1 });
  server.tell(event(1, { feed: "list-2000" }));
  following.close();
  await scene.clock.pass(1_000);
  const after = (await storage.load()).checkpoints.map(({ feed }) => feed);
  expect([after.length, after.includes("list-11"), after.includes("list-12")]).toEqual([1_000, false, true]);
});

test("a checkpoint names the commands of this user that are in it, and they are not shown twice", async () => {
  const scene = new Scene();
  const client = scene.client();
  client.follow("list-a");
  await scene.clock.pass(100);
  const { command } = client.send(intent("list-a", "append"));
  await scene.clock.pass(1_000);
  await Promise.all([client.close(), scene.clock.pass(100)]);
  expect((await scene.storage.load()).checkpoints).toMatchObject([{ own: [command.commandId] }]);
  // Another tab had kept it, too, and ended before it heard.
  await scene.storage.write({ put: [command], remove: [], checkpoints: [] });
  const next = scene.client({ transports: [new Hand("fails").open] });
  const list = next.follow<List>("list-a");
  await next.ready;
  expect(list.state.items).toEqual([command.commandId]);
});

test("what one tab cannot keep another does", async () => {
  const scene = new Scene();
  const tabs = new Browser(scene.clock, scene.dice).open;
  const storages = [new Moody(), new Moody()] as const;
  const transports = [new Hand("hangs").open];
  const fetch = async () => new Response(null, { status: 503 });
  const [, two] = storages.map((storage) => scene.client({ tabs, storage, transports, fetch }));
  await scene.clock.pass(100);
  storages[1].writes = "fails";
  const { command } = two?.send(intent("list-a", "append")) ?? {};
  await scene.clock.pass(1_000);
  expect(await kept(storages[0])).toEqual([command?.commandId]);
});

test("after `close` a write that hung writes nothing more, and tells nothing", async () => {
  const storage = new Moody();
  const { scene, client } = unheard(storage);
  await scene.clock.pass(100);
  storage.writes = "hangs";
  client.send(intent("list-a", "append"));
  await scene.clock.pass(100);
  client.send(intent("list-b", "append"));
  await Promise.all([client.close(), scene.clock.pass(11_000)]);
  const told: unknown[] = [];
  client.onStatus((status) => told.push(status));
  const { tries } = storage;
  storage.go();
  await scene.clock.pass(60_000);
  expect([storage.tries - tries, told]).toEqual([0, []]);
});
