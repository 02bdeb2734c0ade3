// What a program relies on, one by one, on a server and a network that do as they are told.

import { expect, test, vi } from "vitest";
import { Closed, type Command, GaveUp, Rejected } from "../src";
import { Mint } from "../src/command";
import type { TabMessage } from "../src/tabs";
import { event, Hand, Scene } from "./support/scene";
import { Browser, intent, type List, quiet } from "./support/simulation";

/** Watches a promise without waiting for it. */
function watched(promise: Promise<unknown>) {
  const seen: { is: "open" | "resolved" | "rejected" } = { is: "open" };
  promise.then(
    () => {
      seen.is = "resolved";
    },
    () => {
      seen.is = "rejected";
    },
  );
  return seen;
}

test("a click is shown at once, accepted, confirmed, and gone from the outbox", async () => {
  const scene = new Scene();
  const client = scene.client();
  const list = client.follow<List>("list-a");
  await scene.clock.pass(100);
  const sent = client.send<List>(intent("list-a", "append"));
  const [accepted, confirmed] = [watched(sent.accepted), watched(sent.confirmed)];
  const id = sent.command.commandId;
  expect(sent.optimistic).toEqual({ items: [id] });
  expect([list.state.items, list.confirmed.items]).toEqual([[id], []]);
  expect(client.pending("list-a")).toEqual([{ command: sent.command, progress: "pending" }]);
  expect(client.pending("list-b")).toEqual([]);
  await quiet();
  expect([accepted.is, confirmed.is]).toEqual(["open", "open"]);
  await scene.clock.pass(1_000);
  expect(await sent.confirmed).toMatchObject({ commandId: id, outcome: "applied", sequenceNumbers: [1] });
  expect([accepted.is, list.confirmed.items, client.pending()]).toEqual(["resolved", [id], []]);
  expect((await scene.storage.load()).commands).toEqual([]);
  expect((await scene.storage.load()).checkpoints).toMatchObject([{ feed: "list-a", sequence: 1 }]);
});

test("202 does not take a click away, however long its event is coming", async () => {
  const scene = new Scene();
  const client = scene.client({ transports: [new Hand("hangs").open] });
  const list = client.follow<List>("list-a");
  const sent = client.send(intent("list-a", "append"));
  const confirmed = watched(sent.confirmed);
  await scene.clock.pass(60_000);
  await sent.accepted;
  expect([list.state.items.length, list.confirmed.items.length, confirmed.is]).toEqual([1, 0, "open"]);
  expect(client.pending()).toEqual([{ command: sent.command, progress: "sent" }]);
});

test("a refusal takes exactly that click away, with its reason", async () => {
  const scene = new Scene();
  const client = scene.client();
  const list = client.follow<List>("list-a");
  const other = client.follow<List>("list-b");
  await scene.clock.pass(100);
  scene.server.closed.add("list-a");
  const refusals: (Rejected | GaveUp)[] = [];
  client.onRejected((error) => refusals.push(error));
  const [refused, kept] = [client.send(intent("list-a", "append")), client.send(intent("list-b", "append"))];
  await scene.clock.pass(1_000);
  await expect(refused.confirmed).rejects.toBeInstanceOf(Rejected);
  expect(refusals).toMatchObject([{ code: "closed", message: "It is closed.", command: refused.command }]);
  expect([list.state.items, other.state.items]).toEqual([[], [kept.command.commandId]]);
});

test("a refusal of before a reload is heard after it", async () => {
  const scene = new Scene();
  const before = scene.client();
  before.follow("list-a");
  before.goOffline();
  const { command } = before.send(intent("list-a", "append"));
  await Promise.all([before.close(), scene.clock.pass(1_000)]);
  scene.server.closed.add("list-a");
  const after = scene.client();
  const refusals: Command[] = [];
  after.onRejected((error) => refusals.push(error.command));
  const list = after.follow<List>("list-a");
  await quiet();
  expect(list.state.items, "it is shown until then").toEqual([command.commandId]);
  await scene.clock.pass(1_000);
  expect([refusals, list.state.items]).toEqual([[command], []]);
});

