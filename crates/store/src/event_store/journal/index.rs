//! Where everything stands in the log. Derived from it: runs on disk cover the log to where the tail in memory begins,
//! and between them there may be a part that is being written as a run. Readers see them as one.
//!
//! Layers follow one another without a gap, in the log, in positions and in the versions of each stream.

mod blocks;
mod bloom;
mod format;
mod inspection;
mod opening;
mod part;
mod run;
mod searching;
#[cfg(test)]
mod tests;
mod upkeep;
mod writing;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sillage_journal::{Address, Boundary};
use sillage_kernel::ids::{MAX_NAME_BYTES, MAX_STREAM_BYTES};
use sillage_kernel::{Epoch, Event, Filter, Position, Timestamp, Version};

use self::bloom::{Hash, HashKey};
pub(super) use self::inspection::inspect;
pub(super) use self::opening::open;
use self::part::{Admitted, Part, Place};
pub(super) use self::run::Run;
pub(super) use self::searching::{CommandSearch, Page, StreamSearch};
pub(super) use self::upkeep::{Background, Done, Upkeep};
pub(super) use self::writing::Folder;
use super::{EpochRecord, LeaseRecord};
use crate::event_store::ledger::{LedgerLimits, Memory};
use crate::event_store::sequencer::StreamKey;
use crate::event_store::{CursorState, CursorUpdate, LedgerKey, Mode};

/// How the index of a journal is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLimits {
    /// With so many events and commands the tail is full, and is written as a run.
    pub tail_entries: usize,
    /// With so many bytes of log the tail is full.
    pub tail_bytes: u64,
    /// How many events and commands may wait in memory while runs cannot be written; beyond that appends are
    /// refused as [`AppendError::Overloaded`](crate::AppendError::Overloaded).
    pub unwritten_entries: usize,
    /// How many runs of one level become one of the next.
    pub merged_runs: usize,
    /// How often a run is merged at most.
    pub levels: u8,
    /// Of how many streams the end is kept in memory; that of others is read.
    pub hot_streams: usize,
}

impl Default for IndexLimits {
    fn default() -> Self {
        Self {
            tail_entries: 250_000,
            tail_bytes: 64 << 20,
            unwritten_entries: 4_000_000,
            merged_runs: 8,
            levels: 2,
            hot_streams: 1_000_000,
        }
    }
}

/// The most bytes that tenant and name of a stream have together.
const MAX_NAMES_BYTES: usize = MAX_NAME_BYTES + MAX_STREAM_BYTES;

/// A stream that is looked for.
pub(super) struct Name {
    hash: Hash,
    key: StreamKey,
}

/// The events of a stream in one layer.
struct Span {
    first: Version,
    count: u64,
    /// Where its addresses begin in the run.
    at: u64,
}

/// What every part of the index can say of its stretch of the log.
trait Layer {
    /// The positions of its events.
    fn positions(&self) -> Range<u64>;
    /// Which events of the stream it has.
    fn span(&self, name: &Name) -> io::Result<Option<Span>>;
    /// The addresses of some events of a span, counted from its first.
    fn addresses(&self, name: &Name, span: &Span, range: Range<u64>) -> io::Result<Vec<Address>>;
    /// Which of its categories a filter may want.
    fn admitted(&self, filter: &Filter) -> Admitted;
    /// The places of some events, counted from its first.
    fn places(&self, range: Range<u64>) -> io::Result<Vec<Place>>;
}

/// What is being written as a run.
struct Frozen {
    part: Part,
    epoch: Option<EpochRecord>,
    cursors: Vec<(Box<str>, Arc<CursorState>)>,
    leases: Vec<LeaseRecord>,
    forgotten_until: Timestamp,
}

/// What a run keeps beside the index, as it was at its end.
#[derive(Default, Serialize, Deserialize)]
struct Checkpoint {
    /// Each cursor as the step that leads to it from the beginning.
    cursors: Vec<CursorUpdate>,
    leases: Vec<LeaseRecord>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    epoch: Option<EpochRecord>,
}

/// The index of a journal.
pub(super) struct Index {
    limits: IndexLimits,
    key: HashKey,
    /// The oldest first.
    runs: Vec<Arc<Run>>,
    frozen: Option<Arc<Frozen>>,
    tail: Part,
    /// The last epoch that began in the log.
    epoch: Option<EpochRecord>,
    /// Cursors are shared with what is being written, so that setting the tail aside copies none.
    cursors: HashMap<Box<str>, Arc<CursorState>>,
    memory: Memory,
    /// What was settled before this address is forgotten.
    forgotten_to: Address,
    /// When the last command was settled.
    settled_at: Timestamp,
}

