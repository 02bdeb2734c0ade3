// Light or dark: as the system has it, unless somebody has chosen. `public/preferences.js` applies the same
// choice before the first paint.

import { keep, recall } from "./keep";
import { Value } from "./value";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export const theme = new Value<Theme>(
  THEMES.find((known) => known === recall("browser", "theme")) ?? "system",
);

export function chooseTheme(chosen: Theme): void {
  const named = chosen === "system" ? undefined : chosen;
  keep("browser", "theme", named);
  if (named) document.documentElement.dataset.theme = named;
  else delete document.documentElement.dataset.theme;
  theme.set(chosen);
}
