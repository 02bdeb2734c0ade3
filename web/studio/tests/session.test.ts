import { beforeEach, expect, test, vi } from "vitest";

type Command = { commandId: string };

/** What happens to clients, in order. */
let log: string[];
/** The outboxes of the browser, by name. */
let outboxes: Map<string, Command[]>;
/** Whether outboxes can be written. */
let disk: "sound" | "full";
/** What other tabs do when an outbox has been read or written. */
let meanwhile: () => void;
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

    pending() {
      return (outboxes.get(this.options.storage.name) ?? []).map((command) => ({ command }));
    }

    async close() {
      await new Promise<void>((resolve) => closed.push(resolve));
      log.push(`close ${this.options.user}`);
    }
  }
  class IndexedDbStorage {
    constructor(readonly name: string) {}

    async load() {
      const commands = outboxes.get(this.name) ?? [];
      meanwhile();
      return { commands };
    }

    async write({ put, remove }: { put: Command[]; remove: string[] }) {
      if (disk === "full") throw new Error("full");
      const gone = new Set([...remove, ...put.map(({ commandId }) => commandId)]);
      const others = (outboxes.get(this.name) ?? []).filter(({ commandId }) => !gone.has(commandId));
      outboxes.set(this.name, [...others, ...put]);
      meanwhile();
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
  meanwhile = () => {};
  vi.stubGlobal("navigator", {});
  vi.stubGlobal("localStorage", memory());
  vi.stubGlobal("sessionStorage", memory());
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
  expect(outboxes.size).toBe(0);
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

const FORMER = "sillage:former";
/** The ids of what is in an outbox. */
const idsIn = (outbox: string) => (outboxes.get(outbox) ?? []).map(({ commandId }) => commandId);

/** A guest with two clicks is refused, and another has come. */
async function replaced() {
  const pages = await load();
  await pages.begin();
  outboxes.set("sillage:acme:guest-1", [{ commandId: "1" }, { commandId: "2" }]);
  clientOf(pages).refuse();
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  expect(pages.session.get(), "meanwhile there is nothing to click at").toBeUndefined();
  closed.shift()?.();
  await vi.waitFor(() => expect(pages.former.get()).toEqual({ count: 2, last: "fine" }));
  expect(user(pages)).toBe("guest-2");
  return pages;
}

async function settle(pages: Awaited<ReturnType<typeof load>>, how: "send" | "discard") {
  const settling = pages.settleFormer(how);
  if (how === "send") {
    await vi.waitFor(() => expect(closed).toHaveLength(1));
    closed.shift()?.();
  }
  await settling;
}

test("what a former guest had not sent keeps its ids when it is sent, and is nowhere else then", async () => {
  const pages = await replaced();
  expect([idsIn("sillage:acme:guest-1"), idsIn(FORMER)]).toEqual([[], ["1", "2"]]);
  await settle(pages, "send");
  expect(idsIn("sillage:acme:guest-2")).toEqual(["1", "2"]);
  expect([pages.former.get(), idsIn(FORMER)]).toEqual([undefined, []]);
  // The client has read them.
  expect(log.slice(-2)).toEqual(["close guest-2", "open guest-2"]);
});

test("what a former guest had not sent is thrown away only if somebody says so", async () => {
  const pages = await replaced();
  const again = await load();
  await again.begin();
  expect(again.former.get()).toEqual({ count: 2, last: "fine" });
  await settle(again, "discard");
  expect([again.former.get(), idsIn(FORMER), idsIn("sillage:acme:guest-2")]).toEqual([undefined, [], []]);
  // The other tab still shows them, and finds nothing more to send.
  await settle(pages, "send");
  expect(idsIn("sillage:acme:guest-2")).toEqual([]);
});

test("what the client of a former guest could not read is set aside all the same", async () => {
  const pages = await load();
  await pages.begin();
  clientOf(pages).refuse();
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  outboxes.set("sillage:acme:guest-1", [{ commandId: "1" }]);
  closed.shift()?.();
  await vi.waitFor(() => expect(pages.former.get()).toEqual({ count: 1, last: "fine" }));
  expect([idsIn("sillage:acme:guest-1"), idsIn(FORMER)]).toEqual([[], ["1"]]);
});

test("what is thrown away is not sent either, should sending it have ended halfway", async () => {
  const pages = await replaced();
  outboxes.set("sillage:acme:guest-2", [{ commandId: "1" }, { commandId: "9" }]);
  await settle(pages, "discard");
  expect(idsIn("sillage:acme:guest-2")).toEqual(["9"]);
});

test.each(["send", "discard"] as const)("what another tab sets aside meanwhile stays: %s", async (how) => {
  const pages = await replaced();
  meanwhile = () => {
    meanwhile = () => {};
    outboxes.set(FORMER, [...(outboxes.get(FORMER) ?? []), { commandId: "3" }]);
  };
  await settle(pages, how);
  expect(idsIn(FORMER)).toEqual(["3"]);
  const again = await load();
  await again.begin();
  expect(again.former.get()).toEqual({ count: 1, last: "fine" });
});

test("a tab that begins takes nothing of what another sets aside at that moment", async () => {
  const pages = await load();
  meanwhile = () => {
    meanwhile = () => {};
    outboxes.set(FORMER, [{ commandId: "3" }]);
  };
  await pages.begin();
  expect(idsIn(FORMER)).toEqual(["3"]);
});

test("what cannot be kept elsewhere stays where it is, is said to have failed, and can be tried again", async () => {
  const pages = await replaced();
  disk = "full";
  for (const how of ["send", "discard"] as const) {
    await pages.settleFormer(how);
    expect(pages.former.get()).toEqual({ count: 2, last: "failed" });
    expect(idsIn(FORMER)).toEqual(["1", "2"]);
  }

  // After a reload, and after an end of the page between the two steps.
  disk = "sound";
  outboxes.set("sillage:acme:guest-2", [{ commandId: "1" }]);
  const again = await load();
  await again.begin();
  expect(again.former.get()).toEqual({ count: 2, last: "fine" });
  closed = [];
  await settle(again, "send");
  expect(idsIn("sillage:acme:guest-2")).toEqual(["1", "2"]);
});

test("what cannot be set aside is lost only with the page", async () => {
  disk = "full";
  const pages = await replaced();
  expect(idsIn(FORMER)).toEqual([]);
  disk = "sound";
  await settle(pages, "send");
  expect(idsIn("sillage:acme:guest-2")).toEqual(["1", "2"]);
  expect(pages.former.get()).toBeUndefined();
  // The next one has left nothing.
  outboxes.clear();
  const guest = pages.session.get()?.identity;
  if (guest) void pages.replaceGuest(guest);
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  closed.shift()?.();
  await vi.waitFor(() => expect(pages.former.get()).toEqual({ count: 0, last: "fine" }));
});

test("a guest who has left nothing is only told of", async () => {
  const pages = await load();
  await pages.begin();
  clientOf(pages).refuse();
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  closed.shift()?.();
  await vi.waitFor(() => expect(pages.former.get()).toEqual({ count: 0, last: "fine" }));
  disk = "full";
  await pages.settleFormer("discard");
  expect(pages.former.get()).toBeUndefined();
});

test("who signs in while a guest is replaced stays", async () => {
  const pages = await load();
  await pages.begin();
  outboxes.set("sillage:acme:guest-1", [{ commandId: "1" }]);
  clientOf(pages).refuse();
  await vi.waitFor(() => expect(closed).toHaveLength(1));
  pages.signIn(tokenOf("ada"));
  closed.shift()?.();
  await vi.waitFor(() => expect(user(pages)).toBe("ada"));
  await vi.waitFor(() => expect(pages.former.get()?.count).toBe(1));
  expect([user(pages), idsIn(FORMER)]).toEqual(["ada", ["1"]]);
});
