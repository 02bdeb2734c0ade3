// Generated from protocol/openapi.json by `npm run wire`. Change the server, not this file.

/**
 * The identity of a command, minted by its sender, best as a UUIDv7. Sent again with the same id, the command counts once and gets the same receipt.
 */
export type CommandId = string;
/**
 * A stream that is followed: `category-id`. The category ends at the first hyphen.
 */
export type Feed = string;
/**
 * The identity of the log; opaque, without a colon. It changes when the log is restored or reset.
 */
export type Epoch = string;
/**
 * The number of an event in its stream, from 1 and without gaps; 0 is before the first.
 */
export type SequenceNumber = number;
/**
 * The number of an event in the whole log; it grows and never repeats.
 */
export type Position = number;
/**
 * A moment as RFC 3339 writes it; the server writes UTC.
 */
export type Timestamp = string;
/**
 * Whoever acts: a person or a program with an account.
 */
export type UserId = string;
/**
 * What is wrong, as a word that a program can act on. A word that you do not know is for a person to judge.
 */
export type Code =
  | "malformed"
  | "unknown_type"
  | "unknown_command"
  | "invalid_field"
  | "not_found"
  | "method_not_allowed"
  | "conflict"
  | "epoch_changed"
  | "compacted"
  | "too_large"
  | "unsupported_media_type"
  | "unauthorized"
  | "token_expired"
  | "forbidden"
  | "rate_limited"
  | "view_behind"
  | "overloaded"
  | "unavailable"
  | "internal";
/**
 * What a client does: send it again later with the same command id, mend it first, get a new token first, or leave it.
 */
export type Advice = "retry" | "fix" | "sign_in" | "give_up";
/**
 * A command about the likes of a target. `userId` may be there if it is the one of the token.
 */
export type LikesBody =
  | {
      at: Timestamp;
      commandId: CommandId;
      /**
       * The like, as the client names it.
       */
      likeId: string;
      /**
       * What is liked.
       */
      targetId: string;
      type: "LikeAdd";
      userId?: UserId;
    }
  | {
      at: Timestamp;
      commandId: CommandId;
      /**
       * The like, as the client names it.
       */
      likeId: string;
      /**
       * What is liked.
       */
      targetId: string;
      type: "LikeRemove";
      userId?: UserId;
    }
  | {
      commandId: CommandId;
      /**
       * What is closed.
       */
      targetId: string;
      type: "LikesClose";
    }
  | {
      commandId: CommandId;
      /**
       * What is opened.
       */
      targetId: string;
      type: "LikesOpen";
    };
/**
 * Whether an operator lets it run; that outlives a restart.
 */
export type Mode = "running" | "paused";
/**
 * How an event stands for a destination.
 */
export type Delivery = "PENDING" | "SENT" | "PARKED";

export interface Wire {
  Action: Action;
  Subscribe: Subscribe;
  Unsubscribe: Unsubscribe;
  Sync: Sync;
  RefreshToken: RefreshToken;
  Ping: Ping;
  Event: Event;
  Receipt: Receipt;
  Error: Error;
  Subscribed: Subscribed;
  Unsubscribed: Unsubscribed;
  SyncBatch: SyncBatch;
  Snapshot: Snapshot;
  Resync: Resync;
  TokenRefreshed: TokenRefreshed;
  Pong: Pong;
  Problem: Problem;
  LikesBody: LikesBody;
  LikesOfTarget: LikesOfTarget;
  LikeSetEvent: LikeSetEvent;
  LikesClosedEvent: LikesClosedEvent;
  Guest: Guest;
  Readiness: Readiness;
  Outbox: Outbox;
}
/**
 * A command: what somebody wants. Its terminal answer is a receipt; if it changed something, its events carry its `command_id` too.
 */
export interface Action {
  command_id: CommandId;
  /**
   * What the command needs, in the casing of its system; `{}` if it is left out.
   */
  data?: {
    [k: string]: unknown;
  };
  /**
   * The name of the command.
   */
  event_type: string;
  feed: Feed;
  type: "action";
}
/**
 * Follows a feed. With `epoch` and `last_sequence` only what was missed comes before what is live; without them everything.
 */