test("what others do goes underneath", async () => {
  const scene = new Scene();
  const client = scene.client();
  const list = client.follow<List>("list-a");
  await scene.clock.pass(100);
  client.goOffline();
  const { command } = client.send(intent("list-a", "append"));
  scene.server.take({ feed: "list-a", event_type: "Put", command_id: "x", data: { key: 1 } }, "bob");
  client.goOnline();
  await scene.clock.pass(1_000);
  expect(list.state.items).toEqual(["key 1", command.commandId]);
});

test("without a network the last truth is there after a reload, and the clicks on top", async () => {
  const scene = new Scene();
  scene.server.take({ feed: "list-a", event_type: "Put", command_id: "x", data: { key: 1 } }, "bob");
  const before = scene.client();
  before.follow("list-a");
  await scene.clock.pass(1_000);
  before.goOffline();
  const { command } = before.send(intent("list-a", "append"));
  await Promise.all([before.close(), scene.clock.pass(1_000)]);
  const after = scene.client({ transports: [new Hand("fails").open] });
  const list = after.follow<List>("list-a");
  await after.ready;
  expect([list.known, list.state.items]).toEqual([true, ["key 1", command.commandId]]);
});

test.each([200, 202, 204])("%i means accepted", async (status) => {
  const scene = new Scene();
  const { client, posts } = scene.answering(status);
  await scene.clock.pass(100);
  const sent = client.send(intent("list-a", "append"));
  await scene.clock.pass(1_000);
  await sent.accepted;
  expect(posts).toEqual([sent.command.commandId]);
});

test("what may pass is tried again with the same id, before anything that follows it", async () => {
  const scene = new Scene();
  const { client, posts } = scene.answering(503, 429, 500, 408);
  const [first, second] = [client.send(intent("list-a", "append")), client.send(intent("list-a", "append"))];
  await scene.clock.pass(60_000);
  const [a, b] = [first.command.commandId, second.command.commandId];
  expect(posts.slice(0, 6)).toEqual([a, a, a, a, a, b]);
});

test("what will never be taken is given up, and does not hold up what follows", async () => {
  const scene = new Scene();
  const { client, posts } = scene.answering(422);
  await scene.clock.pass(100);
  const list = client.follow<List>("list-a");
  const [bad, good] = [client.send(intent("list-a", "append")), client.send(intent("list-a", "append"))];
  await scene.clock.pass(1_000);
  const error: GaveUp = await bad.confirmed.then(
    () => Promise.reject(new Error("it was not given up")),
    (error) => error,
  );
  expect(error).toBeInstanceOf(GaveUp);
  expect(error).toMatchObject({ code: "invalid_field", message: "at: is wrong" });
  expect([posts.length, list.state.items]).toEqual([2, [good.command.commandId]]);
});

test("what is too old is given up", async () => {
  const scene = new Scene();
  const client = scene.client({ timing: { maxAge: 3_600_000 } });
  await scene.clock.pass(100);
  client.goOffline();
  const sent = client.send(intent("list-a", "append"));
  const confirmed = watched(sent.confirmed);
  await scene.clock.pass(3_600_001);
  client.goOnline();
  await scene.clock.pass(1_000);
  expect([confirmed.is, scene.server.received]).toEqual(["rejected", 0]);
  await expect(sent.confirmed).rejects.toMatchObject({ name: "GaveUp", code: "expired" });
});

test("a token that no longer holds is asked for once, and without another a sign-in is needed", async () => {
  const scene = new Scene();
  const tokens = ["old", "new"];
  const token = vi.fn(() => tokens.shift());
  const used: string[] = [];
  const fetch: typeof globalThis.fetch = async (_, init) => {
    used.push(new Headers(init?.headers).get("Authorization") ?? "");
    return new Response(null, { status: used.length === 2 || used.length > 3 ? 202 : 401 });
  };
  const client = scene.client({ token, fetch });
  const first = client.send(intent("list-a", "append"));
  await scene.clock.pass(5_000);
  await first.accepted;
  client.send(intent("list-b", "append"));
  await scene.clock.pass(60_000);
  expect(used).toEqual(["Bearer old", "Bearer new", "Bearer new"]);
  expect(client.status).toMatchObject({ connection: "needs-sign-in", sends: false, pending: 2 });
  tokens.push("newer");
  client.goOnline();
  await scene.clock.pass(1_000);
  expect([used.at(-1), token.mock.calls.length]).toEqual(["Bearer newer", 4]);
});

