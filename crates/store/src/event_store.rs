//! The contract of the event store. Every engine in the folder beside this file keeps all of it, and the
//! conformance suite asks each of them: a new one needs a fixture in `crates/conformance/tests/it/`.
//!
//! * An append is atomic over its streams, and answered after it is durable, never before.
//! * Positions grow and never repeat; versions have no gaps.
//! * A command id is taken once for ever (or for as long as [`Features::ledger_memory`] says).
//! * Whoever reads up to [`EventStore::head`] has seen everything up to it: nothing appears behind it later.
//! * The contents of an event go only when somebody cuts its stream, and then reading it is an error, never silence.

pub mod codec;
pub mod hints;
pub mod journal;
pub mod ledger;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
mod queue;
mod sequencer;
mod tail;
pub mod upcasting;

use self::hints::Hints;
pub(crate) use sequencer::{Head, StreamMap, check_limits};

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::AddAssign;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sillage_kernel::{
    CommandId, ContentHash, Epoch, Event, Expected, Filter, NewEvent, Position, Receipt, Rejection,
    StreamName, Tenant, Timestamp, UserId, Version,
};
use tokio::sync::watch;

/// The most records that one append may hold: events and check-only entries together.
pub const MAX_APPEND_RECORDS: usize = 1_000;
/// The most bytes of texts that one append may hold: data, metadata, types, names and a rejection.
pub const MAX_APPEND_BYTES: usize = 4 << 20;
/// How many appends may wait for the disk; beyond that they are refused as [`AppendError::Overloaded`].
pub const MAX_WAITING_APPENDS: usize = 65_536;
/// The most bytes of data and metadata that one page may hold. Every event fits.
pub const MAX_PAGE_BYTES: usize = 8 << 20;
/// The most changes that one step of a cursor may make to what is parked.
pub const MAX_CURSOR_CHANGES: usize = 1_000;
/// The most bytes of texts that one step of a cursor may hold: names, and what [`Parked::bytes`] counts.
pub const MAX_CURSOR_BYTES: usize = 512 << 10;
/// The most streams that one call may cut.
pub const MAX_CUTS: usize = 1_000;

const _: () = assert!(MAX_APPEND_BYTES <= MAX_PAGE_BYTES, "an event has no room on a page");

