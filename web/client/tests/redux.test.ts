import { configureStore } from "@reduxjs/toolkit";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Command, Intent } from "../src/command";
import { Rejected } from "../src/errors";
import { type Likes, likes } from "../src/likes";
import {
  type LikesClient,
  likesMiddleware,
  likesReducer,
  selectLikes,
  uiLikesUnwatched,
  uiLikesWatched,
  uiLikeToggleRequested,
} from "../src/redux";
import { event, Hand, Scene } from "./support/scene";

const FEED = "like-article-1";
const TARGET = { targetId: "article-1" };
const NOW = "2026-01-02T03:04:05.000Z";

/** A client of one feed, and whatever its server says. */
class FakeClient {
  readonly status = { connection: "connected" };
  readonly sent: Intent[] = [];
  followers = 0;
  name = FEED;
  confirmed = likes.initial;
  known = false;
  pending: Command[] = [];
  private changed = (_feed: string) => {};
  private rejected = (_error: Rejected) => {};

  follow() {
    this.followers += 1;
    const client = this;
    return {
      name: this.name,
      get state(): Likes {
        return client.pending.reduce(
          (state, command) => likes.predict(state, command, "ada"),
          client.confirmed,
        );
      },
      get confirmed() {
        return client.confirmed;
      },
      get known() {
        return client.known;
      },
      get pending() {
        return client.pending;
      },
      close() {
        client.followers -= 1;
      },
    };
  }

  send(intent: Intent) {
    const command = { ...intent, commandId: `command-${this.sent.length + 1}`, createdAt: Date.now() };
    this.sent.push(intent);
    this.pending = [...this.pending, command];
    this.changed(FEED);
    return { command };
  }

  onChange(listener: (feed: string) => void) {
    this.changed = listener;
  }

  onRejected(listener: (error: Rejected) => void) {
    this.rejected = listener;
  }

  serverSays(confirmed: Likes) {
    Object.assign(this, { confirmed, known: true, pending: [] });
    this.changed(FEED);
  }

  serverRefuses(code: string) {
    const [command] = this.pending;
    if (!command) throw new Error("nothing was sent");
    this.pending = [];
    this.rejected(new Rejected(command, code, "No."));
    this.changed(FEED);
  }
}

function setUp() {
  const client = new FakeClient();
  const store = configureStore({
    reducer: { likes: likesReducer },
    middleware: (defaults) => defaults().concat(likesMiddleware(client as unknown as LikesClient)),
  });
  return { client, store, shown: () => selectLikes(store.getState(), TARGET.targetId) };
}

beforeEach(() => void vi.useFakeTimers({ now: new Date(NOW) }));
afterEach(() => void vi.useRealTimers());

test("a click is sent, and shown before its dispatch returns and to whoever hears of it", () => {
  const { client, store, shown } = setUp();
  store.dispatch(uiLikesWatched(TARGET));
  client.serverSays({ count: 12, me: false, version: 12 });
  const heard: unknown[] = [];
  store.subscribe(() => heard.push(shown()));

  store.dispatch(uiLikeToggleRequested(TARGET));

  expect(shown()).toMatchObject({ count: 13, me: true, version: 12, pending: 1, lastFetchedAt: NOW });
  expect(heard).toEqual([shown()]);
  expect(client.sent).toEqual([
    { feed: FEED, type: "LikeAdd", data: { likeId: expect.any(String), at: NOW } },
  ]);
  store.dispatch(uiLikeToggleRequested(TARGET));
  expect(client.sent[1]?.type).toBe("LikeRemove");
  expect(shown()).toMatchObject({ count: 12, me: false, pending: 2 });
});

test("the slice is what the client shows, for as long as somebody watches", () => {
  const { client, store, shown } = setUp();
  expect(shown()).toMatchObject({ count: 0, known: false });
  store.dispatch(uiLikesWatched(TARGET));
  store.dispatch(uiLikesWatched(TARGET));
  client.serverSays({ count: 1, me: false, version: 1 });
  expect(shown()).toMatchObject({ count: 1, version: 1, known: true });

  store.dispatch(uiLikesUnwatched(TARGET));
  client.serverSays({ count: 2, me: true, version: 2 });
  expect(shown()).toMatchObject({ count: 2, me: true, version: 2 });
  expect(client.followers).toBe(1);

  store.dispatch(uiLikesUnwatched(TARGET));
  client.serverSays({ count: 3, me: true, version: 3 });
  expect(shown()).toMatchObject({ count: 2 });
  expect(client.followers).toBe(0);
});

test("what is known from an earlier visit, and what was only clicked, was not fetched", () => {
  const { client, store, shown } = setUp();
  client.known = true;
  client.confirmed = { count: 7, me: false, version: 7 };
  store.dispatch(uiLikesWatched(TARGET));
  store.dispatch(uiLikeToggleRequested(TARGET));
  expect(shown()).toMatchObject({ count: 8, known: true, lastFetchedAt: null });

  client.serverSays(client.confirmed);
  expect(shown()).toMatchObject({ count: 7, lastFetchedAt: NOW });

  vi.advanceTimersByTime(60_000);
  client.serverSays({ count: 8, me: false, version: 8 });
  const later = new Date().toISOString();
  expect(shown().lastFetchedAt).toBe(later);
  vi.advanceTimersByTime(60_000);
  client.serverSays(client.confirmed);
  expect(shown().lastFetchedAt).toBe(later);
});

