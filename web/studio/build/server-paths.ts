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
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");
