//! The newest events, kept in memory and shared: whoever is live reads them from here, not from the disk.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use sillage_kernel::{Event, Position};

use super::room;

/// How many events the tail holds at most, unless it is told otherwise.
pub(crate) const MAX_EVENTS: usize = 16_384;
/// How many bytes of data and metadata the tail holds at most.
const MAX_BYTES: usize = 64 << 20;

/// A run of the log that ends at the watermark; bounded in events and by [`MAX_BYTES`].
pub(crate) struct Tail {
    run: RwLock<Run>,
    max_events: usize,
}

#[derive(Default)]
struct Run {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

fn weight(event: &Event) -> usize {
    event.data.len() + event.metadata_json.len() + size_of::<Event>()
}

impl Default for Tail {
    fn default() -> Self {
        Self::of(MAX_EVENTS)
    }
}

impl Tail {
    /// One that holds so many events at most.
    pub(crate) fn of(max_events: usize) -> Self {
        Self { run: RwLock::default(), max_events }
    }

    /// Lets go of everything: what comes next does not follow what is here.
    #[cfg(feature = "postgres")]
    pub(crate) fn clear(&self) {
        *self.run.write().unwrap_or_else(PoisonError::into_inner) = Run::default();
    }

    /// Adds events that have just become durable, which must follow those that are here.
    pub(crate) fn extend(&self, events: impl IntoIterator<Item = Arc<Event>>) {
        let mut run = self.run.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            run.bytes += weight(&event);
            run.events.push_back(event);
        }
        while run.events.len() > self.max_events || run.bytes > MAX_BYTES {
            let Some(oldest) = run.events.pop_front() else { break };
            run.bytes -= weight(&oldest);
        }
    }

    /// Lets go of everything up to a position: it is not in the log as it is here any more.
    pub(crate) fn forget_to(&self, position: Position) {
        let mut run = self.run.write().unwrap_or_else(PoisonError::into_inner);
        while run.events.front().is_some_and(|event| event.position <= position) {
            let Some(oldest) = run.events.pop_front() else { break };
            run.bytes -= weight(&oldest);
        }
    }

    /// A page of up to `limit` events after `after`, or `None` if some of those are older than the tail.
    pub(crate) fn after(&self, after: Position, limit: usize) -> Option<Vec<Arc<Event>>> {
        let run = self.run.read().unwrap_or_else(PoisonError::into_inner);
        if run.events.front()?.position > after.next() {
            return None;
        }
        let start = run.events.partition_point(|event| event.position <= after);
        let mut has_room = room();
        let page = run.events.range(start..).take(limit).take_while(|event| has_room(event));
        Some(page.cloned().collect())
    }
}
