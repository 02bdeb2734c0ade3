// The likes as people meet them: a real server, real browsers, and everything that can go wrong between them.

import { ARTICLE, breakStorage, endGuest, forbidRemoval, LikesPage, openLikes } from "../support/likes";
import { expect, test } from "../support/server";

test("a like in one window shows in the other", async ({ browser, server }) => {
  const alice = await openLikes(await browser.newContext(), server, server.token("alice"));
  const bob = await openLikes(await browser.newContext(), server, server.token("bob"));
  await alice.shows(0, false);
  await alice.heart().click();
  await alice.shows(1, true);
  await bob.shows(1, false);
  await bob.heart().click();
  await bob.shows(2, true);
  await alice.shows(2, true);
  await alice.heart().click();
  await bob.shows(1, true);
  await expect(alice.page.getByTestId("event")).toHaveCount(3);
  await expect(alice.entries("confirmed")).toHaveCount(2);
});

test("a window without a network loses no click, not even when it is reloaded and the server is killed", async ({
  browser,
  server,
}) => {
  const token = server.token("alice");
  const context = await browser.newContext();
  const alice = await openLikes(context, server, token);
  const bob = await openLikes(await browser.newContext(), server, server.token("bob"));
  // From now on the page itself comes without a network.
  await alice.page.evaluate(() => navigator.serviceWorker.ready);
  await alice.page.reload();
  await bob.heart().click();
  await alice.shows(1, false);

  await context.setOffline(true);
  await alice.heart("article-1").click();
  await alice.heart("article-2").click();
  await alice.heart("article-3").click();
  await alice.heart("article-3").click();
  await alice.shows(2, true);
  await alice.page.reload();
  await alice.shows(2, true);
  await alice.shows(1, true, "article-2");
  await alice.shows(0, false, "article-3");
  await expect(alice.entries("pending")).toHaveCount(4);

  await server.kill();
  await server.start();
  const arrived = alice.arrived();
  await context.setOffline(false);
  await alice.isConnected();
  await alice.isSettled();
  await bob.isConnected();
  for (const window of [alice, bob]) {
    const me = window === alice;
    await window.shows(2, true, "article-1");
    await window.shows(1, me, "article-2");
    await window.shows(0, false, "article-3");
  }
  expect(await server.likes("article-1", token)).toMatchObject({ count: 2, me: true });
  // One of Bob's, four of Alice's: nothing counts twice.
  await expect(bob.page.getByTestId("event")).toHaveCount(5);
  // The server that was started again has had Alice's four, each once, and knows what became of each.
  await expect.poll(() => arrived).toHaveLength(4);
  expect(new Set(arrived)).toHaveProperty("size", 4);
  expect(await server.posts()).toBe(4);
  expect(await server.receipts()).toBe(4);
  for (const commandId of arrived) {
    expect(await server.receipt(commandId, token)).toMatchObject({ outcome: "applied" });
  }
});

test("each click counts once while every node is killed in turn", async ({ browser, server }) => {
  const token = server.token("alice");
  const alice = await openLikes(await browser.newContext(), server, token);
  const bob = await openLikes(await browser.newContext(), server, server.token("bob"));
  for (const node of server.nodes) {
    await alice.heart("article-1").click();
    await node.kill();
    await alice.heart("article-1").click();
    await bob.heart("article-2").click();
    await node.start();
    await bob.heart("article-2").click();
  }
  await alice.heart("article-1").click();
  for (const window of [alice, bob]) {
    await window.isConnected();
    await window.isSettled();
    await window.shows(1, window === alice, "article-1");
    await window.shows(0, false, "article-2");
  }
  const clicks = 2 * server.nodes.length;
  expect(await server.likes("article-1", token)).toMatchObject({ count: 1, version: clicks + 1 });
  expect(await server.likes("article-2", token)).toMatchObject({ count: 0, version: clicks });
});

