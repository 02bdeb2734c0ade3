//! The embedded default: our own append-only log, one folder, nothing beside it.
//!
//! One thread stages what waits while another brings it to the disk ([`writer`]), as one group with one flush. Where everything stands
//! ([`index`]) is derived from the log, and can be deleted: it is kept in files beside it, so that opening the log
//! reads only its end, and in memory for that end.

#[cfg(feature = "postgres")]
pub(crate) mod arriving;
pub mod backup;
mod compaction;
pub mod events;
mod heads;
mod inbox;
mod index;
#[cfg(feature = "postgres")]
pub mod leaving;
mod reading;
mod replay;
pub mod verify;
pub mod walk;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
pub use sillage_journal::{
    AcceptLoss, Address, Boundary, Damage, Disk, End, Error as LogError, Folders, Progress, RealDisk,
    Recovered,
};
use sillage_journal::{DEFAULT_SEGMENT_BYTES, Journal, LEAST_SAVED, Opened, Reader};
use sillage_kernel::{Epoch, Filter, Position, StreamName, Tenant, Timestamp, Version};
use tokio::sync::{oneshot, watch};

use self::compaction::{Compacting, Request, Requests};
use self::heads::HotHeads;
use self::inbox::Inbox;
pub use self::index::IndexLimits;
use self::index::{CommandSearch, Index};
use self::reading::read_ledger;
use self::replay::Replayed;
use self::writer::{Group, Publishing, Writer};
use super::ledger::LedgerLimits;
use super::queue::{Job, LeaseRequest, Load, Waiting, told};
use super::sequencer::Sequencer;
use super::tail::Tail;
use super::{
    Append, AppendError, Appended, BoxFuture, CursorError, CursorState, CursorUpdate, Cut, Direction,
    Dropped, Durability, EventStore, Features, Lease, LedgerEntry, LedgerKey, LogPage, Nodes, Positions,
    StoreError, StreamPage, check_cuts,
};
use crate::clock;

/// The kinds of record in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Ledger,
    Cursor,
    Lease,
    Epoch,
    /// In the place of an event.
    Dropped,
    /// In the place of ledger entries.
    Forgotten,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Event => 1,
            Self::Ledger => 2,
            Self::Cursor => 3,
            Self::Lease => 4,
            Self::Epoch => 5,
            Self::Dropped => 6,
            Self::Forgotten => 7,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        let all = [
            Self::Event,
            Self::Ledger,
            Self::Cursor,
            Self::Lease,
            Self::Epoch,
            Self::Dropped,
            Self::Forgotten,
        ];
        all.into_iter().find(|kind| kind.number() == number)
    }
}

/// How a lease stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Which lease.
    pub name: Box<str>,
    /// Who holds it.
    pub owner: Box<str>,
    /// As which change of hands.
    pub lease: Lease,
    /// Microseconds since 1970.
    pub until: i64,
}

/// The beginning of an epoch in the log. Before the first of them its epoch is that of its own id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Which epoch begins.
    pub epoch: Epoch,
    /// When.
    pub since: Timestamp,
}

/// Whether a log begins a new epoch when it is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewEpoch {
    /// Only if the loss of acknowledged bytes was accepted: positions that were told may be given out again.
    #[default]
    AfterLoss,
    /// An operator asks for it: the log is another than those who know it think.
    Now,
}

/// How to open a journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// How long and how many commands the ledger remembers.
    pub ledger: LedgerLimits,
    /// The size in bytes from which on a file of the log takes no further group.
    pub segment_bytes: u64,
    /// The folder that old files of the log were moved to, or are to be moved to.
    pub archive: Option<PathBuf>,
    /// A group of fewer appends is not worth a flush of its own while others wait.
    pub least_group: usize,
    /// Of its bytes a file must lose at least one part in so many, or it is not written anew without what was dropped.
    pub least_saved: u64,
    /// What to do when the log is damaged before its tail.
    pub accept_loss: AcceptLoss,
    /// Whether it begins a new epoch.
    pub new_epoch: NewEpoch,
    /// How its index is divided.
    pub index: IndexLimits,
    /// Is told how far the log has been read, when that takes long: when its index has to be rebuilt.
    pub progress: Option<fn(Progress)>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            ledger: LedgerLimits::default(),
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            archive: None,
            least_group: 96,
            least_saved: LEAST_SAVED,
            accept_loss: AcceptLoss::No,
            new_epoch: NewEpoch::default(),
            index: IndexLimits::default(),
            progress: None,
        }
    }
}

