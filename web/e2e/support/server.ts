// A server of its own for each test, in a process that can be killed.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test as base } from "@playwright/test";

/** From the root of the checkout. */
const path = process.env.SILLAGE ?? `${process.env.CARGO_TARGET_DIR ?? "target"}/debug/sillage`;
const binary = new URL(path, new URL("../../../", import.meta.url)).pathname;

export class Server {
  private process: ChildProcess | undefined;
  private listen = "127.0.0.1:0";
  private readonly data = mkdtempSync(join(tmpdir(), "sillage-e2e-"));

  get url(): string {
    return `http://${this.listen}`;
  }

  /** Starts it, at the address that it had before. */
  async start(): Promise<void> {
    const child = spawn(binary, ["serve", "--listen", this.listen, "--data", this.data], {
      env: { ...process.env, SILLAGE_LOG: "error" },
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
    const child = this.process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.data, { recursive: true, force: true });
  }

  token(user: string, scopes: string[] = []): string {
    const scope = scopes.flatMap((scope) => ["--scope", scope]);
    const args = ["token", "--user", user, ...scope, "--data", this.data];
    return execFileSync(binary, args, { encoding: "utf8" }).trim();
  }

  /** The likes of a target, as a user sees them. */
  async likes(target: string, token: string): Promise<{ count: number; me: boolean; version: number }> {
    const headers = { Authorization: `Bearer ${token}` };
    const response = await fetch(`${this.url}/api/social/likes/${target}`, { headers });
    return response.json();
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
    const all = await this.metric("sillage_http_requests_total");
    const posts = all.filter(({ labels }) => labels.includes('"POST"'));
    const paths = ['"/api/social/likes"', '"/api/commands"'];
    return sum(posts.filter(({ labels }) => paths.some((path) => labels.includes(path))));
  }

  /** How many commands it has settled since it was started, each time that one came. */
  async receipts(): Promise<number> {
    return sum(await this.metric("sillage_receipts_total"));
  }

  private async metric(name: string): Promise<Sample[]> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`));
    return lines.map((line) => {
      const end = line.lastIndexOf(" ");
      return { labels: line.slice(0, end), value: Number(line.slice(end)) };
    });
  }
}

interface Sample {
  labels: string;
  value: number;
}

function sum(samples: Sample[]): number {
  return samples.reduce((sum, { value }) => sum + value, 0);
}

export const test = base.extend<{ server: Server }>({
  server: async ({}, use) => {
    const server = new Server();
    await server.start();
    await use(server);
    await server.remove();
  },
});

export { expect } from "@playwright/test";
