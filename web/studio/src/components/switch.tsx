import css from "./switch.module.css";

interface Props {
  label: string;
  value: "on" | "off";
  onChange(value: "on" | "off"): void;
  testId?: string;
}

export function Switch({ label, value, onChange, testId }: Props) {
  return (
    <button
      type="button"
      role="switch"
      className={css.switch}
      aria-checked={value === "on"}
      onClick={() => onChange(value === "on" ? "off" : "on")}
      data-testid={testId}
    >
      <span className={css.track}>
        <span className={css.knob} />
      </span>
      {label}
    </button>
  );
}
