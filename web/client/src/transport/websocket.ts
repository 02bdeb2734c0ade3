import { retryAfter } from "../codes";
import type { Link, LinkEvents, ServerMessage } from "../transport";
import { parseMessage } from "../transport";

/** A socket to `/ws`: everything both ways. */
export function openWebSocket(url: string, token: string, events: LinkEvents): Link {
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/ws?token=${encodeURIComponent(token)}`);
  let live = true;
  let announced: number | undefined;
  socket.onopen = () => live && events.opened();
  socket.onmessage = ({ data }) => {
    if (!live || typeof data !== "string") return;
    const messages: ServerMessage[] = [];
    for (const line of data.split("\n")) {
      const message = line === "" ? undefined : parseMessage(line);
      // Only what is said last before the end is about the end.
      announced = message?.type === "error" ? retryAfter(message.retry_after) : undefined;
      if (message) messages.push(message);
    }
    if (messages.length > 0) events.messages(messages);
    else events.alive();
  };
  socket.onclose = ({ code, reason }) => {
    if (!live) return;
    live = false;
    const asked = retryAfter(/retry_after=(\d+)/.exec(reason)?.[1]);
    events.ended({ code, retryAfter: asked ?? announced });
  };
  return {
    transport: "websocket",
    send(message) {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
    },
    close() {
      live = false;
      socket.close(1000);
    },
  };
}
