// When a command is sent: after it is kept, after what goes before it, and again until it is settled.

import { expect, test } from "vitest";
import { MemoryStorage } from "../src";
import { Hand, Scene } from "./support/scene";
import { intent, quiet } from "./support/simulation";

/** A client whose posts get these answers, or none, and when they came. */
function posting(scene: Scene, answer: () => Response | undefined, options = {}) {
  const times: number[] = [];
  const fetch: typeof globalThis.fetch = (_, init) => {
    times.push(scene.clock.time);
    return new Promise((resolve, reject) => {
      init?.signal?.addEventListener("abort", () => reject(new Error("aborted")));
      const response = answer();
      if (response) resolve(response);
    });
  };
  const client = scene.client({ fetch, transports: [new Hand("hangs").open], ...options });
  const pauses = () => times.slice(1).map((time, n) => time - (times[n] ?? 0));
  return { client, times, pauses };
}
const status = (status: number, headers = {}) => new Response(null, { status, headers });

test("a command is not sent before it is kept", async () => {
  const scene = new Scene();
  let written = () => {};
  class Slow extends MemoryStorage {
    override write(...changes: Parameters<MemoryStorage["write"]>) {
      return new Promise<void>((resolve) => {
        written = () => resolve(super.write(...changes));
      });
    }
  }
  const { client, times } = posting(scene, () => status(202), { storage: new Slow() });
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  await scene.clock.pass(1_000);
  // Whatever makes the outbox look at what it has.
  client.goOffline();
  client.goOnline();
  await scene.clock.pass(1_000);
  expect(times).toEqual([]);
  written();
  await quiet();
  expect(times.length).toBe(1);
});

test("what was accepted is sent again after pauses that double, as long as nobody tells of it", async () => {
  const scene = new Scene();
  const { client, pauses } = posting(scene, () => status(202));
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  await scene.clock.pass(30 * 60_000);
  expect(pauses().slice(0, 7)).toEqual([10, 20, 40, 80, 160, 320, 320].map((seconds) => seconds * 1_000));
});

test("what fails is tried again after pauses that double up to a limit, and are not the same for all", async () => {
  const scene = new Scene();
  const { client, pauses } = posting(scene, () => status(503));
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  await scene.clock.pass(10 * 60_000);
  const shares = pauses().map((pause, n) => pause / Math.min(30_000, 250 * 2 ** n));
  expect(shares.length).toBeGreaterThan(15);
  for (const share of shares) expect(share).toBeGreaterThanOrEqual(0.5);
  for (const share of shares) expect(share).toBeLessThanOrEqual(1);
  expect(new Set(shares.map((share) => share.toFixed(3))).size).toBeGreaterThan(10);
});

test("a server that names a pause gets it", async () => {
  const scene = new Scene();
  const { client, pauses } = posting(scene, () => status(429, { "Retry-After": "7" }));
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  await scene.clock.pass(20_000);
  expect(pauses()).toEqual([7_000, 7_000]);
});

test("a post without an answer has failed after a while", async () => {
  const scene = new Scene();
  const { client, pauses } = posting(scene, () => undefined);
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  await scene.clock.pass(15_000);
  const [first = 0] = pauses();
  expect(first).toBeGreaterThan(10_000);
  expect(first).toBeLessThan(10_300);
});

test("so many are posted at once, and no more; of a feed only one", async () => {
  const scene = new Scene();
  const { client, times } = posting(scene, () => undefined);
  await scene.clock.pass(100);
  client.send(intent("list-0", "append"));
  for (let n = 0; n < 10; n++) client.send(intent(`list-${n}`, "append"));
  await quiet();
  expect(times.length).toBe(6);
});

test("over the socket, a command without an answer is sent again, and a refusal ends it", async () => {
  const scene = new Scene();
  const server = new Hand();
  const client = scene.client({ send: "socket", transports: [server.open] });
  await scene.clock.pass(100);
  const { command, confirmed } = client.send(intent("list-a", "append"));
  const action = {
    type: "action",
    feed: "list-a",
    event_type: "Append",
    command_id: command.commandId,
    data: {},
  };
  const sent = () => server.sent.filter(({ type }) => type === "action");
  await quiet();
  expect(sent()).toEqual([action]);
  await scene.clock.pass(10_400);
  expect(sent()).toEqual([action, action]);
  server.error("rate_limited", action, 5);
  await scene.clock.pass(4_900);
  expect(sent().length).toBe(2);
  await scene.clock.pass(200);
  expect(sent().length).toBe(3);
  server.error("unknown_command", action);
  await expect(confirmed).rejects.toMatchObject({ name: "GaveUp", code: "unknown_command" });
});

test("what was on a socket that broke is sent at once on the next one", async () => {
  const scene = new Scene();
  const server = new Hand();
  const client = scene.client({ send: "socket", transports: [server.open] });
  await scene.clock.pass(100);
  client.send(intent("list-a", "append"));
  await quiet();
  server.events.ended({ code: 1006 });
  await scene.clock.pass(1_000);
  expect([server.opened, server.sent.filter(({ type }) => type === "action").length]).toEqual([2, 2]);
});

test("a clock that is set back or forward neither stops what is tried again nor makes a click old", async () => {
  const scene = new Scene();
  const { client, times } = posting(scene, () => status(503));
  scene.clock.wall = 1_000;
  await scene.clock.pass(100);
  const { confirmed } = client.send(intent("list-a", "append"));
  let outcome = "open";
  confirmed.catch(() => {
    outcome = "given up";
  });
  scene.clock.wall = 1_800_000_000_000;
  await scene.clock.pass(60_000);
  const before = times.length;
  scene.clock.wall = 1_000;
  await scene.clock.pass(60_000);
  expect(times.length).toBeGreaterThan(before);
  expect(outcome).toBe("open");
  await scene.clock.pass(8 * 24 * 3_600_000);
  expect(outcome, "it grows old all the same").toBe("given up");
});

test("giving up one command sends no other twice", async () => {
  const scene = new Scene();
  const old = {
    ...intent("list-a", "append"),
    commandId: "018bcfe5-0000-7000-8000-000000000001",
    createdAt: 0,
  };
  const young = { ...intent("list-b", "append"), commandId: "018bcfe5-0000-7000-8000-000000000002" };
  const put = [old, { ...young, createdAt: scene.clock.now() }];
  await scene.storage.write({ put, remove: [], checkpoints: [] });
  const { client, times } = posting(scene, () => undefined);
  await scene.clock.pass(1_000);
  expect([times.length, client.status.pending]).toEqual([1, 1]);
});
