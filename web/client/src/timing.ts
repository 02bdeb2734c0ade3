// How long the client waits for what, and the clock that it asks.

/** In milliseconds. */
export interface Timing {
  /** A connection or request that has not answered by then has failed. */
  answer: number;
  /** The shortest pause before something that failed is tried again; doubled each time, with jitter. */
  backoff: number;
  /** The longest such pause. */
  maxBackoff: number;
  /** A server that was silent for so long is asked for a sign of life. */
  ping: number;
  /** A server that was silent for so long is taken to be gone. */
  silence: number;
  /** An accepted command without a receipt for so long is sent again; doubled each time. */
  resend: number;
  /** How long checkpoints and settled commands wait for others, to be written together. */
  write: number;
  /** A command that was not settled for so long is given up. It stays below the 30 days of the ledger. */
  maxAge: number;
}

export const DEFAULT_TIMING: Timing = {
  answer: 10_000,
  backoff: 250,
  maxBackoff: 30_000,
  ping: 20_000,
  silence: 45_000,
  resend: 10_000,
  write: 100,
  maxAge: 7 * 24 * 3_600_000,
};

/** The clock, the timers and the dice: real ones, or those of a test. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Runs something later; the answer takes that back. */
  after(millis: number, run: () => void): () => void;
  /** At least 0, less than 1. */
  random(): number;
}

export const realClock: Clock = {
  now: () => Date.now(),
  after(millis, run) {
    const timer = setTimeout(run, millis);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

/** How long to pause after so many failures in a row: a random half of the exponential. */
export function pause(timing: Timing, clock: Clock, failures: number): number {
  const longest = Math.min(timing.maxBackoff, timing.backoff * 2 ** Math.min(failures, 20));
  return (longest * (1 + clock.random())) / 2;
}
