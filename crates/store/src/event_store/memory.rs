//! The engine without a disk, for tests: the whole contract, and gone with the process.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sillage_kernel::{Epoch, Event, Filter, Position, StreamName, Tenant, Timestamp, Version};
use tokio::sync::watch;

use super::sequencer::{Admitted, Head, Sequencer, StreamMap};
use super::{
    Append, AppendError, Appended, BoxFuture, CursorError, CursorState, CursorUpdate, Cut, Direction,
    Dropped, Durability, EventStore, Features, Lease, LedgerEntry, LedgerKey, LogPage, Nodes, Positions,
    StoreError, StreamPage, check_cuts, room,
};
use crate::clock;

/// Keeps everything in memory. Cloning shares it.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    watermark: watch::Sender<Position>,
    epoch: Epoch,
}

#[derive(Default)]
struct State {
    sequencer: Sequencer<StreamMap<Head>>,
    /// What is not dropped; of each stream that is its end.
    log: Vec<Arc<Event>>,
    streams: StreamMap<Vec<Arc<Event>>>,
    ledger: HashMap<LedgerKey, LedgerEntry>,
    cursors: HashMap<Box<str>, CursorState>,
}

impl MemoryStore {
    /// An empty log. `log_id` becomes its epoch.
    pub fn new(log_id: u128) -> Self {
        let (state, watermark) = (Arc::default(), watch::Sender::new(Position::ZERO));
        Self { state, watermark, epoch: Epoch::from_log_id(log_id) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, append: Append) -> Result<Appended, AppendError> {
        let ledger = &self.ledger;
        let admitted = self.sequencer.stage(append, clock::now(), |key| Ok(ledger.get(key).cloned()))?;
        let Admitted { events, ledger, appended } = admitted;
        self.sequencer.commit();
        self.ledger.extend(ledger);
        for event in events {
            let key = (event.tenant.clone(), event.stream.clone());
            self.streams.entry(key).or_default().push(Arc::clone(&event));
            self.log.push(event);
        }
        Ok(appended)
    }

    fn cut(&mut self, Cut { tenant, stream, through }: Cut) -> Dropped {
        let mut dropped = Dropped::default();
        let Some(events) = self.streams.get_mut(&(tenant, stream)) else { return dropped };
        let cut = events.partition_point(|event| event.version <= through);
        let mut positions = BTreeSet::new();
        for event in events.drain(..cut.min(events.len() - 1)) {
            dropped.events += 1;
            dropped.bytes += (event.data.len() + event.metadata_json.len()) as u64;
            positions.insert(event.position);
        }
        self.log.retain(|event| !positions.contains(&event.position));
        dropped
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<T> {
    Box::pin(std::future::ready(value))
}

impl EventStore for MemoryStore {
    fn features(&self) -> Features {
        Features {
            engine: "memory",
            durability: Durability::Process,
            positions: Positions::Gapless,
            nodes: Nodes::One,
            ledger_memory: Duration::MAX,
        }
    }

    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    fn head(&self) -> Position {
        *self.watermark.borrow()
    }

    fn watermark(&self) -> watch::Receiver<Position> {
        self.watermark.subscribe()
    }

    fn failed(&self) -> BoxFuture<Arc<str>> {
        Box::pin(std::future::pending())
    }

    fn remembers_since(&self) -> Timestamp {
        Timestamp::default()
    }

    fn append(&self, appends: Vec<Append>) -> BoxFuture<Vec<Result<Appended, AppendError>>> {
        let mut state = self.state();
        let results = appends.into_iter().map(|append| state.append(append)).collect();
        let head = state.sequencer.position();
        // Told under the lock, so that two appends cannot tell their heads in the wrong order.
        self.watermark.send_if_modified(|watermark| std::mem::replace(watermark, head) != head);
        ready(results)
    }

    fn look_up(&self, keys: Vec<LedgerKey>) -> BoxFuture<Result<Vec<Option<LedgerEntry>>, StoreError>> {
        let state = self.state();
        ready(Ok(keys.iter().map(|key| state.ledger.get(key).cloned()).collect()))
    }

    fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<Result<StreamPage, StoreError>> {
        let state = self.state();
        let events = state.streams.get(&(tenant.clone(), stream.clone())).map_or(&[][..], Vec::as_slice);
        let head = events.last().map_or(Version::ZERO, |event| event.version);
        let kept_from = events.first().map_or(Version::ZERO, |event| event.version);
        let first = match direction {
            Direction::Forward => from.max(Version::new(1)),
            Direction::Backward => from,
        };
        if Version::ZERO < first && first < kept_from && limit > 0 {
            return ready(Err(StoreError::Dropped { kept_from }));
        }
        let mut has_room = room();
        let mut page = |events: &mut dyn Iterator<Item = &Arc<Event>>| {
            events.take(limit).take_while(|event| has_room(event)).cloned().collect()
        };
        let events = match direction {
            Direction::Forward => page(&mut events.iter().filter(|event| event.version >= from)),
            Direction::Backward => page(&mut events.iter().rev().filter(|event| event.version <= from)),
        };
        ready(Ok(StreamPage { events, head }))
    }

    fn read_all(
        &self,
        after: Position,
        filter: Filter,
        limit: usize,
    ) -> BoxFuture<Result<LogPage, StoreError>> {
        let state = self.state();
        let start = state.log.partition_point(|event| event.position <= after);
        let mut has_room = room();
        let run = state.log.iter().skip(start).take(limit).take_while(|event| has_room(event));
        ready(Ok(LogPage::of(run.cloned().collect(), after, &filter)))
    }

    fn drop_events(&self, cuts: Vec<Cut>) -> BoxFuture<Result<Dropped, StoreError>> {
        if let Err(invalid) = check_cuts(&cuts) {
            return ready(Err(invalid));
        }
        let (mut state, mut dropped) = (self.state(), Dropped::default());
        cuts.into_iter().for_each(|cut| dropped += state.cut(cut));
        ready(Ok(dropped))
    }

    fn read_cursor(&self, reactor: &str) -> BoxFuture<Result<CursorState, StoreError>> {
        ready(Ok(self.state().cursors.get(reactor).cloned().unwrap_or_default()))
    }

    fn write_cursor(&self, update: CursorUpdate) -> BoxFuture<Result<(), CursorError>> {
        if let Err(invalid) = update.check_limits() {
            return ready(Err(invalid));
        }
        let mut state = self.state();
        if state.sequencer.check_fence(update.fence.as_ref()).is_err() {
            return ready(Err(CursorError::Fenced));
        }
        state.cursors.entry(update.reactor.clone()).or_default().apply(&update);
        ready(Ok(()))
    }

    fn acquire_lease(
        &self,
        lease: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<Result<Option<Lease>, StoreError>> {
        let (mut state, now) = (self.state(), clock::now());
        let held = state.sequencer.stage_lease(lease, owner, now, clock::later(now, ttl));
        state.sequencer.commit();
        ready(Ok(held))
    }

    fn lease_holder(&self, lease: &str) -> BoxFuture<Result<Option<Box<str>>, StoreError>> {
        ready(Ok(self.state().sequencer.lease_holder(lease, clock::now())))
    }

    fn close(&self) -> BoxFuture<()> {
        // There is nothing that another could be waiting for.
        ready(())
    }
}
