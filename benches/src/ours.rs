//! One of our engines as a library, with all that it does for an event: versions checked, the checksum chain, the index. No
//! command is settled, since no peer has a ledger.

use std::sync::Arc;

use sillage_kernel::{EventId, Expected, Metadata, NewEvent, StreamName, Tenant, Version};
use sillage_store::{Append, Entry, EventStore};
use uuid::Uuid;

use crate::peer::{self, Peer, STREAMS, Seen};

/// An engine with what is appended to it.
pub struct Ours {
    store: Arc<dyn EventStore>,
    tenant: Tenant,
    streams: Vec<StreamName>,
    data: String,
}

impl Ours {
    /// An engine whose log is empty.
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        let streams = (0..STREAMS).map(|n| peer::name(n).parse().expect("a name")).collect();
        Self { store, tenant: "main".parse().expect("a name"), streams, data: peer::data() }
    }
}

impl Peer for Ours {
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
