import { type TextareaHTMLAttributes, useId } from "react";
import css from "./field.module.css";

type Props = TextareaHTMLAttributes<HTMLTextAreaElement> & {
  label: string;
  /** What is wrong with what was entered. */
  error: string | undefined;
};

export function Field({ label, error, ...rest }: Props) {
  const id = useId();
  return (
    <div className={css.field}>
      <label className={css.label} htmlFor={id}>
        {label}
      </label>
      <textarea
        id={id}
        className={css.input}
        rows={4}
        spellCheck={false}
        autoComplete="off"
        aria-invalid={error !== undefined}
        aria-describedby={`${id}-error`}
        {...rest}
      />
      <p id={`${id}-error`} className={css.error} role="status">
        {error}
      </p>
    </div>
  );
}
