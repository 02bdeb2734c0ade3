// Every page can be used by keyboard, read by a screen reader, on a phone and at 200 %, in both themes and languages.

import { AxeBuilder } from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { expect, test } from "../support/server";

const PAGES = ["/", "/likes"];

async function fits(page: Page): Promise<void> {
  const [content, window] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
  ]);
  expect(content, "nothing is wider than the window").toBeLessThanOrEqual(window ?? 0);
}

for (const path of PAGES) {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const locale of ["en-GB", "fr-FR"]) {
      test(`${path} is accessible, ${colorScheme}, ${locale}`, async ({ browser, server }) => {
        const context = await browser.newContext({ colorScheme, locale, reducedMotion: "reduce" });
        const page = await context.newPage();
        const complaints: string[] = [];
        page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
        page.on("pageerror", (error) => complaints.push(error.message));
        await page.goto(server.url + path);
        await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
        await expect(page.locator("html")).toHaveAttribute("lang", locale.slice(0, 2));
        const { violations } = await new AxeBuilder({ page }).analyze();
        expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
        expect(complaints).toEqual([]);
      });
    }
  }

  test(`${path} fits a phone, and a window at 200 %`, async ({ browser, server }) => {
    const phone = await browser.newContext({ viewport: { width: 360, height: 740 }, hasTouch: true });
    const page = await phone.newPage();
    await page.goto(server.url + path);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await fits(page);
    await page.setViewportSize({ width: 640, height: 480 });
    await fits(page);
  });
}

test("the likes are used with the keyboard alone", async ({ page, server }) => {
  await page.goto(`${server.url}/likes`);
  const heart = page.getByTestId("like-article-1");
  await expect(page.getByTestId("count-article-1")).toHaveText("0");
  const isFocused = () => heart.evaluate((heart) => heart === document.activeElement);
  for (let n = 0; n < 40 && !(await isFocused()); n++) await page.keyboard.press("Tab");
  expect(await isFocused()).toBe(true);
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("count-article-1")).toHaveText("1");
  await page.keyboard.press("Space");
  await expect(page.getByTestId("count-article-1")).toHaveText("0");
});

test("the front page says how the node stands, and that it is gone when it is", async ({ page, server }) => {
  await page.goto(`${server.url}/`);
  await expect(page.getByTestId("node")).toHaveAttribute("data-node", "ready");
  await server.kill();
  await expect(page.getByTestId("node")).toHaveAttribute("data-node", "unreachable");
});
