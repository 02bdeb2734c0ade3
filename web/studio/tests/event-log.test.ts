import type { wire } from "@sillage/client";
import { expect, test } from "vitest";
import { EventLog, MAX_EVENTS } from "../src/pages/likes/event-log";

function setUp() {
  const frames: (() => void)[] = [];
  const log = new EventLog((run) => frames.push(run));
  const arrive = (from: number, to: number) => {
    for (let position = from; position <= to; position += 1) log.add({ position } as wire.Event);
  };
  const nextFrame = () => {
    for (const run of frames.splice(0)) run();
  };
  const positions = () => log.get().events.map(({ position }) => position);
  return { frames, log, arrive, nextFrame, positions };
}

test("however many events arrive, the list is told once a frame and stays short", () => {
  const { frames, log, arrive, nextFrame, positions } = setUp();
  let told = 0;
  log.subscribe(() => {
    told += 1;
  });
  arrive(1, 1_050);
  expect(frames).toHaveLength(1);
  expect(told).toBe(0);
  nextFrame();
  expect(told).toBe(1);
  expect(log.get().arrived).toBe(1_050);
  expect(positions()).toHaveLength(MAX_EVENTS);
  expect(positions()[0]).toBe(1_050);
  arrive(1_051, 1_052);
  nextFrame();
  expect(positions().slice(0, 3)).toEqual([1_052, 1_051, 1_050]);
});

test("a pause holds the list still, and counts; then the newest are shown", () => {
  const { log, arrive, nextFrame, positions } = setUp();
  arrive(1, 2);
  nextFrame();
  log.setMode("paused");
  nextFrame();
  arrive(3, 4);
  nextFrame();
  arrive(5, 5);
  nextFrame();
  expect(positions()).toEqual([2, 1]);
  expect(log.get()).toMatchObject({ arrived: 5, held: 3, mode: "paused" });
  log.setMode("running");
  nextFrame();
  expect(positions()).toEqual([5, 4, 3, 2, 1]);
  expect(log.get()).toMatchObject({ arrived: 5, held: 0, mode: "running" });
});
