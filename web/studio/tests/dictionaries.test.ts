import { expect, test } from "vitest";
import { en } from "../src/app/i18n/en";
import { fr } from "../src/app/i18n/fr";

/** Every text of a dictionary, with its path; those that are made of parts, with the parts "A" and 2. */
function texts(of: unknown, path = ""): [path: string, text: string][] {
  if (typeof of === "string") return [[path, of]];
  if (typeof of === "function") return [[path, of("A", 2, 2)]];
  return Object.entries(of as object).flatMap(([key, value]) => texts(value, `${path}.${key}`));
}

test.each(texts(fr))("French typography: %s", (_, text) => {
  expect(text).not.toMatch(/(?<!\u202f)[;!?»]/);
  expect(text).not.toMatch(/«(?!\u202f)/);
  expect(text).not.toMatch(/(?<!\u00a0):/);
  expect(text).not.toMatch(/['"]|\.\.\./);
});

test.each(texts(en))("English typography: %s", (_, text) => {
  expect(text).not.toMatch(/['"]|\.\.\.|\s[;:!?]/);
});

test("the languages do not share a text by mistake", () => {
  const english = new Map(texts(en));
  // Names and words that are the same in both.
  const shared = /^(Sillage|Connections|Pause|Pages|Articles|WebSocket\.|at A|A parked|.*\.title)$/;
  const same = texts(fr).filter(([path, text]) => text === english.get(path) && !shared.test(text));
  expect(same).toEqual([]);
});
