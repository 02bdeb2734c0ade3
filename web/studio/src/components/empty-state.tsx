import type { ReactNode } from "react";
import css from "./empty-state.module.css";

/** What stands where there is nothing yet. */
export function EmptyState({ children }: { children: ReactNode }) {
  return <p className={css.empty}>{children}</p>;
}
