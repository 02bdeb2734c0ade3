// The stream, from a server that speaks it over a real connection.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { type Ended, type Link, openSse } from "../src";
import type { ServerMessage } from "../src/transport";
import { event as eventOf } from "./support/scene";

interface Heard {
  link: Link;
  messages: ServerMessage[];
  ended: Ended[];
  opened: number;
}

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** Waits for a condition, with a deadline. */
async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<Heard> {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const heard: Omit<Heard, "link"> = { messages: [], ended: [], opened: 0 };
  const link = openSse(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, "the token", {
    opened: () => {
      heard.opened += 1;
    },
    messages: (messages) => heard.messages.push(...messages),
    alive: () => {},
    ended: (ended) => heard.ended.push(ended),
  });
  closing.push(() => {
    link.close();
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(heard, { link });
}

function event(feed: string, sequence: number): string {
  return JSON.stringify(eventOf(sequence, { feed }));
}

test("messages arrive whole, however they are cut", async () => {
  const text = `retry: 2000\n\nid: e:1\ndata: ${event("like-é", 1)}\n\n: ping\n\ndata: {"type":"of tomorrow"}\n\ndata: ${event("like-é", 2)}\n\n`;
  const heard = await serve(async (request, response) => {
    expect(request.headers.authorization).toBe("Bearer the token");
    expect(request.url).toBe("/api/stream?feed=commands-me");
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    for (const byte of Buffer.from(text)) {
      response.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
  await until("the last", () => heard.messages.length === 2);
  expect(heard.messages).toEqual([1, 2].map((n) => JSON.parse(event("like-é", n))));
  expect(heard.opened).toBe(1);
});

test("another feed opens the stream again, from where each feed is", async () => {
  const asked: string[] = [];
  const heard = await serve((request, response) => {
    asked.push(`${request.url} ${request.headers["last-event-id"] ?? ""}`);
    response.writeHead(200).write(asked.length === 2 ? `data: ${event("like-a b", 5)}\n\n` : ": ping\n\n");
  });
  await until("the first", () => heard.opened === 1);
  heard.link.send({ type: "subscribe", feed: "like-a b", epoch: "e", last_sequence: 4 });
  await until("the event", () => heard.messages.length === 1);
  heard.link.send({ type: "subscribe", feed: "like-c" });
  heard.link.send({ type: "ping" });
  await until("the third", () => asked.length === 3);
  expect(asked).toEqual([
    "/api/stream?feed=commands-me ",
    "/api/stream?feed=commands-me&feed=like-a%20b e:like-a+b=4",
    "/api/stream?feed=commands-me&feed=like-a%20b&feed=like-c e:like-a+b=5",
  ]);
  expect([heard.opened, heard.ended]).toEqual([1, []]);
});

test.each([
  [401, {}, { code: 4401 }],
  [404, {}, { code: 4503 }],
  [429, { "Retry-After": "7" }, { code: 4429, retryAfter: 7_000 }],
  [503, {}, { code: 4503 }],
])("a status of %i ends it as a socket would end", async (status, headers, expected) => {
  const heard = await serve((_, response) => void response.writeHead(status, headers).end());
  await until("the end", () => heard.ended.length > 0);
  expect(heard.ended).toMatchObject([expected]);
  expect(heard.opened).toBe(0);
});

test("a stream that breaks off has ended", async () => {
  const heard = await serve((_, response) => {
    response.writeHead(200).write(": ping\n\n");
    setImmediate(() => response.destroy());
  });
  await until("the end", () => heard.ended.length > 0);
  expect(heard.ended).toMatchObject([{ code: 1006 }]);
});

test("a stream without an end of line is not kept for ever", async () => {
  let sent = 0;
  const heard = await serve((_, response) => {
    response.writeHead(200);
    const more = () => {
      if (response.destroyed) return;
      sent += 1 << 20;
      response.write("x".repeat(1 << 20), more);
    };
    more();
  });
  await until("the end", () => heard.ended.length > 0);
  expect(heard.ended).toMatchObject([{ code: 1006 }]);
  expect(sent).toBeGreaterThan(8 << 20);
});

/** A server that refuses every stream of which it refuses a feed, and sends an event of each feed of any other. */
async function picky(refuses: (feed: string) => boolean) {
  const requests: string[][] = [];
  const heard = await serve((request, response) => {
    const feeds = new URL(request.url ?? "", "http://server").searchParams.getAll("feed").slice(1);
    requests.push(feeds);
    if (feeds.some(refuses)) {
      response.writeHead(404).end(JSON.stringify({ code: "not_found", detail: "There is no such thing." }));
      return;
    }
    response.writeHead(200).write(": ping\n\n");
    for (const feed of feeds) response.write(`data: ${event(feed, 1)}\n\n`);
  });
  await until("the first", () => heard.opened === 1);
  const follow = (...feeds: string[]) => {
    for (const feed of feeds) heard.link.send({ type: "subscribe", feed });
  };
  const feedsOf = (type: "event" | "error") => {
    const feeds = heard.messages.map((message) => {
      if (message.type === "event") return type === "event" && message.feed;
      return message.type === "error" && type === "error" && message.original_action?.feed;
    });
    return [...new Set(feeds.filter(Boolean))].sort();
  };
  return { requests, heard, follow, feedsOf };
}

test("a feed that is refused is told as an error, and the others are heard", async () => {
  const { requests, heard, follow, feedsOf } = await picky((feed) => feed.startsWith("secret"));
  const names = Array.from({ length: 40 }, (_, n) => `like-${n}`).sort();
  follow(...names.slice(0, 20), "secret-1", ...names.slice(20), "secret-2");
  await until("all", () => feedsOf("event").length === 40);
  expect(feedsOf("error")).toEqual(["secret-1", "secret-2"]);
  expect(heard.messages.filter(({ type }) => type === "error")).toHaveLength(2);
  expect(heard.messages.find(({ type }) => type === "error")).toEqual({
    type: "error",
    code: "not_found",
    message: "There is no such thing.",
    original_action: { type: "subscribe", feed: "secret-1" },
  });
  expect([heard.opened, heard.ended]).toEqual([1, []]);
  expect(requests.length, "by halves, and not one by one").toBeLessThan(20);
  expect(requests.at(-1)?.toSorted()).toEqual(names);
  const before = requests.length;
  follow("like-last");
  await until("the last", () => feedsOf("event").length === 41);
  expect(requests.length, "it is not asked for again").toBe(before + 1);
});

test("a feed that is refused later is found among those that were taken", async () => {
  let secret = "";
  const { heard, follow, feedsOf } = await picky((feed) => feed === secret);
  follow("like-a", "like-b", "like-c");
  await until("all", () => feedsOf("event").length === 3);
  secret = "like-b";
  follow("like-d");
  await until("the last", () => feedsOf("event").length === 4);
  expect([feedsOf("error"), heard.ended]).toEqual([["like-b"], []]);
});

test("a search that is too much for the server waits, and goes on where it was", async () => {
  let busy = 0;
  const heard = await serve((request, response) => {
    const feeds = new URL(request.url ?? "", "http://server").searchParams.getAll("feed");
    if (feeds.includes("secret")) return response.writeHead(404).end("{}");
    if (feeds.length === 3 && busy++ === 0) return response.writeHead(429, { "Retry-After": "0.05" }).end();
    response.writeHead(200).write(": ping\n\n");
    for (const feed of feeds) response.write(`data: ${event(feed, 1)}\n\n`);
  });
  await until("the first", () => heard.opened === 1);
  for (const feed of ["a", "b", "c", "secret"]) heard.link.send({ type: "subscribe", feed });
  const events = () => new Set(heard.messages.map((message) => message.type === "event" && message.feed));
  await until("the others", () => ["a", "b", "c"].every((feed) => events().has(feed)));
  expect([busy, heard.ended]).toEqual([2, []]);
});

test("a feed that is refused after somebody has left it is not taken for the one that is followed then", async () => {
  let answer = () => {};
  const heard = await serve((request, response) => {
    const feeds = new URL(request.url ?? "", "http://server").searchParams.getAll("feed");
    if (feeds.includes("a")) {
      answer = () => response.writeHead(404).end("{}");
      return;
    }
    response.writeHead(200).write(feeds.includes("b") ? `data: ${event("b", 1)}\n\n` : ": ping\n\n");
  });
  await until("the first", () => heard.opened === 1);
  heard.link.send({ type: "subscribe", feed: "a" });
  await until("the question", () => `${answer}` !== `${() => {}}`);
  heard.link.send({ type: "unsubscribe", feed: "a" });
  heard.link.send({ type: "subscribe", feed: "b" });
  answer();
  await until("an event", () => heard.messages.length > 0);
  expect([heard.messages.map(({ type }) => type), heard.ended]).toEqual([["event"], []]);
});

test("what follows a snapshot is asked for from its number on", async () => {
  const resumed: unknown[] = [];
  const snapshot = { type: "snapshot", feed: "like-a", epoch: "e", sequence_number: 1_000, state: {} };
  const heard = await serve((request, response) => {
    resumed.push(request.headers["last-event-id"]);
    const first = request.url?.includes("like-a") && resumed.length === 2;
    response.writeHead(200).write(first ? `data: ${JSON.stringify(snapshot)}\n\n` : ": ping\n\n");
  });
  heard.link.send({ type: "subscribe", feed: "like-a" });
  await until("the snapshot", () => heard.messages.length === 1);
  heard.link.send({ type: "subscribe", feed: "like-b" });
  await until("the third", () => resumed.length === 3);
  expect(resumed).toEqual([undefined, undefined, "e:like-a=1000"]);
});
