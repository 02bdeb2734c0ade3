// Measures `@event-driven-io/emmett-postgresql` in an empty database: `node append.js ADDRESS WAITING SECONDS` prints how
// many durable events a second there were. It does what `benches/src/peer.rs` does.

import { getPostgreSQLEventStore } from "@event-driven-io/emmett-postgresql";
import pg from "pg";

const STREAMS = 10_000;
const EVENT_BYTES = 400;
/** How many connections there are at most: a server that is set up by default takes 100. */
const CONNECTIONS = 64;

const [address, waiting, seconds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const connectionString = address;
const pool = new pg.Pool({ connectionString, max: Math.min(waiting, CONNECTIONS) });
const store = getPostgreSQLEventStore(connectionString, {
  schema: { autoMigration: "None" },
  connectionOptions: { pool },
});
await store.schema.migrate();

const text = "x".repeat(EVENT_BYTES - '{"text":""}'.length);
const begun = performance.now();
let events = 0;

/** Appends to streams of its own, so that nothing is refused. */
async function append(task) {
  const own = Math.ceil((STREAMS - task) / waiting);
  const versions = new BigInt64Array(own);
  while (performance.now() - begun < seconds * 1000) {
    const stream = Math.floor(Math.random() * own);
    const happened = { type: "ThingHappened", data: { text } };
    await store.appendToStream(`thing-${stream * waiting + task}`, [happened], {
      expectedStreamVersion: versions[stream] === 0n ? "STREAM_DOES_NOT_EXIST" : versions[stream],
    });
    versions[stream] += 1n;
    events += 1;
  }
}

await Promise.all(Array.from({ length: waiting }, (_, task) => append(task)));
console.log(events / ((performance.now() - begun) / 1000));
await store.close();
process.exit();
