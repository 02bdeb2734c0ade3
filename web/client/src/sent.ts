// Those who wait for a command, and what they hear.

import type { Command, Confirmation } from "./command";
import { Closed, type GaveUp, type Rejected } from "./errors";

/** A command that the outbox has taken. It will be sent whether this is kept or not. */
export interface Sent<State = unknown> {
  command: Command;
  /** The state of the feed with the command on top; nothing if the feed is not followed. */
  optimistic: State | undefined;
  /**
   * Resolves when the server has taken it, or when its outcome is known, whatever it is: it says nothing of that.
   * Rejects with `Closed`.
   */
  accepted: Promise<void>;
  /** Resolves when it is carried out; rejects with `Rejected`, `GaveUp` or `Closed`. */
  confirmed: Promise<Confirmation>;
}

/** What became of a command of this user, also of one that was sent before a reload or by another tab. */
export type Settled =
  | { outcome: "applied" | "unchanged"; command: Command; confirmation: Confirmation }
  | { outcome: "rejected"; command: Command; error: Rejected }
  | { outcome: "gave-up"; command: Command; error: GaveUp };

interface Waiter {
  accept(): void;
  confirm(confirmation: Confirmation): void;
  fail(error: Error): void;
}

/** Whoever waits for the commands that this page has sent. */
export class Waiters {
  private readonly waiters = new Map<string, Waiter>();

  add(commandId: string): Pick<Sent, "accepted" | "confirmed"> {
    const waiter = {} as Waiter;
    let refuse: Waiter["fail"];
    const accepted = new Promise<void>((resolve, reject) => {
      waiter.accept = resolve;
      refuse = reject;
    });
    const confirmed = new Promise<Confirmation>((resolve, reject) => {
      waiter.confirm = resolve;
      waiter.fail = (error) => {
        // Whoever was accepted before stays so.
        refuse(error);
        reject(error);
      };
    });
    // Whoever does not look at the outcome hears of it by `onRejected`.
    accepted.catch(() => {});
    confirmed.catch(() => {});
    this.waiters.set(commandId, waiter);
    return { accepted, confirmed };
  }

  accept(commandId: string): void {
    this.waiters.get(commandId)?.accept();
  }

  settle(settled: Settled): void {
    const { commandId } = settled.command;
    const waiter = this.waiters.get(commandId);
    this.waiters.delete(commandId);
    // Settled is more than accepted; who was given up waits for nothing more.
    waiter?.accept();
    if ("error" in settled) waiter?.fail(settled.error);
    else waiter?.confirm(settled.confirmation);
  }

  close(): void {
    for (const waiter of this.waiters.values()) waiter.fail(new Closed());
    this.waiters.clear();
  }
}
