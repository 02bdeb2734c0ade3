//! Our embedded engine as a library, with all that it does for an event: versions checked, the checksum chain, markers,
//! the index. No command is settled, since no peer has a ledger.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::{EventId, Expected, Metadata, NewEvent, StreamName, Tenant, Version};
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use sillage_store::{Append, Entry, EventStore};
use uuid::Uuid;

use crate::peer::{self, Peer, STREAMS, Seen};

struct Journal {
    store: JournalStore,
    tenant: Tenant,
    streams: Vec<StreamName>,
    data: String,
}

impl Peer for Journal {
    async fn append(&self, stream: usize, seen: Seen) -> u64 {
        let id = EventId(Uuid::now_v7());
        let event = NewEvent::new(id, "ThingHappened", self.data.as_str(), Metadata::default());
        let expected = Expected::Exactly(Version::new(seen.version));
        let entry = Entry { stream: self.streams[stream].clone(), expected, events: vec![event] };
        let tenant = self.tenant.clone();
        let append = Append { tenant, entries: vec![entry], ledger: None, fence: None, recorded_at: None };
        let answer = self.store.append(vec![append]).await.pop().expect("one append has one answer");
        answer.expect("it is appended").position.get()
    }
}

/// Durable events a second, with so many appends waiting.
pub fn measure(folder: &Path, waiting: usize, time: Duration) -> f64 {
    let opened = JournalStore::open(folder, Uuid::now_v7().as_u128(), JournalOptions::default());
    let streams = (0..STREAMS).map(|n| peer::name(n).parse().expect("a name")).collect();
    let (store, tenant) = (opened.expect("a log").0, "main".parse().expect("a name"));
    let journal = Journal { store, tenant, streams, data: peer::data() };
    peer::block_on(peer::drive(Arc::new(journal), waiting, time))
}
