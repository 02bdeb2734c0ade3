// What a feed shows, and when it asks the server for more.

import { expect, test, vi } from "vitest";
import type { Command, Model } from "../src";
import { type Likes, likes } from "../src/likes";
import type { ClientMessage, ServerMessage } from "../src/transport";
import type { Receipt } from "../src/wire";
import { event, Hand, Scene } from "./support/scene";
import { Browser, intent, type List, lists, quiet } from "./support/simulation";

/** A client that follows `list-a` on a server in the test's hand, which has said where the list ends. */
async function following(options: { model?: Model<List>; transport?: "sse" | "websocket" } = {}) {
  const scene = new Scene();
  const server = new Hand("opens", options.transport);
  const client = scene.client({
    transports: [server.open],
    models: [options.model ?? lists],
    fetch: async () => new Response(null, { status: 202 }),
  });
  const list = client.follow<List>("list-a");
  await scene.clock.pass(100);
  server.subscribed(0);
  server.sent.length = 0;
  const own = (sequence: number, { commandId }: Command, item = commandId) =>
    event(sequence, { user_id: "alice", command_id: commandId, data: { item } });
  const receipt = ({ commandId }: Command, ...sequence_numbers: number[]): Receipt => {
    const outcome = sequence_numbers.length > 0 ? "applied" : "unchanged";
    return { type: "receipt", feed: "list-a", command_id: commandId, outcome, sequence_numbers, position: 9 };
  };
  const batch = (current_sequence: number, ...events: ReturnType<typeof event>[]): ServerMessage => {
    return { type: "sync_batch", feed: "list-a", events, current_sequence, has_more: false };
  };
  const syncs = () => server.sent.filter(({ type }) => type === "sync").length;
  return { scene, server, client, list, own, receipt, batch, syncs };
}

const pair = (command: Command) => [command.commandId, `${command.commandId} too`];

test("of a command with several events nothing is shown before the last: the receipt comes first", async () => {
  const { client, list, server, own, receipt } = await following();
  const { command, confirmed } = client.send(intent("list-a", "pair"));
  server.tell(receipt(command, 1, 2));
  server.tell(own(1, command));
  expect([list.state.items, list.confirmed.items]).toEqual([pair(command), []]);
  server.tell(own(2, command, pair(command)[1]));
  expect([list.state.items, list.confirmed.items, list.pending]).toEqual([pair(command), pair(command), []]);
  expect(await confirmed).toMatchObject({ sequenceNumbers: [1, 2] });
});

test("… or an event comes first, and the receipt after it", async () => {
  const { client, list, server, own, receipt } = await following();
  const { command } = client.send(intent("list-a", "pair"));
  server.tell(own(1, command));
  expect([list.state.items, list.confirmed.items]).toEqual([pair(command), []]);
  server.tell(receipt(command, 1, 2));
  expect([list.state.items, list.confirmed.items]).toEqual([pair(command), []]);
  server.tell(own(2, command, pair(command)[1]));
  expect([list.state.items, list.confirmed.items]).toEqual([pair(command), pair(command)]);
});

test("… or no receipt comes, but the event of another command", async () => {
  const { client, list, server, own } = await following();
  const { command, confirmed } = client.send(intent("list-a", "pair"));
  server.tell(own(1, command));
  server.tell(own(2, command, pair(command)[1]));
  expect(list.confirmed.items).toEqual([]);
  server.tell(event(3));
  expect(list.state.items).toEqual([...pair(command), "item 3"]);
  expect(await confirmed).toEqual({
    commandId: command.commandId,
    outcome: "applied",
    sequenceNumbers: [1, 2],
    position: 2,
  });
});

test("… or nothing at all: then the client asks where the feed ends", async () => {
  const { client, list, server, own, batch, syncs } = await following();
  const { command } = client.send(intent("list-a", "pair"));
  server.tell(own(1, command));
  expect(syncs()).toBe(1);
  server.tell(batch(2));
  expect([list.state.items, list.confirmed.items]).toEqual([pair(command), []]);
  server.tell(own(2, command, pair(command)[1]));
  expect([list.state.items, list.confirmed.items]).toEqual([pair(command), pair(command)]);
  expect([syncs(), client.status.pending]).toEqual([1, 0]);
});

