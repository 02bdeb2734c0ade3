// What a program, a browser or a server does wrong stops neither the outbox nor the feeds.

import { expect, test, vi } from "vitest";
import { Closed, DEFAULT_TIMING } from "../src";
import { realClock } from "../src/timing";
import { Tokens } from "../src/token";
import { Scene } from "./support/scene";
import { intent, lists } from "./support/simulation";

test("a listener that fails harms nobody", async () => {
  const scene = new Scene();
  const log = vi.spyOn(console, "error").mockImplementation(() => {});
  const client = scene.client();
  const fail = () => {
    throw new Error("on purpose");
  };
  const heard: string[] = [];
  for (const listen of [client.onChange, client.onStatus, client.onSettled, client.onEvent]) {
    listen.call(client, fail);
  }
  client.onSettled(({ outcome }) => heard.push(outcome));
  client.follow("list-a");
  const sent = [1, 2, 3].map(() => client.send(intent("list-a", "append")));
  await scene.clock.pass(5_000);
  for (const { confirmed } of sent) await confirmed;
  expect([heard, log.mock.calls.length > 0]).toEqual([["applied", "applied", "applied"], true]);
  log.mockRestore();
});

test("what is no JSON is refused to whoever sends it, and holds up nothing", async () => {
  const scene = new Scene();
  const client = scene.client();
  expect(() => client.send({ feed: "list-a", type: "Append", data: { n: 1n } })).toThrow(TypeError);
  const proxied = client.send({ feed: "list-a", type: "Append", data: new Proxy({ n: 1 }, {}) });
  await scene.clock.pass(5_000);
  expect(await proxied.confirmed).toMatchObject({ outcome: "applied" });
});

test("every promise ends: when a command is refused, and when the client is closed", async () => {
  const scene = new Scene();
  scene.server.closed.add("list-a");
  const client = scene.client();
  const refused = client.send(intent("list-a", "append"));
  await scene.clock.pass(5_000);
  await refused.accepted;
  client.goOffline();
  const waiting = client.send(intent("list-a", "append"));
  await Promise.all([client.close(), scene.clock.pass(100)]);
  const late = client.send(intent("list-a", "append"));
  for (const { accepted, confirmed } of [waiting, late]) {
    await expect(accepted).rejects.toBeInstanceOf(Closed);
    await expect(confirmed).rejects.toBeInstanceOf(Closed);
  }
});

test("those who need another token at the same time get the same one", async () => {
  const source = vi.fn(async () => `token ${source.mock.calls.length}`);
  const tokens = new Tokens(source, { ...DEFAULT_TIMING, ...realClock });
  const first = (await tokens.current()) ?? "";
  const others = await Promise.all([1, 2, 3, 4, 5, 6].map(() => tokens.instead(first)));
  expect([first, new Set(others), source.mock.calls.length]).toEqual(["token 1", new Set(["token 2"]), 2]);
});

test("a server that asks to be left alone is, whatever the connection does", async () => {
  const scene = new Scene();
  let posts = 0;
  const fetch: typeof globalThis.fetch = async () => {
    posts += 1;
    return new Response(null, { status: 429, headers: { "Retry-After": "60" } });
  };
  const client = scene.client({ fetch });
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  for (let n = 0; n < 5; n++) {
    await scene.clock.pass(10_000);
    scene.network.breakLinks();
  }
  expect(posts).toBe(1);
  await scene.clock.pass(20_000);
  expect(posts).toBe(2);
});

test("a model that fails at an event asks for it again, but not all the time", async () => {
  const scene = new Scene();
  const log = vi.spyOn(console, "error").mockImplementation(() => {});
  const subscribes: unknown[] = [];
  const link = scene.network.link("alice");
  const client = scene.client({
    models: [{ ...lists, evolve: () => JSON.parse("{") }],
    transports: [
      (...args) => {
        const opened = link(...args);
        const send: typeof opened.send = (message) => {
          if (message.type === "subscribe") subscribes.push(message);
          opened.send(message);
        };
        return { ...opened, send };
      },
    ],
  });
  scene.server.take({ feed: "list-a", event_type: "Append", command_id: "x", data: {} }, "bob");
  client.follow("list-a");
  await scene.clock.pass(60_000);
  expect(subscribes.length).toBeGreaterThan(2);
  expect(subscribes.length).toBeLessThan(15);
  log.mockRestore();
});
