import type { ReactNode } from "react";
import css from "./list.module.css";

interface Props {
  /** What the list is of. */
  label: string;
  children: ReactNode;
}

/** A list of many rows that scrolls by itself, also with the keys. It is not read aloud when it grows. */
export function ScrollList({ label, children }: Props) {
  return (
    // What scrolls must be within reach of the keys.
    <section className={css.scroll} aria-label={label} tabIndex={0}>
      <ol className={css.list}>{children}</ol>
    </section>
  );
}
