import { beforeEach, expect, test, vi } from "vitest";

type Command = { commandId: string };

/** What happens to clients, in order. */
let log: string[];
/** The outboxes of the browser, by name. */
let outboxes: Map<string, Command[]>;
/** Whether outboxes can be written. */
let disk: "sound" | "full";
/** Ends the closing of a client. */
let closed: (() => void)[];

vi.mock("../src/app/store", () => ({ makeStore: () => ({}) }));
vi.mock("@sillage/client", () => {
  class Client {
    private state = (_: { connection: string }) => {};

    constructor(readonly options: { user: string; storage: IndexedDbStorage }) {
      log.push(`open ${options.user}`);
    }

    onStatus(listener: typeof this.state) {
      this.state = listener;
    }

    refuse() {
      this.state({ connection: "needs-sign-in" });
    }

    async close() {
      await new Promise<void>((resolve) => closed.push(resolve));
      log.push(`close ${this.options.user}`);
    }
  }
  class IndexedDbStorage {
    constructor(readonly name: string) {}

    async load() {
      return { commands: outboxes.get(this.name) ?? [] };
    }

    async write({ put }: { put: Command[] }) {
      if (disk === "full") throw new Error("full");
      const there = outboxes.get(this.name) ?? [];
      const others = there.filter(({ commandId }) => put.every((command) => command.commandId !== commandId));
      outboxes.set(this.name, [...others, ...put]);
    }

    close() {}
  }
  return { Client, IndexedDbStorage };
});

function tokenOf(user: string, tenant = "acme"): string {
  return `e30.${Buffer.from(JSON.stringify({ sub: user, tenant })).toString("base64url")}.c2ln`;
}

function memory() {
  const kept = new Map<string, string>();
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, text: string) => void kept.set(key, text),
    removeItem: (key: string) => void kept.delete(key),
  };
}

/** The module anew, as a page that is loaded has it. */
async function load() {
  vi.resetModules();
  return import("../src/app/session");
}

beforeEach(() => {
  log = [];
  outboxes = new Map();
  closed = [];
  disk = "sound";
  vi.stubGlobal("navigator", {});
  vi.stubGlobal("localStorage", memory());
  vi.stubGlobal("sessionStorage", memory());
  vi.stubGlobal("indexedDB", { deleteDatabase: (name: string) => outboxes.delete(name) });
  const guests = ["guest-1", "guest-2"];
  vi.stubGlobal("fetch", async () => Response.json({ token: tokenOf(guests.shift() ?? "guest-n") }));
});

interface FakeClient {
  options: { storage: { name: string } };
  refuse(): void;
}

const clientOf = ({ session }: Awaited<ReturnType<typeof load>>) =>
  session.get()?.client as unknown as FakeClient;
const user = ({ session }: Awaited<ReturnType<typeof load>>) => session.get()?.identity.user;

test("of quick sign-ins the last counts, one client is open at a time, and meanwhile there is nothing to click at", async () => {
  const pages = await load();
  await pages.begin();
  expect(user(pages)).toBe("guest-1");
  pages.signIn(tokenOf("ada"));
  pages.signIn(tokenOf("bob"));
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  expect(pages.session.get()).toBeUndefined();
  pages.signIn(tokenOf("cleo"));
  closed.shift()?.();
  await vi.waitFor(() => expect(user(pages)).toBe("cleo"));
  expect(log).toEqual(["open guest-1", "close guest-1", "open cleo"]);
});

test("who signs in while the server is asked for a guest stays", async () => {
  const pages = await load();
  const beginning = pages.begin();
  pages.signIn(tokenOf("ada"));
  await beginning;
  await vi.waitFor(() => expect(user(pages)).toBe("ada"));
  expect(log).toEqual(["open ada"]);
});

test("a guest who is refused when somebody else is there already is not replaced", async () => {
  const pages = await load();
  await pages.begin();
  const left = clientOf(pages);
  pages.signIn(tokenOf("ada"));
  left.refuse();
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  closed.shift()?.();
  await vi.waitFor(() => expect(user(pages)).toBe("ada"));
  expect(localStorage.getItem("sillage.former")).toBeNull();
});

