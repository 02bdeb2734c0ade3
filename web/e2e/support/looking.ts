// Looks at a page in the state in which it is, as everybody does who cannot see it, or sees it otherwise.

import { join } from "node:path";
import { AxeBuilder } from "@axe-core/playwright";
import { type BrowserContextOptions, expect, type Page } from "@playwright/test";

/** Each theme and each language once: what one hides, the other does not show. */
export const LOOKS = [
  { colorScheme: "light", locale: "en-GB" },
  { colorScheme: "dark", locale: "fr-FR" },
] satisfies BrowserContextOptions[];

const DESK = { width: 1200, height: 900 };
/** A phone; and the desk at 200 %. */
const NARROW = [
  { width: 360, height: 740 },
  { width: 600, height: 450 },
];
/** Where pictures of all states go, if somebody wants to see them. */
const PICTURES = process.env.PICTURES;
/** What is said on the console of a server that is away or refuses, and of a storage that fails: as it should be. */
const EXPECTED =
  /Failed to load resource|WebSocket connection|the storage failed|dynamically imported module/;

export class Looking {
  private readonly complaints: string[] = [];

  constructor(
    private readonly page: Page,
    private readonly name: string,
  ) {
    page.on("console", (message) => {
      if (message.type() === "error" && !EXPECTED.test(message.text())) this.complaints.push(message.text());
    });
    page.on("pageerror", (error) => this.complaints.push(error.message));
  }

  /** Nothing keeps anybody out, nothing is wider than the window, and the browser has nothing to complain of. */
  async at(state: string): Promise<void> {
    await this.page.setViewportSize(DESK);
    // The other mode is for pages with frames, and slower.
    const { violations } = await new AxeBuilder({ page: this.page }).setLegacyMode().analyze();
    expect(
      violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
      state,
    ).toEqual([]);
    await this.picture(state, DESK.width);
    for (const size of NARROW) {
      await this.page.setViewportSize(size);
      expect(await this.page.evaluate(tooWide), `${state}, ${size.width} wide`).toEqual([]);
      await this.picture(state, size.width);
    }
    await this.page.setViewportSize(DESK);
    expect(this.complaints, state).toEqual([]);
  }

  private async picture(state: string, width: number): Promise<void> {
    if (!PICTURES) return;
    const path = join(PICTURES, `${this.name} ${state} ${width}.png`.replaceAll(" ", "-"));
    await this.page.screenshot({ path, fullPage: true });
  }
}

/** Runs in the page: what reaches beyond the window, or beyond the dialog that is open. */
function tooWide(): string[] {
  const boxes = [document.documentElement, ...document.querySelectorAll("dialog[open]")];
  const wide = boxes.filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth);
  return wide.map(({ tagName, scrollWidth }) => `${tagName} ${scrollWidth}`);
}
