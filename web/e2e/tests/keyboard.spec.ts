// The pages by keyboard alone.

import { expect, test } from "../support/server";

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
