import { configureStore } from "@reduxjs/toolkit";
import { type Client, type Command, Rejected, type Settled } from "@sillage/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { followOutbox, MAX_ENTRIES, outboxReducer, selectEntries } from "../src/app/outbox";

let frames: (() => void)[] = [];
beforeEach(() => {
  frames = [];
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => frames.push(run));
});
afterEach(() => void vi.unstubAllGlobals());

function command(number: number): Command {
  const commandId = `id-${String(number).padStart(6, "0")}`;
  return { commandId, createdAt: number, feed: "like-article-1", type: "LikeAdd", data: {} };
}

function setUp() {
  let unsettled: ReturnType<Client["pending"]> = [];
  let changed = (_: string) => {};
  let settle = (_: Settled) => {};
  const client = {
    pending: () => unsettled,
    get status() {
      return { pending: unsettled.length };
    },
    onChange: (listener: typeof changed) => {
      changed = listener;
    },
    onStatus: () => {},
    onSettled: (listener: typeof settle) => {
      settle = listener;
    },
  };
  const store = configureStore({ reducer: { outbox: outboxReducer } });
  followOutbox(client as unknown as Client, store.dispatch);
  return {
    become(next: typeof unsettled) {
      unsettled = next;
      changed("like-article-1");
    },
    settle: (settled: Settled) => settle(settled),
    frame: () => {
      for (const run of frames.splice(0)) run();
    },
    shown: () => selectEntries(store.getState()),
    waiting: () => store.getState().outbox.waiting,
    entries: () => selectEntries(store.getState()).map(({ commandId, state }) => `${commandId} ${state}`),
    reasons: () => selectEntries(store.getState()).map(({ reason }) => reason?.code),
  };
}

test("a command is pending, then sent, then confirmed, in the place of its click", () => {
  const { become, settle, entries, waiting } = setUp();
  const [first, second] = [command(1), command(2)];
  become([
    { command: first, progress: "sent" },
    { command: second, progress: "pending" },
  ]);
  expect(frames).toEqual([]);
  expect(entries()).toEqual(["id-000002 pending", "id-000001 sent"]);

  const confirmation = { commandId: first.commandId, sequenceNumbers: [1], position: 1 };
  settle({ outcome: "applied", command: first, confirmation: { ...confirmation, outcome: "applied" } });
  expect(entries()).toEqual(["id-000002 pending", "id-000001 confirmed"]);

  become([{ command: second, progress: "pending" }]);
  expect(entries()).toEqual(["id-000002 pending", "id-000001 confirmed"]);
  expect(waiting()).toBe(1);
});

test("of what is settled the newest is kept", () => {
  const { settle, entries } = setUp();
  for (let n = 1; n <= MAX_ENTRIES + 10; n += 1) {
    settle({
      outcome: "rejected",
      command: command(n),
      error: new Rejected(command(n), "likes_closed", "No."),
    });
  }
  expect(entries()).toHaveLength(MAX_ENTRIES);
  expect(entries()[0]).toBe("id-000060 rejected");
});

test("a refusal keeps its reason", () => {
  const { settle, entries, reasons } = setUp();
  const refused = command(1);
  settle({ outcome: "rejected", command: refused, error: new Rejected(refused, "likes_closed", "No.") });
  expect(entries()).toEqual(["id-000001 rejected"]);
  expect(reasons()).toEqual(["likes_closed"]);
});

test("of very many commands the newest are shown, and the outbox is read once a frame", () => {
  const { become, frame, entries, waiting } = setUp();
  const all = Array.from({ length: 10_000 }, (_, n) => ({
    command: command(n),
    progress: "pending" as const,
  }));
  become(all.slice(0, 9_999));
  become(all);
  expect(waiting()).toBe(0);
  expect(frames).toHaveLength(1);
  frame();
  expect(waiting()).toBe(10_000);
  expect(entries()).toHaveLength(MAX_ENTRIES);
  expect(entries()[0]).toBe("id-009999 pending");
});

test("what changes without a change of the outbox draws nothing anew", () => {
  const { become, entries, shown } = setUp();
  const only = { command: command(1), progress: "pending" as const };
  become([only]);
  const before = shown();
  become([only]);
  expect(shown()).toBe(before);
  become([{ ...only, progress: "sent" }]);
  expect(entries()).toEqual(["id-000001 sent"]);
});
