import type { ButtonHTMLAttributes } from "react";
import css from "./button.module.css";
import { classes } from "./classes";

type Props = ButtonHTMLAttributes<HTMLButtonElement> & {
  /** `main`: what most people want; `plain`: an ordinary one; `quiet`: without a border. */
  look?: "main" | "plain" | "quiet";
  size?: "usual" | "small";
};

export function Button({ look = "plain", size = "usual", className, ...rest }: Props) {
  return <button type="button" className={classes(css.button, css[look], css[size], className)} {...rest} />;
}
