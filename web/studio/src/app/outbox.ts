// The commands of this visit as the pages show them: what is not settled, and what became of the rest.
//
// Invariant: the lists are bounded, however many commands there are; only their number is not.

import {
  createSelector,
  createSlice,
  type Dispatch,
  type PayloadAction,
  prepareAutoBatched,
} from "@reduxjs/toolkit";
import type { Client, Command, Settled } from "@sillage/client";

/** How many commands are shown at most, the newest. */
export const MAX_ENTRIES = 50;
/** The commands in an outbox that is read whenever it changes. A larger one is read once a frame. */
const MAX_READ_AT_ONCE = 500;

export type EntryState = "pending" | "sent" | "confirmed" | "rejected";

export interface OutboxEntry {
  commandId: string;
  feed: string;
  type: string;
  /** When somebody clicked, in milliseconds since 1970. */
  at: number;
  state: EntryState;
  /** Why it was refused or given up. */
  reason?: { code: string; message: string };
}

interface OutboxState {
  /** The newest that are not settled. */
  open: OutboxEntry[];
  /** How many are not settled. */
  waiting: number;
  /** The newest that are. */
  settled: OutboxEntry[];
}

const slice = createSlice({
  name: "outbox",
  initialState: { open: [], waiting: 0, settled: [] } as OutboxState,
  reducers: {
    opened: {
      prepare: prepareAutoBatched<Pick<OutboxState, "open" | "waiting">>(),
      reducer: (state, { payload }: PayloadAction<Pick<OutboxState, "open" | "waiting">>) => ({
        ...state,
        ...payload,
      }),
    },
    settled: {
      prepare: prepareAutoBatched<OutboxEntry>(),
      reducer: (state, { payload }: PayloadAction<OutboxEntry>) => ({
        ...state,
        settled: newest([payload, ...state.settled]),
      }),
    },
  },
});

export const outboxReducer = slice.reducer;

/** The commands to show, newest first. */
export const selectEntries = createSelector(
  [(state: WithOutbox) => state.outbox.open, (state: WithOutbox) => state.outbox.settled],
  (open, settled) => {
    const known = new Set(settled.map(({ commandId }) => commandId));
    return newest([...open.filter(({ commandId }) => !known.has(commandId)), ...settled]);
  },
);

export interface WithOutbox {
  outbox: OutboxState;
}

/** Keeps the slice at what the client knows, as long as the client lives. */
export function followOutbox(client: Client, dispatch: Dispatch): void {
  let shown: Pick<OutboxState, "open" | "waiting"> = { open: [], waiting: 0 };
  const read = () => {
    const unsettled = client.pending();
    const open = unsettled.slice(-MAX_ENTRIES).map(({ command, progress }) => entryOf(command, progress));
    const waiting = unsettled.length;
    if (waiting === shown.waiting && isSame(open, shown.open)) return;
    shown = { open, waiting };
    dispatch(slice.actions.opened(shown));
  };
  let asked = false;
  const ask = () => {
    if (client.status.pending <= MAX_READ_AT_ONCE) return read();
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      read();
    });
  };
  client.onChange(ask);
  client.onStatus(ask);
  client.onSettled((settled) => dispatch(slice.actions.settled(settledEntryOf(settled))));
}

function settledEntryOf(settled: Settled): OutboxEntry {
  if (!("error" in settled)) return entryOf(settled.command, "confirmed");
  const { code, message } = settled.error;
  return { ...entryOf(settled.command, "rejected"), reason: { code, message } };
}

function entryOf({ commandId, feed, type, createdAt }: Command, state: EntryState): OutboxEntry {
  return { commandId, feed, type, at: createdAt, state };
}

function isSame(some: OutboxEntry[], others: OutboxEntry[]): boolean {
  if (some.length !== others.length) return false;
  return some.every(({ commandId, state }, n) => {
    const other = others[n];
    return commandId === other?.commandId && state === other.state;
  });
}

/** The ids of commands are in the order of the clicks. */
function newest(entries: OutboxEntry[]): OutboxEntry[] {
  return entries.sort((a, b) => (a.commandId < b.commandId ? 1 : -1)).slice(0, MAX_ENTRIES);
}
