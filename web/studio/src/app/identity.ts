// Who somebody is, as a token says. The server alone judges a token; here it is only read.

import type { wire } from "@sillage/client";
import { keep, recall } from "./keep";
import { allowed } from "./offline";

export interface Identity {
  /** A guest whom the server has made, or somebody who brought a token. */
  kind: "guest" | "member";
  token: string;
  /** Where they belong. Two tenants may have users of one name. */
  tenant: string;
  user: string;
  /** What to call them; nothing if they have no name. */
  name: string | undefined;
  scopes: string[];
}

/** The scope of those who may close and open likes. */
export const MODERATE = "moderate";
/** The scope of those who look after the node. */
export const OPERATE = "operate";

// A guest is the same person in all tabs and tomorrow. A token that somebody brings may be powerful: it ends
// with its tab.
const PLACES = [
  { kind: "member", where: "tab", name: "token" },
  { kind: "guest", where: "browser", name: "guest" },
] as const;

/** Whoever this tab was before. */
export function remembered(): Identity | undefined {
  for (const { kind, where, name } of PLACES) {
    const token = recall(where, name);
    const identity = token && identityOf(kind, token);
    if (identity) return identity;
  }
  return undefined;
}

export function remember({ kind, token }: Identity): void {
  for (const place of PLACES) if (place.kind === kind) keep(place.where, place.name, token);
}

export function forget(kind: Identity["kind"]): void {
  for (const place of PLACES) if (place.kind === kind) keep(place.where, place.name, undefined);
}

/** Reads a token; nothing if it is none. */
export function identityOf(kind: Identity["kind"], token: string): Identity | undefined {
  try {
    const payload = token.split(".")[1] ?? "";
    const letters = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    const { sub: user, tenant, name, scope } = JSON.parse(new TextDecoder().decode(bytes));
    if (!isName(user) || !isName(tenant)) return undefined;
    const scopes = typeof scope === "string" ? scope.split(" ").filter(Boolean) : [];
    return { kind, token, tenant, user, name: typeof name === "string" ? name : undefined, scopes };
  } catch {
    return undefined;
  }
}

function isName(claim: unknown): claim is string {
  return typeof claim === "string" && claim !== "";
}

/** Whoever this tab was before, or a new guest. Throws if the server makes none. */
export async function arrive(): Promise<Identity> {
  const before = remembered();
  if (before) return before;
  // Not while others wait for this tab.
  await allowed();
  return alone(async () => remembered() ?? (await newGuest()));
}

/** A guest in the place of one whose token is no longer taken, unless another tab has made one already. */
export async function guestInsteadOf(refused: string): Promise<Identity> {
  await allowed();
  return alone(async () => {
    const before = remembered();
    return before?.kind === "guest" && before.token !== refused ? before : newGuest();
  });
}

async function newGuest(): Promise<Identity> {
  const response = await fetch("/api/auth/guest", { method: "POST" });
  if (!response.ok) throw new Error(`a guest was answered with ${response.status}`);
  const { token } = (await response.json()) as wire.Guest;
  const identity = identityOf("guest", token);
  if (!identity) throw new Error("the token of the guest cannot be read");
  remember(identity);
  return identity;
}

/** One tab after the other, so that two that are opened together become one guest. */
function alone<T>(run: () => Promise<T>): Promise<T> {
  // Browsers without locks, or without them on such an address, are few enough for the guests to be two.
  if (!navigator.locks) return run();
  let begun = false;
  const begin = () => {
    begun = true;
    return run();
  };
  return navigator.locks.request("sillage.guest", begin).catch((error: unknown) => {
    if (begun) throw error;
    return run();
  });
}
