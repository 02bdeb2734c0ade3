import { useText } from "../../app/i18n";
import { network } from "../../app/offline";
import { session, setNetwork } from "../../app/session";
import { type ConnectionStatus, useConnection } from "../../app/store";
import { useValue } from "../../app/value";
import { Badge, type Tone } from "../../components/badge";
import { Switch } from "../../components/switch";
import css from "./connection.module.css";

const TONES: Record<ConnectionStatus["connection"], Tone> = {
  connecting: "neutral",
  connected: "good",
  offline: "bad",
  "needs-sign-in": "warn",
  paused: "warn",
  stopped: "bad",
};

/**
 * How this tab is connected, which tab sends, and the switch to work offline. It is there for nobody, too: whoever
 * came offline for the first time is nobody until they switch.
 */
export function ConnectionBar() {
  const { connection: texts } = useText().likes;
  const chosen = useValue(network);
  const current = useValue(session);
  const { connection, transport, sends, storage } = useConnection(current?.store);
  const state = chosen === "offline" ? "paused" : connection;
  const sender = `${sends ? texts.thisTab : texts.otherTab} ${transport ? texts.transports[transport] : ""}`;
  const { waiting } = texts;
  const hints = { ...texts.hints, connecting: waiting, connected: sender, offline: waiting };
  return (
    <section className={css.bar} aria-label={texts.title}>
      <Switch
        label={texts.offline}
        value={chosen === "offline" ? "on" : "off"}
        onChange={(value) => setNetwork(value === "on" ? "offline" : "online")}
        testId="offline-switch"
      />
      <span
        className={css.state}
        role="status"
        data-testid="connection"
        data-connection={state}
        data-sends={sends}
        data-transport={transport}
      >
        <Badge tone={TONES[state]}>{texts.states[state]}</Badge>
      </span>
      {current && (storage === "ok" || state === "connected") && <p className={css.hint}>{hints[state]}</p>}
    </section>
  );
}
