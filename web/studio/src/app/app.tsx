import { Component, type ReactNode, Suspense } from "react";
import { BrowserRouter, Route, Routes, useLocation } from "react-router";
import { Button } from "../components/button";
import { EmptyState } from "../components/empty-state";
import { Page } from "../components/page";
import { useText } from "./i18n";
import { NotFound } from "./not-found";
import { PAGES } from "./pages";
import { Shell } from "./shell";

export function App() {
  return (
    <BrowserRouter>
      <Shell>
        <Pages />
      </Shell>
    </BrowserRouter>
  );
}

/** Each page has a fence of its own. */
function Pages() {
  return (
    <Fence key={useLocation().pathname}>
      <Suspense fallback={<Loading />}>
        <Routes>
          {PAGES.map(({ path, page: Content }) => (
            <Route key={path} path={path} element={<Content />} />
          ))}
          <Route path="*" element={<NotFound />} />
        </Routes>
      </Suspense>
    </Fence>
  );
}

function Loading() {
  return <EmptyState>{useText().app.loading}</EmptyState>;
}

/** A page that fails, or that cannot be loaded, does not take the others with it. */
class Fence extends Component<{ children: ReactNode }, { state: "whole" | "broken" }> {
  override state = { state: "whole" as const };

  static getDerivedStateFromError() {
    return { state: "broken" };
  }

  override render() {
    return this.state.state === "whole" ? this.props.children : <Broken />;
  }
}

function Broken() {
  const { broken } = useText();
  return (
    <Page title={broken.title} lead={broken.lead}>
      <p>
        <Button look="main" onClick={() => location.reload()}>
          {broken.reload}
        </Button>
      </p>
    </Page>
  );
}
