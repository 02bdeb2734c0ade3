// The likes in a Redux store, with the names of the founding document.
//
// Invariant: of each target that is watched, the slice says what the client shows: the truth of the server with
// the pending commands on top. The client alone knows that; the reducers copy it.

import {
  type Action,
  createAction,
  createSlice,
  type Middleware,
  type PayloadAction,
  prepareAutoBatched,
} from "@reduxjs/toolkit";
import type { Client } from "./client";
import type { Following } from "./feeds";
import { type Likes, likes, likesFeed, targetOf, toggleLike } from "./likes";
import { categoryOf } from "./model";

export type { LikeAddCmd, LikeRemoveCmd } from "./likes";

/** The likes of a target, as this user sees them. */
export interface LikesStateWl {
  /** How many like it. */
  count: number;
  /** Whether I do. */
  me: boolean;
  /** The number of the last event in them. */
  version: number;
  /** When the server was last heard about them, as ISO 8601 writes it; null before that. */
  lastFetchedAt: string | null;
}

/** Why a command about a target was refused or given up. */
export interface LikesRefusal {
  /** A word that a program can act on, such as `likes_closed`. */
  code: string;
  /** A sentence for a person. */
  message: string;
}

/** The likes of a target, and what stands between them and the server. */
export interface LikesOfTargetWl extends LikesStateWl {
  /** Whether the server has told them, be it on an earlier visit. */
  known: boolean;
  /** How many commands are on top of what the server has said. */
  pending: number;
  /** The last refusal, until the next toggle. */
  refusal: LikesRefusal | null;
}

/** What names a target. */
export interface LikesTarget {
  targetId: string;
}

/** Somebody has clicked: likes the target, or no longer does, whichever it is not now. */
export const uiLikeToggleRequested = createAction<LikesTarget>("ui/likeToggleRequested");
/** A target is on the screen. Each `uiLikesWatched` needs a `uiLikesUnwatched`. */
export const uiLikesWatched = createAction<LikesTarget>("ui/likesWatched");
/** A target is no longer on the screen. What was known of it stays in the slice, until very many others were left. */
export const uiLikesUnwatched = createAction<LikesTarget>("ui/likesUnwatched");

/** How many targets that nobody watches any more stay in the slice: those that were left last. */
const MAX_UNWATCHED = 1_000;

type Shown = LikesTarget & Omit<LikesOfTargetWl, "refusal">;
type Refused = LikesTarget & { refusal: LikesRefusal };

const UNKNOWN: LikesOfTargetWl = Object.freeze({
  ...likes.initial,
  lastFetchedAt: null,
  known: false,
  pending: 0,
  refusal: null,
});

// What the client tells is batched: however many events come, views are told once a frame.
const slice = createSlice({
  name: "likes",
  // Without a prototype, since a target may have the name of something that every object has.
  initialState: Object.create(null) as Record<string, LikesOfTargetWl>,
  reducers: {
    shown: {
      prepare: prepareAutoBatched<Shown>(),
      reducer(state, { payload: { targetId, ...shown } }: PayloadAction<Shown>) {
        state[targetId] = { ...shown, refusal: state[targetId]?.refusal ?? null };
      },
    },
    refused: {
      prepare: prepareAutoBatched<Refused>(),
      reducer(state, { payload: { targetId, refusal } }: PayloadAction<Refused>) {
        state[targetId] = { ...(state[targetId] ?? UNKNOWN), refusal };
      },
    },
    forgotten(state, { payload: { targetId } }: PayloadAction<LikesTarget>) {
      delete state[targetId];
    },
  },
  extraReducers: (builder) =>
    builder.addCase(uiLikeToggleRequested, (state, { payload: { targetId } }) => {
      const likes = state[targetId];
      if (likes) likes.refusal = null;
    }),
});

/** The reducer of the slice `likes`: the likes of each target, by its id. */
export const likesReducer = slice.reducer;

/** A store with the slice where the document has it. */
export interface WithLikes {
  likes: ReturnType<typeof likesReducer>;
}