test("of two tabs one sends, each click once, and when it is closed the other takes over", async ({
  browser,
  server,
}) => {
  const token = server.token("alice");
  const context = await browser.newContext();
  const tabs = [await openLikes(context, server, token), await openLikes(context, server, token)] as const;
  const sending = async () => (await Promise.all(tabs.map((tab) => tab.sends()))).filter(Boolean).length;
  await expect.poll(sending).toBe(1);
  const click = async (tab: (typeof tabs)[number], times: number) => {
    for (let n = 0; n < times; n++) await tab.heart(`article-${1 + (n % 5)}`).click();
  };
  await Promise.all([click(tabs[0], 30), click(tabs[1], 30)]);
  for (const tab of tabs) await tab.isSettled();
  expect(await server.posts()).toBe(60);

  const [first, second] = (await tabs[0].sends()) ? tabs : [tabs[1], tabs[0]];
  await first.page.close();
  await click(second, 40);
  await second.isSettled();
  expect(await second.sends()).toBe(true);
  expect(await server.posts()).toBe(100);
});

test("what the sending tab could not send any more the other one sends", async ({ browser, server }) => {
  const token = server.token("alice");
  const context = await browser.newContext();
  const tabs = [await openLikes(context, server, token), await openLikes(context, server, token)] as const;
  await context.route("**/api/social/likes", (route) => route.abort());
  for (const tab of tabs) await tab.heart(tab === tabs[0] ? "article-1" : "article-2").click();
  const [first, second] = (await tabs[0].sends()) ? tabs : [tabs[1], tabs[0]];
  await expect(second.entries("pending")).toHaveCount(2);
  await first.page.close();
  await context.unroute("**/api/social/likes");
  await second.isSettled();
  await second.shows(1, true, "article-1");
  await second.shows(1, true, "article-2");
  expect(await server.posts()).toBe(2);
});

test("a refused like is taken back with its reason, also after a reload", async ({ browser, server }) => {
  const alice = await openLikes(await browser.newContext(), server, server.token("alice"));
  const moderator = server.token("mo", ["moderate"]);
  await server.send({ type: "LikesClose", targetId: "article-1" }, moderator);
  await alice.heart("article-1").click();
  await expect(alice.page.getByTestId("refusal-article-1")).toBeVisible();
  await alice.shows(0, false, "article-1");
  await expect(alice.entries("rejected")).toHaveCount(1);

  await alice.switchOffline();
  await alice.heart("article-2").click();
  await alice.shows(1, true, "article-2");
  await server.send({ type: "LikesClose", targetId: "article-2" }, moderator);
  await alice.page.reload();
  await alice.shows(1, true, "article-2");
  await alice.switchOffline();
  await expect(alice.page.getByTestId("refusal-article-2")).toBeVisible();
  await alice.shows(0, false, "article-2");
  await expect(alice.entries("rejected")).toHaveCount(1);
});

test("nothing flickers between the click, the commit and its echo", async ({ browser, server }) => {
  const alice = await openLikes(await browser.newContext(), server, server.token("alice"));
  await alice.shows(0, false);
  await alice.count().evaluate((count) => {
    const seen: string[] = [];
    Object.assign(window, { seen });
    new MutationObserver(() => seen.push(count.textContent ?? "")).observe(count, {
      subtree: true,
      childList: true,
      characterData: true,
    });
  });
  for (let n = 0; n < 10; n++) {
    await alice.heart().click();
    await alice.isSettled();
  }
  const seen = await alice.page.evaluate(() => Reflect.get(window, "seen"));
  expect(seen).toEqual(["1", "0", "1", "0", "1", "0", "1", "0", "1", "0"]);
});

test("where sockets do not open, the stream does", async ({ browser, server }) => {
  const context = await browser.newContext();
  await context.routeWebSocket(/\/ws/, (socket) => socket.close({ code: 1011 }));
  const alice = await openLikes(context, server, server.token("alice"));
  const bob = await openLikes(await browser.newContext(), server, server.token("bob"));
  await expect(alice.page.getByTestId("connection")).toHaveAttribute("data-transport", "sse");
  await bob.heart().click();
  await alice.shows(1, false);
  await alice.heart().click();
  await alice.isSettled();
  await bob.shows(2, true);
});

