import { type ReactNode, useId } from "react";
import css from "./card.module.css";

interface Props {
  title: string;
  /** What stands at the end of the line of the title. */
  aside?: ReactNode;
  children: ReactNode;
}

/** A part of a page, with a title by which it can be found. */
export function Card({ title, aside, children }: Props) {
  const id = useId();
  return (
    <section className={css.card} aria-labelledby={id}>
      <header className={css.header}>
        <h2 className={css.title} id={id}>
          {title}
        </h2>
        {aside}
      </header>
      {children}
    </section>
  );
}
