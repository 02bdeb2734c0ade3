// The client and the server speak of the same wire: the golden messages, the tables of codes, the types.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { advice, adviceOnStatus, verdict } from "../src/codes";
import type { Command } from "../src/command";
import { actionOf } from "../src/delivery";
import { commandOf, likes } from "../src/likes";
import { type ClientMessage, parseMessage } from "../src/transport";
import type { Event } from "../src/wire";

const protocol = new URL("../../../protocol/", import.meta.url);
const read = (file: string) => readFileSync(new URL(file, protocol), "utf8");
const golden = (name: string) => JSON.parse(read(`golden/${name}.json`));
const names = readdirSync(new URL("golden/", protocol)).map((file) => file.replace(".json", ""));

test.each(names.filter((name) => name.startsWith("server-")))("reads %s", (name) => {
  const message = parseMessage(read(`golden/${name}.json`));
  expect(message).toEqual(golden(name));
});

test("passes over what it does not know", () => {
  for (const text of ["", "[]", "null", "7", "{", '{"type":"of tomorrow"}'])
    expect(parseMessage(text)).toBeUndefined();
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

test("the likes are those of the document", () => {
  const { path, body } = likes.route?.(command) ?? {};
  expect(path).toBe("/api/social/likes");
  expect({ ...(body as object), userId: "alice" }).toEqual(golden("likes-add"));
  expect(commandOf(command, "alice")).toEqual(golden("likes-add"));
  const event: Event = golden("server-event");
  const before = { count: 3, me: false, version: 42 };
  expect(likes.evolve(before, event, "alice")).toEqual({ count: 12, me: true, version: 43 });
  expect(likes.evolve(before, event, "bob")).toEqual({ count: 12, me: false, version: 43 });
  const closed: Event = golden("server-event-of-the-system");
  expect(likes.evolve(before, closed, "alice")).toEqual({ count: 3, me: false, version: 44 });
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
  for (const row of table) expect({ ...row, advice: advice(row.code) }).toEqual(row);
  expect(advice("of_tomorrow")).toBe("give_up");
  // By the status alone: what can be mended cannot be mended by sending it again.
  for (const { status, advice } of table) {
    expect(adviceOnStatus(status)).toBe(advice === "fix" ? "give_up" : advice);
  }
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
