import { Link } from "react-router";
import { Page } from "../components/page";
import { useText } from "./i18n";

export function NotFound() {
  const { notFound } = useText();
  return (
    <Page title={notFound.title} lead={notFound.lead}>
      <p>
        <Link to="/">{notFound.back}</Link>
      </p>
    </Page>
  );
}
