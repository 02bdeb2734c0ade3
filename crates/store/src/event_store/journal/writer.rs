//! What is appended becomes durable, in groups: one thread stages the next group while another waits for the disk.
//!
//! The staging thread takes what waits, numbers and encodes it; as soon as the disk is free, what is staged goes to it as
//! one group with one flush. Then it shows the group that has come to the disk to readers, and only then answers. So
//! groups become visible in their order, and whoever is answered can read what it wrote. A group that cannot be written
//! takes the one that was staged upon it with it; staging then begins again behind what is durable.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sillage_journal::{Address, Boundary, Error as LogError, Flusher, Group as Sealed, Stager};
use sillage_kernel::{Event, Position, Timestamp};

use super::compaction::Compacting;
use super::heads::HotHeads;
use super::inbox::{Inbox, ONLY_THE_DISK, Told};
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

/// How many groups may be on their way: the one that is being written, and one that it finds when it has done that.
const ON_THEIR_WAY: usize = 2;
/// While the disk is busy, so many jobs are staged at a time: nobody waits for fewer.
const PORTION: usize = 32;

/// What readers will see once the group is durable.
#[derive(Default)]
pub(super) struct Group {
    /// When its first job was staged.
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
    broken: Option<LogError>,
}

impl Group {
    /// Nothing of it was kept, so nobody in it is told anything else, not even of a conflict that may have rested on
    /// what is gone.
    fn refuse(self, reason: &Arc<str>) {
        let refused = AppendError::Unavailable(Arc::clone(reason));
        self.answers.into_iter().for_each(|answer| answer.refuse(&refused));
    }
}

/// The staging thread.
pub(super) struct Writer {
    pub(super) inbox: Arc<Inbox>,
    pub(super) stager: Stager,
    pub(super) sequencer: Sequencer<HotHeads>,
    /// Goes before the log does, so that nothing is written any more when another may open it.
    pub(super) publishing: Publishing,
    pub(super) disk: Disk,
    pub(super) shared: Arc<Shared>,
    /// A smaller group is not worth a flush of its own while others wait.
    pub(super) least_group: usize,
    /// What is being staged.
    pub(super) group: Group,
}

/// The way to the disk.
pub(super) struct Disk {
    flusher: Arc<Mutex<Flusher>>,
    /// To the thread that waits for it.
    orders: Sender<Sealed>,
    /// The oldest first; at most [`ON_THEIR_WAY`].
    on_their_way: VecDeque<Group>,
    /// Buffers for further groups.
    spare: Vec<Sealed>,
}

/// What readers see of the log, and how they come to see more.
pub(super) struct Publishing {
    /// Writes what is set aside here.
    pub(super) background: Background,
    /// Drops and archives what is sealed.
    pub(super) _compacting: Compacting,
    pub(super) leases: HashMap<Box<str>, LeaseRecord>,
}

/// What a flush has come to: the end of the log, if it is durable.
pub(super) type Landed = Result<Boundary, LogError>;

/// The way to the disk, and what its thread is to run: it brings groups there, one after the other, until the staging
/// thread has ended.
pub(super) fn disk(flusher: Flusher, inbox: Arc<Inbox>) -> (Disk, impl FnOnce() + Send) {
    let flusher = Arc::new(Mutex::new(flusher));
    let (orders, ordered) = mpsc::channel();
    let disk =
        Disk { flusher: Arc::clone(&flusher), orders, on_their_way: VecDeque::new(), spare: Vec::new() };
    let run = move || {
        for sealed in ordered {
            // The flusher takes itself for poisoned while it is at work, and so after a panic.
            let landed = catch_unwind(AssertUnwindSafe(|| flush(&mut lock(&flusher), &sealed)));
            inbox.landed(sealed, landed.unwrap_or(Err(LogError::Poisoned)));
        }
    };
    (disk, run)
}

fn flush(flusher: &mut Flusher, sealed: &Sealed) -> Landed {
    flusher.flush(sealed)?;
    Ok(flusher.boundary())
}

