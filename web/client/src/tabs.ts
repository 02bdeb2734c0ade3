// The tabs of a browser that share an outbox: one of them sends, all of them see.
//
// Where there are no locks (outside a browser), a client is alone and sends at once.

import type { Command, Confirmation } from "./command";

/** What tabs tell each other. */
export type TabMessage =
  | { kind: "added"; commands: Command[] }
  | { kind: "accepted"; commandId: string }
  | { kind: "confirmed"; confirmation: Confirmation }
  | { kind: "rejected"; commandId: string; code: string; message: string; details: Record<string, unknown> }
  | { kind: "removed"; commandIds: string[] }
  | { kind: "gave-up"; commandId: string; code: string; message: string };

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
  const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
  if (!locks || typeof BroadcastChannel === "undefined") return alone(name, hear);
  const channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }: MessageEvent<TabMessage>) => hear(data);
  let candidacy: AbortController | undefined;
  let release = () => {};
  let open = true;
  const resign = () => {
    candidacy?.abort();
    candidacy = undefined;
    release();
  };
  return {
    stand(gained) {
      if (candidacy) return;
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
      if (open) channel.postMessage(message);
    },
    close() {
      open = false;
      resign();
      channel.close();
    },
  };
};

/** A client that shares nothing. */
export const alone: OpenTabs = () => ({
  stand: (gained) => gained(),
  yield: () => {},
  tell: () => {},
  close: () => {},
});
