// How a command is brought to the server: posted, of which only the status is read, or over the open socket.

import { advice, adviceOnStatus, retryAfter } from "./codes";
import type { Command } from "./command";
import type { Answer, Http } from "./http";
import type { Model } from "./model";
import type { Deliver, Delivery } from "./outbox";
import type { Clock, Timing } from "./timing";
import type { Tokens } from "./token";
import type { Action, Problem, Error as WireError } from "./wire";

const LATER: Delivery = { kind: "later" };

/** The command as `/ws` and `POST /api/commands` take it. */
export function actionOf({ feed, type, commandId, data }: Command): Action {
  return {
    type: "action",
    feed,
    event_type: type,
    command_id: commandId,
    data: data as Record<string, unknown>,
  };
}

/** Posts commands. */
export class Post {
  constructor(
    private readonly http: Http,
    private readonly tokens: Tokens,
    private readonly models: (feed: string) => Model<unknown> | undefined,
  ) {}

  readonly deliver: Deliver = async (command) => {
    const route = this.models(command.feed)?.route?.(command);
    const { path, body } = route ?? { path: "/api/commands", body: actionOf(command) };
    let response: Answer;
    try {
      const token = await this.tokens.current();
      if (token === undefined) return { kind: "sign_in" };
      const headers = { "Content-Type": "application/json" };
      response = await this.http.fetch(path, token, { method: "POST", headers, body: JSON.stringify(body) });
      if (response.status === 401) {
        const another = await this.tokens.instead(token);
        return another === undefined ? { kind: "sign_in" } : LATER;
      }
    } catch {
      // No network, no answer in time, or nobody who could give a token.
      return LATER;
    }
    switch (adviceOnStatus(response.status)) {
      case "accepted":
        return { kind: "accepted" };
      case "retry":
        return { kind: "later", after: retryAfter(response.retryAfter) };
      default:
        return refusal(response);
    }
  };
}

/** Why the server will never take the command, in its own words if it has any. */
function refusal({ status, statusText, text }: Answer): Delivery {
  let problem: Partial<Problem> = {};
  try {
    problem = JSON.parse(text) ?? {};
  } catch {
    // Something between us and the server has answered in words of its own.
  }
  const code = problem.code ?? String(status);
  const message = [problem.field, problem.detail ?? statusText].filter(Boolean).join(": ");
  return { kind: "refused", code, message };
}

/** Sends commands over the socket; each waits for its receipt, its event or an error. */
export class OverSocket {
  private readonly waiting = new Map<string, (delivery: Delivery) => void>();

  constructor(
    private readonly send: (action: Action) => void,
    private readonly timing: Timing,
    private readonly clock: Clock,
  ) {}

  readonly deliver: Deliver = (command) =>
    new Promise((resolve) => {
      const stop = this.clock.after(this.timing.answer, () => this.end(command.commandId, LATER));
      this.waiting.set(command.commandId, (delivery) => {
        stop();
        resolve(delivery);
      });
      this.send(actionOf(command));
    });

  /** The command is settled. */
  settled(commandId: string): void {
    this.end(commandId, { kind: "accepted" });
  }

  /** An error came, for a command or for something else. */
  error({ code, message, field, retry_after, original_action }: WireError): void {
    const commandId = original_action?.command_id;
    if (typeof commandId !== "string") return;
    const what = advice(code);
    if (what === "retry") this.end(commandId, { kind: "later", after: retryAfter(retry_after) });
    else if (what === "sign_in") this.end(commandId, { kind: "sign_in" });
    else this.end(commandId, { kind: "refused", code, message: field ? `${field}: ${message}` : message });
  }

  /** The connection is gone, and whatever was on it may be. */
  lost(): void {
    for (const commandId of [...this.waiting.keys()]) this.end(commandId, { kind: "later", after: 0 });
  }

  private end(commandId: string, delivery: Delivery): void {
    const waiting = this.waiting.get(commandId);
    this.waiting.delete(commandId);
    waiting?.(delivery);
  }
}