test("a refusal takes the click back and says why, until the next one", () => {
  const { client, store, shown } = setUp();
  store.dispatch(uiLikesWatched(TARGET));
  client.serverSays({ count: 12, me: false, version: 12 });
  store.dispatch(uiLikeToggleRequested(TARGET));

  client.serverRefuses("likes_closed");

  const refusal = { code: "likes_closed", message: "No." };
  expect(shown()).toMatchObject({ count: 12, me: false, pending: 0, refusal });
  store.dispatch(uiLikeToggleRequested(TARGET));
  expect(shown()).toMatchObject({ count: 13, refusal: null });
});

test("a refusal of what was sent before a reload is there before anybody watches", () => {
  const { client, store, shown } = setUp();
  client.pending = [{ feed: FEED, type: "LikeAdd", data: {}, commandId: "command-0", createdAt: 0 }];
  client.serverRefuses("likes_closed");
  expect(shown().refusal?.code).toBe("likes_closed");
  store.dispatch(uiLikesWatched(TARGET));
  expect(shown().refusal?.code).toBe("likes_closed");
});

test("a burst of events tells the views once", () => {
  const { client, store, shown } = setUp();
  store.dispatch(uiLikesWatched(TARGET));
  vi.runAllTimers();
  const view = vi.fn();
  store.subscribe(view);
  for (let version = 1; version <= 100; version += 1)
    client.serverSays({ count: version, me: false, version });
  expect(shown().count).toBe(100);
  vi.runAllTimers();
  expect(view).toHaveBeenCalledTimes(1);
});

test("with a client and a server: a click, what the server says of it, and a refusal", async () => {
  vi.useRealTimers();
  const scene = new Scene();
  const server = new Hand();
  const told = { count: 12, me: false, version: 42 };
  const fetch: typeof globalThis.fetch = async (_, init) =>
    init?.method === "POST" ? new Response(null, { status: 202 }) : Response.json(told);
  const client = scene.client({ models: [likes], transports: [server.open], fetch });
  const store = configureStore({
    reducer: { likes: likesReducer },
    middleware: (defaults) => defaults().concat(likesMiddleware(client)),
  });
  const shown = () => selectLikes(store.getState(), TARGET.targetId);
  store.dispatch(uiLikesWatched(TARGET));
  await scene.clock.pass(100);
  expect(shown()).toMatchObject({ ...told, known: true, pending: 0 });
  store.dispatch(uiLikeToggleRequested(TARGET));
  expect(shown()).toMatchObject({ count: 13, me: true, version: 42, pending: 1 });
  const [click] = client.pending(FEED);
  const commandId = click?.command.commandId ?? "";
  await scene.clock.pass(100);
  const receipt = { type: "receipt" as const, feed: FEED, command_id: commandId, position: 1 };
  server.tell({ ...receipt, outcome: "applied", sequence_numbers: [43] });
  const data = { userId: "alice", active: true, count: 20 };
  const fields = { feed: FEED, event_type: "LikeSetEvent", user_id: "alice", command_id: commandId, data };
  server.tell(event(43, fields));
  expect(shown()).toMatchObject({ count: 20, me: true, version: 43, pending: 0 });
  server.tell(event(44, { ...fields, command_id: null, data: { userId: "bob", active: true } }));
  expect(shown(), "an event that says no number changes none").toMatchObject({ count: 20, version: 44 });

  store.dispatch(uiLikeToggleRequested(TARGET));
  expect(shown()).toMatchObject({ count: 19, me: false, pending: 1 });
  const [another] = client.pending(FEED);
  const refused = { ...receipt, command_id: another?.command.commandId ?? "", sequence_numbers: [] };
  server.tell({ ...refused, outcome: "rejected", code: "likes_closed", message: "No." });
  const refusal = { code: "likes_closed", message: "No." };
  expect(shown()).toMatchObject({ count: 20, me: true, pending: 0, refusal });
});

test("the slice forgets those that nobody watches any more, when there are very many", () => {
  const { client, store } = setUp();
  const watchOnce = (targetId: string) => {
    client.name = `like-${targetId}`;
    store.dispatch(uiLikesWatched({ targetId }));
    store.dispatch(uiLikesUnwatched({ targetId }));
  };
  for (let n = 0; n < 1_000; n++) watchOnce(`article-${n}`);
  watchOnce("article-0");
  // Somebody has come back to this one.
  watchOnce("watched");
  client.name = "like-watched";
  store.dispatch(uiLikesWatched({ targetId: "watched" }));
  for (let n = 1_000; n < 1_005; n++) watchOnce(`article-${n}`);
  const targets = Object.keys(store.getState().likes);
  expect(targets.length).toBe(1_001);
  expect(["watched", "article-0", "article-5", "article-6"].map((id) => targets.includes(id))).toEqual([
    true,
    true,
    false,
    true,
  ]);
});

test.each(["constructor", "__proto__", "hasOwnProperty"])("a target may be called %s", (targetId) => {
  const { client, store } = setUp();
  const shown = () => selectLikes(store.getState(), targetId);
  expect(shown()).toMatchObject({ count: 0, known: false });
  expect(selectLikes({ likes: {} }, targetId)).toMatchObject({ count: 0, known: false });
  client.name = `like-${targetId}`;
  client.known = true;
  store.dispatch(uiLikesWatched({ targetId }));
  expect(shown()).toMatchObject({ count: 0, known: true });
});
