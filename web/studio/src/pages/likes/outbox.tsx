import { useFormat, useText } from "../../app/i18n";
import { type EntryState, type OutboxEntry, selectEntries } from "../../app/outbox";
import { useStudioSelector } from "../../app/store";
import { Badge, type Tone } from "../../components/badge";
import { Card } from "../../components/card";
import { Code } from "../../components/code";
import { EmptyState } from "../../components/empty-state";
import type { IconName } from "../../components/icon";
import { ScrollList } from "../../components/list";
import { nameOf, reasonOf } from "./articles";
import css from "./rows.module.css";

const LOOKS: Record<EntryState, { tone: Tone; icon: IconName }> = {
  pending: { tone: "warn", icon: "clock" },
  sent: { tone: "accent", icon: "sent" },
  confirmed: { tone: "good", icon: "check" },
  rejected: { tone: "bad", icon: "cross" },
};

/** The commands of this visit, and those that outlived the one before, newest first. */
export function OutboxCard() {
  const { outbox } = useText().likes;
  const format = useFormat();
  const entries = useStudioSelector(selectEntries);
  const waiting = useStudioSelector((state) => state.outbox.waiting);
  const summary = waiting === 0 ? outbox.settled : outbox.waiting(format.number(waiting));
  return (
    <Card title={outbox.title} aside={entries.length > 0 && <p className={css.count}>{summary}</p>}>
      {entries.length === 0 ? (
        <EmptyState>{outbox.empty}</EmptyState>
      ) : (
        <ScrollList label={outbox.label}>
          {entries.map((entry) => (
            <Row key={entry.commandId} entry={entry} />
          ))}
        </ScrollList>
      )}
    </Card>
  );
}

function Row({ entry: { feed, type, at, state, reason } }: { entry: OutboxEntry }) {
  const { article, outbox, reasons } = useText().likes;
  const format = useFormat();
  const { tone, icon } = LOOKS[state];
  return (
    <li className={css.row} data-testid="outbox-entry" data-state={state}>
      <time className={css.time} dateTime={new Date(at).toISOString()}>
        {format.time(at)}
      </time>
      <span className={css.what}>
        <Code>{type}</Code> {nameOf(feed, article)}
      </span>
      <Badge tone={tone} icon={icon}>
        {outbox.states[state]}
      </Badge>
      {reason && <p className={css.reason}>{reasonOf(reason, reasons)}</p>}
    </li>
  );
}
