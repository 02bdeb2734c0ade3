// How messages reach the server and come back. The contract; the ways to keep it are in the folder of this name.

import type {
  Action,
  Event,
  Ping,
  Pong,
  Receipt,
  RefreshToken,
  Resync,
  Subscribe,
  Subscribed,
  Sync,
  SyncBatch,
  TokenRefreshed,
  Unsubscribe,
  Unsubscribed,
  Error as WireError,
} from "./wire";

export type ClientMessage = Action | Subscribe | Unsubscribe | Sync | RefreshToken | Ping;
export type ServerMessage =
  Event | Receipt | WireError | Subscribed | Unsubscribed | SyncBatch | Resync | TokenRefreshed | Pong;

/** Why a connection has ended: a close code of `PROTOCOL`, 1006 if nothing is known. */
export interface Ended {
  code: number;
  /** How long the server wants to be left alone, in milliseconds. */
  retryAfter?: number | undefined;
}

/** What a connection tells; nothing comes after `ended`. */
export interface LinkEvents {
  opened(): void;
  /** Messages in the order in which the server wrote them; those that came together come together. */
  messages(messages: ServerMessage[]): void;
  /** Something came that is no message, such as a comment: a sign of life. */
  alive(): void;
  ended(ended: Ended): void;
}

/** A connection. */
export interface Link {
  /** What it is called. */
  readonly transport: "websocket" | "sse";
  /** Sends a message, in order. What this way cannot carry is passed over. */
  send(message: ClientMessage): void;
  /** Ends it; nothing more is told of it. */
  close(): void;
}

/** Opens a connection with a token to a server, as `https://host`. */
export type OpenLink = (url: string, token: string, events: LinkEvents) => Link;

const TYPES: ReadonlySet<string> = new Set([
  "event",
  "receipt",
  "error",
  "subscribed",
  "unsubscribed",
  "sync_batch",
  "resync",
  "token_refreshed",
  "pong",
] satisfies ServerMessage["type"][]);

/** Reads a message; nothing if it is none, or one of a later version, which is passed over. */
export function parseMessage(text: string): ServerMessage | undefined {
  try {
    const message = JSON.parse(text);
    return TYPES.has(message?.type) ? message : undefined;
  } catch {
    return undefined;
  }
}
