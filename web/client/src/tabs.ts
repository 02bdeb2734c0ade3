// The tabs of a browser that share an outbox: one of them sends, all of them see.
//
// Where there are no locks (outside a browser, or on plain HTTP), or no channel, every tab sends whatever it knows
// of. The server may then hear a command from several, and counts it once all the same. Without a channel a tab
// shows what was clicked in another only when its event comes.

import type { Command, Confirmation } from "./command";

/** What tabs tell each other. */
export type TabMessage =
  | { kind: "added"; commands: Command[]; where: "stored" | "unstored" }
  | { kind: "accepted"; commandId: string }
  | Outcome;

/** What became of a command. Whoever is told of a command whose outcome they know tells that. */
export type Outcome = { kind: "confirmed"; confirmation: Confirmation } | Refusal;

/** Why a command has ended without being carried out. */
export interface Refusal {
  kind: "rejected" | "gave-up";
  commandId: string;
  code: string;
  message: string;
  details?: Record<string, unknown> | undefined;
}

export interface Tabs {
  /** Asks to be the one that sends; `gained` is called when it is so, be it at once or when another tab ends. */
  stand(gained: () => void): void;
  /** Leaves it to another tab. */
  yield(): void;
  tell(message: TabMessage): void;
  close(): void;
}

/** Joins the tabs of this origin that use the same name. */
export type OpenTabs = (name: string, hear: (message: TabMessage) => void) => Tabs;

export const openTabs: OpenTabs = (name, hear) => {
  let channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(name);
  // Under Node a channel must not keep the program from ending.
  (channel as { unref?(): void } | undefined)?.unref?.();
  // Whoever sends for the others must hear what they want.
  const locks = channel && globalThis.navigator?.locks;
  if (channel) channel.onmessage = ({ data }: MessageEvent<TabMessage>) => hear(data);
  let candidacy: AbortController | undefined;
  let release = () => {};
  const resign = () => {
    candidacy?.abort();
    candidacy = undefined;
    release();
  };
  return {
    stand(gained) {
      if (candidacy) return;
      if (!locks) return gained();
      const own = new AbortController();
      candidacy = own;
      const hold = () =>
        new Promise<void>((resolve) => {
          release = resolve;
          if (own.signal.aborted) resolve();
          else gained();
        });
      locks.request(name, { signal: own.signal }, hold).catch(() => {
        // Withdrawn; or the browser keeps locks from this page, as in a sandbox, and then it is alone.
        if (!own.signal.aborted) gained();
      });
    },
    yield: resign,
    tell(message) {
      channel?.postMessage(message);
    },
    close() {
      resign();
      channel?.close();
      channel = undefined;
    },
  };
};
