import type { ReactNode } from "react";
import type { Tone } from "./badge";
import { classes } from "./classes";
import css from "./notice.module.css";
import tones from "./tones.module.css";

interface Props {
  tone: Tone;
  children: ReactNode;
  /** What can be done about it. */
  actions?: ReactNode;
}

export function Notice({ tone, children, actions }: Props) {
  return (
    <div className={classes(css.notice, tones[tone])}>
      <div className={css.text}>{children}</div>
      {actions && <div className={css.actions}>{actions}</div>}
    </div>
  );
}