test("two tabs send each click once, and when one ends the other goes on", async () => {
  const scene = new Scene();
  const tabs = new Browser(scene.clock, scene.dice).open;
  const [one, two] = [scene.client({ tabs }), scene.client({ tabs })];
  await scene.clock.pass(100);
  expect([one.status.sends, two.status.sends]).toEqual([true, false]);
  const lists = [one, two].map((client) => client.follow<List>("list-a"));
  for (let click = 0; click < 50; click++) {
    one.send(intent("list-a", "append"));
    two.send(intent("list-a", "append"));
  }
  await scene.clock.pass(300);
  expect(scene.server.received).toBeGreaterThan(0);
  expect(scene.server.received).toBeLessThan(100);
  await Promise.all([one.close(), scene.clock.pass(60_000)]);
  expect(two.status).toMatchObject({ sends: true, pending: 0 });
  // The last may have been on its way when the tab ended, and so may word of the one before it.
  expect(scene.server.received).toBeLessThanOrEqual(102);
  expect(lists[1]?.state.items).toEqual(scene.server.items("list-a"));
  expect(scene.server.items("list-a").length).toBe(100);
});

test("what a tab has kept and could not tell is sent all the same", async () => {
  const scene = new Scene();
  const tabs = new Browser(scene.clock, scene.dice).open;
  const [one, two] = [scene.client({ tabs }), scene.client({ tabs })];
  await scene.clock.pass(100);
  // A page that ends between its write and its word.
  const lost = (n: number): Command => ({
    ...intent("list-a", "append"),
    commandId: `018bcfe5-0000-7000-8000-00000000000${n}`,
    createdAt: scene.clock.now(),
  });
  await scene.storage.write({ put: [lost(1)], remove: [], checkpoints: [] });
  const three = scene.client({ tabs });
  await scene.clock.pass(1_000);
  expect(scene.server.items("list-a"), "the next page tells of it").toEqual([lost(1).commandId]);
  await scene.storage.write({ put: [lost(2)], remove: [], checkpoints: [] });
  await Promise.all([one.close(), scene.clock.pass(1_000)]);
  expect(scene.server.items("list-a"), "the next one that sends reads it").toContain(lost(2).commandId);
  expect([two.status.sends, three.status.sends, two.status.pending, three.status.pending]).toEqual([
    true,
    false,
    0,
    0,
  ]);
});

test("what is settled does not come back from the storage", async () => {
  const scene = new Scene();
  const tabs = new Browser(scene.clock, scene.dice).open;
  const one = scene.client({ tabs, timing: { write: 60_000 } });
  await scene.clock.pass(100);
  const settled: string[] = [];
  one.onSettled(({ command }) => settled.push(command.commandId));
  const { command } = one.send(intent("list-a", "append"));
  await scene.clock.pass(1_000);
  expect((await scene.storage.load()).commands, "it is still kept").toEqual([command]);
  scene.client({ tabs });
  await scene.clock.pass(120_000);
  expect([settled, scene.server.received, one.status.pending]).toEqual([[command.commandId], 1, 0]);
});

