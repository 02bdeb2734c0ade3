// Icons, drawn on a grid of 24 with a line of 2. They say nothing to a screen reader: the text beside them does.

import { classes } from "./classes";
import css from "./icon.module.css";

const SHAPES = {
  heart: "M12 20.5s-7.5-4.6-7.5-10.3A4.2 4.2 0 0 1 12 7.6a4.2 4.2 0 0 1 7.5 2.6c0 5.7-7.5 10.3-7.5 10.3z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  person: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4.5 20.5c1-4 4-5.5 7.5-5.5s6.5 1.5 7.5 5.5",
  clock: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 7.5V12l3 2",
  sent: "M12 19.5v-15M5.5 11L12 4.5 18.5 11",
  check: "M4.5 12.5l5 5 10-11",
  cross: "M6 6l12 12M18 6L6 18",
  pause: "M8 5v14M16 5v14",
  play: "M7.5 4.5l11 7.5-11 7.5z",
  arrow: "M4.5 12h15M13 5.5l6.5 6.5-6.5 6.5",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.6-1.6",
} as const;

export type IconName = keyof typeof SHAPES;

export function Icon({ name, fill = "hollow" }: { name: IconName; fill?: "hollow" | "solid" }) {
  return (
    <svg className={classes(css.icon, fill === "solid" && css.solid)} viewBox="0 0 24 24" aria-hidden="true">
      <path d={SHAPES[name]} />
    </svg>
  );
}

/** The mark of Sillage: a boat, and the wake that it leaves. */
export function Mark() {
  return (
    <svg className={css.mark} viewBox="0 0 32 32" aria-hidden="true">
      <path d="M16 12.5C14.5 18 10.5 22.5 5.5 25M16 12.5C17.5 18 21.5 22.5 26.5 25" />
      <path className={css.faint} d="M16 18.5c-.7 2.8-2.1 5-4 6.7M16 18.5c.7 2.8 2.1 5 4 6.7" />
      <path className={css.boat} d="M16 4c2.1 2.2 3.1 4.7 3.1 8h-6.2c0-3.3 1-5.8 3.1-8z" />
    </svg>
  );
}
