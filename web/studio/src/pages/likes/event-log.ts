// The events as they arrive, for a list that many of them must not slow down.
//
// Invariant: the list is told at most once a frame, and holds a bounded number of events, however many arrive.

import type { wire } from "@sillage/client";

/** How many events are shown at most, the newest. */
export const MAX_EVENTS = 100;

export interface Shown {
  /** Newest first. */
  events: wire.Event[];
  /** How many have arrived in all. */
  arrived: number;
  /** How many have arrived that are not shown because of the pause. */
  held: number;
  mode: "running" | "paused";
}

/** Runs something before the next frame. */
export type NextFrame = (run: () => void) => void;

export class EventLog {
  private shown: Shown = { events: [], arrived: 0, held: 0, mode: "running" };
  private mode: Shown["mode"] = "running";
  /** The newest that arrived, oldest first; those that are shown are among them. */
  private newest: wire.Event[] = [];
  private arrived = 0;
  private asked = false;
  private readonly listeners = new Set<() => void>();

  constructor(private readonly nextFrame: NextFrame) {}

  readonly get = (): Shown => this.shown;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly add = (event: wire.Event): void => {
    this.arrived += 1;
    this.newest.push(event);
    // Now and then, and not for each event, since what is behind has to move.
    if (this.newest.length >= 2 * MAX_EVENTS) this.newest = this.newest.slice(-MAX_EVENTS);
    this.show();
  };

  setMode(mode: Shown["mode"]): void {
    this.mode = mode;
    this.show();
  }

  private show(): void {
    if (this.asked) return;
    this.asked = true;
    this.nextFrame(() => {
      this.asked = false;
      const { mode, arrived } = this;
      const running = mode === "running";
      const events = running ? this.newest.slice(-MAX_EVENTS).reverse() : this.shown.events;
      const held = running ? 0 : this.shown.held + arrived - this.shown.arrived;
      this.shown = { events, arrived, held, mode };
      for (const listener of this.listeners) listener();
    });
  }
}
