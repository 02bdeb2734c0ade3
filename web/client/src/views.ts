// Questions to the views of the server, and of which log the answers are.
//
// Invariant: an answer is said to be of a log only if the server was asked about that log, since it refuses to
// answer about any other.

import type { Answer, Http } from "./http";
import type { Epoch } from "./wire";

/** What a view has answered. */
export interface Answered {
  value: unknown;
  /** The log that it is of; nothing if the server does not tell logs apart. */
  epoch: Epoch | undefined;
}

/** The name of no log: the server answers it with the name of its own. */
const NO_LOG = "unknown";

export class Views {
  /** The name of the log, once somebody has asked for it. */
  private log: Promise<Epoch | undefined> | undefined;

  constructor(private readonly http: Http) {}

  /** Asks as the user for JSON. Throws at anything else. */
  async ask(path: string): Promise<Answered> {
    this.log ??= this.about(path, NO_LOG).then(otherLog);
    let epoch = await this.log.catch(() => undefined);
    if (epoch === undefined) this.log = undefined;
    let answer = await this.about(path, epoch);
    const other = otherLog(answer);
    if (other) {
      epoch = other;
      this.log = Promise.resolve(other);
      answer = await this.about(path, epoch);
    }
    if (answer?.status !== 200) throw new Error(path);
    return { value: JSON.parse(answer.text), epoch };
  }

  private about(path: string, epoch: Epoch | undefined): Promise<Answer | undefined> {
    const atLeast = epoch && `${path.includes("?") ? "&" : "?"}at_least=${encodeURIComponent(epoch)}:0`;
    return this.http.fetch(path + (atLeast ?? ""), { cache: "no-store" });
  }
}

/** The log of the server, if it refuses to answer about the one that was named. */
function otherLog(answer: Answer | undefined): Epoch | undefined {
  return answer?.status === 409 ? JSON.parse(answer.text).epoch : undefined;
}
