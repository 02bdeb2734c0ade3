// Whose pages these are: one identity, one client, one store.
//
// Invariant: at most one client is open in a tab. What somebody has not sent stays in an outbox of their own when
// another takes their place; a guest whose token is no longer taken is named until somebody has decided about them.

import { Client, type Command, IndexedDbStorage } from "@sillage/client";
import { likes } from "@sillage/client/likes";
import { arrive, forget, guestInsteadOf, type Identity, identityOf, remember } from "./identity";
import { keep, recall } from "./keep";
import { allowed, chooseNetwork, type Network, network } from "./offline";
import { makeStore, type Store } from "./store";
import { Value } from "./value";

export interface Session {
  /** Grows with each of a tab, so that also the same person who comes again is told apart. */
  visit: number;
  identity: Identity;
  client: Client;
  store: Store;
}

/** How far this tab has come in being somebody. */
export type Arrival = "arriving" | "unreachable" | "arrived";

export const session = new Value<Session | undefined>(undefined);
export const arrival = new Value<Arrival>("arriving");
/** How many clicks former guests had not settled; nothing if nobody has to decide about them. */
export const former = new Value<number | undefined>(undefined);

/** The shortest and the longest pause before a server without an answer is asked again, in milliseconds. */
const PAUSE = { first: 1_000, longest: 30_000 };
/** A guest who is refused so soon after the one before is not replaced: that would go on for ever. */
const GUEST_STAYS = 30_000;
/** The most former guests that are named. Each has stayed for a day, and no click is sent after a week. */
const MAX_FORMER = 16;

let replacedAt = Number.NEGATIVE_INFINITY;
let visits = 0;
/** Who this tab is, or is about to be. */
let latest: Identity | undefined;
/** The end of the last change of who this tab is. */
let entering: Promise<void> = Promise.resolve();

/** Becomes who this tab was before, or a guest. */
export async function begin(): Promise<void> {
  await become(arrive);
  const left = await leftByFormer();
  if (left?.length === 0) await settleFormer("discard");
  else former.set(left?.length);
}

/** Becomes the owner of a token. Answers whether it is one. */
export function signIn(token: string): "signed-in" | "unreadable" {
  const identity = identityOf("member", token.trim());
  if (!identity) return "unreadable";
  remember(identity);
  void enter(identity);
  return "signed-in";
}

/** Becomes the guest of this browser again. */
export async function signOut(): Promise<void> {
  forget("member");
  await become(arrive);
}

/** Works offline, or no longer. */
export function setNetwork(chosen: Network): void {
  chooseNetwork(chosen);
  const client = session.get()?.client;
  if (chosen === "offline") client?.goOffline();
  else client?.goOnline();
}

/** A guest in the place of one whose token is no longer taken. */
export async function replaceGuest(refused: Identity): Promise<void> {
  if (latest !== refused) return;
  replacedAt = performance.now();
  // Before there is another, so that no end of the page in between leaves clicks that nobody names.
  nameFormer(outboxOf(refused));
  await become(() => guestInsteadOf(refused.token));
  former.set((await leftByFormer())?.length);
}

/**
 * Sends what former guests had not settled, as whoever this is now; or throws it away. The commands keep their
 * ids: if the page ends on the way, this can be done again, and each counts once.
 */
export async function settleFormer(how: "send" | "discard"): Promise<void> {
  const left = await leftByFormer();
  const me = session.get()?.identity;
  if (!left || !me) return;
  if (how === "send") {
    const storage = new IndexedDbStorage(outboxOf(me));
    await storage.write({ put: left, remove: [], checkpoints: [] }).finally(() => storage.close());
  }
  for (const outbox of formerOutboxes()) indexedDB.deleteDatabase(outbox);
  keep("browser", "former", undefined);
  former.set(undefined);
  // The client reads its outbox when it is opened.
  if (how === "send" && latest === me) await enter(me);
}

/** Becomes whom the server names, unless somebody else was chosen while it was asked. */
async function become(ask: () => Promise<Identity>): Promise<void> {
  const before = latest;
  const identity = await untilAnswered(ask);
  if (latest === before) await enter(identity);
}

/** Becomes somebody, one change after the other. Meanwhile there is nothing to click at: no click is lost. */
function enter(identity: Identity): Promise<void> {
  latest = identity;
  entering = entering.then(async () => {
    const leaving = session.get()?.client;
    session.set(undefined);
    // What was just clicked must be in the storage before somebody reads it from there.
    await leaving?.close();
    if (latest === identity) open(identity);
  });
  return entering;
}

function open(identity: Identity): void {
  const { tenant, user, token } = identity;
  const storage = new IndexedDbStorage(outboxOf(identity));
  // A tab that is offline has nothing to show to a server.
  const ask = () => allowed().then(() => token);
  const client = new Client({ tenant, user, token: ask, models: [likes], storage });
  if (network.get() === "offline") client.goOffline();
  client.onStatus(({ connection }) => {
    const tooSoon = performance.now() - replacedAt < GUEST_STAYS;
    if (connection === "needs-sign-in" && identity.kind === "guest" && !tooSoon) void replaceGuest(identity);
  });
  visits += 1;
  session.set({ visit: visits, identity, client, store: makeStore(client) });
  arrival.set("arrived");
}

/** What former guests have not settled; nothing if that cannot be read, and then nothing of it is thrown away. */
async function leftByFormer(): Promise<Command[] | undefined> {
  const commands: Command[] = [];
  for (const outbox of formerOutboxes()) {
    const storage = new IndexedDbStorage(outbox);
    const stored = await storage.load().catch(() => undefined);
    storage.close();
    if (!stored) return undefined;
    commands.push(...stored.commands);
  }
  return commands;
}

/** The outboxes of former guests. Whoever is still there is not among them, even if they were to be replaced. */
function formerOutboxes(): string[] {
  const named = recall("browser", "former")?.split(" ") ?? [];
  return named.filter((outbox) => !latest || outbox !== outboxOf(latest));
}

function nameFormer(outbox: string): void {
  const named = [...new Set([...formerOutboxes(), outbox])];
  for (const old of named.splice(0, named.length - MAX_FORMER)) indexedDB.deleteDatabase(old);
  keep("browser", "former", named.join(" "));
}

/** The names of tenants and users may hold anything; here no colon and no space is of theirs. */
function outboxOf({ tenant, user }: Identity): string {
  return ["sillage", tenant, user].map(encodeURIComponent).join(":");
}

/** Asks again, with longer and longer pauses, until the server answers. */
async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
  for (let pause = PAUSE.first; ; pause = Math.min(PAUSE.longest, 2 * pause)) {
    try {
      return await ask();
    } catch {
      if (arrival.get() !== "arrived") arrival.set("unreachable");
    }
    await untilOnline(pause);
  }
}

/** Resolves after a while, or as soon as the browser has a network again. */
function untilOnline(millis: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, millis);
    addEventListener("online", done);
  });
}