fn lock(flusher: &Mutex<Flusher>) -> MutexGuard<'_, Flusher> {
    flusher.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Works until the inbox is closed and everything in it is done. A panic is a failure for good.
    pub(super) fn run(mut self) {
        let work = || {
            while let Some(told) = self.next() {
                match told {
                    Told::Job(job) => self.stage(job),
                    Told::Landed(sealed, landed) => self.land(sealed, landed),
                }
            }
        };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.shared.failure.send_replace(Some("the writing thread has panicked".into()));
            self.inbox.abandon();
        }
    }

    /// What it is told next. What is staged goes to the disk as soon as there is no more to stage.
    fn next(&mut self) -> Option<Told> {
        loop {
            let full = self.is_full();
            let told = if full { None } else { self.inbox.poll() };
            if told.is_some() {
                return told;
            }
            if self.is_to_go(full) {
                self.flush();
                continue;
            }
            return match self.disk.on_their_way.is_empty() {
                true => self.inbox.next(1),
                false if full => self.inbox.next(ONLY_THE_DISK),
                false => self.inbox.next(PORTION).or_else(|| self.inbox.next(ONLY_THE_DISK)),
            };
        }
    }

    /// Whether no more goes into the group. While the disk is free, it leaves to the next what waits beyond its least
    /// size: else all callers would soon wait for one and the same group, and there would be nothing to stage while it is
    /// on its way.
    fn is_full(&self) -> bool {
        let Group { appends, answers, broken, .. } = &self.group;
        let enough = || *appends >= self.least_group.max(self.shared.waiting.appends());
        self.stager.staged_bytes() >= GROUP_BYTES
            || answers.len() >= GROUP_JOBS
            || broken.is_some()
            || self.disk.on_their_way.is_empty() && enough()
    }

    /// Whether the group goes to the disk now: to one that is busy only if it is large enough.
    fn is_to_go(&self, full: bool) -> bool {
        let Group { appends, answers, broken, .. } = &self.group;
        match self.disk.on_their_way.len() {
            0 => !answers.is_empty(),
            1..ON_THEIR_WAY => broken.is_none() && (full || *appends >= self.least_group),
            _ => false,
        }
    }

    fn flush(&mut self) {
        if let Some(error) = self.group.broken.take() {
            let group = std::mem::take(&mut self.group);
            return self.give_up(group, &error);
        }
        let spare = self.disk.spare.pop().unwrap_or_default();
        let sealed = self.stager.seal(spare).expect("each job has ended its batch");
        self.group.position = self.sequencer.position();
        self.sequencer.seal();
        let group = std::mem::take(&mut self.group);
        // With little to do, to wake the other thread takes longer than it could save.
        let alone = self.disk.on_their_way.is_empty() && group.appends < self.least_group;
        self.disk.on_their_way.push_back(group);
        if alone {
            let landed = flush(&mut lock(&self.disk.flusher), &sealed);
            self.land(sealed, landed);
        } else {
            self.disk.orders.send(sealed).expect("the flushing thread ends after this one");
        }
    }

    /// The oldest group on its way is on the disk, or never will be.
    fn land(&mut self, sealed: Sealed, landed: Landed) {
        self.disk.spare.push(sealed);
        let mut group = self.disk.on_their_way.pop_front().expect("it was ordered");
        match landed {
            Ok(boundary) => {
                // The disk is not to wait for anything.
                if self.group.appends >= self.least_group && self.is_to_go(false) {
                    self.flush();
                }
                self.publishing.show(&self.shared, &mut group, boundary);
                self.sequencer.commit();
                group.answers.into_iter().for_each(Answer::send);
            }
            Err(error) => self.give_up(group, &error),
        }
    }

    /// Forgets the group and all that was staged upon it, and goes on behind what is durable.
    fn give_up(&mut self, group: Group, error: &LogError) {
        tracing::error!(%error, "a group could not be written");
        let reason = error.to_string().into();
        // Told before anybody is refused, so that nobody asks in vain once more.
        if lock(&self.disk.flusher).is_poisoned() {
            self.shared.failure.send_replace(Some(Arc::clone(&reason)));
        }
        group.refuse(&reason);
        while let Some(upon) = self.disk.on_their_way.pop_front() {
            // The flusher knows that it rests on what is not there.
            drop(self.inbox.next(ONLY_THE_DISK));
            upon.refuse(&reason);
        }
        std::mem::take(&mut self.group).refuse(&reason);
        self.sequencer.discard();
        self.stager = Stager::behind(&lock(&self.disk.flusher));
    }

    fn stage(&mut self, job: Job) {
        if self.group.answers.is_empty() {
            self.group.now = clock::now();
        }
        let answer = match job {
            Job::Append(appends, load, reply) => {
                self.shared.waiting.taken(&load);
                self.group.appends += appends.len();
                let results = appends.into_iter().map(|append| self.append(append)).collect();
                Answer::Append(results, reply)
            }
            Job::Cursor(update, reply) => Answer::Cursor(self.cursor(update), reply),
            Job::Lease(request, reply) => Answer::Lease(self.lease(&request), reply),
        };
        self.group.answers.push(answer);
    }

    fn append(&mut self, append: Append) -> Result<Appended, AppendError> {
        let (shared, now) = (&self.shared, self.group.now);
        let known = |key: &LedgerKey| {
            let search = shared.index().of_command(key);
            search.find(|address| read_ledger(&shared.reader, address, key))
        };
        let Admitted { events, ledger, appended } = self.sequencer.stage(append, now, known)?;
        for event in events {
            if let Some(address) = self.push(Kind::Event, |payload| encode_event(&event, payload)) {
                self.group.events.push((event, address));
            }
        }
        if let Some((key, entry)) = ledger {
            let address = self.push(Kind::Ledger, |payload| encode_ledger(&key, &entry, now, payload));
            self.group.ledger.extend(address.map(|address| (key, address, now)));
        }
        self.stager.end_batch();
        Ok(appended)
    }

    fn cursor(&mut self, update: CursorUpdate) -> Result<(), CursorError> {
        self.sequencer.check_fence(update.fence.as_ref()).map_err(|_| CursorError::Fenced)?;
        let json = serde_json::to_vec(&update).expect("a cursor has only string keys");
        self.push(Kind::Cursor, |payload| payload.extend(&json));
        self.stager.end_batch();
        self.group.cursors.push(update);
        Ok(())
    }

    fn lease(&mut self, request: &LeaseRequest) -> Result<Option<Lease>, StoreError> {
        let LeaseRequest { name, owner, ttl } = request;
        let until = clock::later(self.group.now, *ttl);
        let Some(lease) = self.sequencer.stage_lease(name, owner, self.group.now, until) else {
            return Ok(None);
        };
        let record =
            LeaseRecord { name: name.clone(), owner: owner.clone(), lease, until: until.as_micros() };
        let json = serde_json::to_vec(&record).expect("a lease has only string keys");
        self.push(Kind::Lease, |payload| payload.extend(&json));
        self.stager.end_batch();
        self.group.leases.push(record);
        Ok(Some(lease))
    }

    /// Stages a record. Limits are checked before, so only a log that is broken refuses one; then the group
    /// is given up as a whole, since what is staged can no longer be told from what is not.
    fn push(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Option<Address> {
        match self.stager.push(kind.number(), 0, 0, write) {
            Ok(address) => Some(address),
            Err(error) => {
                self.group.broken.get_or_insert(error);
                None
            }
        }
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
