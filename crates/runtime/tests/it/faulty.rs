//! A store that loses appends, lets readers wait or fail, and lies about leases, when it is told to: what a disk or a
//! database does when nobody wants it to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sillage_kernel::{Epoch, Filter, Position, StreamName, Tenant, Timestamp, Version};
use sillage_store::event_store::BoxFuture;
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::{
    Append, AppendError, Appended, CursorError, CursorState, CursorUpdate, Cut, Direction, Dropped,
    EventStore, Features, Lease, LedgerEntry, LedgerKey, LogPage, Nodes, StoreError, StreamPage,
};
use tokio::sync::watch;

/// What happens to one call of `append`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing bad.
    None,
    /// All but the first so many are lost.
    LoseAfter(usize),
    /// Only this one is lost.
    LoseOne(usize),
    /// All is kept, but the caller hears that nothing was.
    AnswerLost,
}

/// What happens to whoever reads a stream.
#[derive(Debug)]
pub(crate) enum Reading {
    /// It takes until something else is said.
    Waits,
    /// It fails.
    Fails,
    /// Once it has come further than the first event, these are dropped.
    Overtaken(Cut),
    /// After each page, as long as there are any, one of these is appended before the reader knows what it has read.
    Outrun(Mutex<VecDeque<Append>>),
}

/// What happens to whoever asks for a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Leasing {
    #[default]
    Goes,
    /// It takes for ever.
    Hangs,
    /// Whoever was given it last hears that it is theirs, and nothing is prolonged. That ends with the first step of a
    /// cursor that is refused.
    Deludes,
}

/// A memory engine with a plan of faults, one for each call; after the plan nothing bad happens.
#[derive(Clone)]
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    plan: Arc<Mutex<VecDeque<Fault>>>,
    readings: watch::Sender<BTreeMap<StreamName, Reading>>,
    calls: Arc<AtomicUsize>,
    drops_nothing: Arc<AtomicBool>,
    nodes: Arc<Mutex<Option<Nodes>>>,
    leasing: Arc<Mutex<Leasing>>,
    leased: Arc<Mutex<Option<Lease>>>,
    fenced: Arc<AtomicUsize>,
}

impl FaultyStore {
    pub(crate) fn new(plan: impl IntoIterator<Item = Fault>) -> Self {
        let plan = Arc::new(Mutex::new(plan.into_iter().collect()));
        Self { plan, ..Self::over(MemoryStore::new(1)) }
    }

    pub(crate) fn over(inner: MemoryStore) -> Self {
        let (plan, calls, drops_nothing) = Default::default();
        let (nodes, leasing, leased, fenced) = Default::default();
        let readings = watch::Sender::default();
        Self { inner, plan, readings, calls, drops_nothing, nodes, leasing, leased, fenced }
    }

    /// From now on this happens to whoever reads the stream, or reads it already.
    pub(crate) fn reading(&self, stream: &str, reading: Reading) {
        self.readings.send_modify(|readings| readings.extend([(stream.parse().unwrap(), reading)]));
    }

    /// From now on all streams are read at once.
    pub(crate) fn reading_goes_on(&self) {
        self.readings.send_modify(BTreeMap::clear);
    }

    /// From now on dropping fails.
    pub(crate) fn drops_nothing(&self) {
        self.drops_nothing.store(true, Ordering::Relaxed);
    }

    /// It says that several nodes use the log.
    pub(crate) fn is_shared(&self) {
        *self.nodes.lock().unwrap() = Some(Nodes::Several);
    }

    /// From now on whoever asks for a lease waits for ever.
    pub(crate) fn hangs(&self) {
        *self.leasing.lock().unwrap() = Leasing::Hangs;
    }

    /// From now on whoever was given a lease hears that it is prolonged, and it is not, until a step of a cursor is
    /// refused.
    pub(crate) fn deludes(&self) {
        *self.leasing.lock().unwrap() = Leasing::Deludes;
    }

    /// How many steps of cursors were refused since the lease had passed on.
    pub(crate) fn fenced(&self) -> usize {
        self.fenced.load(Ordering::Relaxed)
    }

    /// How often `append` was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn lost() -> AppendError {
    AppendError::Unavailable("lost on purpose".into())
}

