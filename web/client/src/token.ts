// The token: where it comes from, and that it is asked for once at a time.

/**
 * Gives a token, or nothing if there is nobody to give one: then the client needs a sign-in. Asked again when
 * the server no longer takes the one before. If it throws, it is asked again later.
 */
export type TokenSource = () => string | undefined | Promise<string | undefined>;

export class Tokens {
  private token: Promise<string | undefined> | undefined;

  constructor(private readonly source: TokenSource) {}

  /** The token in use. */
  current(): Promise<string | undefined> {
    this.token ??= this.ask();
    return this.token;
  }

  /** Another token than `refused`; nothing if there is none. */
  async instead(refused: string): Promise<string | undefined> {
    if ((await this.current()) !== refused) return this.current();
    this.token = this.ask().then((token) => (token === refused ? undefined : token));
    return this.token;
  }

  /** Somebody has signed in. */
  forget(): void {
    this.token = undefined;
  }

  private ask(): Promise<string | undefined> {
    const asked = Promise.resolve().then(this.source);
    asked.catch(() => {
      if (this.token) this.token = undefined;
    });
    return asked;
  }
}
