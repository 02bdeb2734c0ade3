// A server of its own for each test: a node with a log of its own, or several on one database, behind a balancer. Each
// node is a process that can be killed.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test as base } from "@playwright/test";

const debug = `${process.env.CARGO_TARGET_DIR ?? "target"}/debug`;
const binary = fromRoot(process.env.SILLAGE ?? `${debug}/sillage`);
const sharedLog = fromRoot(`${debug}/examples/shared_log`);

/** A path from the root of the checkout. */
function fromRoot(path: string): string {
  return new URL(path, new URL("../../../", import.meta.url)).pathname;
}

/** One process. */
export class Node {
  private process: ChildProcess | undefined;
  private listen = "127.0.0.1:0";
  readonly data = mkdtempSync(join(tmpdir(), "sillage-e2e-"));

  /** With the address of a database, unless the log is its own. */
  constructor(private readonly store: string | undefined) {}

  get address(): string {
    return this.listen;
  }

  /** Starts it, at the address that it had before. */
  async start(): Promise<void> {
    const store = this.store ? { SILLAGE_STORE: this.store } : {};
    const child = spawn(binary, ["serve", "--listen", this.listen, "--data", this.data], {
      env: { ...process.env, SILLAGE_LOG: "error", ...store },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.process = child;
    for await (const line of createInterface({ input: child.stdout })) {
      this.listen = line.slice(line.indexOf("http://") + "http://".length);
      return;
    }
    throw new Error(`${binary} did not start: build it with \`cargo build -p sillage-server\``);
  }

  /** SIGKILL: nothing is put in order before the end. */
  async kill(): Promise<void> {
    await ended(this.process, (child) => child.kill("SIGKILL"));
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.data, { recursive: true, force: true });
  }

  async metric(name: string): Promise<Sample[]> {
    const text = await (await fetch(`http://${this.listen}/metrics`)).text();
    const lines = text.split("\n").filter((line) => line.startsWith(name));
    return lines.map((line) => {
      const end = line.lastIndexOf(" ");
      return { labels: line.slice(0, end), value: Number(line.slice(end)) };
    });
  }
}

/** Ends a process that may have ended. */
async function ended(child: ChildProcess | undefined, end: (child: ChildProcess) => void): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  end(child);
  await gone;
}

/** The database that nodes share, and the balancer before them. */
class Shared {
  private constructor(
    private readonly process: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    readonly database: string,
    readonly balancer: string,
  ) {}

  static async start(): Promise<Shared> {
    const child = spawn(sharedLog, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const address = async () => {
      const { done, value } = await lines.next();
      if (!done) return value;
      throw new Error(`${sharedLog} did not start: \`cargo build -p sillage-conformance --examples\``);
    };
    return new Shared(child, lines, await address(), await address());
  }

  async balance(nodes: Node[]): Promise<void> {
    this.process.stdin?.write(`${nodes.map(({ address }) => address).join(" ")}\n`);
    await this.lines.next();
  }

  async stop(): Promise<void> {
    await ended(this.process, (child) => child.stdin?.end());
  }
}

export class Server {
  private constructor(
    readonly nodes: [Node, ...Node[]],
    private readonly shared: Shared | undefined,
  ) {}

  static async start(nodes: number): Promise<Server> {
    const shared = nodes > 1 ? await Shared.start() : undefined;
    const first = new Node(shared?.database);
    const server = new Server([first], shared);
    while (server.nodes.length < nodes) server.nodes.push(new Node(shared?.database));
    // They take each other's tokens.
    server.token("somebody");
    for (const node of server.nodes.slice(1)) {
      copyFileSync(join(first.data, "keys.json"), join(node.data, "keys.json"));
    }
    await server.start();
    await shared?.balance(server.nodes);
    return server;
  }

  get url(): string {
    return `http://${this.shared?.balancer ?? this.nodes[0].address}`;
  }

  /** Starts all nodes, where they were before. */
  async start(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.start()));
  }

  /** Kills all nodes. */
  async kill(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
  }

  async remove(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.remove()));
    await this.shared?.stop();
  }

  token(user: string, scopes: string[] = []): string {
    const scope = scopes.flatMap((scope) => ["--scope", scope]);
    const args = ["token", "--user", user, ...scope, "--data", this.nodes[0].data];
    return execFileSync(binary, args, { encoding: "utf8" }).trim();
  }

  /** The likes of a target, as a user sees them, whichever node answers. */
  async likes(target: string, token: string): Promise<{ count: number; me: boolean; version: number }> {
    const headers = { Authorization: `Bearer ${token}` };
    const heads = (await this.metric("sillage_log_head")).map(({ value }) => value);
    const path = `/api/social/likes/${target}?at_least=${Math.max(...heads)}`;
    return (await fetch(this.url + path, { headers })).json();
  }

  /** Sends a command of the likes, as somebody else would. */
  async send(body: object, token: string): Promise<void> {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const command = { commandId: crypto.randomUUID(), ...body };
    const init = { method: "POST", headers, body: JSON.stringify(command) };
    const response = await fetch(`${this.url}/api/social/likes`, init);
    if (response.status !== 202) throw new Error(`${response.status}: ${await response.text()}`);
  }

  /** What became of a command, as the ledger says to whoever sent it. */
  async receipt(commandId: string, token: string): Promise<{ outcome: string }> {
    const headers = { Authorization: `Bearer ${token}` };
    return (await fetch(`${this.url}/api/commands/${commandId}`, { headers })).json();
  }

  /** How many posts of likes it has answered since it was started, as its metrics say. */
  async posts(): Promise<number> {
    const all = await this.metric("sillage_http_requests_total{");
    const posts = all.filter(({ labels }) => labels.includes('"POST"'));
    const paths = ['"/api/social/likes"', '"/api/commands"'];
    return sum(posts.filter(({ labels }) => paths.some((path) => labels.includes(path))));
  }

  /** How many commands it has settled since it was started, each time that one came. */
  async receipts(): Promise<number> {
    return sum(await this.metric("sillage_receipts_total{"));
  }

  private async metric(name: string): Promise<Sample[]> {
    return (await Promise.all(this.nodes.map((node) => node.metric(name)))).flat();
  }
}

interface Sample {
  labels: string;
  value: number;
}

function sum(samples: Sample[]): number {
  return samples.reduce((sum, { value }) => sum + value, 0);
}

export const test = base.extend<{ nodes: number; server: Server }>({
  nodes: [1, { option: true }],
  server: async ({ nodes }, use) => {
    const server = await Server.start(nodes);
    await use(server);
    await server.remove();
  },
});

export { expect } from "@playwright/test";
