// The switch "work offline": of this tab, and remembered over a reload, so that a page that was offline stays so.

import { keep, recall } from "./keep";
import { Value } from "./value";

export type Network = "online" | "offline";

export const network = new Value<Network>(recall("tab", "network") === "offline" ? "offline" : "online");

export function chooseNetwork(chosen: Network): void {
  keep("tab", "network", chosen === "offline" ? chosen : undefined);
  network.set(chosen);
}

/** Resolves once this tab may use the network. */
export function allowed(): Promise<void> {
  if (network.get() === "online") return Promise.resolve();
  return new Promise((resolve) => {
    const stop = network.subscribe(() => {
      if (network.get() !== "online") return;
      stop();
      resolve();
    });
  });
}
