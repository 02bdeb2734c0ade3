import "./components/tokens.css";
import "./components/base.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/app";
import { applyLanguage } from "./app/i18n";
import { begin } from "./app/session";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has the element #root");
applyLanguage();
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
void begin();

if (import.meta.env.PROD && "serviceWorker" in navigator) {
  // Without it the pages only need a network.
  navigator.serviceWorker.register("/sw.js").catch(() => {});
}
