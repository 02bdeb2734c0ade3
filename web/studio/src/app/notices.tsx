// What concerns somebody on whatever page they are.

import { Button } from "../components/button";
import { Notice } from "../components/notice";
import { useFormat, useText } from "./i18n";
import css from "./notices.module.css";
import { arrival, former, replaceGuest, type Session, session, settleFormer } from "./session";
import { openSessionDialog } from "./session-dialog";
import { useConnection } from "./store";
import { useValue } from "./value";

export function Notices() {
  const { session: texts } = useText();
  const current = useValue(session);
  return (
    <div className={css.notices} role="status" data-testid="notices">
      {useValue(arrival) === "unreachable" && <Notice tone="warn">{texts.unreachable}</Notice>}
      <FormerGuest />
      {current && <NotKept session={current} />}
      {current && <Refused session={current} />}
    </div>
  );
}

/** A guest could not stay, and another has come: what happens to the clicks of the first is for them to say. */
function FormerGuest() {
  const { notices } = useText();
  const format = useFormat();
  const left = useValue(former);
  const isGuest = useValue(session)?.identity.kind === "guest";
  if (!left || (left.count === 0 && !isGuest)) return null;
  const { count, last } = left;
  const settle = (how: "send" | "discard") => () => void settleFormer(how);
  const actions =
    count === 0 ? (
      <Button onClick={settle("discard")}>{notices.understood}</Button>
    ) : (
      <>
        <Button look="main" onClick={settle("send")}>
          {notices.sendLeft}
        </Button>
        <Button onClick={settle("discard")}>{notices.discardLeft}</Button>
      </>
    );
  return (
    <Notice tone="accent" actions={actions}>
      {isGuest && notices.replaced} {count > 0 && notices.left(format.number(count), count)}{" "}
      {last === "failed" && <strong>{notices.notSettled}</strong>}
    </Notice>
  );
}

/** The browser keeps nothing; the client goes on, and tries again. */
function NotKept({ session: { store } }: { session: Session }) {
  const { notices } = useText();
  if (useConnection(store).storage === "ok") return null;
  return <Notice tone="warn">{notices.notKept}</Notice>;
}

/** The token is no longer taken, and no other could be had. */
function Refused({ session: { identity, store } }: { session: Session }) {
  const { notices } = useText();
  if (useConnection(store).connection !== "needs-sign-in") return null;
  const actions = (
    <>
      <Button look="main" onClick={openSessionDialog}>
        {notices.newToken}
      </Button>
      {identity.kind === "guest" && (
        <Button onClick={() => void replaceGuest(identity)}>{notices.newGuest}</Button>
      )}
    </>
  );
  return (
    <Notice tone="warn" actions={actions}>
      {notices.refused}
    </Notice>
  );
}