/** The likes of a target; nothing is known of one that was never watched. */
export function selectLikes(state: WithLikes, targetId: string): LikesOfTargetWl {
  return (Object.hasOwn(state.likes, targetId) && state.likes[targetId]) || UNKNOWN;
}

/** What the middleware needs of a client. */
export type LikesClient = Pick<Client, "follow" | "send" | "status" | "onChange" | "onRejected">;

interface Watched {
  following: Following<Likes>;
  watchers: number;
  /** What was last copied into the slice. */
  shown: Shown;
  confirmed: Likes;
}

/**
 * Carries what is clicked to the client, and what the client shows to the slice. The optimism stands in the slice
 * when the dispatch of `uiLikeToggleRequested` returns.
 */
export function likesMiddleware(client: LikesClient): Middleware {
  return ({ dispatch }) => {
    const watched = new Map<string, Watched>();
    const unwatched = new Set<string>();
    // What changes while somebody clicks does not come from the server.
    let source: "server" | "click" = "server";

    const copy = (feed: string) => {
      const entry = watched.get(feed);
      if (!entry) return;
      const { confirmed } = entry.following;
      const fresh = source === "server" && isFresh(entry, client);
      const lastFetchedAt = fresh ? new Date().toISOString() : entry.shown.lastFetchedAt;
      const shown = shownOf(entry.following, lastFetchedAt);
      entry.confirmed = confirmed;
      if (isSame(shown, entry.shown)) return;
      entry.shown = shown;
      dispatch(slice.actions.shown(shown));
    };
    client.onChange(copy);
    client.onRejected(({ command: { feed }, code, message }) => {
      if (categoryOf(feed) !== likes.category) return;
      dispatch(slice.actions.refused({ targetId: targetOf(feed), refusal: { code, message } }));
      if (!watched.has(feed)) leave(feed);
    });

    const toggle = (targetId: string) => {
      source = "click";
      try {
        toggleLike(client, targetId);
      } finally {
        source = "server";
      }
    };
    /** Makes room for a target that nobody watches. */
    const leave = (feed: string) => {
      unwatched.delete(feed);
      unwatched.add(feed);
      const [oldest] = unwatched;
      if (unwatched.size <= MAX_UNWATCHED || oldest === undefined) return;
      unwatched.delete(oldest);
      dispatch(slice.actions.forgotten({ targetId: targetOf(oldest) }));
    };
    const watch = (feed: string) => {
      unwatched.delete(feed);
      const entry = watched.get(feed);
      if (entry) {
        entry.watchers += 1;
        return;
      }
      const following = client.follow<Likes>(feed);
      const shown = shownOf(following, null);
      watched.set(feed, { following, watchers: 1, shown, confirmed: following.confirmed });
      dispatch(slice.actions.shown(shown));
    };
    const unwatch = (feed: string) => {
      const entry = watched.get(feed);
      if (!entry || --entry.watchers > 0) return;
      watched.delete(feed);
      entry.following.close();
      leave(feed);
    };

    return (next) => (action) => {
      // Before the reducers, so that whoever hears of the click finds the optimism there.
      if (uiLikeToggleRequested.match(action)) {
        toggle(action.payload.targetId);
      } else if (uiLikesWatched.match(action)) {
        watch(likesFeed(action.payload.targetId));
      } else if (uiLikesUnwatched.match(action)) {
        unwatch(likesFeed(action.payload.targetId));
      }
      return next(action as Action);
    };
  };
}

/** Whether a change is news of the server: another truth, or the first word about it on this visit. */
function isFresh({ following, confirmed, shown }: Watched, { status }: LikesClient): boolean {
  if (!following.known || status.connection !== "connected") return false;
  return following.confirmed !== confirmed || shown.lastFetchedAt === null;
}

function shownOf({ name, state, known, pending }: Following<Likes>, lastFetchedAt: string | null): Shown {
  const { count, me, version } = state;
  return { targetId: targetOf(name), count, me, version, lastFetchedAt, known, pending: pending.length };
}

function isSame(a: Shown, b: Shown): boolean {
  return (Object.keys(a) as (keyof Shown)[]).every((key) => a[key] === b[key]);
}