test("a stream cannot be asked: what came together is all", async () => {
  const { client, list, server, own } = await following({ transport: "sse" });
  const { command } = client.send(intent("list-a", "pair"));
  server.tell(own(1, command), own(2, command, pair(command)[1]));
  expect([list.confirmed.items, list.pending]).toEqual([pair(command), []]);
});

test("an answer about the end of a feed answers exactly the question that was asked for it", async () => {
  const { client, list, server, receipt, batch, syncs } = await following();
  const one = client.send(intent("list-a", 1)).command;
  server.tell(receipt(one));
  expect(syncs()).toBe(1);
  // This one is decided after the question: the answer may be older.
  const two = client.send(intent("list-a", 2)).command;
  server.tell(receipt(two));
  expect(syncs(), "one question at a time").toBe(1);
  server.tell(batch(0));
  expect(list.pending.map(({ commandId }) => commandId)).toEqual([two.commandId]);
  expect(syncs()).toBe(2);
  server.tell(batch(2), event(1), event(2));
  expect([list.pending, list.state.items]).toEqual([[], ["item 1", "item 2"]]);
  expect(syncs()).toBe(2);
});

test("however many commands change nothing, the questions are few", async () => {
  const { client, list, server, receipt, batch, syncs } = await following();
  for (let n = 0; n < 500; n++) server.tell(receipt(client.send(intent("list-a", n)).command));
  expect(syncs()).toBe(1);
  server.tell(batch(0));
  server.tell(batch(0));
  expect([syncs(), list.pending.length]).toEqual([2, 0]);
});

test("the events of a batch are taken, and a hole in it is filled", async () => {
  const { list, server, batch, scene } = await following();
  server.tell(batch(2, event(1), event(2)));
  expect(list.state.items).toEqual(["item 1", "item 2"]);
  server.tell(batch(4, event(4)));
  expect(list.state.items).toEqual(["item 1", "item 2"]);
  await scene.clock.pass(1_000);
  expect(server.sent.at(-1)).toMatchObject({ type: "subscribe", last_sequence: 2 });
});

const snapshot = (sequence_number: number, all: string[], epoch = "e"): ServerMessage => {
  return { type: "snapshot", feed: "list-a", epoch, sequence_number, state: { all } };
};

test("a snapshot stands for what was before it", async () => {
  const { list, server } = await following();
  server.subscribed(3);
  server.tell(snapshot(2, ["a", "b"]));
  expect(list.state.items, "not before its end").toEqual([]);
  server.tell(event(3));
  expect([list.state.items, list.sequence]).toEqual([["a", "b", "item 3"], 3]);
  server.tell(snapshot(2, ["a", "b"]), event(4));
  expect([list.state.items, list.sequence], "one that is old is passed over").toEqual([
    ["a", "b", "item 3", "item 4"],
    4,
  ]);
});

test("what follows a snapshot follows its number, also after a reload", async () => {
  const { scene, client, server } = await following();
  server.subscribed(1_000);
  server.tell(snapshot(1_000, ["a"]));
  await Promise.all([client.close(), scene.clock.pass(1_000)]);
  const next = new Hand();
  const list = scene.client({ transports: [next.open] }).follow<List>("list-a");
  await scene.clock.pass(100);
  expect([list.state.items, list.sequence]).toEqual([["a"], 1_000]);
  expect(next.sent).toEqual([{ type: "subscribe", feed: "list-a", epoch: "e", last_sequence: 1_000 }]);
});

