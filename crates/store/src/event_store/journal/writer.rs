//! Two threads that write in turns: while one waits for the disk, the other stages the next group.
//!
//! A turn takes all that waits as one group, makes it durable with one flush, shows it to readers, and only then
//! answers. It goes through three rooms ([`Staging`], [`Flushing`], [`Publishing`]) and enters each before it leaves the
//! one before, so turns never overtake one another. A group that cannot be written takes the one that was staged upon it
//! with it; staging then begins again behind what is durable.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard};

use sillage_journal::{Address, Boundary, Flusher, Stager};
use sillage_kernel::{Event, Position, Timestamp};

use super::compaction::Compacting;
use super::heads::HotHeads;
use super::index::{Background, Fullness};
use super::reading::read_ledger;
use super::{Kind, LeaseRecord, Shared};
use crate::clock;
use crate::event_store::codec::{encode_event, encode_ledger};
use crate::event_store::queue::{Answer, GROUP_BYTES, GROUP_JOBS, Job, LeaseRequest};
use crate::event_store::sequencer::{Admitted, Sequencer};
use crate::event_store::{
    Append, AppendError, Appended, CursorError, CursorUpdate, Lease, LedgerKey, StoreError,
};

/// How many turns are taken at a time.
pub(super) const THREADS: usize = 2;

/// What readers will see once the group is durable.
struct Group {
    now: Timestamp,
    /// The last position in it, or before it.
    position: Position,
    /// How many appends it has, refused ones included.
    appends: usize,
    events: Vec<(Arc<Event>, Address)>,
    /// Each with when it was settled, as its record says.
    ledger: Vec<(LedgerKey, Address, Timestamp)>,
    cursors: Vec<CursorUpdate>,
    leases: Vec<LeaseRecord>,
    answers: Vec<Answer>,
    /// What kept a record from being staged; then nothing of the group is written.
    broken: Option<sillage_journal::Error>,
}

impl Group {
    fn new(now: Timestamp) -> Self {
        let (position, appends, broken) = (Position::ZERO, 0, None);
        let (events, ledger, cursors) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            now,
            position,
            appends,
            events,
            ledger,
            cursors,
            leases: Vec::new(),
            answers: Vec::new(),
            broken,
        }
    }

    /// Nothing of it was kept, so nobody in it is told anything else, not even of a conflict that may have rested on
    /// what is gone.
    fn refuse(self, reason: &Arc<str>) {
        let refused = AppendError::Unavailable(Arc::clone(reason));
        self.answers.into_iter().for_each(|answer| answer.refuse(&refused));
    }
}

/// What both threads work on.
pub(super) struct Writer {
    staging: Mutex<Staging>,
    /// Goes before the log does, so that nothing is written any more when another may open it.
    publishing: Mutex<Publishing>,
    flushing: Mutex<Flushing>,
    /// How many groups are durable and shown.
    published: AtomicU64,
    /// How many groups could not be written.
    failures: AtomicU64,
    /// How many appends are on their way to the disk.
    in_flight: AtomicUsize,
    shared: Arc<Shared>,
}

/// The first room: jobs become records.
struct Staging {
    jobs: Receiver<Job>,
    stager: Stager,
    sequencer: Sequencer<HotHeads>,
    shared: Arc<Shared>,
    /// How many of the groups that are published the sequencer knows to be.
    settled: u64,
    /// After how many failures it has begun again.
    failures: u64,
}

/// The second room: a group comes to the disk.
struct Flushing {
    flusher: Flusher,
    /// A buffer for another group.
    spare: Option<sillage_journal::Group>,
    /// Why the last group that could not be written was not.
    reason: Arc<str>,
}

/// The third room: readers are shown what is durable.
pub(super) struct Publishing {
    /// Writes what is set aside here.
    pub(super) background: Background,
    /// Drops and archives what is sealed.
    pub(super) _compacting: Compacting,
    pub(super) leases: HashMap<Box<str>, LeaseRecord>,
}

impl Writer {
    pub(super) fn new(
        jobs: Receiver<Job>,
        log: sillage_journal::Writer,
        sequencer: Sequencer<HotHeads>,
        publishing: Publishing,
        shared: Arc<Shared>,
    ) -> Self {
        let (stager, flusher) = log.split();
        let (settled, failures) = (0, 0);
        let staging = Staging { jobs, stager, sequencer, shared: Arc::clone(&shared), settled, failures };
        Self {
            staging: Mutex::new(staging),
            publishing: Mutex::new(publishing),
            flushing: Mutex::new(Flushing { flusher, spare: None, reason: "".into() }),
            published: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            shared,
        }
    }

