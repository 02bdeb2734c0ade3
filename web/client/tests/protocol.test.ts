// The client and the server speak of the same wire: the golden messages, the tables of codes, the types.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { advice, adviceOnStatus, verdict } from "../src/codes";
import type { Command } from "../src/command";
import { actionOf } from "../src/delivery";
import { type Likes, likes } from "../src/likes";
import { type ClientMessage, parseMessage, type ServerMessage } from "../src/transport";
import type { Event } from "../src/wire";
import { Hand, Scene } from "./support/scene";

const protocol = new URL("../../../protocol/", import.meta.url);
const read = (file: string) => readFileSync(new URL(file, protocol), "utf8");
const golden = (name: string) => JSON.parse(read(`golden/${name}.json`));
const names = readdirSync(new URL("golden/", protocol)).map((file) => file.replace(".json", ""));

/** Messages that only show that the server is there. */
const SIGNS_OF_LIFE = ["server-pong", "server-token-refreshed", "server-unsubscribed"];
const server = names.filter((name) => name.startsWith("server-") && !SIGNS_OF_LIFE.includes(name));

test.each(server)("reads %s", (name) => {
  expect(parseMessage(read(`golden/${name}.json`))).toEqual(golden(name));
});

test.each(SIGNS_OF_LIFE)("passes over %s", (name) => {
  expect(parseMessage(read(`golden/${name}.json`))).toBeUndefined();
});

test("passes over what it does not know", () => {
  for (const text of ["", "[]", "null", "7", "{", '{"type":"of tomorrow"}', '{"type":"constructor"}'])
    expect(parseMessage(text), text).toBeUndefined();
});

/** What the client reads of a message; the rest of it may be missing. */
const READ = {
  event: ["feed", "epoch", "sequence_number", "position", "event_type", "data"],
  receipt: ["command_id", "outcome", "sequence_numbers", "position"],
  error: ["code", "message"],
  subscribed: ["feed", "epoch", "current_sequence"],
  sync_batch: ["feed", "events", "current_sequence"],
  snapshot: ["feed", "epoch", "sequence_number"],
  resync: ["feed"],
};

test.each(server)("passes over %s with something missing, or of another kind", (name) => {
  const message = golden(name);
  for (const field of READ[message.type as keyof typeof READ]) {
    const isNumber = typeof message[field] === "number";
    for (const wrong of [undefined, null, true, isNumber ? "7" : 7, isNumber ? 0.5 : Number.NaN]) {
      const text = JSON.stringify({ ...message, [field]: wrong });
      expect(parseMessage(text), text).toBeUndefined();
    }
  }
});

test.each([
  ["server-receipt-applied", { sequence_numbers: [1, null] }],
  ["server-receipt-applied", { outcome: "of tomorrow" }],
  ["server-sync-batch", { events: [{ type: "event" }] }],
  ["server-sync-batch", { events: [golden("server-resync")] }],
])("passes over %s with %j", (name, wrong) => {
  expect(parseMessage(JSON.stringify({ ...golden(name), ...wrong }))).toBeUndefined();
});

const feed = "like-article-1";
const epoch = "9f1c2e7ab0d34c55a6e8107f3b2d4c91";
const command: Command = {
  feed,
  type: "LikeAdd",
  commandId: "019bd64a-0800-4000-8000-000000000001",
  data: { likeId: "l-1", at: "2026-01-19T12:00:00Z" },
  createdAt: 0,
};

test.each<[string, ClientMessage]>([
  ["client-action", actionOf(command)],
  ["client-subscribe", { type: "subscribe", feed }],
  ["client-subscribe-resume", { type: "subscribe", feed, epoch, last_sequence: 42 }],
  ["client-sync", { type: "sync", feed, last_sequence: 42 }],
  ["client-unsubscribe", { type: "unsubscribe", feed }],
  ["client-refresh-token", { type: "refresh_token", token: "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl" }],
  ["client-ping", { type: "ping" }],
])("writes %s", (name, message) => {
  expect(JSON.parse(JSON.stringify(message))).toEqual(golden(name));
});

test("a client does what the golden messages of the server say", async () => {
  const scene = new Scene();
  const server = new Hand();
  const tell = (name: string) => server.tell(parseMessage(read(`golden/${name}.json`)) as ServerMessage);
  const before = { ...golden("likes-of-target"), count: 11, me: false, version: 42 };
  const fetch = async () => Response.json(before);
  const idOf = (n: number) => `019bd64a-0800-4000-8000-00000000000${n}`;
  // The commands that the messages speak of.
  const put = [1, 2, 3].map((n) => ({ ...command, commandId: idOf(n), createdAt: scene.clock.now() }));
  put.push({ ...command, commandId: idOf(5), feed: "seat-12", createdAt: scene.clock.now() });
  await scene.storage.write({ put, remove: [], checkpoints: [] });
  const options = { models: [likes], transports: [server.open], fetch, send: "socket" as const };
  const client = scene.client(options);
  const settled: Record<string, unknown> = {};
  client.onSettled((what) => {
    settled[what.command.commandId.slice(-1)] = "error" in what ? what.error : what.confirmation;
  });
  const article = client.follow<Likes>(feed);
  await scene.clock.pass(100);
  expect(server.sent).toContainEqual({ type: "subscribe", feed, last_sequence: 42 });
  tell("server-subscribed");
  tell("server-event");
  expect(article.confirmed.version, "more of the same command may come").toBe(42);
  expect(server.sent.at(-1)).toEqual({ type: "sync", feed, last_sequence: 43 });
  tell("server-sync-batch");
  tell("server-event-of-the-system");
  expect(article.confirmed).toEqual({ count: 12, me: true, version: 44 });
  expect(settled["1"]).toEqual({
    commandId: idOf(1),
    outcome: "applied",
    sequenceNumbers: [43],
    position: 1207,
  });
  tell("server-receipt-unchanged");
  expect(settled["2"]).toMatchObject({ outcome: "unchanged", position: 1207 });
  tell("server-receipt-rejected");
  expect(settled["3"]).toMatchObject({ name: "Rejected", code: "likes_closed" });
  tell("server-receipt-rejected-with-details");
  expect(settled["5"]).toMatchObject({ code: "seat_taken", details: { free: [13, 14] } });
  tell("server-resync");
  tell("server-subscribed");
  expect(article.confirmed.version, "what was shown stays until the history has been heard").toBe(44);
  tell("server-snapshot");
  expect(article.confirmed.version, "a snapshot beyond the end that was named is the end").toBe(1000);
  tell("server-error-rate-limited");
  expect(client.status).toMatchObject({ connection: "connected", pending: 0 });
});

