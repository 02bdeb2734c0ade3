//! Dropping what nobody needs any more, and moving what is old to the archive: beside the thread that writes the log and
//! never in its way, one thing after the other.
//!
//! Only sealed segments are touched, and one is written anew only if that saves enough. So cuts are remembered until it
//! does, in memory; whoever wants them done in the end asks again. Together with events go
//!
//! * commands that the ledger has forgotten, and says so also after a crash: in their place stands until when;
//! * steps of a cursor that the next step in the segment makes unnecessary, and leases that a later record replaces.
//!
//! What is rebuilt from what is left is what was there before, but for what was forgotten.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use sillage_journal::{Address, Compaction, Fate, Keeper, Progress, RecordRef, Sieve};
use sillage_kernel::{Filter, Position, Timestamp, Version};
use tokio::sync::oneshot;

use super::index::Page;
use super::walk::Recorded;
use super::{Kind, Shared, unreadable};
use crate::event_store::codec::{decode_ledger, decode_place, encode_forgotten, without_contents};
use crate::event_store::sequencer::StreamKey;
use crate::event_store::{CursorUpdate, Cut, Direction, Dropped, StoreError};

/// Of how many streams the cuts are remembered. With more those before are forgotten, and can be asked for again.
const MAX_STREAMS: usize = 100_000;
/// How many requests may wait. Of what comes then nothing is done, and it is answered so.
const MAX_REQUESTS: usize = 16;
/// How many events are looked at before a pause.
const PAGE_EVENTS: usize = 4_096;
/// How long a pause is, after so many events or a piece that was written.
const PAUSE: Duration = Duration::from_millis(5);