/// The log in a folder. Dropping it waits for the writing threads, and so for all that was queued.
pub struct JournalStore {
    shared: Arc<Shared>,
    writer: Arc<RwLock<Option<WritingThreads>>>,
    epoch: Epoch,
    ledger_memory: Duration,
}

/// The threads that write, and the way to them.
struct WritingThreads {
    inbox: Arc<Inbox>,
    /// The way to the thread that drops and archives, which ends with these.
    requests: Requests,
    threads: [JoinHandle<()>; 2],
}

impl WritingThreads {
    /// Lets them finish what they were asked for, and waits until they have let go of the log.
    fn finish(self) {
        let Self { inbox, requests: _, threads } = self;
        inbox.close();
        // A panic has been told already, as the failure of the store.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// What the writing threads share with everybody who reads.
struct Shared {
    index: Arc<RwLock<Index>>,
    /// Whether too much waits to be indexed on disk, as far as the writer has seen.
    behind: AtomicBool,
    tail: Tail,
    reader: Reader,
    watermark: watch::Sender<Position>,
    /// Why nothing can be written any more, once that is so.
    failure: watch::Sender<Option<Arc<str>>>,
    waiting: Waiting,
}

impl Shared {
    /// Makes room in the queue, or says that there is none.
    fn reserve(&self, load: &Load) -> Result<(), AppendError> {
        // Looked at again, since nothing that is refused reaches the writer.
        if self.behind.load(Ordering::Relaxed) && self.index().is_behind() {
            return Err(AppendError::Overloaded);
        }
        self.waiting.reserve(load)
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string().into())
}

impl JournalStore {
    /// Opens the log in `dir`, or makes it. `log_id` must be random: it is the id of a log that is made, and of an
    /// epoch that begins; a log that exists keeps its own.
    pub fn open(
        dir: &Path,
        log_id: u128,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), sillage_journal::Error> {
        Self::open_on(dir, log_id, options, Arc::new(RealDisk))
    }

    /// As [`Self::open`], on a disk that may be made to fail.
    pub fn open_on(
        dir: &Path,
        log_id: u128,
        options: JournalOptions,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, Recovered), sillage_journal::Error> {
        let folders = Folders::from(dir).with_archive(options.archive.clone());
        let own_id = Journal::log_id(&folders, disk.as_ref())?.unwrap_or(log_id);
        let Replayed { opened, upkeep, leases } = replay::open(&folders, own_id, &options, disk)?;
        let Opened { writer: mut log, reader, keeper, recovered } = opened;
        let index = Arc::clone(&upkeep.index);
        if options.new_epoch == NewEpoch::Now || recovered.lost.is_some() {
            let record = EpochRecord { epoch: Epoch::from_log_id(log_id), since: clock::now() };
            write_epoch(&mut log, &record)?;
            let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
            index.begin_epoch(record);
            index.reach(log.boundary());
        }
        let own_epoch = || Epoch::from_log_id(reader.log_id());
        let epoch = read(&index, |index| index.epoch().cloned()).unwrap_or_else(own_epoch);
        let (head, recorded_at) = read(&index, |index| (index.head(), index.recorded_at()));
        let watermark = watch::Sender::new(head);
        let (behind, tail, failure) = (AtomicBool::new(false), Tail::default(), watch::Sender::default());
        let waiting = Waiting::default();
        let shared = Arc::new(Shared { index, behind, tail, reader, watermark, failure, waiting });
        let heads = HotHeads::new(Arc::clone(&shared), options.index.hot_streams);
        let mut sequencer = Sequencer::resume(heads, head, recorded_at);
        for LeaseRecord { name, owner, lease, until } in leases.values().cloned() {
            sequencer.replay_lease(name, owner, lease, Timestamp::from_micros(until));
        }
        let failed = |doing| move |source| LogError::Io { doing, source };
        let background = upkeep.start(shared.reader.clone()).map_err(failed("start the indexing threads"))?;
        let compacting = Compacting::start(Arc::clone(&shared), keeper.with_least_saved(options.least_saved));
        let compacting = compacting.map_err(failed("start the compacting thread"))?;
        let requests = compacting.requests();
        let publishing =
            Publishing { background, _compacting: compacting, leases: leases.into_iter().collect() };
        let (stager, flusher) = log.split();
        let inbox = Arc::new(Inbox::default());
        let (disk, flushing) = writer::disk(flusher, Arc::clone(&inbox));
        let staging = Writer {
            inbox: Arc::clone(&inbox),
            stager,
            sequencer,
            publishing,
            disk,
            shared: Arc::clone(&shared),
            least_group: options.least_group.max(1),
            group: Group::default(),
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let flushing =
            thread("journal-flush").spawn(flushing).map_err(failed("start the flushing thread"))?;
        let staging =
            thread("journal").spawn(|| staging.run()).map_err(failed("start the staging thread"))?;
        let threads = [staging, flushing];
        let writer = Arc::new(RwLock::new(Some(WritingThreads { inbox, requests, threads })));
        Ok((Self { shared, writer, epoch, ledger_memory: options.ledger.memory }, recovered))
    }

    /// Moves the sealed segments that end before a position to the archive that the options have named, and answers how
    /// many were moved. They are read from there. After an error a part may have been moved, and whatever was not is
    /// moved when it is asked again. After each that was moved it tells how far in the log it has come.
    pub fn archive(
        &self,
        before: Position,
        on_progress: impl FnMut(Progress) + Send + 'static,
    ) -> BoxFuture<Result<u64, StoreError>> {
        self.ask_compacting(|reply| Request::Archive(before, Box::new(on_progress), reply))
    }

    /// Hands a job to the writer and answers what it answers; `gone` if it is no more.
    fn ask<T: Send + 'static>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job, gone: T) -> BoxFuture<T> {
        let (reply, answer) = oneshot::channel();
        if let Some(WritingThreads { inbox, .. }) =
            self.writer.read().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            inbox.put(job(reply));
        }
        Box::pin(async move { answer.await.unwrap_or(gone) })
    }

    /// Hands a request to the thread that drops and archives, and answers what it answers.
    fn ask_compacting<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        if let Some(WritingThreads { requests, .. }) =
            self.writer.read().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            requests.ask(request(reply));
        }
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(gone())) })
    }

    /// Reads off the async threads, since the disk may have to be asked.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || read(&shared))
                .await
                .unwrap_or_else(|error| Err(unreadable(error)))
        })
    }
}

