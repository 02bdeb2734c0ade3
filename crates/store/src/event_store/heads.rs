//! The ends of the streams that were used last, in memory.
//!
//! Invariant: no more is kept than was agreed. Forgetting any of it costs a read and nothing else.

use super::sequencer::{Head, StreamKey, StreamMap};

/// The ends of some streams.
pub(crate) struct RecentHeads {
    /// Up to half of what may be kept, used since the last time it was full; and what was used before that.
    hot: StreamMap<Head>,
    cooling: StreamMap<Head>,
    most: usize,
}

impl RecentHeads {
    /// Keeps so many at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { hot: StreamMap::default(), cooling: StreamMap::default(), most }
    }

    /// The end of a stream, if it is known. It counts as used.
    pub(crate) fn get(&mut self, key: &StreamKey) -> Option<Head> {
        if let Some(head) = self.hot.get(key) {
            return Some(*head);
        }
        let head = self.cooling.remove(key)?;
        self.set(key.clone(), head);
        Some(head)
    }

    /// The stream ends there from now on.
    pub(crate) fn set(&mut self, key: StreamKey, head: Head) {
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