test("two tenants with one user name have outboxes of their own", async () => {
  const pages = await load();
  const names: string[] = [];
  for (const [name, tenant] of [
    ["ada", "acme"],
    ["ada", "zeta"],
    ["b", "a:c"],
    ["c:b", "a"],
  ] as const) {
    pages.signIn(tokenOf(name, tenant));
    await vi.waitFor(() => {
      closed.shift()?.();
      expect(pages.session.get()?.identity).toMatchObject({ user: name, tenant });
    });
    const { options } = clientOf(pages);
    expect(options).toMatchObject({ user: name, tenant });
    names.push(options.storage.name);
  }
  expect(new Set(names).size).toBe(4);
});

/** A guest with two clicks is refused, and another has come. */
async function replaced() {
  const pages = await load();
  await pages.begin();
  outboxes.set("sillage:acme:guest-1", [{ commandId: "1" }, { commandId: "2" }]);
  clientOf(pages).refuse();
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  closed.shift()?.();
  await vi.waitFor(() => expect(pages.former.get()).toBe(2));
  expect(user(pages)).toBe("guest-2");
  return pages;
}

test("what a former guest had not sent keeps its ids when it is sent, and is nowhere else then", async () => {
  const pages = await replaced();
  const settling = pages.settleFormer("send");
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  closed.shift()?.();
  await settling;
  expect([...outboxes]).toEqual([["sillage:acme:guest-2", [{ commandId: "1" }, { commandId: "2" }]]]);
  expect(pages.former.get()).toBeUndefined();
  // The client has read them.
  expect(log.slice(-2)).toEqual(["close guest-2", "open guest-2"]);
  expect(localStorage.getItem("sillage.former")).toBeNull();
});

test("what cannot be kept elsewhere stays where it is, and can be tried again", async () => {
  const pages = await replaced();
  disk = "full";
  await expect(pages.settleFormer("send")).rejects.toThrow("full");
  expect(outboxes.get("sillage:acme:guest-1")).toHaveLength(2);
  expect(pages.former.get()).toBe(2);

  // After a reload, and after an end of the page between the two steps.
  disk = "sound";
  outboxes.set("sillage:acme:guest-2", [{ commandId: "1" }]);
  const again = await load();
  await again.begin();
  expect(again.former.get()).toBe(2);
  closed = [];
  const settling = again.settleFormer("send");
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  closed.shift()?.();
  await settling;
  expect(outboxes.get("sillage:acme:guest-2")).toEqual([{ commandId: "1" }, { commandId: "2" }]);
});

test("a guest who was to be replaced, but is still there, is not offered their own clicks", async () => {
  const pages = await load();
  await pages.begin();
  outboxes.set("sillage:acme:guest-1", [{ commandId: "1" }]);
  localStorage.setItem("sillage.former", "sillage:acme:guest-1");
  const again = await load();
  await again.begin();
  expect(user(again)).toBe("guest-1");
  expect(again.former.get()).toBeUndefined();
  expect(outboxes.get("sillage:acme:guest-1")).toHaveLength(1);
});

test("the names of former guests are bounded, and the oldest outbox goes with its name", async () => {
  const names = Array.from({ length: 16 }, (_, n) => `sillage:acme:old-${n}`);
  for (const name of names) outboxes.set(name, [{ commandId: name }]);
  localStorage.setItem("sillage.former", names.join(" "));
  const pages = await load();
  await pages.begin();
  clientOf(pages).refuse();
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  closed.shift()?.();
  await vi.waitFor(() => expect(user(pages)).toBe("guest-2"));
  const kept = localStorage.getItem("sillage.former")?.split(" ");
  expect(kept).toEqual([...names.slice(1), "sillage:acme:guest-1"]);
  expect(outboxes.has("sillage:acme:old-0")).toBe(false);
});