test("a snapshot takes no click away: the receipts are asked for, and they do", async () => {
  const { scene, client, list, server, receipt } = await following();
  const [one, two] = [client.send(intent("list-a", "append")), client.send(intent("list-a", "append"))];
  await scene.clock.pass(100);
  server.tell(snapshot(1_000, [one.command.commandId]));
  const both = [one.command.commandId, two.command.commandId];
  expect([list.state.items, list.pending.length]).toEqual([both, 2]);
  server.tell(receipt(one.command, 7));
  expect([list.state.items, list.pending.length]).toEqual([both, 1]);
  expect((await one.confirmed).sequenceNumbers).toEqual([7]);
});

test("… of that feed at once, and not after the while in which it would be sent again anyway", async () => {
  const scene = new Scene();
  const server = new Hand();
  const posts: string[] = [];
  const fetch: typeof globalThis.fetch = async (_, init) => {
    posts.push(JSON.parse(String(init?.body)).feed);
    return new Response(null, { status: 202 });
  };
  const client = scene.client({ transports: [server.open], fetch });
  client.follow<List>("list-a");
  await scene.clock.pass(2_000);
  for (const feed of ["list-a", "list-b"]) client.send(intent(feed, "append"));
  await scene.clock.pass(1_000);
  expect(posts).toEqual(["list-a", "list-b"]);
  server.subscribed(9);
  server.tell(snapshot(9, []));
  await scene.clock.pass(1_000);
  expect(posts).toEqual(["list-a", "list-b", "list-a"]);
  server.tell(snapshot(9, []));
  await scene.clock.pass(1_000);
  expect(posts.length, "one that is no news asks for nothing").toBe(3);
});

test("a snapshot of another log, or one that the model cannot take, is asked for again with pauses", async () => {
  const log = vi.spyOn(console, "error").mockImplementation(() => {});
  const subscribes = (server: Hand) => server.sent.filter(({ type }) => type === "subscribe").length;
  const { list, server, scene } = await following();
  server.tell(event(1), snapshot(9, ["other"], "f"));
  expect([list.state.items, subscribes(server)]).toEqual([["item 1"], 0]);
  await scene.clock.pass(1_000);
  expect([subscribes(server), log.mock.calls.length]).toEqual([1, 0]);
  const { snapshot: _, ...deaf } = lists;
  for (const model of [deaf, { ...lists, snapshot: () => JSON.parse("{") }]) {
    const { list, server, scene } = await following({ model });
    server.subscribed(9);
    server.tell(snapshot(9, ["a"]));
    await scene.clock.pass(1_000);
    expect([list.state.items, subscribes(server)]).toEqual([[], 1]);
  }
  expect(log.mock.calls.length).toBe(2);
  log.mockRestore();
});

test("on a stream a snapshot is taken as on a socket", async () => {
  const { list, client, server, own } = await following({ transport: "sse" });
  const { command } = client.send(intent("list-a", "append"));
  server.subscribed(1_001);
  server.tell(snapshot(1_000, ["a"]));
  server.tell(own(1_001, command));
  expect([list.state.items, list.pending]).toEqual([["a", command.commandId], []]);
});

test("on a stream a feed that is left and followed again waits for one answer, since only one comes", async () => {
  const { scene, client, list, server, receipt } = await following({ transport: "sse" });
  list.close();
  client.follow<List>("list-a").close();
  const again = client.follow<List>("list-a");
  await scene.clock.pass(0);
  server.subscribed(0);
  server.tell(receipt(client.send(intent("list-a", 1)).command));
  expect(again.pending).toEqual([]);
});

test("an answer to a question that was asked before the feed was left is nobody's", async () => {
  const { scene, client, list, server, receipt, batch, syncs } = await following();
  server.tell(receipt(client.send(intent("list-a", 1)).command));
  expect(syncs()).toBe(1);
  list.close();
  const again = client.follow<List>("list-a");
  await scene.clock.pass(0);
  const { command } = client.send(intent("list-a", 2));
  server.tell(receipt(command));
  server.tell(batch(0));
  server.subscribed(0);
  expect(again.pending.length, "both were answered before this one was decided").toBe(1);
  expect(syncs()).toBe(2);
  server.tell(batch(1, event(1, { data: { item: "key 2" } })));
  expect([again.pending, again.state.items]).toEqual([[], ["key 2"]]);
});

