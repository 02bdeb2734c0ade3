// The token: where it comes from, and that it is asked for once at a time.

import { inTime, type Time } from "./timing";

/**
 * Gives a token, or nothing if there is nobody to give one: then the client needs a sign-in. Asked again when
 * the server no longer takes the one before. If it throws, or does not answer in time, it is asked again later.
 */
export type TokenSource = () => string | undefined | Promise<string | undefined>;

export class Tokens {
  private token: Promise<string | undefined> | undefined;

  constructor(
    private readonly source: TokenSource,
    private readonly time: Time,
  ) {}

  /** The token in use. */
  current(): Promise<string | undefined> {
    return (this.token ??= this.ask());
  }

  /** Another token than `refused`; nothing if there is none. Those who ask meanwhile get the same answer. */
  async instead(refused: string): Promise<string | undefined> {
    const before = this.token;
    if ((await this.current()) !== refused) return this.current();
    // Only the first of those who wait here asks.
    if (this.token === before || before === undefined) this.token = this.ask();
    const token = await this.token;
    return token === refused ? undefined : token;
  }

  /** Somebody has signed in. */
  forget(): void {
    this.token = undefined;
  }

  private ask(): Promise<string | undefined> {
    const asked = inTime(Promise.resolve().then(this.source), this.time);
    asked.catch(() => {
      if (this.token === asked) this.token = undefined;
    });
    return asked;
  }
}