/// What the methods of the contract return.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// A durable, ordered log of events with a ledger of the commands that made them.
pub trait EventStore: Send + Sync + 'static {
    /// What this engine promises beyond the contract.
    fn features(&self) -> Features;

    /// The identity of the log.
    fn epoch(&self) -> Epoch;

    /// The durable watermark: the position of the last event that can be read.
    fn head(&self) -> Position;

    /// Wakes when the watermark moves. A hint, never data: one wake-up may stand for many moves.
    fn watermark(&self) -> watch::Receiver<Position>;

    /// The way to the other nodes that use the log; none where there can be no other.
    fn hints(&self) -> Option<Arc<dyn Hints>> {
        None
    }

    /// Resolves, with the reason, once the engine has failed for good: nothing can be written any more until
    /// it is opened again. Never, while it may still recover by itself.
    fn failed(&self) -> BoxFuture<Arc<str>>;

    /// A command that was minted before this moment may have been forgotten by the ledger, and must not be
    /// taken for new. Only moves forward.
    fn remembers_since(&self) -> Timestamp;

    /// Takes several appends in their order, and answers them in the same order once all are settled. Each
    /// is atomic by itself; one that fails does not touch the others. They are queued before this returns,
    /// so two calls from one thread are taken in the order of the calls.
    fn append(&self, appends: Vec<Append>) -> BoxFuture<Vec<Result<Appended, AppendError>>>;

    /// What is known of these commands, in their order. A shortcut only: an append looks by itself.
    fn look_up(&self, keys: Vec<LedgerKey>) -> BoxFuture<Result<Vec<Option<LedgerEntry>>, StoreError>>;

    /// Up to `limit` events of a stream, and no more than [`MAX_PAGE_BYTES`] of data, but at least one if there
    /// is any: forward from `from` and later, or backward from `from` and earlier. A stream without events is
    /// an empty page. A short page is not the end of the stream; that is where [`StreamPage::head`] is, or
    /// version 1. A page that would begin with a dropped event is [`StoreError::Dropped`]; one that would come
    /// to a dropped event later is short, and the next page says so.
    fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<Result<StreamPage, StoreError>>;

    /// Up to `limit` wanted events after the position `after`, in the order of the log, and no more than
    /// [`MAX_PAGE_BYTES`] of data. A page may be short, or empty where nothing is wanted, with more behind it:
    /// [`LogPage::through`] tells how far it has come, and that is further as long as there is any event.
    /// It passes over dropped events, so a stream in it may begin late or lack versions: these tell.
    fn read_all(
        &self,
        after: Position,
        filter: Filter,
        limit: usize,
    ) -> BoxFuture<Result<LogPage, StoreError>>;

    /// Takes the contents, data and metadata, of events away: of each stream at most those up to its cut, and never of
    /// its newest event. What stays of each is its place: position, version, id, type, time and checksum. So heads
    /// and positions do not change, nor does the ledger, and what is appended next follows the kept checksum.
    ///
    /// It may do only a part, in any order, also none: what it leaves can be read as before, and goes another time if
    /// it is asked again. Asking again for what is done does nothing. Several cuts of a stream are its highest, one
    /// of an unknown stream is none, and without any it goes on with what it was asked for before. After an error a
    /// part may be done.
    fn drop_events(&self, cuts: Vec<Cut>) -> BoxFuture<Result<Dropped, StoreError>>;

    /// Where a reactor stands. One that was never heard of stands before the first event.
    fn read_cursor(&self, reactor: &str) -> BoxFuture<Result<CursorState, StoreError>>;

    /// Moves a reactor's cursor, and what is parked with it, durably and in one step of at most
    /// [`MAX_CURSOR_CHANGES`] and [`MAX_CURSOR_BYTES`]. It takes no position and does not move the watermark.
    fn write_cursor(&self, update: CursorUpdate) -> BoxFuture<Result<(), CursorError>>;

    /// Makes `owner` the holder of a lease for `ttl`, or prolongs it for its holder. `None` while somebody
    /// else holds it. Every change of hands has a higher token. After an error the lease is as it was.
    fn acquire_lease(
        &self,
        lease: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<Result<Option<Lease>, StoreError>>;

    /// Who holds a lease now, by the name that was given for it; nobody, once its time is up. An engine that is used by
    /// one node alone need not know.
    fn lease_holder(&self, _lease: &str) -> BoxFuture<Result<Option<Box<str>>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Takes nothing more, and returns once all that was queued is settled and nothing holds the log any
    /// more. What is asked of it later is answered `Unavailable`.
    fn close(&self) -> BoxFuture<()>;
}

/// What an engine promises beyond the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Its name, for people.
    pub engine: &'static str,
    /// What an answered append survives.
    pub durability: Durability,
    /// How its positions are numbered.
    pub positions: Positions,
    /// How many nodes use one log.
    pub nodes: Nodes,
    /// How long a command id is remembered.
    pub ledger_memory: Duration,
}

/// What an answered append survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: it lives as long as the process.
    Process,
    /// The loss of power: it was flushed to the disk.
    Disk,
}

/// How an engine numbers positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// 1, 2, 3, …
    Gapless,
    /// Growing, with numbers left out.
    Growing,
}

/// How many nodes use one log at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// One: whoever has opened it is alone.
    One,
    /// Several: what only one of them may do rests on a lease.
    Several,
}

/// What is written in one step, or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose log.
    pub tenant: Tenant,
    /// The streams; each at most once.
    pub entries: Vec<Entry>,
    /// The command that this settles.
    pub ledger: Option<LedgerWrite>,
    /// The lease that the writer must still hold.
    pub fence: Option<Fence>,
    /// When it happened, for what is brought from another log; else the engine's clock tells. Either way no event is
    /// older than the one before it in the log: what would be, takes that one's time.
    pub recorded_at: Option<Timestamp>,
}

/// One stream of an append.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which stream.
    pub stream: StreamName,
    /// What it must be like.
    pub expected: Expected,
    /// What is added; nothing only checks.
    pub events: Vec<NewEvent>,
}

/// What names a command in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LedgerKey {
    /// Whose log.
    pub tenant: Tenant,
    /// Whoever sent it.
    pub principal: UserId,
    /// Its id.
    pub command_id: CommandId,
}

/// The command that an append settles.
#[derive(Debug, Clone)]
pub struct LedgerWrite {
    /// Which command.
    pub key: LedgerKey,
    /// What it asked for.
    pub content: ContentHash,
    /// The stream that it was decided in.
    pub stream: StreamName,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a command, before the log has given its events their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was decided into the events of this append.
    Applied,
    /// Nothing was to be done.
    Unchanged,
    /// The rules refused it.
    Rejected(Rejection),
}

