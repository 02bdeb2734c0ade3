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

/** The clocks, the timers and the dice: real ones, or those of a test. */
export interface Clock {
  /** Milliseconds since 1970, as the device has them. They may jump either way. */
  now(): number;
  /** Milliseconds since some moment, which only grow: by them it is told what is due, and how old something is. */
  elapsed(): number;
  /** Runs something later; the answer takes that back. What is weeks away may be run too early. */
  after(millis: number, run: () => void): () => void;
  /** At least 0, less than 1. */
  random(): number;
}

/** The longest time that a timer can wait, in milliseconds: one that is to wait longer would not wait at all. */
const LONGEST_TIMER = 2 ** 31 - 1;

export const realClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(millis, run) {
    const timer = setTimeout(run, Math.min(millis, LONGEST_TIMER));
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

/** Both in one: how long to wait for what, and the clock to wait by. */
export type Time = Timing & Clock;

/** How long to pause after so many failures in a row: a random half of the exponential. */
export function pause(time: Time, failures: number): number {
  const longest = Math.min(time.maxBackoff, time.backoff * 2 ** Math.min(failures, 20));
  return (longest * (1 + time.random())) / 2;
}

/** The same promise, but one that rejects when there is no answer in time. */
export function inTime<T>(promise: Promise<T>, time: Time): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = time.after(time.answer, () => reject(new Error("no answer")));
    promise.then(resolve, reject).finally(stop);
  });
}