fn write_epoch(log: &mut sillage_journal::Writer, record: &EpochRecord) -> Result<(), LogError> {
    let json = serde_json::to_vec(record).expect("an epoch has only string keys");
    log.push(Kind::Epoch.number(), 0, 0, &json)?;
    log.end_batch()?;
    log.commit()
}

fn read<T>(index: &RwLock<Index>, read: impl FnOnce(&Index) -> T) -> T {
    read(&index.read().unwrap_or_else(PoisonError::into_inner))
}

impl Drop for JournalStore {
    fn drop(&mut self) {
        if let Some(writer) = take(&self.writer) {
            writer.finish();
        }
    }
}

fn take(writer: &RwLock<Option<WritingThreads>>) -> Option<WritingThreads> {
    writer.write().unwrap_or_else(PoisonError::into_inner).take()
}

const GONE: &str = "the writing threads have stopped";

fn gone() -> StoreError {
    StoreError::Unavailable(GONE.into())
}

impl EventStore for JournalStore {
    fn features(&self) -> Features {
        Features {
            engine: "journal",
            durability: Durability::Disk,
            positions: Positions::Gapless,
            nodes: Nodes::One,
            ledger_memory: self.ledger_memory,
        }
    }

    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    fn head(&self) -> Position {
        *self.shared.watermark.borrow()
    }

