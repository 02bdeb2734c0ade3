import { likesFeed, targetOf } from "@sillage/client/likes";
import { type LikesRefusal, selectLikes, uiLikesUnwatched, uiLikesWatched } from "@sillage/client/redux";
import { useEffect } from "react";
import { useFormat, useText } from "../../app/i18n";
import type { Dictionary } from "../../app/i18n/en";
import { MODERATE } from "../../app/identity";
import { useStudioDispatch, useStudioSelector } from "../../app/store";
import { useSession } from "../../app/with-session";
import { Badge } from "../../components/badge";
import { Button } from "../../components/button";
import { Icon } from "../../components/icon";
import { Notice } from "../../components/notice";
import css from "./articles.module.css";
import { Heart } from "./heart";

type ArticleId = keyof Dictionary["likes"]["article"];

export function Articles() {
  const { likes } = useText();
  return (
    <section aria-label={likes.articles}>
      <ul className={css.articles}>
        {(Object.keys(likes.article) as ArticleId[]).map((id) => (
          <li key={id}>
            <Article id={id} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Article({ id }: { id: ArticleId }) {
  const { likes: texts } = useText();
  const format = useFormat();
  const { identity } = useSession();
  const likes = useStudioSelector((state) => selectLikes(state, id));
  useWatched(id);
  const [title, summary] = texts.article[id];
  return (
    <article className={css.article} data-testid={`article-${id}`}>
      <h2 className={css.title}>{title}</h2>
      <p className={css.summary}>{summary}</p>
      <div className={css.actions}>
        <Heart targetId={id} title={title ?? id} likes={likes} />
        {likes.pending > 0 && (
          <span className={css.pending} data-testid={`pending-${id}`}>
            <Badge icon="clock">{texts.waiting(format.number(likes.pending))}</Badge>
          </span>
        )}
        {identity.scopes.includes(MODERATE) && <Moderation id={id} title={title ?? id} />}
        <Refusal id={id} refusal={likes.refusal} />
      </div>
    </article>
  );
}

/** The likes of an article are followed while it is on the screen. */
function useWatched(targetId: string): void {
  const dispatch = useStudioDispatch();
  useEffect(() => {
    dispatch(uiLikesWatched({ targetId }));
    return () => {
      dispatch(uiLikesUnwatched({ targetId }));
    };
  }, [dispatch, targetId]);
}

/** Why the last click was taken back. The region is there before it is needed, so that it is read aloud. */
function Refusal({ id, refusal }: { id: ArticleId; refusal: LikesRefusal | null }) {
  const { likes: texts } = useText();
  return (
    <div className={css.refusal} role="status" data-testid={`refusal-${id}`}>
      {refusal && (
        <Notice tone="bad">
          {texts.refused} {reasonOf(refusal, texts.reasons)}
        </Notice>
      )}
    </div>
  );
}

/** In the words of the page; in those of the server for a code that the page does not know. */
export function reasonOf({ code, message }: LikesRefusal, reasons: Record<string, string>): string {
  return (Object.hasOwn(reasons, code) && reasons[code]) || message;
}

/** What the article of a feed is called; its id if it is not on the page. */
export function nameOf(feed: string, articles: Record<string, string[]>): string {
  const id = targetOf(feed);
  return (Object.hasOwn(articles, id) && articles[id]?.[0]) || id;
}

/** For moderators: no more likes, or likes again. Refusals can be tried with it. */
function Moderation({ id, title }: { id: ArticleId; title: string }) {
  const { likes: texts } = useText();
  const { client } = useSession();
  const send = (type: "LikesClose" | "LikesOpen") => () =>
    void client.send({ feed: likesFeed(id), type, data: {} });
  return (
    <span className={css.moderation}>
      <Button
        size="small"
        onClick={send("LikesClose")}
        aria-label={texts.closeOf(title)}
        data-testid={`close-${id}`}
      >
        <Icon name="lock" />
        {texts.close}
      </Button>
      <Button
        size="small"
        onClick={send("LikesOpen")}
        aria-label={texts.openOf(title)}
        data-testid={`open-${id}`}
      >
        <Icon name="unlock" />
        {texts.open}
      </Button>
    </span>
  );
}
