import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { finish } from "./build/finish.ts";
import { CONTENT_SECURITY_POLICY, SERVER_PATHS } from "./build/server-paths.ts";

/** The server behind the development server and the preview. */
const SERVER = process.env.SILLAGE_URL ?? "http://127.0.0.1:4000";

/** The SDK is taken from its source, so that nothing has to be built first. */
const sdk = (file: string) => fileURLToPath(new URL(`../client/src/${file}.ts`, import.meta.url));

const proxy = Object.fromEntries(SERVER_PATHS.map((path) => [path, { target: SERVER, ws: path === "/ws" }]));

export default defineConfig({
  plugins: [react(), finish()],
  resolve: {
    alias: [
      { find: /^@sillage\/client$/, replacement: sdk("index") },
      { find: /^@sillage\/client\/(.+)$/, replacement: sdk("$1") },
    ],
  },
  build: {
    // The first with `light-dark()`, by which each colour is written once.
    target: ["chrome123", "firefox120", "safari17.5"],
    // A stylesheet or picture inside the code could not be cached by itself, and the policy allows none.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy },
  preview: { proxy, headers: { "Content-Security-Policy": CONTENT_SECURITY_POLICY } },
});
