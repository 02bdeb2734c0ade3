// Whatever the network does, the client ends equal to the server, and on the way it never shows a state that
// the server's truth and its own pending commands do not explain.

import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { Client, type Following } from "../src";
import { actionOf } from "../src/delivery";
import { MemoryStorage } from "../src/storage/memory";
import {
  Browser,
  dice,
  FINE,
  intent,
  type Disk,
  type List,
  lists,
  Network,
  PageStorage,
  Server,
  VirtualClock,
  type What,
} from "./support/simulation";

const FEEDS = ["list-a", "list-b"];
const USER = "alice";

type Step =
  | { do: "click"; tab: number; feed: number; what: What }
  | { do: "stranger"; feed: number; what: What }
  | { do: "close" | "open"; feed: number }
  | { do: "pass"; millis: number }
  | { do: "break" }
  | { do: "restore"; share: number }
  | { do: "compact"; feed: number; share: number }
  | { do: "weather"; lost: number; doubled: number; slow: number }
  | { do: "reload"; tab: number; how: "crash" | "close" }
  | { do: "offline" | "online"; tab: number }
  | { do: "disk"; is: Disk["is"] }
  | { do: "refollow"; tab: number; feed: number };

const feed = fc.nat({ max: FEEDS.length - 1 });
const tab = fc.nat({ max: 1 });
const what = fc.oneof(fc.constantFrom("append" as const, "pair" as const), fc.nat({ max: 4 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("click" as const), tab, feed, what }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("stranger" as const), feed, what }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("close" as const, "open" as const), feed }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("pass" as const), millis: fc.nat({ max: 3_000 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("break" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("restore" as const), share: fc.constantFrom(0, 0.5, 1) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("compact" as const), feed, share: fc.constantFrom(0.5, 1) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("weather" as const),
      lost: fc.constantFrom(0, 0.1, 0.4),
      doubled: fc.constantFrom(0, 0.3),
      slow: fc.constantFrom(10, 500, 5_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("reload" as const),
      tab,
      how: fc.constantFrom("crash" as const, "close" as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("offline" as const, "online" as const), tab }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("refollow" as const), tab, feed }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("disk" as const),
      is: fc.constantFrom("fine" as const, "full" as const, "stuck" as const),
    }),
  },
);

/** A tab, and everything that it has shown. */
class Tab {
  client!: Client;
  followings!: Following<List>[];
  readonly shown = new Map<string, number>();
  private storage!: PageStorage;
  private leave: () => void = () => {};

  constructor(private readonly world: World) {
    this.open();
  }

  open(): void {
    const { network, clock, browser, send, disk } = this.world;
    const storage = new PageStorage(this.world.storage, clock, disk);
    this.storage = storage;
    this.client = new Client({
      url: "http://server",
      user: USER,
      token: () => "token",
      models: [lists],
      transports: [network.link(USER, send === "stream" ? "sse" : "websocket")],
      fetch: network.fetch(USER, send === "socket" ? "fail" : "pass"),
      storage,
      tabs: (name, hear) => {
        const tabs = browser.open(name, hear);
        this.leave = tabs.close;
        return tabs;
      },
      send: send === "socket" ? send : "http",
      clock: clock.ofPage(() => !storage.gone),
    });
    this.shown.clear();
    const settledOnce = new Set<string>();
    this.followings = FEEDS.map((name) => this.client.follow<List>(name));
    this.client.onChange((name) => this.world.note(() => this.check(name)));
    this.client.onSettled(({ outcome, command }) => {
      if (outcome === "rejected") this.world.refused.add(command.commandId);
      this.world.note(() => {
        expect(outcome).not.toBe("gave-up");
        expect(settledOnce.has(command.commandId), "told twice").toBe(false);
      });
      settledOnce.add(command.commandId);
    });
  }

  /** The page is gone, without a word. */
  crash(): void {
    this.storage.close();
    this.leave();
    this.client.goOffline();
  }