export interface Subscribe {
  epoch?: Epoch;
  feed: Feed;
  /**
   * Leaves out what was before.
   */
  from?: "now";
  last_sequence?: SequenceNumber;
  type: "subscribe";
}
/**
 * Follows a feed no longer.
 */
export interface Unsubscribe {
  feed: Feed;
  type: "unsubscribe";
}
/**
 * Asks for a page of a feed: what comes after `last_sequence`, or the beginning. Nothing is followed by it.
 */
export interface Sync {
  feed: Feed;
  last_sequence?: SequenceNumber;
  type: "sync";
}
/**
 * Replaces the token of the connection by another one of the same user.
 */
export interface RefreshToken {
  /**
   * The new token. It is never sent back.
   */
  token: string;
  type: "refresh_token";
}
/**
 * Asks for a sign of life. Any other message is one, too.
 */
export interface Ping {
  type: "ping";
}
/**
 * A fact, the same on `/ws`, in the `data:` of server-sent events and inside a `sync_batch`.
 */
export interface Event {
  /**
   * The command that it came of, and which it confirms.
   */
  command_id: CommandId | null;
  /**
   * The fact, in the casing of its system.
   */
  data: {
    [k: string]: unknown;
  };
  epoch: Epoch;
  /**
   * What kind of fact; the schema of `data` has this name.
   */
  event_type: string;
  feed: Feed;
  position: Position;
  sequence_number: SequenceNumber;
  timestamp: Timestamp;
  type: "event";
  /**
   * Whoever acted; null for the system.
   */
  user_id: UserId | null;
  /**
   * What to call them.
   */
  username: string | null;
}
/**
 * The terminal answer to a command. It goes to all live connections of its sender, and again to every resend. It has no number in the feed.
 */
export interface Receipt {
  /**
   * Rejected: a word of its system that a program can act on.
   */
  code?: string;
  command_id: CommandId;
  /**
   * Rejected: what the refusal rests on.
   */
  details?: {
    [k: string]: unknown;
  };
  feed: Feed;
  /**
   * Rejected: a sentence for a person.
   */
  message?: string;
  /**
   * It was decided into events; everything was already as it asked for; or the rules refused it.
   */
  outcome: "applied" | "unchanged" | "rejected";
  /**
   * The number of an event in the whole log; it grows and never repeats.
   */
  position: number;
  /**
   * Applied: the numbers of its events in the feed.
   */
  sequence_numbers: SequenceNumber[];
  type: "receipt";
}
/**
 * Something was wrong with a message; the connection goes on. Refusals of the rules are receipts, not errors.
 */
export interface Error {
  code: Code;
  /**
   * The field that is wrong, if it is one.
   */
  field?: string;
  /**
   * A sentence for a person.
   */
  message: string;
  /**
   * What the client had sent, without its token; null if it could not be read.
   */
  original_action: {
    [k: string]: unknown;
  };
  /**
   * In how many seconds to come back, if that helps.
   */
  retry_after?: number;
  type: "error";
}
/**
 * The feed is followed from now on. What was missed comes next, from a `snapshot` if events were compacted, then what is live.
 */
export interface Subscribed {
  current_sequence: SequenceNumber;
  epoch: Epoch;
  feed: Feed;
  type: "subscribed";
}
/**
 * The feed is no longer followed.
 */
export interface Unsubscribed {
  feed: Feed;
  type: "unsubscribed";
}
/**
 * A page of a feed that was asked for by `sync`; a `snapshot` comes before it if events were compacted.
 */
export interface SyncBatch {
  /**
   * The number of an event in its stream, from 1 and without gaps; 0 is before the first.
   */
  current_sequence: number;
  /**
   * Whole event messages, in their order.
   */
  events: Event[];
  feed: Feed;
  /**
   * Whether more stands between the page and that.
   */
  has_more: boolean;
  type: "sync_batch";
}
/**
 * The state of a feed, where the events up to a number were compacted: take it for all of them. What comes next follows that number.
 */
export interface Snapshot {
  epoch: Epoch;
  feed: Feed;
  /**
   * The number of an event in its stream, from 1 and without gaps; 0 is before the first.
   */
  sequence_number: number;
  /**
   * What the rules of the feed have made of its events, in the casing of its system.
   */
  state: {
    [k: string]: unknown;
  };
  type: "snapshot";
}
/**
 * What the client has of the feed is not of this log: forget it. `subscribed` and the whole of the feed follow.
 */
