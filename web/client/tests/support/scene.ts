// A client of Alice's on a server and a network that do as they are told.

import { Client, MemoryStorage, type Options } from "../../src";
import { Browser, dice, lists, Network, Server, VirtualClock } from "./simulation";

export class Scene {
  readonly dice = dice(1);
  readonly clock = new VirtualClock(this.dice);
  readonly server = new Server();
  readonly network = new Network(this.server, this.clock, this.dice);
  readonly storage = new MemoryStorage();

  client(options: Partial<Options> = {}): Client {
    return new Client({
      url: "http://server",
      user: "alice",
      token: () => "token",
      models: [lists],
      transports: [this.network.link("alice")],
      fetch: this.network.fetch("alice"),
      storage: this.storage,
      tabs: new Browser(this.clock, this.dice).open,
      clock: this.clock,
      ...options,
    });
  }

  /** A client whose posts are answered with these statuses, one after the other, then with 202. */
  answering(...statuses: number[]) {
    const posts: string[] = [];
    const fetch: typeof globalThis.fetch = async (_, init) => {
      const { command_id } = JSON.parse(String(init?.body));
      posts.push(command_id);
      const status = statuses.shift() ?? 202;
      const problem = { code: status === 422 ? "invalid_field" : "other", field: "at", detail: "is wrong" };
      return new Response(status >= 400 ? JSON.stringify(problem) : null, { status });
    };
    return { posts, client: this.client({ fetch }) };
  }
}
