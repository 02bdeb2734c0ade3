// Whose pages these are: one identity, one client, one store.
//
// Invariant: at most one client is open in a tab. What somebody has not sent stays in an outbox of their own when
// another takes their place; what a guest has left whose token is no longer taken is set aside until somebody has
// decided about it.

import { Client, type Command, IndexedDbStorage } from "@sillage/client";
import { likes } from "@sillage/client/likes";
import { arrive, forget, guestInsteadOf, type Identity, identityOf, remember } from "./identity";
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

/** What former guests have left. */
export interface Former {
  /** How many of their clicks are not settled. */
  count: number;
  /** How the last try to do something about them went. */
  last: "fine" | "failed";
}

export const session = new Value<Session | undefined>(undefined);
export const arrival = new Value<Arrival>("arriving");
/** Nothing if nobody has to decide about what former guests have left. */
export const former = new Value<Former | undefined>(undefined);

/** The shortest and the longest pause before a server without an answer is asked again, in milliseconds. */
const PAUSE = { first: 1_000, longest: 30_000 };
/** A guest who is refused so soon after the one before is not replaced: that would go on for ever. */
const GUEST_STAYS = 30_000;
/** Where the clicks of former guests are, until somebody has decided about them. No outbox has this name. */
const FORMER = "sillage:former";
/** How long a storage is waited for, in milliseconds. */
const PATIENCE = 10_000;

let replacedAt = Number.NEGATIVE_INFINITY;
let visits = 0;
/** Who this tab is, or is about to be. */
let latest: Identity | undefined;
/** The end of the last change of who this tab is. */
let entering: Promise<void> = Promise.resolve();
/** What should be in `FORMER`, but could not be kept there. It is lost only if the page ends. */
let unkept: Command[] = [];

/** Becomes who this tab was before, or a guest. */
export async function begin(): Promise<void> {
  await become(arrive);
  const { length: count } = await leftByFormer().catch(() => unkept);
  if (count > 0) former.set({ count, last: "fine" });
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
  arrival.set("arriving");
  // Before there is another, so that no end of the page in between loses a click.
  entering = entering.then(async () => setAside(refused, await leave()));
  await entering;
  if (latest === refused) await become(() => guestInsteadOf(refused.token));
  const { length: count } = await leftByFormer().catch(() => unkept);
  former.set({ count, last: "fine" });
}

/**
 * Sends what former guests had not settled, as whoever this is now; or throws it away. The commands keep their
 * ids: if the page ends on the way, this can be done again, and each counts once.
 */
export async function settleFormer(how: "send" | "discard"): Promise<void> {
  const me = session.get()?.identity;
  const shown = former.get();
  if (!me || !shown) return;
  try {
    // Only what is read here is taken away: another tab may set more aside meanwhile.
    const left = shown.count > 0 ? await leftByFormer() : [];
    const ids = idsOf(left);
    // Thrown away, they are not sent either, should an attempt to send them have ended halfway.
    await (how === "send" ? change(outboxOf(me), left, []) : change(outboxOf(me), [], ids));
    await change(FORMER, [], ids);
    unkept = unkept.filter(({ commandId }) => !ids.includes(commandId));
  } catch {
    former.set({ ...shown, last: "failed" });
    return;
  }
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

/** Becomes somebody, one change after the other. */
function enter(identity: Identity): Promise<void> {
  latest = identity;
  entering = entering.then(async () => {
    await leave();
    if (latest === identity) open(identity);
  });
  return entering;
}

/** Whoever this was leaves, and there is nothing to click at: no click is lost. Answers what they have not settled. */
async function leave(): Promise<Command[]> {
  const leaving = session.get()?.client;
  session.set(undefined);
  const left = leaving?.pending().map(({ command }) => command) ?? [];
  // What was just clicked must be in the storage before somebody reads it from there.
  await leaving?.close();
  return left;
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

/** Moves what a guest has left from their outbox to the place where it waits. */
async function setAside(guest: Identity, left: Command[]): Promise<void> {
  try {
    // If the client could not read what was kept, it is not among what it had.
    const { commands: kept } = await within(outboxOf(guest), (storage) => storage.load());
    const known = new Set(idsOf(left));
    const all = [...kept.filter(({ commandId }) => !known.has(commandId)), ...left];
    await change(FORMER, all, []);
    await change(outboxOf(guest), [], idsOf(all));
  } catch {
    unkept = [...unkept, ...left];
  }
}

/** What former guests have not settled. Rejects if that cannot be read. */
async function leftByFormer(): Promise<Command[]> {
  const { commands } = await within(FORMER, (storage) => storage.load());
  const ids = new Set(idsOf(commands));
  return [...commands, ...unkept.filter(({ commandId }) => !ids.has(commandId))];
}

async function change(outbox: string, put: Command[], remove: string[]): Promise<void> {
  if (put.length + remove.length === 0) return;
  await within(outbox, (storage) => storage.write({ put, remove, checkpoints: [] }));
}

/** Does something with an outbox that no client of this tab has open. Rejects also if there is no answer in time. */
function within<T>(outbox: string, run: (storage: IndexedDbStorage) => Promise<T>): Promise<T> {
  const storage = new IndexedDbStorage(outbox);
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error("no answer")), PATIENCE);
  });
  return Promise.race([run(storage), late]).finally(() => storage.close());
}

function idsOf(commands: Command[]): string[] {
  return commands.map(({ commandId }) => commandId);
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
