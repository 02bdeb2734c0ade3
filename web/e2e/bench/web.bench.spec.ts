// How quick the client and the page of the likes are, in the browser. Prints; judges nothing.

import type { CDPSession, Page } from "@playwright/test";
import { build } from "vite";
import type * as Sdk from "../../client/src";
import type * as LikesSdk from "../../client/src/likes";
import { openLikes } from "../support/likes";
import { test } from "../support/server";

/** The client as a script that a page can be given. */
async function script(): Promise<string> {
  const entry = new URL("sdk.ts", import.meta.url).pathname;
  const lib = { entry, formats: ["iife" as const], name: "sdk" };
  const built = await build({ configFile: false, logLevel: "silent", build: { write: false, lib } });
  const [output] = Array.isArray(built) ? built : [];
  const chunk = output?.output[0];
  if (chunk?.type !== "chunk") throw new Error("the client was not built");
  return chunk.code;
}

type Times = { kept: number; loaded: number; shown: number; pending: number };

test("10,000 pending commands", async ({ browser, server }) => {
  const context = await browser.newContext({ bypassCSP: true });
  const page = await context.newPage();
  await page.goto(`${server.url}/docs`);
  await page.addScriptTag({ content: await script() });
  const rounds: Times[] = [];
  for (let round = 0; round < 5; round++) rounds.push(await page.evaluate(keepAndReplay, round));
  const median = (of: keyof Times) => rounds.map((times) => times[of]).sort((a, b) => a - b)[2] ?? 0;
  console.log(
    `10,000 pending commands: kept in ${median("kept").toFixed(0)} ms, read again in ` +
      `${median("loaded").toFixed(0)} ms, replayed in ${median("shown").toFixed(0)} ms (medians of 5)`,
  );
});

/** Runs in the page. */
async function keepAndReplay(round: number): Promise<Times> {
  const { Client, likes, likesFeed } = Reflect.get(window, "sdk") as typeof Sdk & typeof LikesSdk;
  const open = () => {
    const client = new Client({ user: `bench-${round}`, token: () => "", models: [likes] });
    client.goOffline();
    return client;
  };
  const first = open();
  await first.ready;
  first.goOffline();
  const feeds = [1, 2, 3, 4, 5].map((n) => likesFeed(`article-${n}`));
  for (const feed of feeds) first.follow(feed);
  const start = performance.now();
  for (let n = 0; n < 10_000; n++) {
    const data = { likeId: `${n}`, at: "2026-01-19T12:00:00Z" };
    first.send({ feed: feeds[n % 5] ?? "", type: n % 2 ? "LikeRemove" : "LikeAdd", data });
  }
  await first.outboxProcessOnce();
  const kept = performance.now();
  await first.close();
  const again = performance.now();
  const second = open();
  const followed = feeds.map((feed) => second.follow(feed));
  // As a page does: whatever changes is read at once.
  second.onChange((name) => followed.find((feed) => feed.name === name)?.state);
  await second.ready;
  second.goOffline();
  const loaded = performance.now();
  const pending = followed.reduce((sum, { state, pending }) => sum + (state ? pending.length : 0), 0);
  const shown = performance.now();
  await second.close();
  return { kept: kept - start, loaded: loaded - again, shown: shown - loaded, pending };
}

const SECONDS = 10;

for (const rate of [0, 1_000]) {
  test(`${rate} events a second on the page of the likes`, async ({ browser, server }) => {
    const alice = await openLikes(await browser.newContext(), server, server.token("alice"));
    const crowd = await (await browser.newContext()).newPage();
    await crowd.goto(`${server.url}/healthz`);
    const sending = crowd.evaluate(likeALot, { token: server.token("crowd"), rate, seconds: SECONDS + 2 });
    await alice.page.waitForTimeout(1_000);
    const frames = await countFrames(alice.page, SECONDS);
    const sent = await sending;
    const longest = Math.max(...frames.gaps).toFixed(0);
    console.log(
      `${rate} events/s (${sent} sent): the page's thread came to ${(frames.turns / SECONDS).toFixed(1)} frames/s, ` +
        `longest gap ${longest} ms; ${(frames.drawn / SECONDS).toFixed(1)} frames/s drawn, ` +
        `${frames.dropped} dropped in ${SECONDS} s; busy ${((100 * frames.busy) / SECONDS).toFixed(0)} % of a core`,
    );
  });
}

