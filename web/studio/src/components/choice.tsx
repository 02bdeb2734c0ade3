import { type ReactNode, useId } from "react";
import css from "./choice.module.css";

interface Option<T> {
  value: T;
  label: string;
  /** What is seen instead of the label. */
  face: ReactNode;
}

interface Props<T> {
  label: string;
  options: Option<T>[];
  value: T;
  onChange(value: T): void;
}

/** One of a few, side by side. */
export function Choice<T extends string>({ label, options, value: chosen, onChange }: Props<T>) {
  const name = useId();
  return (
    <fieldset className={css.choice}>
      <legend className="visually-hidden">{label}</legend>
      {options.map(({ value, label, face }) => (
        <label key={value} className={css.option} title={label}>
          <input
            className="visually-hidden"
            type="radio"
            name={name}
            value={value}
            checked={value === chosen}
            onChange={() => onChange(value)}
            aria-label={label}
          />
          {face}
        </label>
      ))}
    </fieldset>
  );
}
