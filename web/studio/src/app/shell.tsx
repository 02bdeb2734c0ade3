// What stands around every page: the way in, the way between the pages, and what concerns all of them.

import { type ReactNode, useEffect, useRef } from "react";
import { Link, NavLink, useLocation } from "react-router";
import { Mark } from "../components/icon";
import { useText } from "./i18n";
import { Notices } from "./notices";
import { PAGES } from "./pages";
import { LanguageChoice, ThemeChoice } from "./preferences";
import { SessionButton, SessionDialog } from "./session-dialog";
import css from "./shell.module.css";

export function Shell({ children }: { children: ReactNode }) {
  const { app, nav } = useText();
  const main = useFocusOnArrival();
  return (
    <>
      <a className={css.skip} href="#main">
        {app.skip}
      </a>
      <header className={css.header}>
        <Link className={css.brand} to="/">
          <Mark />
          Sillage
        </Link>
        <nav className={css.nav} aria-label={app.navigation}>
          {PAGES.map(({ path, name }) => (
            <NavLink key={path} className={css.link ?? ""} to={path} end={path === "/"}>
              {nav[name]}
            </NavLink>
          ))}
        </nav>
        <div className={css.tools}>
          <LanguageChoice />
          <ThemeChoice />
          <SessionButton />
        </div>
      </header>
      <main ref={main} id="main" className={css.main} tabIndex={-1}>
        <Notices />
        {children}
      </main>
      <SessionDialog />
      <footer className={css.footer}>
        <p>{app.footer}</p>
        <p className={css.descriptions}>
          {app.descriptions} <a href="/docs">/docs</a> <a href="/openapi.json">/openapi.json</a>{" "}
          <a href="/asyncapi.json">/asyncapi.json</a>
        </p>
      </footer>
    </>
  );
}

/** On another page, whoever uses the keys or listens begins at its beginning. */
function useFocusOnArrival() {
  const main = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  const last = useRef(pathname);
  useEffect(() => {
    if (last.current === pathname) return;
    last.current = pathname;
    main.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [pathname]);
  return main;
}