  check(name: string): void {
    const following = this.followings.find((other) => other.name === name);
    if (!following) return;
    const { state, confirmed, sequence, pending } = following;
    const { server, clicked, refused } = this.world;
    const ever = [server.logs, ...server.old].map((logs) =>
      (logs.get(name) ?? []).slice(0, sequence).map(({ data }) => data.item),
    );
    expect(ever, "confirmed is what the server had at that number").toContainEqual(confirmed.items);
    const restored = server.old.length > 0;
    if (!restored)
      expect(sequence, "the truth does not go back").toBeGreaterThanOrEqual(this.shown.get(name) ?? 0);
    this.shown.set(name, sequence);
    const predicted = pending.reduce((before, command) => lists.predict(before, command, USER), confirmed);
    expect(state, "shown is the truth and what is pending").toEqual(predicted);
    // A copy may lack what was confirmed, and have what was not.
    if (restored) return;
    expect(new Set(state.items).size, "nothing is shown twice").toBe(state.items.length);
    const ids = pending.map(({ commandId }) => commandId);
    expect(ids, "in the order of the clicks").toEqual([...ids].sort());
    for (const [item, command] of clicked) {
      if (command.tab !== this || command.feed !== name || refused.has(command.id)) continue;
      expect(state.items, "what was clicked and not refused is there").toContain(item);
      if (this.world.pairs.has(item)) expect(state.items, "and whole").toContain(`${item} too`);
    }
  }
}

class World {
  readonly dice: () => number;
  readonly clock: VirtualClock;
  readonly server = new Server();
  readonly network: Network;
  readonly storage = new MemoryStorage();
  readonly disk: Disk = { is: "fine" };
  readonly pairs = new Set<string>();
  readonly browser: Browser;
  /** What was clicked in which tab, since it was last loaded. */
  readonly clicked = new Map<string, { id: string; feed: string; tab: Tab }>();
  readonly refused = new Set<string>();
  readonly all = new Map<string, Tab>();
  readonly tabs: Tab[];
  private strangers = 0;
  private violation: unknown;

  constructor(
    seed: number,
    readonly send: "http" | "socket" | "stream",
  ) {
    this.dice = dice(seed);
    this.clock = new VirtualClock(this.dice);
    this.network = new Network(this.server, this.clock, this.dice);
    this.browser = new Browser(this.clock, this.dice);
    // Only the disk may fail, and only because it was told to.
    vi.spyOn(console, "error").mockImplementation((what, why) => {
      this.note(() => expect(String(what), String(why)).toContain("the storage failed"));
    });
    this.tabs = [new Tab(this), new Tab(this)];
  }

