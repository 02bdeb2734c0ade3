// The programs of the README are programs.

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";

test("every program of the README compiles", { timeout: 60_000 }, () => {
  const client = new URL("../", import.meta.url);
  const folder = new URL("tests/readme-programs/", client);
  const readme = readFileSync(new URL("README.md", client), "utf8");
  const programs = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, program]) => program ?? "");
  expect(programs.length).toBeGreaterThan(0);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  try {
    for (const [n, program] of programs.entries()) writeFileSync(new URL(`${n}.ts`, folder), program);
    const paths = {
      "@sillage/client": ["../../src/index.ts"],
      "@sillage/client/*": ["../../src/*.ts"],
    };
    const config = { extends: "../../tsconfig.json", compilerOptions: { paths }, include: ["*.ts"] };
    writeFileSync(new URL("tsconfig.json", folder), JSON.stringify(config));
    const tsc = new URL("../node_modules/typescript/bin/tsc", client).pathname;
    const { stdout } = spawnSync(process.execPath, [tsc, "--project", folder.pathname], { encoding: "utf8" });
    expect(stdout).toBe("");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