    fn watermark(&self) -> watch::Receiver<Position> {
        self.shared.watermark.subscribe()
    }

    fn failed(&self) -> BoxFuture<Arc<str>> {
        told(&self.shared.failure)
    }

    fn remembers_since(&self) -> Timestamp {
        self.shared.index().remembers_since(clock::now())
    }

    fn append(&self, appends: Vec<Append>) -> BoxFuture<Vec<Result<Appended, AppendError>>> {
        let count = appends.len();
        let refused = move |error: &AppendError| vec![Err(error.clone()); count];
        let load = Load::of(&appends);
        if let Err(full) = self.shared.reserve(&load) {
            return Box::pin(std::future::ready(refused(&full)));
        }
        self.ask(|reply| Job::Append(appends, load, reply), refused(&AppendError::Unavailable(GONE.into())))
    }

    fn look_up(&self, keys: Vec<LedgerKey>) -> BoxFuture<Result<Vec<Option<LedgerEntry>>, StoreError>> {
        let searches: Vec<_> = {
            let index = self.shared.index();
            keys.iter().map(|key| index.of_command(key)).collect()
        };
        // Almost always nothing is known, and so there is nothing to read.
        if searches.iter().all(CommandSearch::is_hopeless) {
            return Box::pin(std::future::ready(Ok(vec![None; keys.len()])));
        }
        self.read(move |shared| {
            let entry = |(key, search): (LedgerKey, CommandSearch)| {
                search.find(|address| read_ledger(&shared.reader, address, &key))
            };
            keys.into_iter().zip(searches).map(entry).collect()
        })
    }

    fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<Result<StreamPage, StoreError>> {
        let key = (tenant.clone(), stream.clone());
        let search = self.shared.index().of_stream(key, from, direction, limit);
        if search.is_empty() {
            return Box::pin(std::future::ready(Ok(StreamPage { events: Vec::new(), head: search.head() })));
        }
        let key = (tenant.clone(), stream.clone());
        self.read(move |shared| shared.read_stream(key, search))
    }

    fn read_all(
        &self,
        after: Position,
        filter: Filter,
        limit: usize,
    ) -> BoxFuture<Result<LogPage, StoreError>> {
        if let Some(run) = self.shared.tail.after(after, limit) {
            return Box::pin(std::future::ready(Ok(LogPage::of(run, after, &filter))));
        }
        self.read(move |shared| shared.read_all(after, &filter, limit))
    }

    fn drop_events(&self, cuts: Vec<Cut>) -> BoxFuture<Result<Dropped, StoreError>> {
        if let Err(invalid) = check_cuts(&cuts) {
            return Box::pin(std::future::ready(Err(invalid)));
        }
        self.ask_compacting(|reply| Request::Drop(cuts, reply))
    }

    fn read_cursor(&self, reactor: &str) -> BoxFuture<Result<CursorState, StoreError>> {
        let state = self.shared.index().cursor(reactor);
        Box::pin(std::future::ready(Ok(state)))
    }

    fn write_cursor(&self, update: CursorUpdate) -> BoxFuture<Result<(), CursorError>> {
        if let Err(invalid) = update.check_limits() {
            return Box::pin(std::future::ready(Err(invalid)));
        }
        self.ask(|reply| Job::Cursor(update, reply), Err(CursorError::Unavailable(GONE.into())))
    }

    fn acquire_lease(
        &self,
        lease: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<Result<Option<Lease>, StoreError>> {
        let request = LeaseRequest { name: lease.into(), owner: owner.into(), ttl };
        self.ask(|reply| Job::Lease(request, reply), Err(gone()))
    }

    fn close(&self) -> BoxFuture<()> {
        let writer = take(&self.writer);
        Box::pin(async move {
            let finish = tokio::task::spawn_blocking(|| writer.map(WritingThreads::finish));
            // The only error is a panic, which the thread's own end has told.
            drop(finish.await);
        })
    }
}
