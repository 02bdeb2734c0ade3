import { defineConfig } from "@playwright/test";
import config from "./playwright.config";

/** Measures instead of testing: one after the other, on the binary for release. */
export default defineConfig({
  ...config,
  testDir: "bench",
  workers: 1,
  timeout: 180_000,
  use: { ...config.use, trace: "off" },
  projects: [{ name: "one node" }],
});