/// What the ledger remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// What the command asked for.
    pub content: ContentHash,
    /// What became of it.
    pub receipt: Receipt,
}

/// An append that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The position of its last event, or that of the log before it if it has none.
    pub position: Position,
    /// What the ledger has written, if it settled a command.
    pub receipt: Option<Receipt>,
}

/// Why an append was not taken. Nothing of it was kept, but for what [`AppendError::Unavailable`] says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A stream is not as expected: read it again and decide again.
    #[error("{stream} was expected {expected:?} and is at version {actual}")]
    Conflict {
        /// Which stream.
        stream: StreamName,
        /// What the append expected.
        expected: Expected,
        /// The version of its last event.
        actual: Version,
    },
    /// The ledger knows the command: answer with its receipt, or refuse another content.
    #[error("the command {} is known", .0.receipt.command_id)]
    Known(Box<LedgerEntry>),
    /// The lease has passed to somebody else: stop.
    #[error("the lease has passed to somebody else")]
    Fenced,
    /// It breaks a limit or names a stream twice: mend the caller.
    #[error("the append cannot be taken: {0}")]
    Invalid(&'static str),
    /// Too much waits for the disk: come back later.
    #[error("too many appends are waiting")]
    Overloaded,
    /// The log cannot be written: come back later with the same command id, and tell an operator. Nothing was
    /// kept, or it is unknown until the engine is opened again ([`EventStore::failed`]); the ledger tells then.
    #[error("the log cannot be written: {0}")]
    Unavailable(Arc<str>),
}

/// Why something could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The log cannot be read: come back later, and tell an operator.
    #[error("the log cannot be read: {0}")]
    Unavailable(Arc<str>),
    /// The event was dropped by compaction: take the baseline, and go on from there.
    #[error("events before version {kept_from} were dropped")]
    Dropped {
        /// A version behind it that can still be read, and the one before it cannot. Usually those from it on all can;
        /// where an engine has dropped only a part, another hole may follow.
        kept_from: Version,
    },
    /// It breaks a limit: mend the caller.
    #[error("this cannot be asked: {0}")]
    Invalid(&'static str),
}

/// Up to where a stream may lose the contents of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Whose stream.
    pub tenant: Tenant,
    /// Which stream.
    pub stream: StreamName,
    /// The last version that may go.
    pub through: Version,
}

/// What was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Of how many events the contents.
    pub events: u64,
    /// How many bytes of data and metadata that were.
    pub bytes: u64,
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, Self { events, bytes }: Self) {
        self.events += events;
        self.bytes += bytes;
    }
}

/// Refuses more cuts than one call may make.
fn check_cuts(cuts: &[Cut]) -> Result<(), StoreError> {
    if cuts.len() > MAX_CUTS {
        return Err(StoreError::Invalid("it cuts more than 1,000 streams"));
    }
    Ok(())
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the newest.
    Forward,
    /// Towards the oldest.
    Backward,
}

/// Some events of a stream.
#[derive(Debug, Clone)]
pub struct StreamPage {
    /// In the order that was asked for.
    pub events: Vec<Arc<Event>>,
    /// The version of the stream's last event when it was read.
    pub head: Version,
}

/// Some events of the log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// In the order of the log.
    pub events: Vec<Arc<Event>>,
    /// Every wanted event up to here is on this page or was on an earlier one.
    pub through: Position,
}

/// A lease that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease {
    /// Grows whenever the lease changes hands; what is older is refused.
    pub token: u64,
}

/// A lease that an append or a cursor write rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The name of the lease.
    pub lease: Box<str>,
    /// What its holder was given.
    pub held: Lease,
}

/// Where a reactor stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CursorState {
    /// Everything up to here is handled or parked.
    pub position: Position,
    /// Whether it is to run.
    pub mode: Mode,
    /// What is set aside, by position: the cursor passes it although it was not confirmed.
    pub parked: BTreeMap<Position, Parked>,
}

/// Whether a reactor is to run; an operator says so, and it outlives a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It acts on events.
    #[default]
    Running,
    /// It waits.
    Paused,
    /// The log has begun a new epoch since it was told to run: it waits if it reaches outside, where what it sends may
    /// have been sent in the old one, until told to go on; otherwise it runs.
    Held,
}

