//! The log in a PostgreSQL database, for those who run one: several nodes on one log.
//!
//! Every node writes in groups ([`writer`]), each group in one transaction under the lock of one row. So transactions
//! that write the log never overlap: positions have no gaps, become visible in their order, and whoever has seen the
//! last has everything before it. Whoever else uses the database can hold that up, and can make nobody skip anything.
//!
//! Appends wait for a database that is away for as long as [`PostgresOptions::patience`] says; then they are refused
//! as `Unavailable`, at once, until it is back. Only what may have been committed already is asked for before anybody
//! hears of it, however long that takes.

pub(crate) mod arriving;
mod dropping;
mod epoch;
mod forgetting;
mod group;
pub(crate) mod leaving;
mod link;
mod migrations;
mod pool;
mod reading;
mod rows;
mod session;
mod telling;
pub mod verify;
mod watching;
mod writer;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sillage_kernel::{Epoch, Event, Filter, Position, StreamName, Tenant, Timestamp, Version};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use self::epoch::begin_epoch;
pub use self::link::Database;
use self::link::{Connector, Failed, Link};
use self::pool::Pool;
use self::reading::Reader;
use self::rows::State;
use self::telling::Lane;
use self::writer::Writer;
use super::hints::Hints;
use super::ledger::{LedgerLimits, Memory};
use super::queue::{Job, LeaseRequest, Load, Waiting, told};
use super::tail::{self, Tail};
use super::{
    Append, AppendError, Appended, BoxFuture, CursorError, CursorState, CursorUpdate, Cut, Direction,
    Dropped, Durability, EventStore, Features, Lease, LedgerEntry, LedgerKey, LogPage, Nodes, Positions,
    StoreError, StreamPage, check_cuts,
};
use crate::clock;

/// The oldest version of the server that is known to do what is asked of it.
const MIN_SERVER: i32 = 150_000;

/// How to use a database.
#[derive(Debug, Clone, Copy)]
pub struct PostgresOptions {
    /// How long the ledger remembers a command.
    pub ledger_memory: Duration,
    /// How often the ledger forgets what is older.
    pub forget_every: Duration,
    /// How long a group waits for others to let go of the log; then it is refused as `Overloaded`.
    pub lock_timeout: Duration,
    /// How long the server may take for one statement.
    pub statement_timeout: Duration,
    /// How long appends and readers wait for a database that is away before they are refused.
    pub patience: Duration,
    /// How many readers there are at the same time; others wait. The writer and the watch have one connection each
    /// beside these.
    pub readers: usize,
    /// How many of the newest events are kept in memory, for those who follow. What other nodes have written is read
    /// from the database in any case.
    pub newest_events: usize,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            ledger_memory: LedgerLimits::default().memory,
            forget_every: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            readers: 8,
            newest_events: tail::MAX_EVENTS,
        }
    }
}

/// Why a database cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostgresError {
    /// The address is wrong: mend it.
    #[error("the address is not postgres://user:password@host:port/name: {0}")]
    Url(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be used: {0}")]
    Tls(String),
    /// The database is not there or lets nobody in: look at the address and at the server.
    #[error("{0}")]
    Unreachable(String),
    /// The server is too old: use 15 or a later one.
    #[error("the server has version {0}, and 15 is the oldest that will do")]
    Old(String),
    /// The texts of the database are not UTF-8: make another with `ENCODING 'UTF8'`.
    #[error("the database has the encoding {0}, and UTF8 is needed")]
    Encoding(String),
    /// A newer program has changed the tables: use that one.
    #[error(
        "the database has {applied} migrations and this program knows {known}: it belongs to a newer one"
    )]
    Newer {
        /// How many were applied.
        applied: usize,
        /// How many this program has.
        known: usize,
    },
    /// A migration is not the one that this program has: the database belongs to another program.
    #[error("migration {number} of the database is not the one of this program")]
    Changed {
        /// Which one.
        number: i32,
    },
    /// The tables are not those of this program yet: start a node of it.
    #[error("the database has no log, or its tables are those of an older program: start a node on it first")]
    NotCurrent,
    /// A log is being moved there: finish that.
    #[error(
        "a log is being moved into the database, and not all of it is there: run `sillage migrate` again"
    )]
    Moving,
    /// The row of the log was deleted: restore a backup.
    #[error("the tables are there, and the log is not")]
    NoLog,
    /// The database has refused something: the message says what, often that a right is missing.
    #[error("the database has refused it: {0}")]
    Refused(String),
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(link::words(&error))
    }
}

impl From<Failed> for PostgresError {
    fn from(failed: Failed) -> Self {
        Self::Unreachable(failed.to_string())
    }
}

/// One node's way to the log. Without [`EventStore::close`] its tasks end by themselves once it is dropped.
pub struct PostgresStore {
    shared: Arc<Shared>,
    /// There until it is closed.
    writer: Mutex<Option<WriterTask>>,
    background: [JoinHandle<()>; 3],
    epoch: Epoch,
}

