import { useText } from "../../app/i18n";
import { Card } from "../../components/card";
import { Columns, Page, Stack } from "../../components/page";
import { Destinations } from "./destinations";
import { Journey } from "./journey";
import { Links, TryLikes } from "./links";
import { NodeCard } from "./node";

export default function Home() {
  const { home } = useText();
  return (
    <Page title={home.title} lead={home.lead}>
      <TryLikes />
      <Card title={home.journey}>
        <Journey />
      </Card>
      <Columns>
        <NodeCard />
        <Stack>
          <Destinations />
          <Links />
        </Stack>
      </Columns>
    </Page>
  );
}
