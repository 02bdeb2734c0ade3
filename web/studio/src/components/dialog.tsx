import { type ReactNode, type RefObject, useId } from "react";
import css from "./dialog.module.css";

interface Props {
  title: string;
  dialog: RefObject<HTMLDialogElement | null>;
  children: ReactNode;
}

/** A window above the page. `showModal` opens it, Escape or a form with the method `dialog` closes it. */
export function Dialog({ title, dialog, children }: Props) {
  const id = useId();
  return (
    <dialog ref={dialog} className={css.dialog} aria-labelledby={id}>
      <h2 className={css.title} id={id}>
        {title}
      </h2>
      {children}
    </dialog>
  );
}