    /// Takes turns until every sender is gone. A panic is a failure for good: neither thread comes back.
    pub(super) fn run(&self) {
        let work = || {
            let mut staging = self.staging.lock().ok();
            while let Some(held) = staging {
                staging = self.turn(held);
            }
        };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.shared.failure.send_replace(Some("the writing thread has panicked".into()));
        }
    }

    /// Takes one turn, and is back in the first room; not if there is nothing more to do, or the other thread has
    /// panicked.
    fn turn<'a>(&'a self, mut staging: MutexGuard<'a, Staging>) -> Option<MutexGuard<'a, Staging>> {
        let first = staging.jobs.recv().ok()?;
        staging.settle(self.published.load(Ordering::Acquire));
        if staging.failures != self.failures.load(Ordering::Acquire) {
            self.begin_again(&mut staging, &*self.flushing.lock().ok()?)?;
        }
        let mut group = Group::new(clock::now());
        staging.stage(first, &mut group);
        staging.stage_waiting(&mut group, self.in_flight.load(Ordering::Relaxed));
        let mut flushing = self.flushing.lock().ok()?;
        if staging.failures != self.failures.load(Ordering::Acquire) {
            self.begin_again(&mut staging, &flushing)?;
            group.refuse(&flushing.reason);
            return Some(staging);
        }
        // What has come while the disk was busy.
        group.now = clock::now();
        staging.stage_waiting(&mut group, 0);
        let sealed = match staging.seal(&mut group, flushing.spare.take()) {
            Ok(sealed) => sealed,
            Err(error) => {
                self.give_up(group, &mut flushing, &error);
                return Some(staging);
            }
        };
        // With little to do the other thread sleeps on: to wake it takes longer than it could save.
        let quiet = group.appends < self.shared.least_group && self.shared.waiting.appends() == 0;
        let staging = quiet.then_some(staging);
        self.in_flight.store(group.appends, Ordering::Relaxed);
        let flushed = flushing.flush(sealed);
        self.in_flight.store(0, Ordering::Relaxed);
        match flushed {
            Ok(()) => {
                let boundary = flushing.flusher.boundary();
                let mut publishing = self.publishing.lock().ok()?;
                drop(flushing);
                publishing.show(&self.shared, &mut group, boundary);
                self.published.fetch_add(1, Ordering::Release);
                drop(publishing);
                group.answers.into_iter().for_each(Answer::send);
            }
            Err(error) => {
                self.give_up(group, &mut flushing, &error);
                drop(flushing);
            }
        }
        staging.or_else(|| self.staging.lock().ok())
    }

    /// Forgets what was staged, and goes on behind what is durable.
    fn begin_again(&self, staging: &mut Staging, flushing: &Flushing) -> Option<()> {
        // What is durable may still be in the last room, and is not to be forgotten.
        drop(self.publishing.lock().ok()?);
        staging.settle(self.published.load(Ordering::Acquire));
        staging.sequencer.discard();
        staging.stager = Stager::behind(&flushing.flusher);
        staging.failures = self.failures.load(Ordering::Acquire);
        Some(())
    }

    fn give_up(&self, group: Group, flushing: &mut Flushing, error: &sillage_journal::Error) {
        tracing::error!(%error, "a group could not be written");
        flushing.reason = error.to_string().into();
        self.failures.fetch_add(1, Ordering::Release);
        if flushing.flusher.is_poisoned() {
            self.shared.failure.send_replace(Some(Arc::clone(&flushing.reason)));
        }
        group.refuse(&flushing.reason);
    }
}

impl Staging {
    /// So many groups are durable and shown: what they left behind is the truth.
    fn settle(&mut self, published: u64) {
        for _ in self.settled..published {
            self.sequencer.commit();
        }
        self.settled = published;
    }

    /// Stages what waits, as far as a group has room, and not more than it leaves for the next: else all callers would
    /// soon wait for one and the same group, and there would be nothing to stage while it is on its way.
    fn stage_waiting(&mut self, group: &mut Group, in_flight: usize) {
        while self.stager.staged_bytes() < GROUP_BYTES && group.answers.len() < GROUP_JOBS {
            if group.appends >= self.shared.least_group.max(in_flight + self.shared.waiting.appends()) {
                break;
            }
            let Ok(job) = self.jobs.try_recv() else { break };
            self.stage(job, group);
        }
    }