impl EventStore for FaultyStore {
    fn append(&self, appends: Vec<Append>) -> BoxFuture<Vec<Result<Appended, AppendError>>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fault = self.plan.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let is_lost = |index: usize| match fault {
            Fault::LoseAfter(kept) => index >= kept,
            Fault::LoseOne(lost) => index == lost,
            Fault::None | Fault::AnswerLost => false,
        };
        let (mut kept, mut fates) = (Vec::new(), Vec::new());
        for (index, append) in appends.into_iter().enumerate() {
            fates.push(is_lost(index));
            kept.extend((!is_lost(index)).then_some(append));
        }
        let answer = self.inner.append(kept);
        Box::pin(async move {
            // The disk takes its time, so that the next turns are decided meanwhile.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            let mut results = answer.await.into_iter();
            let result = |is_lost: bool| {
                let result = if is_lost { Err(lost()) } else { results.next().unwrap() };
                if fault == Fault::AnswerLost { Err(lost()) } else { result }
            };
            fates.into_iter().map(result).collect()
        })
    }

    fn features(&self) -> Features {
        let features = self.inner.features();
        Features { nodes: self.nodes.lock().unwrap().unwrap_or(features.nodes), ..features }
    }

    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn head(&self) -> Position {
        self.inner.head()
    }

    fn watermark(&self) -> watch::Receiver<Position> {
        self.inner.watermark()
    }

    fn failed(&self) -> BoxFuture<Arc<str>> {
        self.inner.failed()
    }

    fn remembers_since(&self) -> Timestamp {
        self.inner.remembers_since()
    }

    fn look_up(&self, keys: Vec<LedgerKey>) -> BoxFuture<Result<Vec<Option<LedgerEntry>>, StoreError>> {
        self.inner.look_up(keys)
    }

    fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<Result<StreamPage, StoreError>> {
        if !self.readings.borrow().contains_key(stream) {
            return self.inner.read_stream(tenant, stream, from, direction, limit);
        }
        let (inner, mut readings) = (self.inner.clone(), self.readings.subscribe());
        let (tenant, stream) = (tenant.clone(), stream.clone());
        Box::pin(async move {
            let goes_on = |readings: &BTreeMap<_, _>| !matches!(readings.get(&stream), Some(Reading::Waits));
            let (mut cuts, mut appends) = (Vec::new(), Vec::new());
            match readings.wait_for(goes_on).await.unwrap().get(&stream) {
                Some(Reading::Overtaken(cut)) if from > Version::new(1) => cuts.push(cut.clone()),
                Some(Reading::Outrun(more)) => appends.extend(more.lock().unwrap().pop_front()),
                Some(Reading::Fails | Reading::Waits) => {
                    return Err(StoreError::Unavailable("unreadable on purpose".into()));
                }
                Some(Reading::Overtaken(_)) | None => {}
            }
            inner.drop_events(cuts).await?;
            let page = inner.read_stream(&tenant, &stream, from, direction, limit).await;
            inner.append(appends).await;
            page
        })
    }

    fn read_all(
        &self,
        after: Position,
        filter: Filter,
        limit: usize,
    ) -> BoxFuture<Result<LogPage, StoreError>> {
        self.inner.read_all(after, filter, limit)
    }

    fn drop_events(&self, cuts: Vec<Cut>) -> BoxFuture<Result<Dropped, StoreError>> {
        if self.drops_nothing.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(StoreError::Unavailable("lost on purpose".into()))));
        }
        self.inner.drop_events(cuts)
    }

    fn read_cursor(&self, reactor: &str) -> BoxFuture<Result<CursorState, StoreError>> {
        self.inner.read_cursor(reactor)
    }

    fn write_cursor(&self, update: CursorUpdate) -> BoxFuture<Result<(), CursorError>> {
        let (answer, store) = (self.inner.write_cursor(update), self.clone());
        Box::pin(async move {
            let answer = answer.await;
            if answer == Err(CursorError::Fenced) {
                store.fenced.fetch_add(1, Ordering::Relaxed);
                *store.leasing.lock().unwrap() = Leasing::Goes;
            }
            answer
        })
    }

    fn acquire_lease(
        &self,
        lease: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<Result<Option<Lease>, StoreError>> {
        let leasing = *self.leasing.lock().unwrap();
        match leasing {
            Leasing::Hangs => return Box::pin(std::future::pending()),
            Leasing::Deludes => return Box::pin(std::future::ready(Ok(*self.leased.lock().unwrap()))),
            Leasing::Goes => {}
        }
        let (answer, store) = (self.inner.acquire_lease(lease, owner, ttl), self.clone());
        Box::pin(async move {
            let answer = answer.await;
            if let Ok(given) = &answer {
                *store.leased.lock().unwrap() = *given;
            }
            answer
        })
    }

    fn lease_holder(&self, lease: &str) -> BoxFuture<Result<Option<Box<str>>, StoreError>> {
        self.inner.lease_holder(lease)
    }

    fn close(&self) -> BoxFuture<()> {
        self.inner.close()
    }
}
