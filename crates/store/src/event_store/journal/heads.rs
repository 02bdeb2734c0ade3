//! The ends of streams: those that were used last in memory, the others in the log.
//!
//! What is in memory is what the log says, so forgetting any of it only costs a read. A stream that never was costs
//! none, but for the few that a filter takes for another.

use std::sync::Arc;

use sillage_kernel::{Event, Version};

use super::{Kind, Shared, unreadable};
use crate::event_store::codec::{decode_dropped, decode_event};
use crate::event_store::heads::RecentHeads;
use crate::event_store::sequencer::{Head, Heads, StreamKey};
use crate::event_store::{Direction, StoreError};

/// The heads of a log.
pub(super) struct HotHeads {
    shared: Arc<Shared>,
    recent: RecentHeads,
}

impl HotHeads {
    pub(super) fn new(shared: Arc<Shared>, most: usize) -> Self {
        Self { shared, recent: RecentHeads::new(most) }
    }
}

impl Heads for HotHeads {
    fn get(&mut self, key: &StreamKey) -> Result<Head, StoreError> {
        if let Some(head) = self.recent.get(key) {
            return Ok(head);
        }
        let head = self.shared.read_head(key)?;
        self.set(key.clone(), head);
        Ok(head)
    }

    fn set(&mut self, key: StreamKey, head: Head) {
        self.recent.set(key, head);
    }
}

impl Shared {
    /// The end of a stream, as the log says.
    fn read_head(&self, key: &StreamKey) -> Result<Head, StoreError> {
        let newest = Version::new(u64::MAX);
        let search = self.index().of_stream(key.clone(), newest, Direction::Backward, 1);
        let (_, addresses) = search.finish().map_err(unreadable)?;
        let Some(address) = addresses.first() else { return Ok(Head::default()) };
        let record = self.reader.read(*address).map_err(unreadable)?;
        // The newest event is never dropped, but those behind it may have been lost.
        let event = match record.kind == Kind::Dropped.number() {
            true => decode_dropped(&record.payload),
            false => decode_event(&record.payload),
        };
        let Event { version, checksum, .. } = event.map_err(unreadable)?;
        Ok(Head { version, checksum })
    }
}
