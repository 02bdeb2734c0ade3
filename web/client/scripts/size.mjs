// Says what a page loads of the client, minified and compressed, and fails beyond the limits.

import { gzipSync } from "node:zlib";
import { build } from "vite";

const KIB = 1024;
/** Entry points, what is left out of them as a peer, and how large they may be. */
const parts = [
  { name: "core", entry: "src/index.ts", external: [], limit: 12 * KIB },
  { name: "core and redux", entry: "scripts/size-redux.ts", external: [/^@reduxjs\//], limit: 20 * KIB },
];

let tooLarge = false;
for (const { name, entry, external, limit } of parts) {
  const output = await build({
    root: new URL("..", import.meta.url).pathname,
    configFile: false,
    logLevel: "silent",
    build: {
      write: false,
      minify: true,
      lib: { entry, formats: ["es"] },
      rollupOptions: { external },
    },
  });
  const code = output.flatMap((bundle) => bundle.output).map((chunk) => chunk.code);
  const size = gzipSync(code.join(""), { level: 9 }).length;
  tooLarge ||= size > limit;
  console.log(`${name}: ${(size / KIB).toFixed(1)} KiB gzip of at most ${limit / KIB}`);
}
if (tooLarge) process.exit(1);
