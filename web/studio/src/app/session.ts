// Whose pages these are: one identity, one client, one store.
//
// Invariant: at most one client is open in a tab. What somebody has not sent stays in an outbox of their own when
// another takes their place; a guest whose token is no longer taken is named until somebody has decided about it.

import { Client, type Command, IndexedDbStorage, MemoryStorage, type Storage } from "@sillage/client";
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

/** Guests whose tokens are no longer taken, and what they had not settled. */
export interface Former {
  users: string[];
  commands: Command[];
}

export const session = new Value<Session | undefined>(undefined);
export const arrival = new Value<Arrival>("arriving");
export const former = new Value<Former | undefined>(undefined);
/** Whether the outbox outlives the page. */
export const durability = new Value<"kept" | "lost">("kept");

/** The shortest and the longest pause before a server without an answer is asked again, in milliseconds. */
const PAUSE = { first: 1_000, longest: 30_000 };
/** A guest who is refused so soon after the one before is not replaced: that would go on for ever. */
const GUEST_STAYS = 30_000;
let replacedAt = Number.NEGATIVE_INFINITY;

/** Becomes who this tab was before, or a guest. */
export async function begin(): Promise<void> {
  const identity = await untilAnswered(arrive);
  // Somebody may have signed in meanwhile.
  if (!session.get()) await enter(identity);
  const left = await whatIsLeft();
  if (!left) return;
  if (left.commands.length > 0) former.set(left);
  else await settleFormer("discard");
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
  await enter(await untilAnswered(arrive));
}

/** Works offline, or no longer. */
export function setNetwork(chosen: Network): void {
  chooseNetwork(chosen);
  const client = session.get()?.client;
  if (chosen === "offline") client?.goOffline();
  else client?.goOnline();
}

/** A guest in the place of one whose token is no longer taken. */
export async function replaceGuest({ token, user }: Identity): Promise<void> {
  replacedAt = performance.now();
  const guest = await untilAnswered(() => guestInsteadOf(token));
  if (session.get()?.identity.token !== token) return;
  keep("browser", "former", [...new Set([...formerUsers(), user])].join(" "));
  await enter(guest);
  former.set(await whatIsLeft());
}

/** Sends what former guests had not settled, as whoever this is now; or throws it away. */
export async function settleFormer(how: "send" | "discard"): Promise<void> {
  const left = await whatIsLeft();
  if (!left) return;
  const { users, commands } = left;
  const client = session.get()?.client;
  if (how === "send" && client) {
    for (const { feed, type, data } of commands) client.send({ feed, type, data });
    // It returns after all of them are kept, so that they are nowhere only in the memory of this page.
    await client.outboxProcessOnce();
  }
  for (const user of users) indexedDB.deleteDatabase(outboxOf(user));
  keep("browser", "former", undefined);
  former.set(undefined);
}

async function enter(identity: Identity): Promise<void> {
  // What was just clicked must be in the storage before somebody reads it from there.
  await session.get()?.client.close();
  open(identity, new IndexedDbStorage(outboxOf(identity.user)));
}

function open(identity: Identity, storage: Storage): void {
  const client = new Client({
    user: identity.user,
    // A tab that begins offline has nothing to show to a server.
    token: () => allowed().then(() => identity.token),
    models: [likes],
    storage,
  });
  client.onStatus(({ connection }) => {
    const tooSoon = performance.now() - replacedAt < GUEST_STAYS;
    if (connection === "needs-sign-in" && identity.kind === "guest" && !tooSoon) void replaceGuest(identity);
  });
  client.ready.then(
    () => {
      if (network.get() === "offline") client.goOffline();
    },
    () => {
      if (session.get()?.client !== client) return;
      durability.set("lost");
      void client.close();
      open(identity, new MemoryStorage());
    },
  );
  session.set({ visit: (session.get()?.visit ?? 0) + 1, identity, client, store: makeStore(client) });
  arrival.set("arrived");
}

/** What former guests have not settled; nothing if that cannot be read, and then nothing of it is thrown away. */
async function whatIsLeft(): Promise<Former | undefined> {
  const users = formerUsers();
  const commands: Command[] = [];
  for (const user of users) {
    const storage = new IndexedDbStorage(outboxOf(user));
    const stored = await storage.load().catch(() => undefined);
    storage.close();
    if (!stored) return undefined;
    commands.push(...stored.commands);
  }
  return { users, commands };
}

/** The names of guests have no spaces. */
function formerUsers(): string[] {
  return recall("browser", "former")?.split(" ") ?? [];
}

function outboxOf(user: string): string {
  return `sillage:${user}`;
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
