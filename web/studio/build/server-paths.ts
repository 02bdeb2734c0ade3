import { readFileSync } from "node:fs";

/** The paths that the server answers itself: the development server passes them on, the service worker lets them be. */
export const SERVER_PATHS = [
  "/api",
  "/ws",
  "/docs",
  "/openapi.json",
  "/asyncapi.json",
  "/metrics",
  "/readyz",
  "/healthz",
];

/** What the server sends with the pages. The preview sends it too, so that a breach shows before a release. */
export const CONTENT_SECURITY_POLICY = readFileSync(
  new URL("../content-security-policy.txt", import.meta.url),
  "utf8",
).trim();
