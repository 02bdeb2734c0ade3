// What the browser remembers for the pages. Without a storage, as in some private windows, nothing is remembered
// and nothing fails.

/** `browser`: for all tabs, until it is cleared; `tab`: for this tab, also over a reload. */
export type Where = "browser" | "tab";

const PREFIX = "sillage.";

export function recall(where: Where, name: string): string | undefined {
  try {
    return storage(where).getItem(PREFIX + name) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Keeps a text, or forgets it. */
export function keep(where: Where, name: string, text: string | undefined): void {
  try {
    if (text === undefined) storage(where).removeItem(PREFIX + name);
    else storage(where).setItem(PREFIX + name, text);
  } catch {
    // It holds until the page is left.
  }
}

function storage(where: Where): Storage {
  return where === "browser" ? localStorage : sessionStorage;
}
