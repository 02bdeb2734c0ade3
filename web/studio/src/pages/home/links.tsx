import { Link } from "react-router";
import { useText } from "../../app/i18n";
import { Card } from "../../components/card";
import { Icon } from "../../components/icon";
import css from "./home.module.css";

export function TryLikes() {
  const { home } = useText();
  return (
    <p>
      <Link className={css.call} to="/likes">
        {home.tryLikes}
        <Icon name="arrow" />
      </Link>
    </p>
  );
}

export function Links() {
  const { home } = useText();
  const { likes, docs, openapi, asyncapi, metrics } = home.linkTexts;
  return (
    <Card title={home.links}>
      <ul className={css.links}>
        <li>
          <Link to="/likes">/likes</Link> {likes}
        </li>
        <li>
          <a href="/docs">/docs</a> {docs}
        </li>
        <li>
          <a href="/openapi.json">/openapi.json</a> {openapi}
        </li>
        <li>
          <a href="/asyncapi.json">/asyncapi.json</a> {asyncapi}
        </li>
        <li>
          <a href="/metrics">/metrics</a> {metrics}
        </li>
      </ul>
    </Card>
  );
}