test.each([
  ["server-receipt-applied", { outcome: "applied", sequenceNumbers: [43], position: 1207 }],
  ["server-error", { name: "GaveUp", code: "invalid_field", message: "likeId: is missing" }],
])("a command on the socket ends by %s", async (name, expected) => {
  const scene = new Scene();
  const hand = new Hand();
  const commandId = "019bd64a-0800-4000-8000-000000000001";
  const put = [{ ...command, commandId, createdAt: scene.clock.now() }];
  await scene.storage.write({ put, remove: [], checkpoints: [] });
  const fetch = () => Promise.reject(new TypeError("nothing can be posted"));
  const client = scene.client({ models: [likes], transports: [hand.open], send: "socket", fetch });
  const settled: unknown[] = [];
  client.onSettled((what) => settled.push("error" in what ? what.error : what.confirmation));
  await scene.clock.pass(1_000);
  expect(hand.sent).toContainEqual(golden("client-action"));
  hand.tell(parseMessage(read(`golden/${name}.json`)) as ServerMessage);
  await scene.clock.pass(0);
  expect(settled).toMatchObject([expected]);
});

test("the likes are those of the document", () => {
  const { path, body } = likes.route?.(command) ?? {};
  expect(path).toBe("/api/social/likes");
  expect({ ...(body as object), userId: "alice" }).toEqual(golden("likes-add"));
  const event: Event = golden("server-event");
  const before = { count: 3, me: false, version: 42 };
  expect(likes.evolve(before, event, "alice")).toEqual({ count: 12, me: true, version: 43 });
  expect(likes.evolve(before, event, "bob")).toEqual({ count: 12, me: false, version: 43 });
  const closed: Event = golden("server-event-of-the-system");
  expect(likes.evolve(before, closed, "alice")).toEqual({ count: 3, me: false, version: 44 });
});

test("a snapshot stands for the likes of a target", () => {
  const { state, sequence_number: version } = golden("server-snapshot");
  expect(likes.snapshot?.(state, "alice")).toEqual({ count: 2, me: true, version });
  expect(likes.snapshot?.(state, "carol")).toEqual({ count: 2, me: false, version });
});

test("a baseline is where the likes of a target stand", async () => {
  const ask = async (path: string) => {
    expect(path).toBe("/api/social/likes/article-1");
    return golden("likes-of-target");
  };
  expect(await likes.baseline?.(feed, ask)).toEqual({
    sequence: 43,
    state: { count: 12, me: true, version: 43 },
  });
});

test("every error of the server's table is treated as the table says", () => {
  const table: { code: string; advice: string; status: number }[] = JSON.parse(read("openapi.json"))[
    "x-error-codes"
  ];
  expect(table.length).toBeGreaterThan(10);
  // What can be mended cannot be mended by sending it again.
  const done = (row: { advice: string }) => (row.advice === "fix" ? "give_up" : row.advice);
  for (const row of table) expect([row.code, advice(row.code)]).toEqual([row.code, done(row)]);
  expect(advice("of_tomorrow")).toBe("give_up");
  for (const row of table) expect(adviceOnStatus(row.status)).toBe(done(row));
  for (const status of [200, 202, 204]) expect(adviceOnStatus(status)).toBe("accepted");
});

test("every close code of the server's table is treated as its sentence says", () => {
  const table: { code: number; about: string }[] = JSON.parse(read("asyncapi.json"))["x-close-codes"];
  const words = { "sign in": "sign_in", "do not reconnect": "stay_away", "give up": "give_up" };
  for (const { code, about } of table) {
    const said =
      Object.entries(words).find(([word]) => about.toLowerCase().includes(word))?.[1] ?? "reconnect";
    // 4404 says not to repeat it, and there is nothing else to do on a path of its own.
    expect([code, verdict(code)]).toEqual([code, code === 4404 ? "give_up" : said]);
  }
});

test("the types are those that the server describes", () => {
  const script = new URL("../scripts/wire-types.mjs", import.meta.url);
  execFileSync(process.execPath, [script.pathname, "--check"], { stdio: "pipe" });
});