test("a feed that is refused for good says so to its followers, until it is shown", async () => {
  const { client, list, server } = await following();
  const changes: string[] = [];
  client.onChange((name) => changes.push(name));
  const other = client.follow<List>("list-b");
  expect(list.refused).toBeUndefined();
  changes.length = 0;
  server.error("not_found", { type: "subscribe", feed: "list-a" });
  expect(list.refused).toEqual({ code: "not_found", message: "" });
  expect([other.refused, changes]).toEqual([undefined, ["list-a"]]);
  server.subscribed(0);
  expect(list.refused).toBeUndefined();
  server.error("rate_limited", { type: "subscribe", feed: "list-a" }, 3);
  expect(list.refused, "later is not never").toBeUndefined();
});

test("a feed that is refused for now is asked for again when the server wants it, any other is not", async () => {
  const { scene, server } = await following();
  const subscribes = () => server.sent.filter(({ type }) => type === "subscribe").length;
  server.error("rate_limited", { type: "subscribe", feed: "list-a" }, 3);
  await scene.clock.pass(2_900);
  expect(subscribes()).toBe(0);
  await scene.clock.pass(200);
  expect(subscribes()).toBe(1);
  server.error("rate_limited", { type: "sync", feed: "list-a" });
  await scene.clock.pass(1_000);
  expect(subscribes(), "a question that was not answered is asked another way").toBe(2);
  server.error("not_found", { type: "subscribe", feed: "list-a" });
  await scene.clock.pass(15_000);
  expect(subscribes()).toBe(2);
});

test("a question that is refused for good can be asked again when there is another reason", async () => {
  const { client, list, server, receipt, batch, syncs } = await following();
  server.tell(receipt(client.send(intent("list-a", 1)).command));
  server.error("internal_of_tomorrow" as "internal", { type: "sync", feed: "list-a" });
  expect([syncs(), list.refused], "the feed is still shown").toEqual([1, undefined]);
  server.tell(receipt(client.send(intent("list-a", 2)).command));
  expect(syncs()).toBe(2);
  server.tell(batch(0));
  expect(list.pending).toEqual([]);
});

test("a baseline without a number is none", async () => {
  const scene = new Scene();
  const server = new Hand();
  const baseline = async () => ({ sequence: Number.NaN, state: { items: ["nonsense"] } });
  const client = scene.client({ transports: [server.open], models: [{ ...lists, baseline }] });
  const list = client.follow<List>("list-a");
  await scene.clock.pass(100);
  expect(server.sent).toEqual([{ type: "subscribe", feed: "list-a" }]);
  server.subscribed(1);
  server.tell(event(1));
  expect([list.state.items, list.sequence]).toEqual([["item 1"], 1]);
});

test("a command that is heard of after its event leaves with it", async () => {
  const scene = new Scene();
  const browser = new Browser(scene.clock, scene.dice);
  const other = browser.open("", () => {});
  other.stand(() => {});
  const server = new Hand();
  const client = scene.client({ transports: [server.open], tabs: browser.open });
  const list = client.follow<List>("list-a");
  await scene.clock.pass(100);
  const commandId = "018bcfe5-0000-7000-8000-000000000001";
  const command = { ...intent("list-a", "append"), commandId, createdAt: scene.clock.now() };
  const its = { user_id: "alice", command_id: commandId, data: { item: commandId } };
  server.subscribed(2);
  server.tell(event(1, its));
  other.tell({ kind: "added", commands: [command], where: "stored" });
  await scene.clock.pass(100);
  expect([list.state.items, list.confirmed.items]).toEqual([[commandId], []]);
  server.tell(event(2));
  expect([list.state.items, list.pending]).toEqual([[commandId, "item 2"], []]);
});