/// An event that is set aside: it waits for an operator, or behind one that does, or was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Which event.
    pub position: Position,
    /// Whose.
    pub tenant: Tenant,
    /// What it is in order with.
    pub key: Arc<str>,
    /// Why it is set aside.
    pub because: ParkedBecause,
    /// Since when.
    pub since: Timestamp,
}

/// Why an event is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum ParkedBecause {
    /// It failed.
    Failed {
        /// What went wrong the last time.
        error: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An earlier event with its key waits.
    Behind,
    /// An operator gave it up before the cursor came to it. It is not handled when the cursor does, and
    /// forgotten once the cursor has passed it. Nothing waits behind it.
    Skipped,
}

impl Parked {
    /// Whether it waits for somebody, which one that was skipped does not.
    pub fn waits(&self) -> bool {
        self.because != ParkedBecause::Skipped
    }

    /// How much it counts against [`MAX_CURSOR_BYTES`].
    pub fn bytes(&self) -> usize {
        let Self { position: _, tenant, key, because, since: _ } = self;
        let error = match because {
            ParkedBecause::Failed { error, attempts: _ } => error.len(),
            ParkedBecause::Behind | ParkedBecause::Skipped => 0,
        };
        tenant.as_str().len() + key.len() + error
    }
}

/// A step of a reactor's cursor. What is `None` or empty stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorUpdate {
    /// Whose cursor.
    pub reactor: Box<str>,
    /// The lease that the writer must still hold.
    pub fence: Option<Fence>,
    /// The new position; lower than before rewinds.
    pub position: Option<Position>,
    /// Whether it is to run.
    pub mode: Option<Mode>,
    /// What is set aside from now on.
    pub park: Vec<Parked>,
    /// What no longer is.
    pub unpark: Vec<Position>,
}

/// Why a cursor was not moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The lease has passed to somebody else: stop.
    #[error("the lease has passed to somebody else")]
    Fenced,
    /// It breaks a limit: make several steps of it.
    #[error("the step of the cursor cannot be taken: {0}")]
    Invalid(&'static str),
    /// The log cannot be written: come back later, and tell an operator.
    #[error("the cursor cannot be written: {0}")]
    Unavailable(Arc<str>),
}

impl CursorState {
    /// Takes a step. What is unparked is forgotten first, so that a step can park it again with a new reason;
    /// what was skipped is forgotten last, if the position has come to it.
    pub fn apply(&mut self, update: &CursorUpdate) {
        let CursorUpdate { reactor: _, fence: _, position, mode, park, unpark } = update;
        self.position = position.unwrap_or(self.position);
        self.mode = mode.unwrap_or(self.mode);
        for position in unpark {
            self.parked.remove(position);
        }
        self.parked.extend(park.iter().map(|parked| (parked.position, parked.clone())));
        let reached = self.position;
        self.parked.retain(|position, parked| parked.waits() || *position > reached);
    }
}

impl CursorUpdate {
    /// Refuses a step that breaks a limit.
    fn check_limits(&self) -> Result<(), CursorError> {
        let Self { reactor, fence, position: _, mode: _, park, unpark } = self;
        if park.len() + unpark.len() > MAX_CURSOR_CHANGES {
            return Err(CursorError::Invalid("it makes more than 1,000 changes"));
        }
        let names = reactor.len() + fence.as_ref().map_or(0, |fence| fence.lease.len());
        if names + park.iter().map(Parked::bytes).sum::<usize>() > MAX_CURSOR_BYTES {
            return Err(CursorError::Invalid("it has more than 512 KiB of texts"));
        }
        Ok(())
    }
}

impl LogPage {
    /// How far a run of the log goes that begins after `after`.
    fn end_of(run: &[Arc<Event>], after: Position) -> Position {
        run.last().map_or(after, |event| event.position)
    }

    /// The page of those who want only some of a run of the log that begins after `after`.
    fn of(run: Vec<Arc<Event>>, after: Position, filter: &Filter) -> Self {
        let through = Self::end_of(&run, after);
        Self { events: run.into_iter().filter(|event| filter.admits(event)).collect(), through }
    }
}

/// Says of one event after another whether it still has room on a page.
fn room() -> impl FnMut(&Event) -> bool {
    let mut bytes = 0;
    move |event| {
        bytes += event.data.len() + event.metadata_json.len();
        bytes <= MAX_PAGE_BYTES
    }
}