/** Runs in a page: likes five articles in turn, so many times a second, over a socket of its own. */
async function likeALot({ token, rate, seconds }: { token: string; rate: number; seconds: number }) {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws?token=${token}`);
  await new Promise((resolve) => {
    socket.onopen = resolve;
  });
  let sent = 0;
  const start = performance.now();
  for (;;) {
    const passed = (performance.now() - start) / 1_000;
    if (passed > seconds) break;
    const lines: string[] = [];
    for (; sent < passed * rate; sent++) {
      const round = Math.floor(sent / 5);
      lines.push(
        JSON.stringify({
          type: "action",
          feed: `like-article-${1 + (sent % 5)}`,
          event_type: round % 2 ? "LikeRemove" : "LikeAdd",
          command_id: crypto.randomUUID(),
          data: { likeId: "l", at: "2026-01-19T12:00:00Z" },
        }),
      );
    }
    if (lines.length > 0) socket.send(lines.join("\n"));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  socket.close();
  return sent;
}

interface TraceEvent {
  name: string;
  /** In microseconds. */
  ts: number;
  args: { frameSeqId?: number; layerTreeId?: number };
}

/** The frames that the browser's own trace tells of. */
async function countFrames(page: Page, seconds: number) {
  const session: CDPSession = await page.context().newCDPSession(page);
  const events: TraceEvent[] = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...(value as unknown as TraceEvent[])));
  const categories = "devtools.timeline,disabled-by-default-devtools.timeline.frame,devtools.timeline.frame";
  await session.send("Tracing.start", { transferMode: "ReportEvents", categories });
  const before = await busy(session);
  // Something moves by the hand of the page's own thread, so that there is a frame to draw at every tick.
  await page.evaluate(() => {
    const moving = document.body.appendChild(document.createElement("div"));
    Object.assign(moving.style, { position: "fixed", inset: "0 auto auto 0", width: "4px", height: "4px" });
    moving.style.background = "currentColor";
    const turns: number[] = [];
    Object.assign(window, { turns });
    const turn = (now: number) => {
      turns.push(now);
      moving.style.left = `${now % 100}px`;
      requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  });
  await page.waitForTimeout(seconds * 1_000);
  const after = await busy(session);
  const complete = new Promise((resolve) => session.once("Tracing.tracingComplete", resolve));
  await session.send("Tracing.end");
  await complete;
  const drawn = framesOf(events);
  const turns: number[] = await page.evaluate(() => Reflect.get(window, "turns"));
  const gaps = turns.slice(1).map((at, n) => at - (turns[n] ?? at));
  const dropped = events.filter(({ name }) => name === "DroppedFrame").length;
  return { drawn: drawn.length, turns: turns.length, dropped, gaps, busy: after - before };
}

/** When each frame of the page was drawn: once a number, in the one layer tree that has moved all the time. */
function framesOf(events: TraceEvent[]): number[] {
  const trees = new Map<number, Map<number, number>>();
  for (const { name, ts, args } of events) {
    if (name !== "DrawFrame" || args.layerTreeId === undefined || args.frameSeqId === undefined) continue;
    const frames = trees.get(args.layerTreeId) ?? new Map<number, number>();
    if (!frames.has(args.frameSeqId)) frames.set(args.frameSeqId, ts);
    trees.set(args.layerTreeId, frames);
  }
  const largest = [...trees.values()].sort((a, b) => b.size - a.size)[0] ?? new Map<number, number>();
  return [...largest.values()].sort((a, b) => a - b);
}

/** Seconds that the main thread of the page has worked. */
async function busy(session: CDPSession): Promise<number> {
  await session.send("Performance.enable");
  const { metrics } = await session.send("Performance.getMetrics");
  return metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0;
}