test("a baseline is where a feed begins, unless it is none", async () => {
  for (const [answer, expected] of [
    [
      { count: 12, me: true, version: 43 },
      { count: 12, me: true, version: 43 },
    ],
    [{ count: null, me: true, version: 43 }, likes.initial],
    [{ count: 12, me: true }, likes.initial],
    ["<html>", likes.initial],
  ] as const) {
    const scene = new Scene();
    const server = new Hand();
    const fetch = async () => new Response(JSON.stringify(answer));
    const client = scene.client({ models: [likes], transports: [server.open], fetch });
    const article = client.follow<Likes>("like-article-1");
    await scene.clock.pass(100);
    expect(article.state).toEqual(expected);
    const since = expected.version > 0 ? { last_sequence: 43 } : {};
    expect(server.sent).toEqual([{ type: "subscribe", feed: "like-article-1", ...since }]);
  }
});

test("a feed that nobody follows any more is left", async () => {
  const { server, list } = await following();
  list.close();
  list.close();
  expect(server.sent).toEqual([{ type: "unsubscribe", feed: "list-a" }] satisfies ClientMessage[]);
});

test("a message that cannot be taken does not keep the next from being heard", async () => {
  const { server, list, client } = await following();
  const log = vi.spyOn(console, "error").mockImplementation(() => {});
  server.tell(null as unknown as ServerMessage, event(1));
  expect([list.state.items, log.mock.calls.length]).toEqual([["item 1"], 1]);
  log.mockRestore();
  await quiet();
  expect(client.status.connection).toBe("connected");
});

test("after a resync nothing is compared with the numbers of the log before", async () => {
  const { client, list, server, own, scene } = await following();
  server.tell(event(1));
  const { command } = client.send(intent("list-a", "append"));
  server.tell({ type: "resync", feed: "list-a", epoch: "f" });
  server.subscribed(1, "f");
  server.tell({ ...own(1, command), epoch: "f" });
  expect(list.state.items, "the click does not vanish").toContain(command.commandId);
  server.tell({ type: "sync_batch", feed: "list-a", events: [], current_sequence: 1, has_more: false });
  await scene.clock.pass(1_000);
  expect([list.state.items, client.status.pending]).toEqual([[command.commandId], 0]);
});

test("another log is heard from its beginning also if nobody says that it is another", async () => {
  const { list, server } = await following({ transport: "sse" });
  server.tell(event(1), event(2));
  server.subscribed(3, "f");
  for (const n of [1, 2, 3]) server.tell(event(n, { epoch: "f", data: { item: `new ${n}` } }));
  expect(list.state.items).toEqual(["new 1", "new 2", "new 3"]);
});

test("a click is predicted onto what is shown, however many are pending", async () => {
  let predicted = 0;
  const predict: typeof lists.predict = (...args) => {
    predicted += 1;
    return lists.predict(...args);
  };
  const { client } = await following({ model: { ...lists, predict } });
  for (let n = 0; n < 100; n++) client.send(intent("list-a", "append"));
  expect(predicted).toBe(100);
});

test("a model that cannot predict does not keep a command from being taken", async () => {
  const log = vi.spyOn(console, "error").mockImplementation(() => {});
  const predict = () => {
    throw new Error("on purpose");
  };
  const { client, list, server, own } = await following({ model: { ...lists, predict } });
  const { command } = client.send(intent("list-a", "append"));
  server.tell(own(1, command), event(2));
  expect([list.state.items, log.mock.calls.length > 0]).toEqual([[command.commandId, "item 2"], true]);
  log.mockRestore();
});

test("on a stream, what a receipt goes back on is heard with it before anything is taken away", async () => {
  const { client, list, server, receipt } = await following({ transport: "sse" });
  const { command } = client.send(intent("list-a", 1));
  const seen = new Set<string>();
  client.onChange(() => seen.add(list.state.items.join()));
  server.tell(receipt(command), event(1, { data: { item: "key 1" } }));
  expect([[...seen], list.pending]).toEqual([["key 1"], []]);
});
