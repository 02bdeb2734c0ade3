// How messages reach the server and come back. The contract; the ways to keep it are in the folder of this name.

import type {
  Action,
  Event,
  Ping,
  Receipt,
  RefreshToken,
  Resync,
  Snapshot,
  Subscribe,
  Subscribed,
  Sync,
  SyncBatch,
  Unsubscribe,
  Error as WireError,
} from "./wire";

export type ClientMessage = Action | Subscribe | Unsubscribe | Sync | RefreshToken | Ping;
export type ServerMessage = Event | Receipt | WireError | Subscribed | SyncBatch | Snapshot | Resync;

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

/** What the program takes for granted in a message of each type, separated by spaces. */
const FIELDS: Record<ServerMessage["type"], string> = {
  event: "feed epoch sequence_number position event_type data",
  receipt: "command_id outcome sequence_numbers position",
  error: "code message",
  subscribed: "feed epoch current_sequence",
  sync_batch: "feed events current_sequence",
  snapshot: "feed epoch sequence_number",
  resync: "feed",
};

type Check = (value: unknown) => boolean;
const isNumber: Check = Number.isSafeInteger;
const isText: Check = (value) => typeof value === "string";
const all =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);

/** What a field has to be, if it is not a text. */
const CHECKS: Record<string, Check> = {
  sequence_number: isNumber,
  position: isNumber,
  current_sequence: isNumber,
  sequence_numbers: all(isNumber),
  outcome: (value) => ["applied", "unchanged", "rejected"].includes(value as string),
  data: (value) => typeof value === "object" && value !== null,
  events: all((event) => isMessage(event as ServerMessage) && (event as ServerMessage).type === "event"),
};

/** Whether every field is what the program will take it for. Throws at what is no message at all. */
function isMessage(message: ServerMessage): boolean {
  const fields = message as unknown as Record<string, unknown>;
  return FIELDS[message.type].split(" ").every((name) => (CHECKS[name] ?? isText)(fields[name]));
}

/**
 * Reads a message. Nothing if it is not whole, if it is one of a later version, or if it only shows that the server
 * is there: all of these are passed over.
 */
export function parseMessage(text: string): ServerMessage | undefined {
  try {
    const message = JSON.parse(text);
    if (isMessage(message)) return message;
  } catch {
    // It is no JSON.
  }
  return undefined;
}
