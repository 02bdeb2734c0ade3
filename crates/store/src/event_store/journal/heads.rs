//! The ends of streams: those that were used last in memory, the others in the log.
//!
//! What is in memory is what the log says, so forgetting any of it only costs a read. A stream that never was costs
//! none, but for the few that a filter takes for another.

use std::sync::Arc;

use sillage_kernel::{Event, Version};

use super::{Kind, Shared, unreadable};
use crate::event_store::codec::{decode_dropped, decode_event};
use crate::event_store::sequencer::{Head, Heads, StreamKey, StreamMap};
use crate::event_store::{Direction, StoreError};

/// The heads of a log.
pub(super) struct HotHeads {
    shared: Arc<Shared>,
    /// Up to half of what may be kept, used since the last time it was full; and what was used before that.
    hot: StreamMap<Head>,
    cooling: StreamMap<Head>,
    most: usize,
}

impl HotHeads {
    pub(super) fn new(shared: Arc<Shared>, most: usize) -> Self {
        Self { shared, hot: StreamMap::default(), cooling: StreamMap::default(), most }
    }
}

impl Heads for HotHeads {
    fn get(&mut self, key: &StreamKey) -> Result<Head, StoreError> {
        if let Some(head) = self.hot.get(key) {
            return Ok(*head);
        }
        let head = match self.cooling.remove(key) {
            Some(head) => head,
            None => self.shared.read_head(key)?,
        };
        self.set(key.clone(), head);
        Ok(head)
    }

    fn set(&mut self, key: StreamKey, head: Head) {
        let half = (self.most / 2).max(1);
        if self.hot.len() >= half {
            let hot = std::mem::replace(
                &mut self.hot,
                StreamMap::with_capacity_and_hasher(half, foldhash::quality::RandomState::default()),
            );
            let cold = std::mem::replace(&mut self.cooling, hot);
            // Letting go of so many takes a while, and the writer has better to do.
            drop(std::thread::Builder::new().spawn(move || drop(cold)));
        }
        self.hot.insert(key, head);
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
