// The likes, as the founding document has them.

import type { Client } from "./client";
import { type Command, type Intent, randomId } from "./command";
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

export type LikeAddCmd = Extract<LikesBody, { type: "LikeAdd" }>;
export type LikeRemoveCmd = Extract<LikesBody, { type: "LikeRemove" }>;

interface LikeData {
  likeId: string;
  at: string;
}

export function likesFeed(targetId: string): string {
  return `like-${targetId}`;
}

export function targetOf(feed: string): string {
  return feed.slice("like-".length);
}

export const likes: Model<Likes> = {
  category: "like",
  initial: { count: 0, me: false, version: 0 },
  evolve(state, event, me) {
    const version = event.sequence_number;
    if (event.event_type !== "LikeSetEvent") return { ...state, version };
    const { userId, active, count } = event.data as unknown as LikeSetEvent;
    return { count, me: userId === me ? active : state.me, version };
  },
  predict(state, { type }) {
    const wanted = type === "LikeAdd" ? true : type === "LikeRemove" ? false : state.me;
    if (wanted === state.me) return state;
    return { ...state, me: wanted, count: Math.max(0, state.count + (wanted ? 1 : -1)) };
  },
  async baseline(feed, ask) {
    const path = `/api/social/likes/${encodeURIComponent(targetOf(feed))}`;
    const { count, me, version } = (await ask(path)) as LikesOfTarget;
    return { sequence: version, state: { count, me, version } };
  },
  route: ({ feed, type, commandId, data }) => ({
    path: "/api/social/likes",
    body: { type, commandId, targetId: targetOf(feed), ...(data as object) },
  }),
};

/** Likes a target, or no longer does: whichever it is not now. */
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

/** The command as the document has it. */
export function commandOf(command: Command, userId: string): LikeAddCmd | LikeRemoveCmd {
  const { likeId, at } = command.data as LikeData;
  const type = command.type as "LikeAdd" | "LikeRemove";
  return { type, commandId: command.commandId, likeId, targetId: targetOf(command.feed), userId, at };
}
