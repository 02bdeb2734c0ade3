// How a command is brought to the server: posted, of which only the status is read, or over the open socket.

import { advice, adviceOnStatus, retryAfter } from "./codes";
import type { Command } from "./command";
import type { Answer, Http } from "./http";
import type { Model } from "./model";
import type { Deliver, Delivery } from "./outbox";
import type { Time } from "./timing";
import type { Action, Problem, Error as WireError } from "./wire";

const LATER: Delivery = { kind: "retry" };

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

/** Posts commands, by the route of the model if it has one. */
export function posting(http: Http, modelOf: (feed: string) => Model<unknown> | undefined): Deliver {
  return async (command) => {
    const route = modelOf(command.feed)?.route?.(command);
    const { path, body } = route ?? { path: "/api/commands", body: actionOf(command) };
    const headers = { "Content-Type": "application/json" };
    const post = http.fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    // Without a network, an answer in time, or somebody who could give a token now, there is no answer.
    const answer = await post.catch(() => null);
    if (!answer) return answer === null ? LATER : { kind: "sign_in" };
    const kind = adviceOnStatus(answer.status);
    if (kind === "give_up") return refusal(answer);
    // Where a token was refused, there is another one by now.
    return { kind: kind === "sign_in" ? "retry" : kind, after: retryAfter(answer.retryAfter) };
  };
}

/** Why the server will never take what was asked for, in its own words if it has any. */
export function refusal({ status, statusText, text }: Omit<Answer, "retryAfter">) {
  let problem: Partial<Problem> = {};
  try {
    problem = JSON.parse(text) ?? {};
  } catch {
    // Something between us and the server has answered in words of its own.
  }
  const code = problem.code ?? String(status);
  const message = [problem.field, problem.detail ?? statusText].filter(Boolean).join(": ");
  return { kind: "give_up" as const, code, message };
}

/** Sends commands over the socket; each waits for its receipt, its event or an error. */
export class OverSocket {
  private readonly waiting = new Map<string, (delivery: Delivery) => void>();

  constructor(
    private readonly send: (action: Action) => void,
    private readonly time: Time,
  ) {}

  readonly deliver: Deliver = (command) =>
    new Promise((resolve) => {
      const stop = this.time.after(this.time.answer, () => this.end(command.commandId, LATER));
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
    const text = [field, message].filter(Boolean).join(": ");
    this.end(commandId, { kind: advice(code), after: retryAfter(retry_after), code, message: text });
  }

  /** The connection is gone, and whatever was on it may be. */
  lost(): void {
    for (const commandId of this.waiting.keys()) this.end(commandId, { kind: "retry", after: 0 });
  }

  private end(commandId: string, delivery: Delivery): void {
    const waiting = this.waiting.get(commandId);
    this.waiting.delete(commandId);
    waiting?.(delivery);
  }
}
