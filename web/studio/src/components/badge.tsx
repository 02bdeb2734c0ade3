import type { ReactNode } from "react";
import css from "./badge.module.css";
import { classes } from "./classes";
import { Icon, type IconName } from "./icon";
import tones from "./tones.module.css";

export type Tone = "neutral" | "accent" | "good" | "warn" | "bad";

export function Badge({
  tone = "neutral",
  icon,
  children,
}: {
  tone?: Tone;
  icon?: IconName;
  children: ReactNode;
}) {
  return (
    <span className={classes(css.badge, tones[tone])}>
      {icon && <Icon name={icon} />}
      {children}
    </span>
  );
}
