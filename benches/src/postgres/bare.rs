//! The limit: so many events in one statement, which is one transaction. Our tables and their indexes, on one connection;
//! no queue, no check, no checksum that is computed, nothing that is read.

use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::peer::{self, STREAMS};

const TABLE: &str = "
    CREATE TABLE events (
        position bigint PRIMARY KEY, version bigint NOT NULL, recorded_at bigint NOT NULL, id uuid NOT NULL,
        tenant text COLLATE \"C\" NOT NULL, stream text COLLATE \"C\" NOT NULL, type text NOT NULL,
        data bytea NOT NULL, metadata bytea NOT NULL, checksum bytea NOT NULL
    );
    CREATE UNIQUE INDEX events_of_stream ON events (tenant, stream, version)";

const ADD: &str = "
    INSERT INTO events (position, version, recorded_at, id, tenant, stream, type, data, metadata, checksum)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[],
        $7::text[], $8::bytea[], $9::bytea[], $10::bytea[])";

/// Durable events a second, so many in a batch.
pub fn measure(address: &str, waiting: usize, time: Duration) -> f64 {
    peer::block_on(async {
        let client = crate::connect(address).await;
        client.batch_execute(TABLE).await.expect("a table");
        let add = client.prepare(ADD).await.expect("a statement");
        let (data, names) = (peer::data().into_bytes(), (0..STREAMS).map(peer::name).collect::<Vec<_>>());
        let mut versions = vec![0_i64; STREAMS];
        let (mut position, mut dice) = (0_i64, 1_u64);
        let begun = Instant::now();
        while begun.elapsed() < time {
            let mut streams = Vec::with_capacity(waiting);
            let mut numbers = Vec::with_capacity(waiting);
            for _ in 0..waiting {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let stream = (dice >> 33) as usize % STREAMS;
                versions[stream] += 1;
                numbers.push(versions[stream]);
                streams.push(names[stream].as_str());
            }
            let positions: Vec<i64> = (position + 1..).take(waiting).collect();
            let ids: Vec<Uuid> = std::iter::repeat_with(Uuid::now_v7).take(waiting).collect();
            let (recorded, tenants, types) =
                (vec![0_i64; waiting], vec!["main"; waiting], vec!["ThingHappened"; waiting]);
            let (bodies, metadata) = (vec![data.as_slice(); waiting], vec![&b"{}"[..]; waiting]);
            let checksums = vec![&[7_u8; 32][..]; waiting];
            let columns: [&(dyn ToSql + Sync); 10] = [
                &positions, &numbers, &recorded, &ids, &tenants, &streams, &types, &bodies, &metadata,
                &checksums,
            ];
            client.execute(&add, &columns).await.expect("it is added");
            position += waiting as i64;
        }
        position as f64 / begun.elapsed().as_secs_f64()
    })
}
