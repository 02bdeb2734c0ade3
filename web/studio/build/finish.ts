// What a build ends with: the service worker, a compressed twin of each text file, and the weight of a page.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Plugin, Rolldown } from "vite";
import { SERVER_PATHS } from "./server-paths.ts";

/** The page whose weight is bounded. */
const WEIGHED_PAGE = "/pages/likes/index.tsx";
/** The most that it may load, in bytes as they are sent. */
const MAX_WEIGHT = 250 * 1_024;
/** Files from this size on, in bytes, get a compressed twin. */
const COMPRESSED_FROM = 1_024;
const TEXT = /\.(html|js|css|svg|json|txt)$/;
const SHELL = "index.html";
const WORKER = "sw.js";

export function finish(): Plugin {
  let folder = "";
  let root = "";
  let loaded: string[] = [];
  return {
    name: "sillage-finish",
    apply: "build",
    configResolved(config) {
      root = config.root;
      folder = join(config.root, config.build.outDir);
    },
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        loaded = loadedBy(WEIGHED_PAGE, bundle);
      },
    },
    closeBundle() {
      writeServiceWorker(join(root, "service-worker.js"), folder);
      for (const file of filesIn(folder)) compress(join(folder, file));
      const unhashed = filesIn(folder).filter((file) => !file.startsWith("assets/") && TEXT.test(file));
      weigh(folder, [...unhashed, ...loaded]);
    },
  };
}

/** The chunks and styles that a page needs: those of the entry, and its own. */
function loadedBy(page: string, bundle: Rolldown.OutputBundle): string[] {
  const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
  const found = new Set<string>();
  const visit = (chunk: Rolldown.OutputChunk | undefined) => {
    if (!chunk || found.has(chunk.fileName)) return;
    found.add(chunk.fileName);
    for (const style of chunk.viteMetadata?.importedCss ?? []) found.add(style);
    for (const name of chunk.imports) visit(chunks.find((other) => other.fileName === name));
  };
  const own = chunks.filter((chunk) => chunk.isEntry || chunk.facadeModuleId?.endsWith(page));
  if (own.length !== 2)
    throw new Error(`the build has ${own.length} chunks for the entry and ${page}, not 2`);
  for (const chunk of own) visit(chunk);
  return [...found];
}

/** Its version is a hash of all that it keeps, so that it changes exactly when the build does. */
function writeServiceWorker(template: string, folder: string): void {
  const source = readFileSync(template, "utf8");
  const hash = createHash("sha256").update(source);
  const files = filesIn(folder).filter((file) => file !== WORKER && !file.endsWith(".gz"));
  for (const file of files) hash.update(file).update(readFileSync(join(folder, file)));
  const build = {
    version: hash.digest("hex").slice(0, 12),
    files: files.map((file) => (file === SHELL ? "/" : `/${file}`)),
    serverPaths: SERVER_PATHS,
  };
  writeFileSync(join(folder, WORKER), source.replace("__BUILD__", JSON.stringify(build)));
}

function compress(file: string): void {
  if (!TEXT.test(file) || statSync(file).size < COMPRESSED_FROM) return;
  writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
}

function weigh(folder: string, files: string[]): void {
  const weights = files.map((file) => ({ file, size: sent(join(folder, file)) }));
  const total = weights.reduce((sum, { size }) => sum + size, 0);
  const line = (size: number, file: string) => `${(size / 1_024).toFixed(1).padStart(7)} KB  ${file}`;
  for (const { file, size } of weights.sort((a, b) => b.size - a.size)) console.log(line(size, file));
  console.log(line(total, `all that ${WEIGHED_PAGE} loads, as it is sent; at most ${MAX_WEIGHT / 1_024} KB`));
  if (total > MAX_WEIGHT) throw new Error("the page is too heavy");
}

function sent(file: string): number {
  const bytes = readFileSync(file);
  return bytes.length < COMPRESSED_FROM ? bytes.length : gzipSync(bytes, { level: 9 }).length;
}

/** The files of a folder and of those in it, as paths with slashes, in a stable order. */
function filesIn(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const from = folder.length + 1;
  return files.map(({ parentPath, name }) => join(parentPath, name).slice(from).replaceAll("\\", "/")).sort();
}
