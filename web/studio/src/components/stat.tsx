import type { ReactNode } from "react";
import css from "./stat.module.css";

/** Names and what they stand for. */
export function Stats({ children }: { children: ReactNode }) {
  return <dl className={css.stats}>{children}</dl>;
}

export function Stat({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className={css.stat}>
      <dt className={css.name}>{name}</dt>
      <dd className={css.value}>{children}</dd>
    </div>
  );
}