impl Index {
    /// An index of these runs, with an empty tail, and the leases that stood at its beginning.
    pub(super) fn new(
        limits: IndexLimits,
        ledger: LedgerLimits,
        folder: &Folder,
        runs: Vec<Arc<Run>>,
    ) -> io::Result<(Self, Vec<LeaseRecord>)> {
        let key = folder.key;
        let last = runs.last().map(|run| &run.header);
        let (from, recorded_at) = last.map_or_else(Default::default, |last| (last.to, last.recorded_at));
        let first = runs.last().map_or(Position::new(1), |run| run.next());
        // One that was merged later than newer ones were written may say more than they do.
        let forgotten_until = runs.iter().map(|run| run.header.forgotten_until).max().unwrap_or_default();
        let memory = Memory::new(ledger, forgotten_until);
        let checkpoint = match runs.last() {
            Some(run) => serde_json::from_slice(&run.checkpoint()?)?,
            None => Checkpoint::default(),
        };
        let (tail, forgotten_to) = (Part::new(from, first, recorded_at), Address::default());
        let (frozen, cursors, settled_at) = (None, HashMap::new(), Timestamp::default());
        let epoch = checkpoint.epoch;
        let mut index =
            Self { limits, key, runs, frozen, tail, epoch, cursors, memory, forgotten_to, settled_at };
        checkpoint.cursors.iter().for_each(|update| index.step(update));
        // What was too much before is so again; what is too old is so once something is settled.
        index.forget();
        Ok((index, checkpoint.leases))
    }

    /// Adds the event after all that are here.
    pub(super) fn add(&mut self, event: &Event, address: Address) {
        self.tail.add(event, address);
    }

    /// Remembers that the command was settled there and then.
    pub(super) fn settle(&mut self, key: &LedgerKey, address: Address, at: Timestamp) {
        self.tail.settle(key, self.key, address, at);
        self.settled_at = self.settled_at.max(at);
    }

    /// Commands that were minted before this moment are no longer in the log.
    pub(super) fn forget_until(&mut self, moment: Timestamp) {
        self.memory.forget_until(moment);
    }

    /// The address before which the ledger has forgotten, and the moment before which it will refuse whatever was
    /// minted, also after a crash.
    pub(super) fn forgotten(&self) -> (Address, Timestamp) {
        let until = self.runs.iter().map(|run| run.header.forgotten_until).max();
        (self.forgotten_to, until.unwrap_or_default())
    }

    /// Moves a cursor.
    pub(super) fn step(&mut self, update: &CursorUpdate) {
        let unknown = self.unknown();
        let cursor = self.cursors.entry(update.reactor.clone()).or_insert_with(|| Arc::new(unknown));
        Arc::make_mut(cursor).apply(update);
    }

    pub(super) fn cursor(&self, reactor: &str) -> CursorState {
        self.cursors.get(reactor).map_or_else(|| self.unknown(), |cursor| CursorState::clone(cursor))
    }

    /// Where all reactors stand that were heard of.
    #[cfg(feature = "postgres")]
    pub(super) fn cursors(&self) -> Vec<(Box<str>, CursorState)> {
        self.cursors.iter().map(|(name, cursor)| (name.clone(), CursorState::clone(cursor))).collect()
    }

    /// How a reactor stands that was never heard of. In a new epoch it may have been, in the old one.
    fn unknown(&self) -> CursorState {
        let mode = if self.epoch.is_some() { Mode::Held } else { Mode::Running };
        CursorState { mode, ..CursorState::default() }
    }

    /// Holds whoever runs, and whoever is yet to be heard of.
    pub(super) fn begin_epoch(&mut self, epoch: EpochRecord) {
        self.epoch = Some(epoch);
        for cursor in self.cursors.values_mut().filter(|cursor| cursor.mode == Mode::Running) {
            Arc::make_mut(cursor).mode = Mode::Held;
        }
    }

