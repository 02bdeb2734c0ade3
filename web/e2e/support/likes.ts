// The page of the likes, as somebody uses it.

import { type BrowserContext, expect, type Page } from "@playwright/test";
import type { Server } from "./server";

/** The first of the articles on the page. */
export const ARTICLE = "article-1";

/** Opens the page as the owner of a token. */
export async function openLikes(context: BrowserContext, server: Server, token: string): Promise<LikesPage> {
  const page = await context.newPage();
  await page.addInitScript((token) => sessionStorage.setItem("sillage.token", token), token);
  await page.goto(`${server.url}/likes`);
  const likes = new LikesPage(page);
  await likes.isConnected();
  return likes;
}

/** Spoils the token of the guest, as if its time were over. */
export async function endGuest(page: Page): Promise<void> {
  await page.evaluate(() => {
    const token = localStorage.getItem("sillage.guest") ?? "";
    localStorage.setItem("sillage.guest", token.slice(0, token.lastIndexOf(".")) + ".c2ln");
  });
}

/** A browser that keeps what is new, and removes nothing. Answers what takes that back. */
export async function forbidRemoval(page: Page): Promise<() => Promise<void>> {
  await page.evaluate(() => {
    const { delete: remove } = IDBObjectStore.prototype;
    IDBObjectStore.prototype.delete = () => {
      throw new DOMException("It is full.", "QuotaExceededError");
    };
    const allow = () => {
      IDBObjectStore.prototype.delete = remove;
    };
    Object.assign(window, { allow });
  });
  return () => page.evaluate(() => Reflect.get(window, "allow")());
}

/** A browser that does not say whether it keeps anything, until it is told to: then it does not. */
export async function breakStorage(page: Page): Promise<() => Promise<void>> {
  await page.addInitScript(() => {
    const asked: IDBOpenDBRequest[] = [];
    let broken = false;
    IDBFactory.prototype.open = () => {
      if (broken) throw new DOMException("It is broken.", "UnknownError");
      const request = new EventTarget() as IDBOpenDBRequest;
      asked.push(request);
      return request;
    };
    const breakStorage = () => {
      broken = true;
      for (const request of asked) request.onerror?.(new Event("error"));
    };
    Object.assign(window, { breakStorage });
  });
  return () => page.evaluate(() => Reflect.get(window, "breakStorage")());
}

export class LikesPage {
  constructor(readonly page: Page) {}

  heart(article = ARTICLE) {
    return this.page.getByTestId(`like-${article}`);
  }

  count(article = ARTICLE) {
    return this.page.getByTestId(`count-${article}`);
  }

  entries(state: "pending" | "sent" | "confirmed" | "rejected") {
    return this.page.locator(`[data-testid="outbox-entry"][data-state="${state}"]`);
  }

  async isConnected(): Promise<void> {
    await expect(this.page.getByTestId("connection")).toHaveAttribute("data-connection", "connected");
  }

  /** Whether this tab is the one that sends. */
  async sends(): Promise<boolean> {
    return (await this.page.getByTestId("connection").getAttribute("data-sends")) === "true";
  }

  async switchOffline(): Promise<void> {
    await this.page.getByTestId("offline-switch").click();
  }

  async shows(count: number, me: boolean, article = ARTICLE): Promise<void> {
    await expect(this.count(article)).toHaveText(String(count));
    await expect(this.heart(article)).toHaveAttribute("aria-pressed", String(me));
  }

  /** The ids of the commands that the server takes from now on, each time that it takes one. */
  arrived(): string[] {
    const ids: string[] = [];
    this.page.on("response", (response) => {
      const request = response.request();
      if (request.method() === "POST") ids.push(request.postDataJSON().commandId);
    });
    return ids;
  }

  /** Nothing waits in the outbox. */
  async isSettled(): Promise<void> {
    await expect(this.entries("pending")).toHaveCount(0);
    await expect(this.entries("sent")).toHaveCount(0);
  }
}