export interface Resync {
  epoch: Epoch;
  feed: Feed;
  type: "resync";
}
/**
 * The new token holds.
 */
export interface TokenRefreshed {
  type: "token_refreshed";
}
/**
 * The answer to a ping.
 */
export interface Pong {
  type: "pong";
}
/**
 * Why a request was not taken, as RFC 9457 writes it. Nothing is kept of what is refused.
 */
export interface Problem {
  advice: Advice;
  code: Code;
  /**
   * A sentence for a person.
   */
  detail: string;
  /**
   * The identity of the log; opaque, without a colon. It changes when the log is restored or reset.
   */
  epoch?: string;
  /**
   * `invalid_field`: the path of the field.
   */
  field?: string;
  /**
   * `compacted`: the first number that can be asked for, of a version or a position as it was asked.
   */
  kept_from?: number;
  /**
   * The number of an event in the whole log; it grows and never repeats.
   */
  position?: number;
  status: number;
  /**
   * What the status is called.
   */
  title: string;
  type: "about:blank";
}
/**
 * The likes of a target, as one user sees them.
 */
export interface LikesOfTarget {
  /**
   * How many like it.
   */
  count: number;
  /**
   * Whether I do.
   */
  me: boolean;
  position: Position;
  targetId: string;
  version: SequenceNumber;
}
/**
 * Somebody likes the target, or no longer does.
 */
export interface LikeSetEvent {
  /**
   * Whether they do now.
   */
  active: boolean;
  at: Timestamp;
  commandId: CommandId;
  /**
   * How many do now.
   */
  count: number;
  /**
   * The like, as the client named it.
   */
  likeId: string;
  /**
   * What is liked.
   */
  targetId: string;
  userId: UserId;
  version: SequenceNumber;
}
/**
 * A moderator closed the target, or opened it again.
 */
export interface LikesClosedEvent {
  at: Timestamp;
  /**
   * Whether likes are refused from now on.
   */
  closed: boolean;
  commandId: CommandId;
  /**
   * What is closed or opened.
   */
  targetId: string;
  version: SequenceNumber;
}
/**
 * A new guest.
 */
export interface Guest {
  expires_at: Timestamp;
  /**
   * Where guests belong.
   */
  tenant: string;
  /**
   * Goes into `Authorization: Bearer …`.
   */
  token: string;
  user_id: UserId;
}
/**
 * How the node stands.
 */
export interface Readiness {
  /**
   * How many sockets and streams are open.
   */
  connections: number;
  /**
   * What keeps the log.
   */
  engine: string;
  epoch: Epoch;
  /**
   * What has failed in the background, if something has; only a new start mends it.
   */
  failure?: string | null;
  head: Position;
  /**
   * Whether nothing has failed, and the views have caught up with the log as it was at the start.
   */
  ready: boolean;
  views: ViewStatus[];
}
/**
 * How a view stands.
 */
export interface ViewStatus {
  name: string;
  position: Position;
  /**
   * Why the view has stopped, if it has; its answers are stale then.
   */
  stopped?: string | null;
}
/**
 * The newest events of a tenant, and how they stand for each destination.
 */
export interface Outbox {
  destinations: Destination[];
  /**
   * In the order of the log.
   */
  events: OutboxEvent[];
  head: Position;
}
/**
 * Somebody to whom events go.
 */
export interface Destination {
  /**
   * Whether it runs on another node that shares the log. Then what is told of it is what its cursor says.
   */
  elsewhere?: boolean;
  /**
   * The last thing that went wrong.
   */
  last_error?: string | null;
  mode: Mode;
  name: string;
  /**
   * What that node is called: its `--name`, else its host and port. Left out while none runs it.
   */
  node?: string | null;
  /**
   * How many events wait for an operator.
   */
  parked: number;
  position: Position;
  /**
   * How many events wait for a retry.
   */
  retrying: number;
}
/**
 * An event, and how it stands for each destination.
 */
export interface OutboxEvent {
  event_type: string;
  feed: Feed;
  /**
   * The identity of the event, a UUIDv7.
   */
  id: string;
  position: Position;
  sequence_number: SequenceNumber;
  /**
   * By the name of the destination.
   */
  status: {
    [k: string]: Delivery;
  };
  timestamp: Timestamp;
}
