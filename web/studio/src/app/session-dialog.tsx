// Who somebody is, and how to be somebody else.

import { createRef, type FormEvent, Fragment, useState } from "react";
import { Badge } from "../components/badge";
import { Button } from "../components/button";
import { Code } from "../components/code";
import { Dialog } from "../components/dialog";
import { Field } from "../components/field";
import { Icon } from "../components/icon";
import { useText } from "./i18n";
import type { Identity } from "./identity";
import { shortName } from "./names";
import { session, signIn, signOut } from "./session";
import css from "./session-dialog.module.css";
import { useValue } from "./value";

/** What prints a token; it is not broken within its parts. */
const COMMAND = ["sillage token", "--user ada", "--scope moderate"];

const dialog = createRef<HTMLDialogElement>();

export function openSessionDialog(): void {
  dialog.current?.showModal();
}

function close(): void {
  dialog.current?.close();
}

export function SessionButton() {
  const { session: texts } = useText();
  const identity = useValue(session)?.identity;
  const who = identity && (identity.name ?? shortName(identity.user));
  const label = texts.open(who ?? texts.arriving);
  return (
    <Button look="quiet" onClick={openSessionDialog} aria-label={label} data-testid="session">
      <Icon name="person" />
      <span className={css.who}>{who ?? "…"}</span>
    </Button>
  );
}

export function SessionDialog() {
  const { session: texts } = useText();
  const identity = useValue(session)?.identity;
  return (
    <Dialog title={texts.title} dialog={dialog}>
      {identity && <Who identity={identity} />}
      <TokenForm />
      <div className={css.end}>
        {identity?.kind === "member" && (
          <Button
            onClick={() => {
              void signOut();
              close();
            }}
          >
            {texts.leave}
          </Button>
        )}
        <Button onClick={close}>{texts.close}</Button>
      </div>
    </Dialog>
  );
}

function Who({ identity: { kind, user, name, scopes } }: { identity: Identity }) {
  const { session: texts } = useText();
  return (
    <div className={css.identity}>
      <p>
        {texts.who} {name && <strong>{name}</strong>} <Code>{user}</Code>
      </p>
      <p className={css.scopes}>
        {texts.scopes}{" "}
        {scopes.length === 0
          ? texts.noScopes
          : scopes.map((scope) => (
              <Badge key={scope} tone="accent">
                {scope}
              </Badge>
            ))}
      </p>
      <p className={css.hint}>{kind === "guest" ? texts.aboutGuest : texts.aboutMember}</p>
    </div>
  );
}

function TokenForm() {
  const { session: texts } = useText();
  const [token, setToken] = useState("");
  const [outcome, setOutcome] = useState<"fine" | "unreadable">("fine");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (signIn(token) === "unreadable") return setOutcome("unreadable");
    setToken("");
    setOutcome("fine");
    close();
  };
  return (
    <form className={css.form} onSubmit={submit}>
      <p>
        {texts.token}{" "}
        <Code>
          {COMMAND.map((part) => (
            <Fragment key={part}>
              <span className={css.part}>{part}</span>{" "}
            </Fragment>
          ))}
        </Code>
      </p>
      <Field
        label={texts.tokenLabel}
        value={token}
        onChange={({ target }) => setToken(target.value)}
        error={outcome === "unreadable" ? texts.tokenUnreadable : undefined}
        required
      />
      <div className={css.actions}>
        <Button type="submit" look="main">
          {texts.use}
        </Button>
      </div>
      <p className={css.hint}>{texts.waits}</p>
    </form>
  );
}
