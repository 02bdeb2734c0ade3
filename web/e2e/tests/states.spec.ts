// Every state of every page is accessible and fits a phone and a window at 200 %, in both themes and languages.
// One walk through the states, since most of them come from the one before.

import type { BrowserContext, Page, WebSocketRoute } from "@playwright/test";
import { breakStorage, endGuest, forbidRemoval, LikesPage } from "../support/likes";
import { LOOKS, Looking } from "../support/looking";
import { expect, type Server, test } from "../support/server";

const MOST = 120_000;

for (const look of LOOKS) {
  const { colorScheme, locale } = look;

  test(`the states of the likes, ${colorScheme}, ${locale}`, async ({ browser, server }) => {
    test.setTimeout(MOST);
    const context = await browser.newContext({ ...look, reducedMotion: "reduce" });
    const page = await context.newPage();
    const looking = new Looking(page, `likes ${colorScheme} ${locale}`);
    const likes = new LikesPage(page);
    const answers = await heldAnswers(page);
    const notices = page.getByTestId("notices");

    const guests = await heldRequests(context, "**/api/auth/guest");
    await page.goto(`${server.url}/likes`);
    await expect(page.locator("html")).toHaveAttribute("lang", locale.slice(0, 2));
    await expect(page.getByTestId("connection")).toHaveAttribute("data-connection", "connecting");
    await looking.at("00 arriving");

    guests.refuse();
    await expect(notices).not.toBeEmpty();
    await looking.at("01 unreachable");

    await context.unroute("**/api/auth/guest");
    await likes.isConnected();
    await likes.shows(0, false);
    await looking.at("02 nothing yet");

    await likes.switchOffline();
    await likes.heart("article-1").click();
    await likes.heart("article-2").click();
    await expect(likes.entries("pending")).toHaveCount(2);
    await looking.at("03 pending");

    answers.hold();
    await likes.switchOffline();
    await expect(likes.entries("sent")).toHaveCount(2);
    await looking.at("04 sent");

    answers.release();
    await expect(likes.entries("confirmed")).toHaveCount(2);
    await looking.at("05 confirmed");

    const moderator = server.token("mo", ["moderate"]);
    await server.send({ type: "LikesClose", targetId: "article-1" }, moderator);
    await likes.heart("article-1").click();
    await expect(page.getByTestId("refusal-article-1")).toBeVisible();
    await expect(likes.entries("rejected")).toHaveCount(1);
    await page.getByTestId("events-pause").click();
    await likes.heart("article-3").click();
    await expect(likes.entries("confirmed")).toHaveCount(3);
    await looking.at("06 rejected");

    await server.kill();
    await expect(page.getByTestId("connection")).toHaveAttribute("data-connection", "offline");
    await likes.heart("article-4").click();
    await looking.at("07 no network");
    await server.start();
    await likes.isConnected();
    await likes.isSettled();

    await anotherGuest(likes, looking);
    await somebodyElse(page, looking, moderator);
    await nothingKept(page, looking, server);
  });

  test(`the states of a connection, ${colorScheme}, ${locale}`, async ({ browser, server }) => {
    test.setTimeout(MOST);
    const context = await browser.newContext({ ...look, reducedMotion: "reduce", serviceWorkers: "block" });
    await theConnection(context, server, `connection ${colorScheme} ${locale}`);
  });

  test(`the states of the first page, ${colorScheme}, ${locale}`, async ({ browser, server }) => {
    test.setTimeout(MOST);
    const context = await browser.newContext({ ...look, reducedMotion: "reduce" });
    await theFirstPage(context, server, `home ${colorScheme} ${locale}`);
  });
}

/** What a guest has left, for another to decide about. */
async function anotherGuest(likes: LikesPage, looking: Looking): Promise<void> {
  const { page } = likes;
  await likes.switchOffline();
  await likes.heart("article-5").click();
  await endGuest(page);
  await page.reload();
  await likes.shows(1, true, "article-5");
  await likes.switchOffline();
  await expect(page.getByTestId("notices")).toBeVisible();
  await likes.isConnected();
  await looking.at("08 another guest");

  const allow = await forbidRemoval(page);
  const notices = page.getByTestId("notices");
  await notices.getByRole("button").first().click();
  await expect(notices.locator("strong")).toBeVisible();
  await looking.at("08 not kept elsewhere");
  await allow();
}

/** How a connection begins and ends, who is nobody without one, and a page that cannot be loaded. */
async function theConnection(context: BrowserContext, server: Server, name: string): Promise<void> {
  const page = await context.newPage();
  const looking = new Looking(page, name);
  const connection = page.getByTestId("connection");
  await page.addInitScript(() => sessionStorage.setItem("sillage.network", "offline"));
  await page.goto(`${server.url}/likes`);
  await expect(connection).toHaveAttribute("data-connection", "paused");
  await looking.at("1 nobody, offline");

  await heldRequests(context, "**/api/stream?*");
  let answer: (socket: WebSocketRoute) => unknown = () => new Promise(() => {});
  await page.routeWebSocket(/\/ws/, (socket) => answer(socket));
  await new LikesPage(page).switchOffline();
  await expect(page.getByTestId("like-article-1")).toBeVisible();
  await expect(connection).toHaveAttribute("data-connection", "connecting");
  await page.getByTestId("like-article-1").click();
  await looking.at("2 connecting");

  answer = (socket) => socket.close({ code: 4409 });
  await page.goto(`${server.url}/likes`);
  await new LikesPage(page).switchOffline();
  await expect(connection).toHaveAttribute("data-connection", "stopped");
  await looking.at("3 stopped");

  await page.goto(`${server.url}/nowhere`);
  await page.route("**/assets/*.js", (route) => route.abort());
  await page.getByRole("navigation").getByRole("link").last().click();
  await expect(page.getByRole("main").getByRole("button")).toBeVisible();
  await looking.at("4 broken");
  await page.unroute("**/assets/*.js");
  await page.getByRole("navigation").getByRole("link").first().click();
  await expect(page.getByTestId("node"), "the other pages are not broken with it").toBeVisible();
}

