import { useId } from "react";
import { useText } from "../../app/i18n";
import type { Dictionary } from "../../app/i18n/en";
import css from "./home.module.css";

type Station = keyof Dictionary["home"]["stations"];

/** A drawing: the corner of each station, the ways between them, and the answer that only says "received". */
interface Layout {
  width: number;
  height: number;
  stations: Record<Station, [x: number, y: number]>;
  ways: string[];
  received: string;
  /** Where it says what comes back: the status, and the identity of the command. */
  labels: { status: [x: number, y: number]; acknowledgement: [x: number, y: number] };
}

const BOX = { width: 148, height: 62 };

const WIDE: Layout = {
  width: 864,
  height: 210,
  stations: {
    click: [2, 2],
    outbox: [180, 2],
    gateway: [358, 2],
    decision: [536, 2],
    log: [714, 2],
    feeds: [536, 146],
    truth: [180, 146],
  },
  ways: [
    "M152 33h22",
    "M330 33h22",
    "M508 33h22",
    "M686 33h22",
    "M788 66v101q0 10-10 10h-88",
    "M534 177H334",
    "M254 144V70",
  ],
  received: "M432 66v22q0 10-10 10H304q-10 0-10-10V70",
  labels: { status: [363, 116], acknowledgement: [434, 196] },
};

const TALL: Layout = {
  width: 340,
  height: 434,
  stations: {
    click: [2, 2],
    outbox: [2, 94],
    gateway: [2, 186],
    decision: [2, 278],
    log: [2, 370],
    feeds: [190, 278],
    truth: [190, 94],
  },
  ways: [
    "M76 66v22",
    "M76 158v22",
    "M76 250v22",
    "M76 342v22",
    "M152 401h102q10 0 10-10v-45",
    "M264 276V162",
    "M188 125h-32",
  ],
  received: "M152 217h16q8 0 8-8v-53q0-8-8-8h-11",
  labels: { status: [196, 196], acknowledgement: [305, 222] },
};

/** The way of a click, drawn. The text beside it says the same. */
export function Journey() {
  const { home } = useText();
  return (
    <>
      <Drawing layout={WIDE} className={css.wide} />
      <Drawing layout={TALL} className={css.tall} />
      <p className={css.soft}>{home.journeyLong}</p>
    </>
  );
}

function Drawing({ layout, className }: { layout: Layout; className: string | undefined }) {
  const { home } = useText();
  const head = useId();
  const { width, height, stations, ways, received, labels } = layout;
  return (
    <svg className={className} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={home.journey}>
      <defs>
        <marker id={head} viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">
          <path className={css.head} d="M0 0L8 4 0 8z" />
        </marker>
      </defs>
      {ways.map((way) => (
        <path key={way} className={css.way} d={way} markerEnd={`url(#${head})`} />
      ))}
      <path className={css.received} d={received} markerEnd={`url(#${head})`} />
      <Label corner={labels.status}>202</Label>
      <Label corner={labels.acknowledgement}>commandId</Label>
      {(Object.keys(stations) as Station[]).map((name) => (
        <Box key={name} name={name} corner={stations[name]} />
      ))}
    </svg>
  );
}

function Label({ corner: [x, y], children }: { corner: [number, number]; children: string }) {
  return (
    <text className={css.label} x={x} y={y}>
      {children}
    </text>
  );
}

function Box({ name, corner: [x, y] }: { name: Station; corner: [number, number] }) {
  const [title, detail] = useText().home.stations[name];
  const middle = x + BOX.width / 2;
  const ends = name === "click" || name === "truth";
  return (
    <g className={ends ? css.end : css.station}>
      <rect x={x} y={y} width={BOX.width} height={BOX.height} rx="10" />
      <text className={css.name} x={middle} y={y + 27}>
        {title}
      </text>
      <text className={css.detail} x={middle} y={y + 46}>
        {detail}
      </text>
    </g>
  );
}