/// The task that writes, and the way to it.
struct WriterTask {
    jobs: UnboundedSender<Job>,
    task: JoinHandle<()>,
}

/// What the tasks of a node share.
struct Shared {
    /// Which of the nodes this is, for as long as it runs.
    id: Uuid,
    log_id: Uuid,
    connector: Arc<Connector>,
    pool: Pool,
    tail: Tail,
    lane: Arc<Lane>,
    watermark: watch::Sender<Position>,
    /// Why nothing can be written any more, once that is so.
    failure: watch::Sender<Option<Arc<str>>>,
    waiting: Waiting,
    ledger_memory: Duration,
    /// What was minted before this, in microseconds since 1970, may have been forgotten.
    forgotten_until: AtomicI64,
}

impl Shared {
    fn head(&self) -> Position {
        *self.watermark.borrow()
    }

    /// The log is at `to`, and `run` are the last events of it, if they are known here.
    fn reach(&self, to: Position, run: Vec<Arc<Event>>) {
        // Told under the lock of the watermark, so that two who tell cannot overtake each other.
        self.watermark.send_if_modified(|watermark| {
            if to <= *watermark {
                return false;
            }
            if run.first().is_none_or(|first| first.position != watermark.next()) {
                self.tail.clear();
            }
            self.tail.extend(run);
            *watermark = to;
            true
        });
    }

    /// Makes sure that this is the log that it was, with all that was seen of it before it was asked for.
    fn recognise(&self, state: &State, seen: Position) -> Result<(), Failed> {
        let State { log_id, position, forgotten_until, .. } = state;
        if *log_id != self.log_id {
            return Err(Failed::Broken("it is another log, since the database was restored".into()));
        }
        if *position < seen {
            let lost = format!("it ends at {position}, and {seen} was seen: something was lost");
            return Err(Failed::Broken(lost.into()));
        }
        self.forgotten_until.fetch_max(forgotten_until.as_micros(), Ordering::Relaxed);
        Ok(())
    }

    fn fail(&self, reason: &str) {
        tracing::error!(reason, "the log cannot be used any more");
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert_with(|| reason.into());
            is_first
        });
    }
}

impl PostgresStore {
    /// Opens the log of a database, or makes it. `log_id` must be random; a log that exists keeps its own.
    ///
    /// # Errors
    /// [`PostgresError`]; nothing was changed, or all that had to be.
    pub async fn open(
        database: &Database,
        log_id: u128,
        options: PostgresOptions,
    ) -> Result<Self, PostgresError> {
        let connector = Arc::new(Connector::new(database, &options)?);
        let link = connector.connect_by(connector.deadline()).await?;
        check_server(&link).await?;
        let log_id = migrations::run(link.client(), Uuid::from_u128(log_id)).await?;
        let reader = Reader::new(link).await?;
        let state = reader.state().await?;
        reader.close().await;

        let shared = Arc::new(Shared {
            id: Uuid::new_v4(),
            log_id,
            pool: Pool::new(Arc::clone(&connector), options.readers),
            connector,
            tail: Tail::of(options.newest_events),
            lane: Arc::new(Lane::new()),
            watermark: watch::Sender::new(state.position),
            failure: watch::Sender::default(),
            waiting: Waiting::default(),
            ledger_memory: options.ledger_memory,
            forgotten_until: AtomicI64::new(state.forgotten_until.as_micros()),
        });
        let (jobs, queue) = mpsc::unbounded_channel();
        let task = tokio::spawn(Writer::new(Arc::clone(&shared), queue).run());
        let background = [
            tokio::spawn(watching::run(Arc::clone(&shared))),
            tokio::spawn(telling::run(Arc::clone(&shared))),
            tokio::spawn(forgetting::run(Arc::clone(&shared), options.forget_every)),
        ];
        let writer = Mutex::new(Some(WriterTask { jobs, task }));
        Ok(Self { shared, writer, background, epoch: Epoch::from_log_id(log_id.as_u128()) })
    }

    /// Hands a job to the writer and answers what it answers; `gone` if it is no more.
    fn ask<T: Send + 'static>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job, gone: T) -> BoxFuture<T> {
        let (reply, answer) = oneshot::channel();
        if let Some(WriterTask { jobs, .. }) =
            self.writer.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            // A writer that is gone has dropped the queue, and with it the reply.
            drop(jobs.send(job(reply)));
        }
        Box::pin(async move { answer.await.unwrap_or(gone) })
    }

    /// Reads on one of the connections that do. A task of its own does it, so that it comes to its end, and lets go of
    /// its connection, also while whoever has asked looks at nothing but something else, which may be another answer.
    fn read<T: Send + 'static, F>(
        &self,
        query: impl Fn(Arc<Reader>) -> F + Send + Sync + 'static,
    ) -> BoxFuture<Result<T, StoreError>>
    where
        F: Future<Output = Result<T, Failed>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let reading = tokio::spawn(async move { shared.pool.read(query).await });
            reading.await.unwrap_or_else(|ended| Err(StoreError::Unavailable(ended.to_string().into())))
        })
    }
}