  /** The client shields itself from listeners that throw, so that what they find wrong is noted here. */
  note(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.violation ??= error;
    }
  }

  /** Throws what was noted. */
  judge(): void {
    if (this.violation) throw this.violation;
  }

  async run(step: Step): Promise<void> {
    const tab = "tab" in step ? (this.tabs[step.tab] as Tab) : undefined;
    const name = "feed" in step ? (FEEDS[step.feed] as string) : "";
    switch (step.do) {
      case "click":
        return this.click(tab as Tab, name, step.what);
      case "stranger": {
        const commandId = `stranger-${this.strangers++}`;
        const command = { ...intent(name, step.what), commandId, createdAt: 0 };
        return void this.server.take(actionOf(command), "bob");
      }
      case "close":
        return void this.server.closed.add(name);
      case "open":
        return void this.server.closed.delete(name);
      case "pass":
        return this.clock.pass(step.millis);
      case "break":
        return this.network.breakLinks();
      case "restore":
        this.server.restore(step.share);
        return this.network.breakLinks();
      case "compact":
        return this.server.compact(name, step.share);
      case "weather":
        this.network.weather = step;
        return;
      case "disk":
        this.disk.is = step.is;
        return;
      case "reload":
        return this.reload(tab as Tab, step.how);
      case "offline":
        return tab?.client.goOffline();
      case "online":
        return tab?.client.goOnline();
      case "refollow": {
        const { followings, client, shown } = tab as Tab;
        followings[step.feed]?.close();
        shown.delete(name);
        for (const [item, command] of this.clicked) if (command.tab === tab) this.clicked.delete(item);
        followings[step.feed] = client.follow<List>(name);
      }
    }
  }

  private click(tab: Tab, name: string, what: What): void {
    const sent = tab.client.send<List>(intent(name, what));
    const { commandId: id } = sent.command;
    const item = typeof what === "number" ? `key ${what}` : id;
    if (what === "pair") this.pairs.add(id);
    expect(sent.optimistic?.items).toContain(item);
    this.clicked.set(item, { id, feed: name, tab });
    this.all.set(id, tab);
  }

  private async reload(tab: Tab, how: "crash" | "close"): Promise<void> {
    if (how === "crash") tab.crash();
    else await Promise.all([tab.client.close(), this.clock.pass(15_000)]);
    // Who closes a page knows that what was clicked is kept, if there is a disk to keep it.
    if (how === "crash" || this.disk.is !== "fine") await this.forgive(tab);
    for (const [item, command] of this.clicked) if (command.tab === tab) this.clicked.delete(item);
    tab.open();
    await this.clock.pass(0);
  }

  /** What had reached neither the storage nor another tab nor the server is lost with the page; the rest is not. */
  private async forgive(tab: Tab): Promise<void> {
    const others = this.tabs.filter((other) => other !== tab).flatMap(({ client }) => client.pending());
    const known = [...(await this.storage.load()).commands, ...others.map(({ command }) => command)];
    const ids = new Set(known.map(({ commandId }) => commandId));
    for (const [id, clicked] of this.all) {
      const wasTold = clicked !== tab && this.disk.is === "fine";
      if (!wasTold && !ids.has(id) && !this.server.ledger.has(id)) this.all.delete(id);
    }
  }

  /** The storm is over. */
  async end(): Promise<void> {
    this.network.weather = FINE;
    this.disk.is = "fine";
    for (const tab of this.tabs) tab.client.goOnline();
    await this.clock.pass(30 * 60_000);
    const kept = await this.storage.load();
    expect(kept.commands, "nothing is left in the storage").toEqual([]);
    for (const tab of this.tabs) {
      expect(tab.client.status).toMatchObject({ connection: "connected", pending: 0, storage: "ok" });
      for (const { name, state, confirmed, pending } of tab.followings) {
        expect(pending).toEqual([]);
        expect(state).toEqual(confirmed);
        expect(state.items, "equal to the server").toEqual(this.server.items(name));
      }
    }
    expect(this.tabs.filter(({ client }) => client.status.sends).length, "one tab sends").toBe(1);
    // What the copy lacks has no outcome any more.
    if (this.server.old.length > 0) this.all.clear();
    for (const id of this.all.keys())
      expect(this.server.ledger.has(id), "every click has an outcome").toBe(true);
    // The order of the clicks of a tab is the order of their events.
    for (const tab of this.tabs) {
      for (const name of FEEDS) {
        const order = this.server.items(name).filter((item) => this.all.get(item) === tab);
        expect(order).toEqual([...order].sort());
      }
    }
    for (const tab of this.tabs) await Promise.all([tab.client.close(), this.clock.pass(1_000)]);
  }
}

test.each(["http", "socket", "stream"] as const)(
  "any storm ends in the truth, by %s",
  { timeout: 120_000 },
  async (send) => {
    const run = async (seed: number, steps: Step[]) => {
      const world = new World(seed, send);
      await world.clock.pass(100);
      for (const step of steps) {
        await world.run(step);
        world.judge();
      }
      await world.end();
      world.judge();
    };
    const storm = fc.asyncProperty(fc.integer(), fc.array(step, { maxLength: 40 }), run);
    await fc.assert(storm, { numRuns: Number(process.env.STORMS ?? 100) });
  },
);
