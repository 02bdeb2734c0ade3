// One connection that comes back by itself.
//
// Invariant: at most one link is open, and only its messages are heard. After a link has ended the next one is
// opened after a pause with jitter, but never while the client is paused, needs a sign-in, or was told to stay
// away.

import { verdict } from "./codes";
import { type Clock, pause, type Timing } from "./timing";
import type { Tokens } from "./token";
import type { ClientMessage, Ended, Link, OpenLink, ServerMessage } from "./transport";

/**
 * How the connection stands. `connecting`: for the first time, or again after it broke; `offline`: the server
 * cannot be reached, and is tried again; `stopped`: the server does not want this client, or another has taken
 * its place; `paused`: `goOffline` was called.
 */
export type ConnectionState = "connecting" | "connected" | "offline" | "needs-sign-in" | "paused" | "stopped";

export interface ConnectionEvents {
  changed(): void;
  opened(): void;
  messages(messages: ServerMessage[]): void;
}

export class Connection {
  state: ConnectionState = "paused";

  private link: Link | undefined;
  private attempt = 0;
  private failures = 0;
  private which = 0;
  private heard = 0;
  private openedAt = 0;
  private token = "";
  private timer: (() => void) | undefined;

  constructor(
    private readonly url: string,
    private readonly tokens: Tokens,
    private readonly openers: OpenLink[],
    private readonly events: ConnectionEvents,
    private readonly timing: Timing,
    private readonly clock: Clock,
  ) {}

  get transport(): Link["transport"] | undefined {
    return this.state === "connected" ? this.link?.transport : undefined;
  }

  send(message: ClientMessage): void {
    if (this.state === "connected") this.link?.send(message);
  }

  /** Connects now, whatever it was waiting for. */
  reconnect(): void {
    this.failures = 0;
    this.drop();
    this.become("connecting");
    this.connect();
  }

  /** Ends the connection, and opens none before `reconnect`. */
  stop(state: "paused" | "stopped" | "needs-sign-in"): void {
    this.drop();
    this.become(state);
  }

  /** The server has said that the token runs out: another one goes over the open connection. */
  async renewToken(): Promise<void> {
    const attempt = this.attempt;
    const token = await this.tokens.instead(this.token).catch(() => undefined);
    // Without another one the server will close the connection, and that is judged then.
    if (token === undefined || attempt !== this.attempt) return;
    this.token = token;
    // A stream cannot be told: it is opened again.
    if (this.transport === "sse") this.reconnect();
    else this.send({ type: "refresh_token", token });
  }

  private async connect(): Promise<void> {
    const attempt = this.attempt;
    const current = () => attempt === this.attempt;
    let token: string | undefined;
    try {
      token = await this.tokens.current();
    } catch {
      if (current()) this.retry(undefined);
      return;
    }
    if (!current()) return;
    if (token === undefined) return this.stop("needs-sign-in");
    this.token = token;
    const open = this.openers[this.which % this.openers.length];
    if (!open) throw new Error("a client needs a transport");
    this.wait(this.timing.answer, () => this.ended({ code: 1006 }));
    this.link = open(this.url, token, {
      opened: () => this.opened(),
      messages: (messages) => {
        this.heard = this.clock.now();
        this.events.messages(messages);
      },
      alive: () => {
        this.heard = this.clock.now();
      },
      ended: (ended) => this.ended(ended),
    });
  }

  private opened(): void {
    this.openedAt = this.heard = this.clock.now();
    this.become("connected");
    this.watch();
    this.events.opened();
  }

  /** Asks a silent server for a sign of life, and gives up one that stays silent. */
  private watch(): void {
    this.wait(this.timing.ping, () => {
      const silent = this.clock.now() - this.heard;
      if (silent >= this.timing.silence) return this.ended({ code: 1006 });
      if (silent >= this.timing.ping) this.send({ type: "ping" });
      this.watch();
    });
  }

  private ended({ code, retryAfter }: Ended): void {
    // A connection that was good for a while has not failed; one that never opened is tried another way.
    if (this.state !== "connected") this.which += 1;
    else if (this.clock.now() - this.openedAt >= this.timing.ping) this.failures = 0;
    this.drop();
    switch (verdict(code)) {
      case "sign_in":
        return void this.signIn();
      case "stay_away":
      case "give_up":
        return this.become("stopped");
      case "reconnect":
        this.retry(retryAfter);
    }
  }

  private async signIn(): Promise<void> {
    this.become("connecting");
    const attempt = this.attempt;
    const another = this.tokens.instead(this.token).then(
      (token) => (token === undefined ? "none" : "there"),
      () => "later",
    );
    const outcome = await another;
    if (attempt !== this.attempt) return;
    if (outcome === "none") this.stop("needs-sign-in");
    else this.retry(undefined);
  }

  private retry(after: number | undefined): void {
    this.become(this.failures === 0 ? "connecting" : "offline");
    const millis = Math.max(after ?? 0, pause(this.timing, this.clock, this.failures));
    this.failures += 1;
    this.wait(millis, () => {
      this.attempt += 1;
      this.connect();
    });
  }

  private drop(): void {
    this.attempt += 1;
    this.timer?.();
    this.link?.close();
    this.link = undefined;
  }

  private wait(millis: number, run: () => void): void {
    this.timer?.();
    this.timer = this.clock.after(millis, run);
  }

  private become(state: ConnectionState): void {
    if (this.state === state) return;
    this.state = state;
    this.events.changed();
  }
}