    /// The last epoch that began in the log.
    pub(super) fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref().map(|record| &record.epoch)
    }

    /// Says that everything before the boundary is in. Answers whether the tail is full and can be set aside.
    pub(super) fn reach(&mut self, to: Boundary) -> Fullness {
        self.forget();
        self.tail.to = to;
        let bytes = to.at.get().saturating_sub(self.tail.from.at.get());
        let full = self.tail.entries() >= self.limits.tail_entries || bytes >= self.limits.tail_bytes;
        if full && self.tail.entries() > 0 && self.frozen.is_none() { Fullness::Full } else { Fullness::Room }
    }

    /// Sets the tail aside to be written, and goes on with an empty one.
    pub(super) fn freeze(&mut self, leases: Vec<LeaseRecord>) {
        let empty = self.tail.following();
        let part = std::mem::replace(&mut self.tail, empty);
        let cursors = self.cursors.iter().map(|(name, cursor)| (name.clone(), Arc::clone(cursor))).collect();
        let forgotten_until = self.memory.forgotten_until();
        let epoch = self.epoch.clone();
        self.frozen = Some(Arc::new(Frozen { part, epoch, cursors, leases, forgotten_until }));
    }

    /// Whether more waits to be written than may.
    pub(super) fn is_behind(&self) -> bool {
        let waiting = self.frozen.as_ref().map(|frozen| frozen.part.entries() + self.tail.entries());
        waiting.is_some_and(|entries| entries > self.limits.unwritten_entries)
    }

    /// The position of the last event.
    pub(super) fn head(&self) -> Position {
        self.tail.next().previous()
    }

    /// When the last event was recorded.
    pub(super) fn recorded_at(&self) -> Timestamp {
        self.tail.recorded_at
    }

    /// Where the runs end: what lies before need not be replayed.
    pub(super) fn covered(&self) -> Option<Boundary> {
        self.runs.last().map(|run| run.header.to)
    }

    /// A command that was minted before this moment may have been forgotten.
    pub(super) fn remembers_since(&self, now: Timestamp) -> Timestamp {
        self.memory.remembers_since(now)
    }

    /// Forgets the commands of whole runs, the oldest first.
    fn forget(&mut self) {
        let now = self.settled_at;
        let (runs, forgotten_to) = (&self.runs, self.forgotten_to);
        let remembered = || runs.iter().map(|run| &run.header).filter(|run| run.to.at > forgotten_to);
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.part.command_count());
        let unwritten = (frozen + self.tail.command_count()) as u64;
        let mut known = unwritten + remembered().map(|run| run.commands).sum::<u64>();
        for run in remembered() {
            if run.commands > 0 && !self.memory.forgets(run.newest, known, now) {
                break;
            }
            known -= run.commands;
            self.forgotten_to = run.to.at;
        }
    }

    /// The layer that has this position; none if nothing has it yet.
    fn layer_of(&self, position: Position) -> Option<Found<'_>> {
        let frozen = self.frozen.as_ref();
        if position >= self.tail.first {
            return (position < self.tail.next()).then_some(Found::Tail(&self.tail));
        }
        if let Some(frozen) = frozen.filter(|frozen| position >= frozen.part.first) {
            return Some(Found::Frozen(Arc::clone(frozen)));
        }
        let at = self.runs.partition_point(|run| run.next() <= position);
        self.runs.get(at).map(|run| Found::Run(Arc::clone(run)))
    }
}

/// Whether the tail is to be set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fullness {
    Room,
    Full,
}

/// The layer that has a position.
enum Found<'a> {
    Tail(&'a Part),
    Frozen(Arc<Frozen>),
    Run(Arc<Run>),
}

impl Frozen {
    /// What the run keeps beside the index.
    fn checkpoint(&self) -> io::Result<Vec<u8>> {
        let Self { part: _, epoch, cursors, leases, forgotten_until: _ } = self;
        let cursors = cursors.iter().map(|(reactor, state)| {
            let CursorState { position, mode, parked } = &**state;
            CursorUpdate {
                reactor: reactor.clone(),
                fence: None,
                position: Some(*position),
                mode: Some(*mode),
                park: parked.values().cloned().collect(),
                unpark: Vec::new(),
            }
        });
        let mut cursors: Vec<_> = cursors.collect();
        cursors.sort_unstable_by(|one, other| one.reactor.cmp(&other.reactor));
        Ok(serde_json::to_vec(&Checkpoint { cursors, leases: leases.clone(), epoch: epoch.clone() })?)
    }
}
