//! `postgres-es`, the store of `cqrs-es`: one transaction an append, and the primary key is what checks the version.

use std::sync::Arc;
use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::{PersistedEventRepository, SerializedEvent};
use cqrs_es::{Aggregate, DomainEvent};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::peer::{self, Peer, Seen};

/// The table of its `db/init.sql`.
const TABLE: &str = "CREATE TABLE events (
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    sequence bigint CHECK (sequence >= 0) NOT NULL,
    event_type text NOT NULL,
    event_version text NOT NULL,
    payload json NOT NULL,
    metadata json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence))";

#[derive(Default, Serialize, Deserialize)]
struct Thing;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Happened;

impl DomainEvent for Happened {
    fn event_type(&self) -> String {
        "ThingHappened".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Thing {
    const TYPE: &'static str = "thing";
    type Command = ();
    type Event = Happened;
    type Error = std::fmt::Error;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn apply(&mut self, _: Happened) {}
}

struct PostgresEs {
    repository: PostgresEventRepository,
    data: Value,
}

impl Peer for PostgresEs {
    async fn append(&self, stream: usize, seen: Seen) -> u64 {
        let sequence = usize::try_from(seen.version + 1).expect("it fits");
        let [aggregate_type, event_type, event_version] =
            [Thing::TYPE, "ThingHappened", "1"].map(str::to_owned);
        let event = SerializedEvent {
            aggregate_id: peer::name(stream),
            sequence,
            aggregate_type,
            event_type,
            event_version,
            payload: self.data.clone(),
            metadata: json!({}),
        };
        self.repository.persist::<Thing>(&[event], None).await.expect("it is appended");
        // It has no positions.
        0
    }
}

/// Durable events a second, with so many appends waiting.
pub async fn measure(address: &str, waiting: usize, time: Duration) -> f64 {
    let pool = crate::pool(address, waiting).await;
    sqlx::query(TABLE).execute(&pool).await.expect("a table");
    let repository = PostgresEventRepository::new(pool);
    let data = serde_json::from_str(&peer::data()).expect("it is JSON");
    peer::drive(Arc::new(PostgresEs { repository, data }), waiting, time).await
}
