// The client in a page: its tabs, its network, and what a browser does to it.

import { afterEach, expect, test, vi } from "vitest";
import { DEFAULT_TIMING } from "../src";
import { openTabs, type TabMessage } from "../src/tabs";
import { realClock } from "../src/timing";
import { Tokens } from "../src/token";
import { Hand, Scene } from "./support/scene";
import { Browser, intent, quiet } from "./support/simulation";

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** Locks and channels as a browser has them, as far as the tabs use them. */
function stubBrowser(...has: ("locks" | "channels")[]) {
  const queue: { name: string; run: () => void }[] = [];
  const request = (name: string, { signal }: { signal: AbortSignal }, hold: () => Promise<void>) =>
    new Promise<void>((resolve, reject) => {
      const entry = { name, run: () => void 0 };
      const leave = () => {
        const first = queue[0] === entry;
        queue.splice(queue.indexOf(entry), 1);
        if (first) queue[0]?.run();
      };
      entry.run = () => {
        signal.removeEventListener("abort", withdraw);
        void hold().then(() => {
          leave();
          resolve();
        });
      };
      const withdraw = () => {
        leave();
        reject(new Error("withdrawn"));
      };
      signal.addEventListener("abort", withdraw);
      queue.push(entry);
      if (queue.length === 1) queueMicrotask(entry.run);
    });
  const channels = new Set<{ name: string; onmessage?: (event: { data: unknown }) => void }>();
  class Channel {
    onmessage?: (event: { data: unknown }) => void;
    constructor(readonly name: string) {
      channels.add(this);
    }
    postMessage(data: unknown) {
      for (const other of channels)
        if (other !== this && other.name === this.name) other.onmessage?.({ data });
    }
    close() {
      channels.delete(this);
    }
  }
  vi.stubGlobal("navigator", has.includes("locks") ? { locks: { request } } : {});
  vi.stubGlobal("BroadcastChannel", has.includes("channels") ? Channel : undefined);
}

test.each<[("locks" | "channels")[], boolean, boolean]>([
  [["locks", "channels"], false, true],
  [["channels"], true, true],
  [["locks"], true, false],
  [[], true, false],
])("with %j a second tab sends: %s, and is heard: %s", async (has, sends, isHeard) => {
  stubBrowser(...has);
  const heard: TabMessage[] = [];
  const gained: string[] = [];
  const one = openTabs("outbox", (message) => heard.push(message));
  const two = openTabs("outbox", () => {});
  one.stand(() => gained.push("one"));
  await quiet();
  two.stand(() => gained.push("two"));
  await quiet();
  expect(gained).toEqual(sends ? ["one", "two"] : ["one"]);
  two.tell({ kind: "accepted", commandId: "x" });
  expect(heard.length).toBe(isHeard ? 1 : 0);
  one.yield();
  await quiet();
  expect(gained).toEqual(["one", "two"]);
  one.close();
  two.close();
  two.tell({ kind: "accepted", commandId: "x" });
  expect(heard.length).toBe(isHeard ? 1 : 0);
});

test("a page that the browser freezes lets another send, and stands again when it goes on", async () => {
  const page = new EventTarget();
  const scene = new Scene();
  const tabs = new Browser(scene.clock, scene.dice).open;
  vi.stubGlobal("document", page);
  const one = scene.client({ tabs });
  vi.stubGlobal("document", new EventTarget());
  const two = scene.client({ tabs });
  await scene.clock.pass(100);
  expect([one.status.sends, two.status.sends]).toEqual([true, false]);
  page.dispatchEvent(new Event("freeze"));
  expect(one.status.sends).toBe(false);
  await quiet();
  expect(two.status.sends).toBe(true);
  page.dispatchEvent(new Event("resume"));
  await Promise.all([two.close(), scene.clock.pass(100)]);
  expect(one.status.sends).toBe(true);
});

test("a browser that has its network back is not waited for", async () => {
  const page = new EventTarget();
  const listen = vi.fn(page.addEventListener.bind(page));
  vi.stubGlobal("addEventListener", listen);
  const scene = new Scene();
  const down = new Hand("fails");
  const client = scene.client({ transports: [down.open] });
  await scene.clock.pass(60_000);
  expect(client.status.connection).toBe("offline");
  const before = down.opened;
  page.dispatchEvent(new Event("online"));
  await quiet();
  expect(down.opened).toBe(before + 1);
  await Promise.all([client.close(), scene.clock.pass(100)]);
  page.dispatchEvent(new Event("online"));
  await quiet();
  expect(down.opened).toBe(before + 1);
  const { signal } = listen.mock.calls[0]?.[2] as AddEventListenerOptions;
  expect(signal?.aborted, "a client that is closed is let go").toBe(true);
});

