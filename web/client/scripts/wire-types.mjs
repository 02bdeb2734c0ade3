// Writes src/wire.ts from the schemas in protocol/openapi.json; with --check only says whether it is current.

import { readFileSync, writeFileSync } from "node:fs";
import { compile } from "json-schema-to-typescript";

const source = new URL("../../../protocol/openapi.json", import.meta.url);
const target = new URL("../src/wire.ts", import.meta.url);
const banner = "// Generated from protocol/openapi.json by `npm run wire`. Change the server, not this file.";
/** What the client speaks of; what these refer to comes along. */
const wanted = [
  "Action",
  "Subscribe",
  "Unsubscribe",
  "Sync",
  "RefreshToken",
  "Ping",
  "Event",
  "Receipt",
  "Error",
  "Subscribed",
  "Unsubscribed",
  "SyncBatch",
  "Snapshot",
  "Resync",
  "TokenRefreshed",
  "Pong",
  "Problem",
  "LikesBody",
  "LikesOfTarget",
  "LikeSetEvent",
  "LikesClosedEvent",
  "Guest",
  "Readiness",
  "Outbox",
];

const { schemas } = JSON.parse(readFileSync(source, "utf8")).components;
const text = JSON.stringify(schemas).replaceAll("#/components/schemas/", "#/definitions/");
const root = {
  title: "Wire",
  type: "object",
  additionalProperties: false,
  required: wanted,
  properties: Object.fromEntries(wanted.map((name) => [name, { $ref: `#/definitions/${name}` }])),
  definitions: JSON.parse(text, (key, value) =>
    key === "examples" || key === "example" ? undefined : value,
  ),
};
const types = await compile(root, "Wire", {
  additionalProperties: false,
  bannerComment: banner,
  format: true,
  style: { printWidth: 110 },
});

if (!process.argv.includes("--check")) {
  writeFileSync(target, types);
} else if (readFileSync(target, "utf8") !== types) {
  console.error("src/wire.ts is not what the server describes: run `npm run wire`");
  process.exit(1);
}