/// A connection to a database that has a log in tables of this program, for whoever works on it beside the nodes.
async fn log_in(database: &Database) -> Result<Link, PostgresError> {
    let connector = Connector::new(database, &PostgresOptions::default())?;
    let link = connector.connect_by(connector.deadline()).await?;
    check_server(&link).await?;
    migrations::check(link.client()).await?;
    Ok(link)
}

async fn check_server(link: &Link) -> Result<(), PostgresError> {
    let settings = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
        current_setting('server_encoding'), current_setting('fsync')";
    let row = link.client().query_one(settings, &[]).await?;
    let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    let (encoding, fsync): (String, &str) = (row.try_get(2)?, row.try_get(3)?);
    if number < MIN_SERVER {
        return Err(PostgresError::Old(version));
    }
    if encoding != "UTF8" {
        return Err(PostgresError::Encoding(encoding));
    }
    if fsync != "on" {
        tracing::warn!("fsync is off on the server: a loss of power there loses what was acknowledged here");
    }
    Ok(())
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.background.iter().for_each(JoinHandle::abort);
    }
}

const GONE: &str = "the writing task has stopped";

impl EventStore for PostgresStore {
    fn features(&self) -> Features {
        Features {
            engine: "postgres",
            durability: Durability::Disk,
            positions: Positions::Gapless,
            nodes: Nodes::Several,
            ledger_memory: self.shared.ledger_memory,
        }
    }

    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    fn head(&self) -> Position {
        self.shared.head()
    }

    fn watermark(&self) -> watch::Receiver<Position> {
        self.shared.watermark.subscribe()
    }

    fn hints(&self) -> Option<Arc<dyn Hints>> {
        Some(Arc::clone(&self.shared.lane) as _)
    }

    fn failed(&self) -> BoxFuture<Arc<str>> {
        told(&self.shared.failure)
    }

    fn remembers_since(&self) -> Timestamp {
        let limits = LedgerLimits { memory: self.shared.ledger_memory, ..LedgerLimits::default() };
        let forgotten = Timestamp::from_micros(self.shared.forgotten_until.load(Ordering::Relaxed));
        Memory::new(limits, forgotten).remembers_since(clock::now())
    }

    fn append(&self, appends: Vec<Append>) -> BoxFuture<Vec<Result<Appended, AppendError>>> {
        let count = appends.len();
        let refused = move |error: &AppendError| vec![Err(error.clone()); count];
        let load = Load::of(&appends);
        if let Err(full) = self.shared.waiting.reserve(&load) {
            return Box::pin(std::future::ready(refused(&full)));
        }
        self.ask(|reply| Job::Append(appends, load, reply), refused(&AppendError::Unavailable(GONE.into())))
    }

    fn look_up(&self, keys: Vec<LedgerKey>) -> BoxFuture<Result<Vec<Option<LedgerEntry>>, StoreError>> {
        let keys: Arc<[LedgerKey]> = keys.into();
        self.read(move |reader| {
            let keys = Arc::clone(&keys);
            async move { reader.look_up(&keys).await }
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
        let page = self.read(move |reader| {
            let key = key.clone();
            async move { reader.stream(&key, from, direction, limit).await }
        });
        Box::pin(async move { page.await? })
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
        let head = self.head();
        self.read(move |reader| {
            let filter = filter.clone();
            async move { reader.log(after, head, &filter, limit).await }
        })
    }

    fn drop_events(&self, cuts: Vec<Cut>) -> BoxFuture<Result<Dropped, StoreError>> {
        if let Err(invalid) = check_cuts(&cuts) {
            return Box::pin(std::future::ready(Err(invalid)));
        }
        Box::pin(dropping::run(Arc::clone(&self.shared), cuts))
    }

    fn read_cursor(&self, reactor: &str) -> BoxFuture<Result<CursorState, StoreError>> {
        let reactor: Arc<str> = reactor.into();
        self.read(move |reader| {
            let reactor = Arc::clone(&reactor);
            async move { reader.cursor(&reactor).await }
        })
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
        self.ask(|reply| Job::Lease(request, reply), Err(StoreError::Unavailable(GONE.into())))
    }

    fn lease_holder(&self, lease: &str) -> BoxFuture<Result<Option<Box<str>>, StoreError>> {
        let lease: Arc<str> = lease.into();
        self.read(move |reader| {
            let lease = Arc::clone(&lease);
            async move { reader.lease_holder(&lease).await }
        })
    }

    fn close(&self) -> BoxFuture<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.background.iter().for_each(JoinHandle::abort);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if let Some(WriterTask { jobs, task }) = writer {
                drop(jobs);
                // A panic has been told already, as the failure of the store.
                drop(task.await);
            }
            shared.pool.close().await;
        })
    }
}
