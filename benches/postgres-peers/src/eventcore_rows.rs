//! `eventcore-postgres`: one transaction an append, and a trigger that checks and gives the version.

use std::sync::Arc;
use std::time::Duration;

use eventcore_postgres::PostgresEventStore;
use eventcore_types::{Event, EventStore, StreamId, StreamVersion, StreamWrites};
use serde::{Deserialize, Serialize};

use crate::peer::{self, Peer, Seen};

#[derive(Clone, Serialize, Deserialize)]
struct Happened {
    thing: StreamId,
    text: String,
}

impl Event for Happened {
    fn stream_id(&self) -> &StreamId {
        &self.thing
    }

    fn event_type_name() -> &'static str {
        "ThingHappened"
    }
}

struct EventCore {
    store: PostgresEventStore,
    text: String,
}

impl Peer for EventCore {
    async fn append(&self, stream: usize, seen: Seen) -> u64 {
        let thing = StreamId::try_new(peer::name(stream)).expect("a name");
        let version = StreamVersion::new(usize::try_from(seen.version).expect("it fits"));
        let writes = StreamWrites::new().register_stream(thing.clone(), version);
        let writes = writes.and_then(|writes| writes.append(Happened { thing, text: self.text.clone() }));
        self.store.append_events(writes.expect("an event")).await.expect("it is appended");
        // It does not tell where.
        0
    }
}

/// Durable events a second, with so many appends waiting.
pub async fn measure(address: &str, waiting: usize, time: Duration) -> f64 {
    let store = PostgresEventStore::from_pool(crate::pool(address, waiting).await);
    store.migrate().await;
    let text = "x".repeat(peer::EVENT_BYTES - r#"{"text":""}"#.len());
    peer::drive(Arc::new(EventCore { store, text }), waiting, time).await
}
