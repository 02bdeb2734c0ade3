import type { wire } from "@sillage/client";
import { useFormat, useText } from "../../app/i18n";
import { OPERATE } from "../../app/identity";
import { usePoll } from "../../app/poll";
import { session } from "../../app/session";
import { useValue } from "../../app/value";
import { Badge } from "../../components/badge";
import { Card } from "../../components/card";
import { Code } from "../../components/code";
import { EmptyState } from "../../components/empty-state";
import { Notice } from "../../components/notice";
import { Stack } from "../../components/page";
import css from "./home.module.css";

const ANSWERS = [200];

/** Where the events of the log go, for whoever looks after the node. */
export function Destinations() {
  const { home } = useText();
  const identity = useValue(session)?.identity;
  const operates = identity?.scopes.includes(OPERATE) === true;
  const { value, outcome } = usePoll<wire.Outbox>(
    operates ? "/api/outbox" : undefined,
    ANSWERS,
    identity?.token,
  );
  return (
    <Card title={home.destinations}>
      {operates ? (
        <Stack>
          {outcome === "refused" && <Notice tone="warn">{home.destinationsRefused}</Notice>}
          {outcome === "unreachable" && <Notice tone="bad">{home.unreachable}</Notice>}
          {outcome === "waiting" && <EmptyState>{home.states.waiting}</EmptyState>}
          {value && (
            <ul className={css.rows}>
              {value.destinations.map((destination) => (
                <Row key={destination.name} destination={destination} />
              ))}
            </ul>
          )}
        </Stack>
      ) : (
        <p className={css.soft}>
          {home.needsOperate} <Code>{OPERATE}</Code>
        </p>
      )}
    </Card>
  );
}

function Row({ destination }: { destination: wire.Destination }) {
  const { home } = useText();
  const format = useFormat();
  const { name, position, mode, retrying, parked, last_error } = destination;
  return (
    <li className={css.row} data-testid="destination">
      <Code>{name}</Code>
      <span className={css.soft}>{home.atPosition(format.number(position))}</span>
      <span className={css.badges}>
        <Badge tone={mode === "running" ? "good" : "warn"}>{home.modes[mode]}</Badge>
        {retrying > 0 && <Badge tone="warn">{home.retrying(format.number(retrying))}</Badge>}
        {parked > 0 && <Badge tone="bad">{home.parked(format.number(parked))}</Badge>}
      </span>
      {last_error && (
        <p className={css.error}>
          {home.lastError} {last_error}
        </p>
      )}
    </li>
  );
}
