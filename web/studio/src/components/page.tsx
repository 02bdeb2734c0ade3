import type { ReactNode } from "react";
import css from "./page.module.css";

interface Props {
  title: string;
  /** What the page is for, in a sentence or two. */
  lead?: ReactNode;
  children: ReactNode;
}

export function Page({ title, lead, children }: Props) {
  return (
    <div className={css.page}>
      <title>{title === "Sillage" ? title : `${title} · Sillage`}</title>
      <header className={css.header}>
        <h1 className={css.title}>{title}</h1>
        {lead && <p className={css.lead}>{lead}</p>}
      </header>
      {children}
    </div>
  );
}

/** Two columns, the first wider; one below the other where there is little room. */
export function Columns({ children }: { children: ReactNode }) {
  return <div className={css.columns}>{children}</div>;
}

/** Things below each other. */
export function Stack({ children }: { children: ReactNode }) {
  return <div className={css.stack}>{children}</div>;
}
