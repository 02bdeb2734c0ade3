// The pages. Whoever adds one adds a line here and a text in each dictionary.

import { type ComponentType, lazy } from "react";
import type { Dictionary } from "./i18n/en";

interface PageEntry {
  path: string;
  /** Its name in the navigation. */
  name: keyof Dictionary["nav"];
  page: ComponentType;
}

export const PAGES: PageEntry[] = [
  { path: "/", name: "home", page: lazy(() => import("../pages/home")) },
  { path: "/likes", name: "likes", page: lazy(() => import("../pages/likes")) },
];
