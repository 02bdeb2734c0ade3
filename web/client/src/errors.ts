// What can become of a command besides success. Everything else (no network, a server that restarts) is not an
// error of a command: the outbox keeps it and tries again.

import type { Command } from "./command";

/** The rules refused the command: a receipt says so, and the log keeps it. */
export class Rejected extends Error {
  override readonly name = "Rejected";
  constructor(
    readonly command: Command,
    /** A word of the system that a program can act on, such as `likes_closed`. */
    readonly code: string,
    message: string,
    /** What the refusal rests on. */
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** The outbox no longer tries: the command is malformed or forbidden, or it has become too old. */
export class GaveUp extends Error {
  override readonly name = "GaveUp";
  constructor(
    readonly command: Command,
    /**
     * A code of the server (`invalid_field`, `not_found`, …) or of this client. `expired`: it has become too old,
     * and may have been carried out. `unsendable`: it could not even be written down for the server.
     */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The client was closed while somebody waited. The command stays in the outbox. */
export class Closed extends Error {
  override readonly name = "Closed";
  constructor() {
    super("closed");
  }
}

/** Something has failed that nobody waits for: who writes the program shall know. */
export function complain(what: string, error: unknown): void {
  console.error(`sillage: ${what} failed`, error);
}