test("a connection that never opens is given up after a while", async () => {
  const scene = new Scene();
  const hand = new Hand("hangs");
  scene.client({ transports: [hand.open] });
  await scene.clock.pass(9_000);
  expect(hand.opened).toBe(1);
  await scene.clock.pass(2_000);
  expect(hand.opened).toBe(2);
});

test("the first way to connect is tried again after a while, and whenever somebody asks for a connection", async () => {
  const scene = new Scene();
  let up = false;
  const [bad, good, stream] = [new Hand("fails"), new Hand(), new Hand("opens", "sse")];
  const client = scene.client({
    transports: [(...args) => (up ? good : bad).open(...args), stream.open],
    timing: { silence: Number.POSITIVE_INFINITY },
  });
  await scene.clock.pass(60_000);
  expect(client.status.transport).toBe("sse");
  up = true;
  // A stream that breaks does not mean that sockets are possible again.
  stream.events.ended({ code: 1006 });
  await scene.clock.pass(60_000);
  expect(client.status.transport).toBe("sse");
  await scene.clock.pass(600_000);
  expect(client.status.transport).toBe("websocket");
  await scene.clock.pass(3_600_000);
  expect(good.opened, "one that is good stays").toBe(1);
  up = false;
  good.events.ended({ code: 1006 });
  await scene.clock.pass(5_000);
  expect(client.status.transport).toBe("sse");
  up = true;
  client.goOnline();
  await quiet();
  expect(client.status.transport).toBe("websocket");
});

test("the first way is tried again also when the other one breaks all the time", async () => {
  const scene = new Scene();
  let up = false;
  const [bad, good, stream] = [new Hand("fails"), new Hand(), new Hand("opens", "sse")];
  const client = scene.client({ transports: [(...args) => (up ? good : bad).open(...args), stream.open] });
  await scene.clock.pass(1_000);
  up = true;
  const began = scene.clock.time;
  // It breaks before anybody would ask a silent server for a sign of life.
  while (good.opened === 0 && scene.clock.time - began < 900_000) {
    if (client.status.connection === "connected") stream.events.ended({ code: 1006 });
    await scene.clock.pass(10_000);
  }
  const minutes = (scene.clock.time - began) / 60_000;
  expect(minutes).toBeGreaterThan(9);
  expect(minutes).toBeLessThan(12);
  expect(client.status.transport).toBe("websocket");
});

test("a server that asks to be left alone for a while is", async () => {
  const scene = new Scene();
  const server = new Hand();
  scene.client({ transports: [server.open] });
  await scene.clock.pass(100);
  server.events.ended({ code: 4429, retryAfter: 30_000 });
  await scene.clock.pass(29_900);
  expect(server.opened).toBe(1);
  await scene.clock.pass(200);
  expect(server.opened).toBe(2);
});

test("a connection that was good for a while has not failed, one that breaks at once has", async () => {
  const scene = new Scene();
  const server = new Hand();
  scene.client({ transports: [server.open] });
  for (let n = 1; n <= 10; n++) {
    await scene.clock.pass(25_000);
    server.events.ended({ code: 1006 });
    await scene.clock.pass(300);
    expect(server.opened).toBe(n + 1);
  }
  const before = server.opened;
  for (let n = 1; n <= 10; n++) {
    server.events.ended({ code: 1006 });
    await scene.clock.pass(300);
  }
  expect(server.opened - before).toBeLessThan(4);
});

test("a token source that does not answer is asked again, and holds nothing up for ever", async () => {
  const scene = new Scene();
  let asked = 0;
  const client = scene.client({
    token: () => {
      asked += 1;
      return asked === 1 ? new Promise(() => {}) : "token";
    },
  });
  const { confirmed } = client.send(intent("list-a", "append"));
  await scene.clock.pass(15_000);
  expect([client.status.connection, asked]).toEqual(["connected", 2]);
  await confirmed;
});

test("a token source that fails is asked again", async () => {
  const answers = [() => Promise.reject(new Error("later")), () => "token"];
  const tokens = new Tokens(() => answers.shift()?.(), { ...DEFAULT_TIMING, ...realClock });
  await expect(tokens.current()).rejects.toThrow("later");
  expect(await tokens.current()).toBe("token");
});