/** The dialog, a moderator, and somebody whose token is not taken. */
async function somebodyElse(page: Page, looking: Looking, moderator: string): Promise<void> {
  const field = page.getByRole("textbox");
  const signIn = async (token: string) => {
    await page.getByTestId("session").click();
    await field.fill(token);
    await field.press("Tab");
    await page.keyboard.press("Enter");
  };
  await signIn("this is no token");
  await expect(field).toHaveAttribute("aria-invalid", "true");
  await looking.at("09 not a token");
  await page.keyboard.press("Escape");

  await signIn(moderator);
  await page.getByTestId("close-article-2").click();
  await expect(new LikesPage(page).entries("confirmed")).toHaveCount(1);
  await looking.at("10 moderator");
  await page.getByTestId("session").click();
  await looking.at("11 dialog of a moderator");
  await page.keyboard.press("Escape");

  await signIn(`${moderator.slice(0, moderator.lastIndexOf("."))}.c2ln`);
  await expect(page.getByTestId("connection")).toHaveAttribute("data-connection", "needs-sign-in");
  await page.getByTestId("like-article-1").click();
  await looking.at("12 needs sign-in");
}

async function nothingKept(page: Page, looking: Looking, server: Server): Promise<void> {
  const answer = await breakStorage(page);
  await page.evaluate(() => sessionStorage.clear());
  await page.goto(`${server.url}/likes`);
  await answer();
  await new LikesPage(page).shows(1, false);
  await expect(page.getByTestId("notices")).toBeVisible();
  await looking.at("13 nothing kept");
}

async function theFirstPage(context: BrowserContext, server: Server, name: string): Promise<void> {
  const page = await context.newPage();
  const looking = new Looking(page, name);
  const node = page.getByTestId("node");
  await page.goto(`${server.url}/`);
  await expect(node).toHaveAttribute("data-node", "ready");
  await looking.at("1 ready");

  await page.goto(`${server.url}/nowhere`);
  await looking.at("2 nothing here");

  await page.evaluate(
    (token) => sessionStorage.setItem("sillage.token", token),
    server.token("op", ["operate"]),
  );
  await page.route("**/readyz", (route) => route.fulfill({ status: 503, json: TROUBLED }));
  await page.route("**/api/outbox", (route) => route.fulfill({ json: STUCK }));
  await page.goto(`${server.url}/`);
  await expect(node).toHaveAttribute("data-node", "failed");
  await expect(page.getByTestId("destination")).toHaveCount(2);
  await looking.at("3 failed");

  await page.unrouteAll();
  await server.kill();
  await expect(node).toHaveAttribute("data-node", "unreachable");
  await looking.at("4 unreachable");
}

const TROUBLED = {
  ready: false,
  failure: "the worker of shard 3 has panicked",
  epoch: "0199a3c1-7f3e-7cc0-9f0e-5d2c5d6f7a80",
  engine: "journal",
  head: 1_234_567,
  connections: 20_000,
  views: [
    { name: "likes", position: 1_234_000 },
    { name: "likes_of_users", position: 12, stopped: "the disk is full" },
  ],
};

const STUCK = {
  destinations: [
    { name: "sockets", position: 1_234_567, mode: "running", retrying: 0, parked: 0 },
    {
      name: "webhook",
      position: 1_200_000,
      mode: "paused",
      retrying: 12,
      parked: 3,
      last_error: "the address https://example.com/hooks/likes has answered with 500 Internal Server Error",
    },
  ],
};

/** Requests that are not answered, until they are refused, and all that follow. */
async function heldRequests(context: BrowserContext, url: string): Promise<{ refuse(): void }> {
  let refuse = () => {};
  const refused = new Promise<void>((resolve) => {
    refuse = resolve;
  });
  await context.route(url, async (route) => {
    await refused;
    await route.abort();
  });
  return { refuse };
}

/** A socket whose messages to the page can be held back. */
async function heldAnswers(page: Page): Promise<{ hold(): void; release(): void }> {
  let held: (() => void)[] | undefined;
  await page.routeWebSocket(/\/ws/, (socket: WebSocketRoute) => {
    const server = socket.connectToServer();
    server.onMessage((message) => {
      const pass = () => socket.send(message);
      if (held) held.push(pass);
      else pass();
    });
  });
  return {
    hold: () => {
      held ??= [];
    },
    release: () => {
      for (const pass of held?.splice(0) ?? []) pass();
      held = undefined;
    },
  };
}
