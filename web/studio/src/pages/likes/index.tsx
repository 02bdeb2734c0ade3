import { useText } from "../../app/i18n";
import { withSession } from "../../app/with-session";
import { Columns, Page, Stack } from "../../components/page";
import { Articles } from "./articles";
import { ConnectionBar } from "./connection";
import { Events } from "./events";
import { OutboxCard } from "./outbox";

export default function LikesPage() {
  const { likes } = useText();
  return (
    <Page title={likes.title} lead={likes.lead}>
      <ConnectionBar />
      <Parts />
    </Page>
  );
}

const Parts = withSession(() => (
  <Columns>
    <Articles />
    <Stack>
      <OutboxCard />
      <Events />
    </Stack>
  </Columns>
));
