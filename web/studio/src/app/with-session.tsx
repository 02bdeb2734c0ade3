import { type ComponentType, createContext, useContext } from "react";
import { Provider } from "react-redux";
import { EmptyState } from "../components/empty-state";
import { useText } from "./i18n";
import { network } from "./offline";
import { type Session, session } from "./session";
import { useValue } from "./value";

const SessionContext = createContext<Session | undefined>(undefined);

/** Parts of a page for which one must be somebody. They begin anew when somebody else comes. */
export function withSession(Content: ComponentType): ComponentType {
  return function WithSession() {
    const { session: texts } = useText();
    const current = useValue(session);
    const isOffline = useValue(network) === "offline";
    if (!current) return <EmptyState>{isOffline ? texts.offline : texts.arriving}</EmptyState>;
    return (
      <SessionContext key={current.visit} value={current}>
        <Provider store={current.store}>
          <Content />
        </Provider>
      </SessionContext>
    );
  };
}

/** Whoever looks at the page. */
export function useSession(): Session {
  const current = useContext(SessionContext);
  if (!current) throw new Error("the page is not wrapped in withSession");
  return current;
}
