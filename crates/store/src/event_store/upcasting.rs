//! A log as the newest program would have written it: what is read of it has been upcast.
//!
//! Invariant: nothing else changes. So whoever checks checksums reads the log below, where the stored bytes are.

use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::{Epoch, Event, Filter, Position, StreamName, Tenant, Timestamp, Upcasters, Version};
use tokio::sync::watch;

use super::hints::Hints;
use super::{
    Append, AppendError, Appended, BoxFuture, CursorError, CursorState, CursorUpdate, Cut, Direction,
    Dropped, EventStore, Features, Lease, LedgerEntry, LedgerKey, LogPage, StoreError, StreamPage,
};

/// Any engine, read in the newest shapes. A page may hold more bytes than one of the engine, by what its events
/// have grown.
pub struct Upcasting {
    stored: Arc<dyn EventStore>,
    upcasters: Arc<Upcasters>,
}

impl Upcasting {
    /// The log with these upcasters; itself, if there are none.
    pub fn over(stored: Arc<dyn EventStore>, upcasters: Upcasters) -> Arc<dyn EventStore> {
        if upcasters.is_empty() {
            return stored;
        }
        Arc::new(Self { stored, upcasters: Arc::new(upcasters) })
    }
}

fn upcast(upcasters: &Upcasters, events: &mut [Arc<Event>]) {
    for event in events {
        if let Some(newest) = upcasters.newest(event) {
            *event = Arc::new(newest);
        }
    }
}

impl EventStore for Upcasting {
    fn features(&self) -> Features {
        self.stored.features()
    }

    fn epoch(&self) -> Epoch {
        self.stored.epoch()
    }

    fn head(&self) -> Position {
        self.stored.head()
    }

    fn watermark(&self) -> watch::Receiver<Position> {
        self.stored.watermark()
    }

    fn hints(&self) -> Option<Arc<dyn Hints>> {
        self.stored.hints()
    }

    fn failed(&self) -> BoxFuture<Arc<str>> {
        self.stored.failed()
    }

    fn remembers_since(&self) -> Timestamp {
        self.stored.remembers_since()
    }

    fn append(&self, appends: Vec<Append>) -> BoxFuture<Vec<Result<Appended, AppendError>>> {
        self.stored.append(appends)
    }

    fn look_up(&self, keys: Vec<LedgerKey>) -> BoxFuture<Result<Vec<Option<LedgerEntry>>, StoreError>> {
        self.stored.look_up(keys)
    }

    fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<Result<StreamPage, StoreError>> {
        let page = self.stored.read_stream(tenant, stream, from, direction, limit);
        let upcasters = Arc::clone(&self.upcasters);
        Box::pin(async move {
            let mut page = page.await?;
            upcast(&upcasters, &mut page.events);
            Ok(page)
        })
    }

    fn read_all(
        &self,
        after: Position,
        filter: Filter,
        limit: usize,
    ) -> BoxFuture<Result<LogPage, StoreError>> {
        let page = self.stored.read_all(after, filter, limit);
        let upcasters = Arc::clone(&self.upcasters);
        Box::pin(async move {
            let mut page = page.await?;
            upcast(&upcasters, &mut page.events);
            Ok(page)
        })
    }

    fn drop_events(&self, cuts: Vec<Cut>) -> BoxFuture<Result<Dropped, StoreError>> {
        self.stored.drop_events(cuts)
    }

    fn read_cursor(&self, reactor: &str) -> BoxFuture<Result<CursorState, StoreError>> {
        self.stored.read_cursor(reactor)
    }

    fn write_cursor(&self, update: CursorUpdate) -> BoxFuture<Result<(), CursorError>> {
        self.stored.write_cursor(update)
    }

    fn acquire_lease(
        &self,
        lease: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<Result<Option<Lease>, StoreError>> {
        self.stored.acquire_lease(lease, owner, ttl)
    }

    fn lease_holder(&self, lease: &str) -> BoxFuture<Result<Option<Box<str>>, StoreError>> {
        self.stored.lease_holder(lease)
    }

    fn close(&self) -> BoxFuture<()> {
        self.stored.close()
    }
}
