import type { wire } from "@sillage/client";
import { memo, useEffect, useState, useSyncExternalStore } from "react";
import { type Format, useFormat, useText } from "../../app/i18n";
import type { Dictionary } from "../../app/i18n/en";
import { shortName } from "../../app/names";
import { useSession } from "../../app/with-session";
import { Button } from "../../components/button";
import { Card } from "../../components/card";
import { EmptyState } from "../../components/empty-state";
import { Icon } from "../../components/icon";
import { ScrollList } from "../../components/list";
import { nameOf } from "./articles";
import { EventLog } from "./event-log";
import css from "./rows.module.css";

type Texts = Dictionary["likes"]["events"];
type Articles = Dictionary["likes"]["article"];

/** The events of the articles as they arrive, newest first. */
export function Events() {
  const { article, events: texts } = useText().likes;
  const format = useFormat();
  const { client } = useSession();
  const [log] = useState(() => new EventLog((run) => requestAnimationFrame(run)));
  useEffect(() => client.onEvent(log.add), [client, log]);
  const { events, arrived, held, mode } = useSyncExternalStore(log.subscribe, log.get);
  const next = mode === "running" ? "paused" : "running";
  const button = (
    <Button size="small" onClick={() => log.setMode(next)} data-testid="events-pause">
      <Icon name={mode === "running" ? "pause" : "play"} />
      {mode === "running" ? texts.pause : texts.resume}
    </Button>
  );
  return (
    <Card title={texts.title} aside={button}>
      <p className={css.count} data-testid="event-count">
        {texts.count(format.number(arrived), arrived)}
        {held > 0 && ` · ${texts.held(format.number(held), held)}`}
      </p>
      {events.length === 0 ? (
        <EmptyState>{texts.empty}</EmptyState>
      ) : (
        <ScrollList label={texts.label}>
          {events.map((event) => (
            <Row
              key={`${event.epoch}:${event.position}`}
              event={event}
              me={client.user}
              articles={article}
              texts={texts}
              format={format}
            />
          ))}
        </ScrollList>
      )}
    </Card>
  );
}

interface RowProps {
  event: wire.Event;
  me: string;
  articles: Articles;
  texts: Texts;
  format: Format;
}

/** An event never changes, so its row is drawn once. */
const Row = memo(function Row({ event, me, articles, texts, format }: RowProps) {
  const { feed, sequence_number, timestamp, user_id, username } = event;
  const who = user_id === me ? texts.you : shortName(username ?? user_id ?? texts.system);
  return (
    <li className={css.row} data-testid="event">
      <time className={css.time} dateTime={timestamp}>
        {format.exactTime(timestamp)}
      </time>
      <span className={css.what}>
        <strong>{nameOf(feed, articles)}</strong> {factOf(event, who, texts, format)}
      </span>
      <span className={css.number}>#{format.number(sequence_number)}</span>
    </li>
  );
});

function factOf({ event_type, data }: wire.Event, who: string, texts: Texts, format: Format): string {
  if (event_type === "LikeSetEvent") {
    const { active, count } = data as unknown as wire.LikeSetEvent;
    return `${active ? texts.liked(who) : texts.unliked(who)}, ${texts.now(format.number(count))}`;
  }
  if (event_type === "LikesClosedEvent") {
    const { closed } = data as unknown as wire.LikesClosedEvent;
    return closed ? texts.closed(who) : texts.opened(who);
  }
  return `${event_type} · ${who}`;
}
