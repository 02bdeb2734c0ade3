import type { ReactNode } from "react";
import css from "./code.module.css";

/** A word of the system, as it stands in the code or on the wire. */
export function Code({ children }: { children: ReactNode }) {
  return <code className={css.code}>{children}</code>;
}