test("a tab without a connection hears from the others how its clicks have ended", async () => {
  const scene = new Scene();
  const tabs = new Browser(scene.clock, scene.dice).open;
  const network = scene.network.fetch("alice");
  const fetch: typeof globalThis.fetch = (input, init) =>
    String(init?.body).includes("list-bad")
      ? Promise.resolve(Response.json({}, { status: 422 }))
      : network(input, init);
  scene.client({ tabs, fetch });
  const deaf = scene.client({ tabs, transports: [new Hand("hangs").open] });
  const settled: Record<string, string> = {};
  deaf.onSettled(({ outcome, command }) => {
    settled[command.feed] = outcome;
  });
  await scene.clock.pass(100);
  scene.server.closed.add("list-closed");
  for (const feed of ["list-good", "list-closed", "list-bad"]) deaf.send(intent(feed, "append"));
  await scene.clock.pass(5_000);
  expect(settled).toEqual({ "list-good": "applied", "list-closed": "rejected", "list-bad": "gave-up" });
});

test("a tab that did not hear how its clicks have ended is told when it is back", async () => {
  const scene = new Scene();
  const browser = new Browser(scene.clock, scene.dice);
  const network = scene.network.fetch("alice");
  const fetch: typeof globalThis.fetch = (input, init) =>
    String(init?.body).includes("list-bad")
      ? Promise.resolve(Response.json({}, { status: 422 }))
      : network(input, init);
  scene.server.closed.add("list-closed");
  const one = scene.client({ tabs: browser.open, fetch });
  await scene.clock.pass(100);
  let frozen = false;
  const two = scene.client({
    tabs: (name, hear) => browser.open(name, (message) => frozen || hear(message)),
    transports: [new Hand().open],
  });
  const settled: Record<string, string> = {};
  two.onSettled(({ outcome, command }) => {
    settled[command.feed] = outcome;
  });
  await scene.clock.pass(100);
  one.goOffline();
  two.goOffline();
  for (const feed of ["list-good", "list-closed", "list-bad"]) two.send(intent(feed, "append"));
  await scene.clock.pass(1_000);
  frozen = true;
  one.goOnline();
  await scene.clock.pass(5_000);
  expect([one.status, two.status]).toMatchObject([{ pending: 0 }, { pending: 3 }]);
  frozen = false;
  two.goOnline();
  await scene.clock.pass(1_000);
  expect(settled).toEqual({ "list-good": "applied", "list-closed": "rejected", "list-bad": "gave-up" });
});

test("… and if nobody knows, whoever sends sends them", async () => {
  const scene = new Scene();
  const browser = new Browser(scene.clock, scene.dice);
  scene.client({ tabs: browser.open });
  await scene.clock.pass(100);
  let frozen = true;
  const two = scene.client({
    tabs: (name, hear) => {
      const tabs = browser.open(name, hear);
      // What it tells now nobody hears.
      return { ...tabs, tell: (message) => frozen || tabs.tell(message) };
    },
    transports: [new Hand().open],
  });
  await scene.clock.pass(100);
  const { confirmed } = two.send(intent("list-a", "append"));
  await scene.clock.pass(60_000);
  expect(scene.server.received).toBe(0);
  frozen = false;
  two.goOffline();
  two.goOnline();
  await scene.clock.pass(1_000);
  expect(await confirmed).toMatchObject({ outcome: "applied" });
});

test("a timer never waits for longer than a timer can", () => {
  const timer = vi.spyOn(globalThis, "setTimeout");
  realClock.after(2 ** 40, () => {})();
  expect(timer.mock.calls[0]?.[1]).toBe(2 ** 31 - 1);
  const before = realClock.elapsed();
  expect(realClock.elapsed()).toBeGreaterThanOrEqual(before);
});

test("under Node a channel does not keep the program from ending", () => {
  let isHeld = true;
  class Channel {
    onmessage = () => {};
    unref() {
      isHeld = false;
    }
  }
  vi.stubGlobal("BroadcastChannel", Channel);
  openTabs("outbox", () => {});
  expect(isHeld).toBe(false);
});

test("where a socket opens and breaks before anything comes through it, the stream is tried", async () => {
  const scene = new Scene();
  const [socket, stream] = [new Hand(), new Hand("opens", "sse")];
  const client = scene.client({ transports: [socket.open, stream.open] });
  await scene.clock.pass(100);
  socket.events.ended({ code: 1006 });
  await scene.clock.pass(1_000);
  expect(client.status.transport).toBe("sse");
});