test("a stream goes on where the view stands, and does not begin with the history", async ({
  browser,
  server,
}) => {
  const bob = await openLikes(await browser.newContext(), server, server.token("bob"));
  for (let n = 0; n < 3; n++) await bob.heart().click();
  await bob.isSettled();
  const context = await browser.newContext();
  await context.routeWebSocket(/\/ws/, (socket) => socket.close({ code: 1011 }));
  const resumed: (string | undefined)[] = [];
  context.on("request", (request) => {
    if (request.url().includes(`feed=like-${ARTICLE}`)) resumed.push(request.headers()["last-event-id"]);
  });
  const alice = await openLikes(context, server, server.token("alice"));
  await alice.shows(1, false);
  await bob.heart().click();
  await alice.shows(0, false);
  await expect(alice.page.getByTestId("event")).toHaveCount(1);
  expect(resumed[0]).toMatch(/^[^:]+:.*\blike-article-1=3\b/);
});

test("a guest needs no sign-in, and stays who they are over a reload", async ({ page, server }) => {
  await page.goto(`${server.url}/likes`);
  const count = page.getByTestId(`count-${ARTICLE}`);
  await expect(count).toHaveText("0");
  await page.getByTestId(`like-${ARTICLE}`).click();
  await expect(page.locator('[data-testid="outbox-entry"][data-state="confirmed"]')).toHaveCount(1);
  await page.reload();
  await expect(count).toHaveText("1");
  await expect(page.getByTestId(`like-${ARTICLE}`)).toHaveAttribute("aria-pressed", "true");
});

test("who comes offline for the first time is nobody, and can go online", async ({ page, server }) => {
  await page.addInitScript(() => sessionStorage.setItem("sillage.network", "offline"));
  await page.goto(`${server.url}/likes`);
  const likes = new LikesPage(page);
  await expect(page.getByTestId("connection")).toHaveAttribute("data-connection", "paused");
  await expect(likes.heart()).toHaveCount(0);
  await likes.switchOffline();
  await likes.isConnected();
  await likes.shows(0, false);
});

test("what a guest has left is sent once, also when the page ends on the way", async ({ page, server }) => {
  await page.goto(`${server.url}/likes`);
  const guest = new LikesPage(page);
  await guest.isConnected();
  await guest.switchOffline();
  await guest.heart("article-1").click();
  await guest.heart("article-1").click();
  await guest.heart("article-2").click();
  await expect(guest.entries("pending")).toHaveCount(3);
  await endGuest(page);
  await page.reload();
  await guest.switchOffline();

  const send = page.getByRole("button", { name: "Send again as me" });
  await expect(send).toBeVisible();
  await guest.shows(0, false, "article-2");
  await forbidRemoval(page);
  await send.click();
  await expect(page.getByTestId("notices")).toContainText("That failed just now");
  await page.reload();
  await guest.isSettled();
  await send.click();
  await expect(send).toHaveCount(0);
  await guest.isConnected();
  await guest.isSettled();
  await guest.shows(0, false, "article-1");
  await guest.shows(1, true, "article-2");
  const somebody = server.token("somebody");
  expect(await server.likes("article-1", somebody)).toMatchObject({ count: 0, version: 2 });
  expect(await server.likes("article-2", somebody)).toMatchObject({ count: 1, version: 1 });
});

test("what is clicked before the browser says that it keeps nothing is sent", async ({ page, server }) => {
  const answer = await breakStorage(page);
  await page.goto(`${server.url}/likes`);
  const likes = new LikesPage(page);
  await likes.heart().click();
  await expect(likes.entries("pending")).toHaveCount(1);
  await answer();
  await expect(likes.entries("confirmed")).toHaveCount(1);
  await likes.shows(1, true);
  await expect(page.getByTestId("notices")).toContainText("keeps nothing");
  expect(await server.posts()).toBe(1);
});
