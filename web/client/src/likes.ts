// The likes, as the founding document has them.

import type { Client } from "./client";
import { type Intent, randomId } from "./command";
import type { Model } from "./model";
import type { Sent } from "./sent";
import type { LikeSetEvent, LikesBody, LikesOfTarget } from "./wire";

/** The likes of a target, as one user sees them. */
export interface Likes {
  /** How many like it. */
  count: number;
  /** Whether I do. */
  me: boolean;
  /** The number of the last event in them. */
  version: number;
}

/** Likes a target, as the founding document prints it. */
export type LikeAddCmd = Extract<LikesBody, { type: "LikeAdd" }>;
/** Likes a target no longer. */
export type LikeRemoveCmd = Extract<LikesBody, { type: "LikeRemove" }>;

interface LikeData {
  likeId: string;
  at: string;
}

/** The feed of the likes of a target: what `client.follow` takes. */
export function likesFeed(targetId: string): string {
  return `like-${targetId}`;
}

/** The target whose likes a feed of this name tells. */
export function targetOf(feed: string): string {
  return feed.slice("like-".length);
}

/** How the likes of a target are shown; for `Options.models`. */
export const likes: Model<Likes> = {
  category: "like",
  initial: { count: 0, me: false, version: 0 },
  evolve(state, event, me) {
    const version = event.sequence_number;
    if (event.event_type !== "LikeSetEvent") return { ...state, version };
    const { userId, active, count } = event.data as unknown as LikeSetEvent;
    // The next one says again how many there are.
    if (!Number.isSafeInteger(count)) return { ...state, version };
    return { count, me: userId === me ? active === true : state.me, version };
  },
  predict(state, { type }) {
    const wanted = type === "LikeAdd" ? true : type === "LikeRemove" ? false : state.me;
    if (wanted === state.me) return state;
    return { ...state, me: wanted, count: Math.max(0, state.count + (wanted ? 1 : -1)) };
  },
  snapshot(state, me) {
    const { likedBy, version } = state as { likedBy: string[]; version: number };
    return { count: likedBy.length, me: likedBy.includes(me), version };
  },
  async baseline(feed, ask) {
    const path = `/api/social/likes/${encodeURIComponent(targetOf(feed))}`;
    const { count, me, version } = (await ask(path)) as LikesOfTarget;
    if (![count, version].every(Number.isSafeInteger)) throw new Error("these are no likes");
    return { sequence: version, state: { count, me: me === true, version } };
  },
  route: ({ feed, type, commandId, data }) => ({
    path: "/api/social/likes",
    body: { type, commandId, targetId: targetOf(feed), ...(data as object) },
  }),
};

/**
 * Likes a target, or no longer does: whichever it is not now. What it is now is known of a target that is followed,
 * or was on an earlier visit; any other is liked.
 */
export function toggleLike(client: Pick<Client, "follow" | "send">, targetId: string): Sent<Likes> {
  const following = client.follow<Likes>(likesFeed(targetId));
  try {
    return client.send<Likes>(intent(targetId, following.state.me ? "LikeRemove" : "LikeAdd"));
  } finally {
    following.close();
  }
}

function intent(targetId: string, type: "LikeAdd" | "LikeRemove"): Intent<LikeData> {
  const data = { likeId: randomId(), at: new Date().toISOString() };
  return { feed: likesFeed(targetId), type, data };
}