    /// What was staged, to be flushed. `spare` is for the next.
    fn seal(
        &mut self,
        group: &mut Group,
        spare: Option<sillage_journal::Group>,
    ) -> Result<sillage_journal::Group, sillage_journal::Error> {
        if let Some(error) = group.broken.take() {
            return Err(error);
        }
        if let Some(spare) = spare {
            self.stager.reuse(spare);
        }
        group.position = self.sequencer.position();
        let sealed = self.stager.seal()?;
        self.sequencer.seal();
        Ok(sealed)
    }

    fn stage(&mut self, job: Job, group: &mut Group) {
        let answer = match job {
            Job::Append(appends, load, reply) => {
                self.shared.waiting.taken(&load);
                group.appends += appends.len();
                let results = appends.into_iter().map(|append| self.append(append, group)).collect();
                Answer::Append(results, reply)
            }
            Job::Cursor(update, reply) => Answer::Cursor(self.cursor(update, group), reply),
            Job::Lease(request, reply) => Answer::Lease(self.lease(&request, group), reply),
        };
        group.answers.push(answer);
    }

    fn append(&mut self, append: Append, group: &mut Group) -> Result<Appended, AppendError> {
        let (shared, now) = (&self.shared, group.now);
        let known = |key: &LedgerKey| {
            let search = shared.index().of_command(key);
            search.find(|address| read_ledger(&shared.reader, address, key))
        };
        let Admitted { events, ledger, appended } = self.sequencer.stage(append, now, known)?;
        for event in events {
            if let Some(address) = self.push(group, Kind::Event, |payload| encode_event(&event, payload)) {
                group.events.push((event, address));
            }
        }
        if let Some((key, entry)) = ledger {
            let address = self.push(group, Kind::Ledger, |payload| encode_ledger(&key, &entry, now, payload));
            group.ledger.extend(address.map(|address| (key, address, now)));
        }
        self.stager.end_batch();
        Ok(appended)
    }

    fn cursor(&mut self, update: CursorUpdate, group: &mut Group) -> Result<(), CursorError> {
        self.sequencer.check_fence(update.fence.as_ref()).map_err(|_| CursorError::Fenced)?;
        let json = serde_json::to_vec(&update).expect("a cursor has only string keys");
        self.push(group, Kind::Cursor, |payload| payload.extend(&json));
        self.stager.end_batch();
        group.cursors.push(update);
        Ok(())
    }

    fn lease(&mut self, request: &LeaseRequest, group: &mut Group) -> Result<Option<Lease>, StoreError> {
        let LeaseRequest { name, owner, ttl } = request;
        let until = clock::later(group.now, *ttl);
        let Some(lease) = self.sequencer.stage_lease(name, owner, group.now, until) else { return Ok(None) };
        let record =
            LeaseRecord { name: name.clone(), owner: owner.clone(), lease, until: until.as_micros() };
        let json = serde_json::to_vec(&record).expect("a lease has only string keys");
        self.push(group, Kind::Lease, |payload| payload.extend(&json));
        self.stager.end_batch();
        group.leases.push(record);
        Ok(Some(lease))
    }

    /// Stages a record. Limits are checked before, so only a log that is broken refuses one; then the group
    /// is given up as a whole, since what is staged can no longer be told from what is not.
    fn push(&mut self, group: &mut Group, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Option<Address> {
        match self.stager.push(kind.number(), 0, 0, write) {
            Ok(address) => Some(address),
            Err(error) => {
                group.broken.get_or_insert(error);
                None
            }
        }
    }
}

impl Flushing {
    fn flush(&mut self, sealed: sillage_journal::Group) -> Result<(), sillage_journal::Error> {
        let written = self.flusher.flush(&sealed);
        self.spare = Some(sealed);
        written
    }
}

impl Publishing {
    /// Shows the group to readers, then wakes them: whoever is answered after that can read what it wrote.
    fn show(&mut self, shared: &Shared, group: &mut Group, boundary: Boundary) {
        self.leases.extend(group.leases.drain(..).map(|lease| (lease.name.clone(), lease)));
        {
            let mut index = shared.index_mut();
            for (event, address) in &group.events {
                index.add(event, *address);
            }
            for (key, address, at) in &group.ledger {
                index.settle(key, *address, *at);
            }
            group.cursors.iter().for_each(|update| index.step(update));
            if index.reach(boundary) == Fullness::Full {
                index.freeze(self.leases.values().cloned().collect());
                self.background.wake();
            }
            shared.behind.store(index.is_behind(), Ordering::Relaxed);
        }
        if !group.events.is_empty() {
            shared.tail.extend(group.events.drain(..).map(|(event, _)| event));
            shared.watermark.send_replace(group.position);
        }
    }
}