test("ids are in the order of the clicks, whatever the clock does", () => {
  const mint = new Mint();
  const ids = [5_000, 5_000, 4_000, 5_001].map((now) => mint.next(now).commandId);
  for (let n = 0; n < 5_000; n++) ids.push(mint.next(5_001).commandId);
  const later = new Mint();
  later.after(ids.at(-1) ?? "");
  later.after("00000000-0000-4000-8000-000000000000");
  ids.push(later.next(1_000).commandId);
  expect(ids).toEqual([...ids].sort());
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids)
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("another log is heard from its beginning, and shown when it has been", async () => {
  const scene = new Scene();
  const server = new Hand();
  const client = scene.client({ transports: [server.open] });
  const list = client.follow<List>("list-a");
  await quiet();
  const shown: string[][] = [];
  client.onChange(() => shown.push(list.state.items));
  const added = (epoch: string, sequence: number, item: string) => event(sequence, { epoch, data: { item } });
  server.subscribed(2);
  server.tell(added("e", 1, "a"));
  expect(list.state.items, "history is not replayed before anybody's eyes").toEqual([]);
  server.tell(added("e", 2, "b"));
  expect(list.state.items).toEqual(["a", "b"]);
  server.tell({ type: "resync", feed: "list-a", epoch: "f" });
  server.subscribed(2, "f");
  server.tell(added("f", 1, "c"));
  expect(list.state.items).toEqual(["a", "b"]);
  server.tell(added("f", 2, "d"));
  expect(list.state.items).toEqual(["c", "d"]);
  const different = new Set(shown.map((items) => items.join()));
  expect([...different]).toEqual(["", "a,b", "c,d"]);
});

test("a hole in the numbers is filled before anything behind it is shown", async () => {
  const scene = new Scene();
  const server = new Hand();
  const client = scene.client({ transports: [server.open] });
  const list = client.follow<List>("list-a");
  await quiet();
  server.tell(event(1), event(3));
  expect(list.state.items).toEqual(["item 1"]);
  await scene.clock.pass(1_000);
  expect(server.sent.at(-1)).toEqual({ type: "subscribe", feed: "list-a", epoch: "e", last_sequence: 1 });
  server.tell(event(2), event(3));
  expect(list.state.items).toEqual(["item 1", "item 2", "item 3"]);
});

test("a receipt that was missed is heard soon after the connection is back", async () => {
  const scene = new Scene();
  scene.server.closed.add("list-a");
  const client = scene.client();
  await scene.clock.pass(100);
  const sent = client.send(intent("list-a", "append"));
  const confirmed = watched(sent.confirmed);
  await quiet();
  scene.network.breakLinks();
  await scene.clock.pass(2_000);
  expect([confirmed.is, scene.server.received]).toEqual(["rejected", 2]);
});

test("a token that runs out is replaced on the open connection", async () => {
  const scene = new Scene();
  const server = new Hand();
  const tokens = ["first", "second"];
  const client = scene.client({ token: () => tokens.shift(), transports: [server.open] });
  await quiet();
  server.error("token_expired");
  await quiet();
  expect(server.tokens).toEqual(["first"]);
  expect(server.sent).toEqual([{ type: "refresh_token", token: "second" }]);
  expect(client.status.connection).toBe("connected");
});

test.each([
  [4409, "stopped"],
  [4400, "stopped"],
  [4401, "needs-sign-in"],
  [1001, "connecting"],
])("a connection closed with %i is %s", async (code, state) => {
  const scene = new Scene();
  const server = new Hand();
  const client = scene.client({ transports: [server.open] });
  await scene.clock.pass(100);
  server.events.ended({ code });
  await quiet();
  expect(client.status.connection).toBe(state);
  await scene.clock.pass(40_000);
  expect(server.opened).toBe(state === "connecting" ? 2 : 1);
});

test("a server that falls silent is asked, and then left", async () => {
  const scene = new Scene();
  const server = new Hand();
  const client = scene.client({ transports: [server.open] });
  await scene.clock.pass(30_000);
  expect([server.opened, server.sent]).toEqual([1, [{ type: "ping" }]]);
  await scene.clock.pass(40_000);
  expect(server.opened).toBe(2);
  await client.close();
});

test("where no socket opens, the stream is tried", async () => {
  const scene = new Scene();
  const client = scene.client({
    transports: [new Hand("fails").open, scene.network.link("alice")],
  });
  await scene.clock.pass(5_000);
  expect(client.status.connection).toBe("connected");
});

test("whoever waits hears that the client was closed, and the click is kept", async () => {
  const scene = new Scene();
  const client = scene.client();
  client.goOffline();
  const sent = client.send(intent("list-a", "append"));
  await Promise.all([client.close(), scene.clock.pass(100)]);
  await expect(sent.confirmed).rejects.toBeInstanceOf(Closed);
  expect((await scene.storage.load()).commands).toEqual([sent.command]);
});

test("a tab that knows how a command has ended says so to one that does not", async () => {
  const scene = new Scene();
  const browser = new Browser(scene.clock, scene.dice);
  const client = scene.client({ tabs: browser.open });
  await scene.clock.pass(100);
  scene.server.closed.add("list-b");
  const commands = ["list-a", "list-b"].map((feed) => client.send(intent(feed, "append")).command);
  await scene.clock.pass(5_000);
  expect(client.status.pending).toBe(0);
  // One that has read them in the storage just before they were settled.
  const heard: TabMessage[] = [];
  browser.open("", (message) => heard.push(message)).tell({ kind: "added", commands, where: "stored" });
  await scene.clock.pass(100);
  expect(heard).toMatchObject([
    { kind: "confirmed", confirmation: { commandId: commands[0]?.commandId, sequenceNumbers: [1] } },
    { kind: "rejected", commandId: commands[1]?.commandId, code: "closed" },
  ]);
  expect(client.status.pending).toBe(0);
});

test("a client that begins is connecting, and may send before it is connected", async () => {
  const scene = new Scene();
  const states: string[] = [];
  const client = scene.client({ transports: [new Hand("hangs").open] });
  client.onStatus(({ connection }) => states.push(connection));
  expect(client.status.connection).toBe("connecting");
  const { accepted } = client.send(intent("list-a", "append"));
  await scene.clock.pass(1_000);
  await accepted;
  expect(new Set(states)).toEqual(new Set(["connecting"]));
});

test("two users, tenants or servers never share an outbox, whatever is in their names", () => {
  const scene = new Scene();
  const names = [
    { tenant: "a:b", user: "c" },
    { tenant: "a", user: "b:c" },
    { url: "http://server:a", tenant: "b", user: "c" },
    { user: ":a:b:c" },
  ].map((options) => {
    let name = "";
    const tabs = new Browser(scene.clock, scene.dice);
    scene.client({
      ...options,
      tabs: (own, hear) => {
        name = own;
        return tabs.open(own, hear);
      },
    });
    return name;
  });
  expect(new Set(names).size).toBe(names.length);
});

test("what another tab has sent is accepted here too, and said once", async () => {
  const scene = new Scene();
  const told: string[] = [];
  const browser = new Browser(scene.clock, scene.dice);
  const tabs: typeof browser.open = (name, hear) => {
    const tab = browser.open(name, hear);
    const tell: typeof tab.tell = (message) => {
      told.push(message.kind);
      tab.tell(message);
    };
    return { ...tab, tell };
  };
  const deaf = [new Hand("hangs").open];
  const [, two] = [scene.client({ tabs, transports: deaf }), scene.client({ tabs, transports: deaf })];
  await scene.clock.pass(100);
  const sent = two.send(intent("list-a", "append"));
  await scene.clock.pass(1_000);
  await sent.accepted;
  expect(told).toEqual(["added", "accepted"]);
});

test("a client that was sent offline before it was ready stays so", async () => {
  const scene = new Scene();
  const client = scene.client();
  client.goOffline();
  await scene.clock.pass(1_000);
  expect(client.status.connection).toBe("paused");
  client.goOnline();
  await scene.clock.pass(1_000);
  expect(client.status.connection).toBe("connected");
});

test("outboxProcessOnce is one pass: it ends when what was due has been answered", async () => {
  const scene = new Scene();
  let answered = 0;
  const fetch: typeof globalThis.fetch = async () => {
    await new Promise((resolve) => scene.clock.after(1_000, () => resolve(undefined)));
    answered += 1;
    return new Response(null, { status: 503 });
  };
  const client = scene.client({ fetch });
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  const once = async () => {
    await client.outboxProcessOnce();
    return answered;
  };
  expect((await Promise.all([once(), scene.clock.pass(1_000)]))[0]).toBe(1);
  // What is due is sent although no timer has gone off, as in a page that the browser has slowed down.
  scene.clock.time += 60_000;
  expect((await Promise.all([once(), scene.clock.pass(1_000)]))[0]).toBe(2);
});
