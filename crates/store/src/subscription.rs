//! Following the log: one loop for what was and for what comes.
//!
//! It reads from its cursor to the durable watermark and waits for the watermark to move. The wake-up is a
//! hint and never data, so there is no seam between catching up and being live.

use std::sync::Arc;

use sillage_kernel::{Filter, Position};
use tokio::sync::watch;

use crate::event_store::{EventStore, LogPage, StoreError};

/// A place in the log, and what is wanted from there on.
pub struct Subscription {
    store: Arc<dyn EventStore>,
    watermark: watch::Receiver<Position>,
    filter: Filter,
    cursor: Position,
}

impl Subscription {
    /// Follows what is wanted after the position `after`.
    pub fn new(store: Arc<dyn EventStore>, after: Position, filter: Filter) -> Self {
        let watermark = store.watermark();
        Self { store, watermark, filter, cursor: after }
    }

    /// How far it has come.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// Goes on from another place.
    pub fn seek(&mut self, after: Position) {
        self.cursor = after;
    }

    /// The next page: up to `limit` wanted events, or none where only unwanted ones came. It waits while
    /// there is nothing new. A call that is dropped has moved nothing.
    pub async fn next(&mut self, limit: usize) -> Result<LogPage, StoreError> {
        loop {
            // Seen before reading, so that a move during the reading wakes the wait below.
            let head = *self.watermark.borrow_and_update();
            if self.cursor < head {
                let page = self.store.read_all(self.cursor, self.filter.clone(), limit).await?;
                self.cursor = page.through;
                return Ok(page);
            }
            if self.watermark.changed().await.is_err() {
                return Err(StoreError::Unavailable("the store has shut down".into()));
            }
        }
    }
}
