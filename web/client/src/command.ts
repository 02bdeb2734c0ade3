// A command, and its identity.

import type { CommandId, Feed } from "./wire";

/** What somebody wants. */
export interface Intent<Data = unknown> {
  /** The stream that decides: `category-id`. */
  feed: Feed;
  /** The name of the command. */
  type: string;
  /** What the command needs, in the casing of its system. */
  data: Data;
}

/** An intent with an identity: sent as often as need be, it counts once. */
export interface Command<Data = unknown> extends Intent<Data> {
  commandId: CommandId;
  /** When it was minted, in milliseconds since 1970. */
  createdAt: number;
}

/** What became of a command that was carried out. */
export interface Confirmation {
  commandId: CommandId;
  /** `unchanged`: everything was already as it asked for. */
  outcome: "applied" | "unchanged";
  /** The numbers of its events in the feed. Only the first, when an event was heard before the receipt. */
  sequenceNumbers: number[];
  /** The log reflects it from here on. */
  position: number;
}

/**
 * Mints command ids: UUIDv7 (RFC 9562), each greater than the one before, so that their order is the order of
 * the clicks even when the clock stands still or jumps back.
 */
export class Mint {
  private last = 0;
  private count = 0;

  /** Ids that are minted from now on come after `id`. */
  after(id: CommandId): void {
    const millis = Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
    if (id[14] === "7" && millis >= this.last) {
      this.last = millis + 1;
      this.count = 0;
    }
  }

  next(now: number): Pick<Command, "commandId" | "createdAt"> {
    if (now > this.last) {
      this.last = now;
      this.count = 0;
    } else if (++this.count > 0xfff) {
      this.last += 1;
      this.count = 0;
    }
    return { commandId: uuid(hex(this.last, 12), `7${hex(this.count, 3)}`), createdAt: now };
  }
}

/** A random id (UUIDv4), also where `crypto.randomUUID` is kept from pages: on plain HTTP. */
export function randomId(): string {
  const [a = 0, b = 0, c = 0] = crypto.getRandomValues(new Uint32Array(3));
  return uuid(hex(a, 8) + hex(b & 0xffff, 4), `4${hex(c & 0xfff, 3)}`);
}

/** The first 12 digits, and the 4 with the version; what follows is random. */
function uuid(first: string, version: string): string {
  const [a = 0, b = 0] = crypto.getRandomValues(new Uint32Array(2));
  // The two highest bits are the variant.
  const tail = hex((a >>> 2) + 0x80000000, 8) + hex(b, 8);
  return [first.slice(0, 8), first.slice(8), version, tail.slice(0, 4), tail.slice(4)].join("-");
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
