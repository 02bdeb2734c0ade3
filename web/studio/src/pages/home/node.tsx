import type { wire } from "@sillage/client";
import { useFormat, useText } from "../../app/i18n";
import { type Polled, usePoll } from "../../app/poll";
import { Badge, type Tone } from "../../components/badge";
import { Card } from "../../components/card";
import { Code } from "../../components/code";
import { EmptyState } from "../../components/empty-state";
import { Notice } from "../../components/notice";
import { Stack } from "../../components/page";
import { Stat, Stats } from "../../components/stat";
import css from "./home.module.css";

/** 503 is an answer: the node says why it is not ready. */
const ANSWERS = [200, 503];

type NodeState = "waiting" | "unreachable" | "failed" | "starting" | "ready";

const TONES: Record<NodeState, Tone> = {
  waiting: "neutral",
  unreachable: "bad",
  failed: "bad",
  starting: "warn",
  ready: "good",
};

/** The state of the node, asked again and again. */
export function NodeCard() {
  const { home } = useText();
  const format = useFormat();
  const polled = usePoll<wire.Readiness>("/readyz", ANSWERS);
  const { value: node, at } = polled;
  const state = stateOf(polled);
  const badge = (
    <span role="status" data-testid="node" data-node={state}>
      <Badge tone={TONES[state]}>{home.states[state]}</Badge>
    </span>
  );
  return (
    <Card title={home.node} aside={badge}>
      <Stack>
        {state === "unreachable" && (
          <Notice tone="bad">
            {home.unreachable} {at !== undefined && home.lastHeard(format.time(at))}
          </Notice>
        )}
        {node?.failure && (
          <Notice tone="bad">
            {home.failure} {node.failure}
          </Notice>
        )}
        {node && <Facts node={node} />}
        {state === "waiting" && <EmptyState>{home.states.waiting}</EmptyState>}
      </Stack>
    </Card>
  );
}

function stateOf({ value, outcome }: Polled<wire.Readiness>): NodeState {
  if (outcome === "unreachable" || outcome === "refused") return "unreachable";
  if (!value) return "waiting";
  if (value.failure) return "failed";
  return value.ready ? "ready" : "starting";
}

function Facts({ node }: { node: wire.Readiness }) {
  const { home } = useText();
  const format = useFormat();
  return (
    <>
      <Stats>
        <Stat name={home.engine}>{node.engine}</Stat>
        <Stat name={home.head}>{format.number(node.head)}</Stat>
        <Stat name={home.connections}>{format.number(node.connections)}</Stat>
      </Stats>
      <p className={css.soft}>
        {home.epoch} <Code>{node.epoch}</Code>
      </p>
      <div>
        <h3 className={css.heading}>{home.views}</h3>
        <ul className={css.rows}>
          {node.views.map((view) => (
            <li key={view.name} className={css.row}>
              <Code>{view.name}</Code>
              <span className={css.soft}>{home.atPosition(format.number(view.position))}</span>
              <ViewBadge view={view} head={node.head} />
            </li>
          ))}
        </ul>
      </div>
    </>
  );
}

function ViewBadge({ view, head }: { view: wire.ViewStatus; head: number }) {
  const { home } = useText();
  const format = useFormat();
  if (view.stopped) return <Badge tone="bad">{home.stopped(view.stopped)}</Badge>;
  const behind = head - view.position;
  if (behind > 0) return <Badge tone="warn">{home.behind(format.number(behind))}</Badge>;
  return (
    <Badge tone="good" icon="check">
      {home.caughtUp}
    </Badge>
  );
}
