/**
 * The client of Sillage: an outbox that loses no click, feeds that show at once what was asked for and always
 * end at what the server says, and a connection that comes back by itself.
 */

export type { Options, Status } from "./client";
export { Client } from "./client";
export type { Command, Confirmation, Intent } from "./command";
export type { ConnectionState } from "./connection";
export { Closed, GaveUp, Rejected } from "./errors";
export type { FeedError, Following } from "./feeds";
export type { Ask, Model } from "./model";
export type { Progress } from "./outbox";
export type { Sent, Settled } from "./sent";
export type { Changes, Checkpoint, Storage, Stored } from "./storage";
export { IndexedDbStorage } from "./storage/indexeddb";
export { MemoryStorage } from "./storage/memory";
export { DEFAULT_TIMING, type Timing } from "./timing";
export type { TokenSource } from "./token";
export type { Ended, Link, LinkEvents, OpenLink } from "./transport";
export { openSse } from "./transport/sse";
export { openWebSocket } from "./transport/websocket";
export type * as wire from "./wire";
