// One connection that comes back by itself.
//
// Invariant: at most one link is open, and only its messages are heard. After a link has ended the next one is
// opened after a pause with jitter, but never while the client is paused, needs a sign-in, or was told to stay
// away.

import { verdict } from "./codes";
import { pause, type Time } from "./timing";
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

/** So many milliseconds after the first way to connect did not open, it is tried again. */
const FIRST_AGAIN = 600_000;

export class Connection {
  state: ConnectionState = "connecting";

  private link: Link | undefined;
  private attempt = 0;
  private failures = 0;
  private which = 0;
  /** When the first way to connect did not open. */
  private turnedAt = 0;
  private heard = 0;
  private openedAt = 0;
  private token = "";
  private timer: (() => void) | undefined;

  constructor(
    private readonly url: string,
    private readonly tokens: Tokens,
    private readonly openers: OpenLink[],
    private readonly events: ConnectionEvents,
    private readonly time: Time,
  ) {}

  get transport(): Link["transport"] | undefined {
    return this.state === "connected" ? this.link?.transport : undefined;
  }

  send(message: ClientMessage): void {
    if (this.state === "connected") this.link?.send(message);
  }

  /** Connects now, whatever it was waiting for. */
  reconnect(): void {
    this.failures = this.which = 0;
    this.drop();
    this.state = "connecting";
    this.events.changed();
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
    const token = await this.tokens.current().catch(() => null);
    if (attempt !== this.attempt) return;
    if (token === null) return this.retry();
    if (token === undefined) return this.stop("needs-sign-in");
    this.token = token;
    if (this.time.elapsed() - this.turnedAt >= FIRST_AGAIN) this.which = 0;
    this.wait(this.time.answer, () => this.ended({ code: 1006 }));
    const alive = () => {
      this.heard = this.time.elapsed();
    };
    this.link = this.openers[this.which]?.(this.url, token, {
      opened: () => this.opened(),
      messages: (messages) => {
        alive();
        this.events.messages(messages);
      },
      alive,
      ended: (ended) => this.ended(ended),
    });
  }

  private opened(): void {
    this.openedAt = this.heard = this.time.elapsed();
    this.become("connected");
    this.watch();
    this.events.opened();
  }

  /** Asks a silent server for a sign of life, and gives up one that stays silent. */
  private watch(): void {
    this.wait(this.time.ping, () => {
      const now = this.time.elapsed();
      const silent = now - this.heard;
      if (silent >= this.time.silence) return this.ended({ code: 1006 });
      if (this.which > 0 && now - this.turnedAt >= FIRST_AGAIN) return this.reconnect();
      if (silent >= this.time.ping) this.send({ type: "ping" });
      this.watch();
    });
  }

  private ended({ code, retryAfter }: Ended): void {
    const now = this.time.elapsed();
    const connected = this.state === "connected";
    // What never opened is tried another way, and so is the first way if nothing comes through it: what is between
    // us and the server may let a socket open, and then break it.
    if (!connected || (this.which === 0 && this.heard === this.openedAt && code === 1006)) {
      if (this.which === 0) this.turnedAt = now;
      this.which = (this.which + 1) % this.openers.length;
    }
    // A connection that was good for a while has not failed.
    if (connected && now - this.openedAt >= this.time.ping) this.failures = 0;
    this.drop();
    const what = verdict(code);
    if (what === "sign_in") this.signIn();
    else if (what === "reconnect") this.retry(retryAfter);
    else this.become("stopped");
  }

  private async signIn(): Promise<void> {
    this.become("connecting");
    const attempt = this.attempt;
    const token = await this.tokens.instead(this.token).catch(() => null);
    if (attempt !== this.attempt) return;
    if (token === undefined) this.stop("needs-sign-in");
    else this.retry();
  }

  private retry(after = 0): void {
    this.become(this.failures === 0 ? "connecting" : "offline");
    const millis = Math.max(after, pause(this.time, this.failures));
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
    this.timer = this.time.after(millis, run);
  }

  private become(state: ConnectionState): void {
    if (this.state === state) return;
    this.state = state;
    this.events.changed();
  }
}
