//! What one would write first: a table with a unique index on stream and version, and a transaction an append, on as many
//! connections as there are appends that wait. The index is what checks the version.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::CONNECTIONS;
use crate::peer::{self, Peer, Seen};

const TABLE: &str = "
    CREATE TABLE events (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL, stream text NOT NULL,
        version bigint NOT NULL, type text NOT NULL, data bytea NOT NULL, metadata bytea NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(), UNIQUE (stream, version)
    )";

const ADD: &str = "INSERT INTO events (id, stream, version, type, data, metadata)
    VALUES ($1, $2, $3, 'ThingHappened', $4, '{}') RETURNING position";

struct Obvious {
    pool: Pool,
    data: Vec<u8>,
}

impl Peer for Obvious {
    async fn append(&self, stream: usize, seen: Seen) -> u64 {
        let client = self.pool.get().await.expect("a connection");
        let add = client.prepare_cached(ADD).await.expect("a statement");
        let version = i64::try_from(seen.version + 1).expect("it fits");
        let (id, name) = (Uuid::now_v7(), peer::name(stream));
        let row = client.query_one(&add, &[&id, &name, &version, &self.data]).await.expect("it is added");
        u64::try_from(row.get::<_, i64>(0)).expect("it is positive")
    }
}

/// Durable events a second, with so many appends waiting.
pub fn measure(address: &str, waiting: usize, time: Duration) -> f64 {
    peer::block_on(async {
        crate::connect(address).await.batch_execute(TABLE).await.expect("a table");
        let manager = Manager::new(address.parse().expect("an address"), NoTls);
        let pool = Pool::builder(manager).max_size(waiting.min(CONNECTIONS)).build().expect("a pool");
        peer::drive(Arc::new(Obvious { pool, data: peer::data().into_bytes() }), waiting, time).await
    })
}
