// How a feed becomes a state. A model is pure: no clock, no I/O, and it never changes the state that it is given.

import type { Command } from "./command";
import type { Event } from "./wire";

/** Asks a view of the server, as the user, for JSON: a path that takes `at_least`. */
export type Ask = (path: string) => Promise<unknown>;

/** The rules by which a kind of feed is shown. */
export interface Model<State> {
  /** The feeds that it is for: those whose name begins with this and a hyphen. */
  category: string;
  /** The state before the first event. */
  initial: State;
  /** The state after an event that has happened. `me` is the user of this client. */
  evolve(state: State, event: Event, me: string): State;
  /** What the state will probably be once the command is carried out. */
  predict(state: State, command: Command, me: string): State;
  /**
   * Where to begin, if that is shorter than the whole history: a state, and the number of its last event. It may
   * contain pending commands already, and nobody can tell: `predict` must then change nothing.
   */
  baseline?(feed: string, ask: Ask): Promise<{ sequence: number; state: State }>;
  /**
   * What a `snapshot` of the server makes of a feed whose events were compacted; without this such a feed cannot be
   * shown. It may contain pending commands, as a baseline may.
   */
  snapshot?(state: unknown, me: string): State;
  /** The path and the body of the command, if its system has a route of its own. */
  route?(command: Command): { path: string; body: unknown };
}

/** The part of a feed's name that chooses the model. */
export function categoryOf(feed: string): string {
  return feed.slice(0, Math.max(0, feed.indexOf("-")));
}