/// What the thread is asked to do.
pub(super) enum Request {
    /// Drop what these cuts let go, and what those before did.
    Drop(Vec<Cut>, oneshot::Sender<Result<Dropped, StoreError>>),
    /// Archive what ends before that, and tell how far that has come.
    Archive(Position, Box<dyn FnMut(Progress) + Send>, oneshot::Sender<Result<u64, StoreError>>),
    /// Look whether it is to stop.
    Wake,
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Requests(SyncSender<Request>);

impl Requests {
    /// Hands over a request, or answers it if too many wait. Whoever asks a thread that is gone gets no answer.
    pub(super) fn ask(&self, request: Request) {
        match self.0.try_send(request) {
            Err(TrySendError::Full(Request::Drop(_, reply))) => drop(reply.send(Ok(Dropped::default()))),
            Err(TrySendError::Full(Request::Archive(_, _, reply))) => {
                drop(reply.send(Err(StoreError::Unavailable(BUSY.into()))));
            }
            Ok(()) | Err(TrySendError::Full(Request::Wake) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The thread, until this is dropped; that waits until it has let go of the log, whoever else can still ask it.
pub(super) struct Compacting {
    requests: Requests,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compacting {
    pub(super) fn start(shared: Arc<Shared>, keeper: Keeper) -> io::Result<Self> {
        let (requests, waiting) = mpsc::sync_channel(MAX_REQUESTS);
        let stopped = Arc::new(AtomicBool::new(false));
        let (cuts, waste) = (HashMap::new(), BTreeMap::new());
        let compactor = Compactor { shared, keeper, stopped: Arc::clone(&stopped), cuts, waste };
        let thread = thread::Builder::new().name("journal-compact".into());
        let thread = Some(thread.spawn(move || compactor.work(&waiting))?);
        Ok(Self { requests: Requests(requests), stopped, thread })
    }

    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }
}

impl Drop for Compacting {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // If there is no room for it, one that waits already lets the thread look.
        self.requests.ask(Request::Wake);
        // A panic has been told by the thread itself.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// The state of the thread.
struct Compactor {
    shared: Arc<Shared>,
    keeper: Keeper,
    stopped: Arc<AtomicBool>,
    /// The last version of each stream that may go. Never its newest, as it was when it was cut.
    cuts: HashMap<StreamKey, Version>,
    /// How many bytes of each segment they let go.
    waste: BTreeMap<Address, u64>,
}

impl Compactor {
    fn work(mut self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            match request {
                Request::Wake => {}
                Request::Drop(cuts, reply) => drop(reply.send(self.drop_events(cuts))),
                Request::Archive(before, tell, reply) => drop(reply.send(self.archive(before, tell))),
            }
        }
    }

    fn drop_events(&mut self, cuts: Vec<Cut>) -> Result<Dropped, StoreError> {
        if self.cuts.len() + cuts.len() > MAX_STREAMS {
            self.cuts.clear();
            self.waste.clear();
        }
        let mut looked = 0;
        for cut in cuts {
            self.remember(cut, &mut looked)?;
        }
        let (mut dropped, mut failed) = (Dropped::default(), None);
        for base in self.due()? {
            match self.compact(base) {
                Ok(more) => dropped += more,
                // Others need not wait for one that cannot be read.
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(dropped), Err)
    }

    /// Takes a cut, and looks where what it lets go stands. `looked` counts the events since the last pause.
    fn remember(
        &mut self,
        Cut { tenant, stream, through }: Cut,
        looked: &mut usize,
    ) -> Result<(), StoreError> {
        let key = (tenant, stream);
        let newest = self.find(&key, Version::new(u64::MAX), Direction::Backward, 1)?.0;
        let through = through.min(newest.previous());
        let mut known = self.cuts.get(&key).copied().unwrap_or_default();
        // After the newest was looked for: so what it lets go is in these or the one that is written.
        let sealed = self.keeper.sealed();
        let segment_of = |at: Address| {
            let index = sealed.partition_point(|(_, end)| *end <= at);
            sealed
                .get(index)
                .map_or_else(|| sealed.last().map_or_else(Address::default, |last| last.1), |s| s.0)
        };
        while known < through {
            let left = usize::try_from(through.get() - known.get()).unwrap_or(usize::MAX);
            let (_, addresses) = self.find(&key, known.next(), Direction::Forward, left.min(PAGE_EVENTS))?;
            let waste = &mut self.waste;
            let read = self.shared.reader.read_each(&addresses, |record| {
                if record.kind == Kind::Event.number() {
                    match without_contents(record.payload) {
                        Ok(place) => {
                            let saved = (record.payload.len() - place.len()) as u64;
                            *waste.entry(segment_of(record.address)).or_default() += saved;
                        }
                        Err(malformed) => return ControlFlow::Break(malformed),
                    }
                }
                ControlFlow::Continue(())
            });
            if let ControlFlow::Break(malformed) = read.map_err(unreadable)? {
                return Err(unreadable(malformed));
            }
            known = Version::new(known.get() + addresses.len() as u64);
            self.cuts.insert(key.clone(), known);
            *looked += addresses.len();
            if *looked >= PAGE_EVENTS {
                *looked = 0;
                if pause(&self.stopped).is_break() {
                    return Err(StoreError::Unavailable(CLOSING.into()));
                }
            }
        }
        Ok(())
    }

    fn find(
        &self,
        key: &StreamKey,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<(Version, Vec<Address>), StoreError> {
        let search = self.shared.index().of_stream(key.clone(), from, direction, limit);
        search.finish().map_err(unreadable)
    }

    /// The sealed segments that are worth it.
    fn due(&self) -> Result<Vec<Address>, StoreError> {
        let mut due = Vec::new();
        for (base, _) in self.keeper.sealed() {
            let Some(waste) = self.waste.get(&base) else { continue };
            let bytes = self.keeper.file_bytes(base).map_err(unreadable)?;
            if bytes.is_some_and(|bytes| self.keeper.is_worth(bytes, *waste)) {
                due.push(base);
            }
        }
        Ok(due)
    }

    fn compact(&mut self, base: Address) -> Result<Dropped, StoreError> {
        let mut needed = Needed::new(&self.cuts, self.shared.index().forgotten(), &self.stopped);
        let done = self.keeper.compact(base, &mut needed);
        let Needed { dropped, newest, .. } = needed;
        // Whoever reads what the memory has of it would find it there, whether all went well or not.
        self.shared.tail.forget_to(newest);
        match done.map_err(unreadable)? {
            Compaction::Stopped => Err(StoreError::Unavailable(CLOSING.into())),
            Compaction::Done { before, after } => {
                tracing::info!(segment = %base, before, after, events = dropped.events, "a segment was compacted");
                self.waste.remove(&base);
                Ok(dropped)
            }
            Compaction::NotWorth | Compaction::NotHere => {
                self.waste.remove(&base);
                Ok(Dropped::default())
            }
        }
    }

    fn archive(&mut self, before: Position, mut tell: impl FnMut(Progress)) -> Result<u64, StoreError> {
        let page =
            Page::find(&self.shared.index, before.previous(), &Filter::Everything, 1).map_err(unreadable)?;
        let first_kept = page.addresses.first().copied();
        let mut due = self.keeper.sealed();
        due.retain(|(_, end)| first_kept.is_none_or(|kept| kept >= *end));
        let total_bytes = due.last().map_or(0, |(_, end)| end.get());
        let mut moved = 0;
        for (base, end) in due {
            if pause(&self.stopped).is_break() {
                break;
            }
            moved += u64::from(self.keeper.archive(base).map_err(unreadable)?);
            tell(Progress { done_bytes: end.get(), total_bytes });
        }
        Ok(moved)
    }
}

const CLOSING: &str = "the engine is closing";
const BUSY: &str = "too many requests to drop or archive wait: ask again";

/// Lets others work, and breaks once it is to stop.
fn pause(stopped: &AtomicBool) -> ControlFlow<()> {
    thread::sleep(PAUSE);
    if stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Tells what of a segment is needed.
struct Needed<'a> {
    cuts: &'a HashMap<StreamKey, Version>,
    /// The address before which the ledger has forgotten, and the moment before which it refuses what was minted.
    forgotten: (Address, Timestamp),
    stopped: &'a AtomicBool,
    /// The last step of each cursor so far that only moves it, and the last record of each lease.
    moves: HashMap<Box<str>, (Address, Position)>,
    leases: HashMap<Box<str>, Address>,
    /// Cursors and leases that are not needed.
    replaced: HashSet<Address>,
    /// Whether it stands in the segment that commands were forgotten.
    forgetting: Forgetting,
    dropped: Dropped,
    /// The position of the last event that was dropped.
    newest: Position,
}

#[derive(PartialEq, Eq)]
enum Forgetting {
    Untold,
    Told,
}

impl<'a> Needed<'a> {
    fn new(
        cuts: &'a HashMap<StreamKey, Version>,
        forgotten: (Address, Timestamp),
        stopped: &'a AtomicBool,
    ) -> Self {
        let (moves, leases, replaced) = (HashMap::new(), HashMap::new(), HashSet::new());
        let (forgetting, dropped, newest) = (Forgetting::Untold, Dropped::default(), Position::ZERO);
        Self { cuts, forgotten, stopped, moves, leases, replaced, forgetting, dropped, newest }
    }

    /// A step that only moves a cursor is not needed if the next one moves it at least as far: what the first lets the
    /// cursor forget, the second does too.
    fn step(&mut self, address: Address, update: CursorUpdate) {
        let CursorUpdate { reactor, fence: _, position, mode, park, unpark } = update;
        if let Some((earlier, before)) = self.moves.remove(&reactor)
            && position.is_some_and(|position| position >= before)
        {
            self.replaced.insert(earlier);
        }
        if let Some(position) = position
            && mode.is_none()
            && park.is_empty()
            && unpark.is_empty()
        {
            self.moves.insert(reactor, (address, position));
        }
    }

    fn event(&mut self, payload: &[u8]) -> Fate {
        let Ok((key, version, position)) = decode_place(payload) else { return Fate::Keep };
        let may_go = self.cuts.get(&key).is_some_and(|through| version <= *through);
        let Some(place) = without_contents(payload).ok().filter(|_| may_go) else { return Fate::Keep };
        const LENGTHS: usize = 2 * size_of::<u32>();
        self.dropped += Dropped { events: 1, bytes: (payload.len() - place.len() - LENGTHS) as u64 };
        self.newest = self.newest.max(position);
        Fate::Replace { kind: Kind::Dropped.number(), payload: place.to_vec() }
    }

    fn command(&mut self, record: &RecordRef<'_>) -> Fate {
        let (forgotten_to, until) = self.forgotten;
        let Ok((key, _, at)) = decode_ledger(record.payload) else { return Fate::Keep };
        let newest = key.command_id.minted_at().map_or(at, |minted| minted.max(at));
        if record.address >= forgotten_to || newest >= until {
            return Fate::Keep;
        }
        match std::mem::replace(&mut self.forgetting, Forgetting::Told) {
            Forgetting::Told => Fate::Leave,
            Forgetting::Untold => {
                let mut payload = Vec::new();
                encode_forgotten(until, &mut payload);
                Fate::Replace { kind: Kind::Forgotten.number(), payload }
            }
        }
    }
}

impl Sieve for Needed<'_> {
    fn look(&mut self, record: &RecordRef<'_>) {
        if ![Kind::Cursor, Kind::Lease].map(Kind::number).contains(&record.kind) {
            return;
        }
        match Recorded::decode(record) {
            Ok(Recorded::Cursor(update)) => self.step(record.address, update),
            Ok(Recorded::Lease(lease)) => {
                self.replaced.extend(self.leases.insert(lease.name, record.address));
            }
            _ => {}
        }
    }

    fn judge(&mut self, record: &RecordRef<'_>) -> Fate {
        match Kind::from_number(record.kind) {
            Some(Kind::Event) => self.event(record.payload),
            Some(Kind::Ledger) => self.command(record),
            Some(Kind::Cursor | Kind::Lease) if self.replaced.contains(&record.address) => Fate::Leave,
            _ => Fate::Keep,
        }
    }

    fn pause(&mut self) -> ControlFlow<()> {
        pause(self.stopped)
    }
}
