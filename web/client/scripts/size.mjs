// Says what a page loads of the client, and fails beyond the limits.
//
// What is measured: everything that an entry point exports, bundled and minified by esbuild (names, syntax, white
// space and comments) into one module for browsers of 2022, then compressed whole by gzip at level 9. So it is what
// a page ships that uses all of it; one that uses less ships less. Bytes are counted, and 1 KiB is 1,024 of them.

import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const KIB = 1024;
/** Entry points, what is left out of them as a peer, and how many bytes they may have. */
const parts = [
  { name: "core", entry: "src/index.ts", external: [], limit: 12 * KIB },
  { name: "core and redux", entry: "scripts/size-redux.ts", external: ["@reduxjs/*"], limit: 20 * KIB },
];

let tooLarge = false;
for (const { name, entry, external, limit } of parts) {
  const { outputFiles } = await build({
    absWorkingDir: new URL("..", import.meta.url).pathname,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    legalComments: "none",
    external,
    write: false,
  });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  tooLarge ||= size > limit;
  console.log(`${name}: ${size} bytes minified and gzipped, of at most ${limit}`);
}
if (tooLarge) process.exit(1);
