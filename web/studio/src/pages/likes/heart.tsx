import { type LikesOfTargetWl, uiLikeToggleRequested } from "@sillage/client/redux";
import { useFormat, useText } from "../../app/i18n";
import { useStudioDispatch } from "../../app/store";
import { classes } from "../../components/classes";
import { Icon } from "../../components/icon";
import css from "./heart.module.css";

interface Props {
  targetId: string;
  title: string;
  likes: LikesOfTargetWl;
}

/** The heart of an article, with the number of those who like it, if that is known. */
export function Heart({ targetId, title, likes: { count, me, known } }: Props) {
  const { likes: texts } = useText();
  const dispatch = useStudioDispatch();
  const shown = useFormat().number(count);
  return (
    <button
      type="button"
      className={classes(css.heart, me && css.mine)}
      aria-pressed={me}
      aria-label={known ? texts.like(title, shown, count) : texts.likeUnknown(title)}
      onClick={() => dispatch(uiLikeToggleRequested({ targetId }))}
      data-testid={`like-${targetId}`}
    >
      <Icon name="heart" fill={me ? "solid" : "hollow"} />
      <span className={css.count} data-testid={`count-${targetId}`}>
        {known ? shown : "–"}
      </span>
    </button>
  );
}
