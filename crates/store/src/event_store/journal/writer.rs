//! The one thread that writes: takes all that waits as one group, makes it durable with one flush, shows it
//! to readers, and only then answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use sillage_journal::Address;
use sillage_kernel::{Event, Timestamp};

use super::compaction::Compacting;
use super::heads::HotHeads;
use super::index::{Background, Fullness};
use super::reading::read_ledger;
use super::{Kind, LeaseRecord, Shared};
use crate::clock;
use crate::event_store::codec::{encode_event, encode_ledger};
use crate::event_store::queue::{Answer, GROUP_BYTES, GROUP_JOBS, Job, LeaseRequest, Load};
use crate::event_store::sequencer::{Admitted, Sequencer};
use crate::event_store::{
    Append, AppendError, Appended, CursorError, CursorUpdate, Lease, LedgerKey, StoreError,
};

/// What readers will see once the group is durable.
#[derive(Default)]
struct Group {
    events: Vec<(Arc<Event>, Address)>,
    ledger: Vec<(LedgerKey, Address)>,
    cursors: Vec<CursorUpdate>,
    answers: Vec<Answer>,
    /// What kept a record from being staged; then nothing of the group is written.
    broken: Option<sillage_journal::Error>,
}

/// The state of the writing thread.
pub(super) struct Writer {
    /// Writes what this thread sets aside. Before the log, so that nothing is written any more when another may open
    /// it.
    pub(super) background: Background,
    /// Drops and archives what is sealed. The same holds for it.
    pub(super) _compacting: Compacting,
    pub(super) log: sillage_journal::Writer,
    pub(super) sequencer: Sequencer<HotHeads>,
    pub(super) shared: Arc<Shared>,
    /// Reused for each payload.
    pub(super) payload: Vec<u8>,
}

impl Writer {
    /// Works until every sender is gone. A panic is a failure for good: the thread does not come back.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.work(jobs))).is_err() {
            shared.failure.send_replace(Some("the writing thread has panicked".into()));
        }
    }

    fn work(&mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let now = clock::now();
            let mut group = Group::default();
            self.stage(first, now, &mut group);
            while self.log.staged_bytes() < GROUP_BYTES && group.answers.len() < GROUP_JOBS {
                let Ok(job) = jobs.try_recv() else { break };
                self.stage(job, now, &mut group);
            }
            let written = match group.broken.take() {
                None => self.log.commit(),
                Some(error) => {
                    self.log.discard_group();
                    Err(error)
                }
            };
            match written {
                Ok(()) => self.publish(group, now),
                Err(error) => self.give_up(group, &error),
            }
        }
    }

    fn stage(&mut self, job: Job, now: Timestamp, group: &mut Group) {
        let answer = match job {
            Job::Append(appends, reply) => {
                self.shared.waiting.taken(Load::of(&appends));
                let results = appends.into_iter().map(|append| self.append(append, now, group)).collect();
                Answer::Append(results, reply)
            }
            Job::Cursor(update, reply) => Answer::Cursor(self.cursor(update, group), reply),
            Job::Lease(request, reply) => Answer::Lease(self.lease(&request, now, group), reply),
        };
        group.answers.push(answer);
    }

    fn append(&mut self, append: Append, now: Timestamp, group: &mut Group) -> Result<Appended, AppendError> {
        let shared = &self.shared;
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
            group.ledger.extend(address.map(|address| (key, address)));
        }
        self.end_batch(group);
        Ok(appended)
    }

    fn cursor(&mut self, update: CursorUpdate, group: &mut Group) -> Result<(), CursorError> {
        self.sequencer.check_fence(update.fence.as_ref()).map_err(|_| CursorError::Fenced)?;
        let json = serde_json::to_vec(&update).expect("a cursor has only string keys");
        self.push(group, Kind::Cursor, |payload| payload.extend(&json));
        self.end_batch(group);
        group.cursors.push(update);
        Ok(())
    }

    fn lease(
        &mut self,
        request: &LeaseRequest,
        now: Timestamp,
        group: &mut Group,
    ) -> Result<Option<Lease>, StoreError> {
        let LeaseRequest { name, owner, ttl } = request;
        let until = clock::later(now, *ttl);
        let Some(lease) = self.sequencer.stage_lease(name, owner, now, until) else { return Ok(None) };
        let record =
            LeaseRecord { name: name.clone(), owner: owner.clone(), lease, until: until.as_micros() };
        let json = serde_json::to_vec(&record).expect("a lease has only string keys");
        self.push(group, Kind::Lease, |payload| payload.extend(&json));
        self.end_batch(group);
        Ok(Some(lease))
    }

    /// Stages a record. Limits are checked before, so only a log that is broken refuses one; then the group
    /// is given up as a whole, since what is staged can no longer be told from what is not.
    fn push(&mut self, group: &mut Group, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Option<Address> {
        self.payload.clear();
        write(&mut self.payload);
        match self.log.push(kind.number(), 0, 0, &self.payload) {
            Ok(address) => Some(address),
            Err(error) => {
                group.broken.get_or_insert(error);
                None
            }
        }
    }

    fn end_batch(&mut self, group: &mut Group) {
        if let Err(error) = self.log.end_batch() {
            group.broken.get_or_insert(error);
        }
    }

    /// Shows the group to readers, then wakes them, then answers: whoever is answered can read what it wrote.
    fn publish(&mut self, group: Group, now: Timestamp) {
        let Group { events, ledger, cursors, answers, broken: _ } = group;
        self.sequencer.commit();
        {
            let mut index = self.shared.index_mut();
            for (event, address) in &events {
                index.add(event, *address);
            }
            for (key, address) in &ledger {
                index.settle(key, *address, now);
            }
            cursors.iter().for_each(|update| index.step(update));
            if index.reach(self.log.boundary()) == Fullness::Full {
                index.freeze(self.sequencer.leases().map(LeaseRecord::from).collect());
                self.background.wake();
            }
            self.shared.behind.store(index.is_behind(), Ordering::Relaxed);
        }
        if !events.is_empty() {
            self.shared.tail.extend(events.into_iter().map(|(event, _)| event));
            self.shared.watermark.send_replace(self.sequencer.position());
        }
        answers.into_iter().for_each(Answer::send);
    }

    /// Nothing of the group was kept, so nobody in it is told anything else, not even of a conflict that may
    /// have rested on what is gone.
    fn give_up(&mut self, group: Group, error: &sillage_journal::Error) {
        self.sequencer.discard();
        tracing::error!(%error, "a group could not be written");
        let reason: Arc<str> = error.to_string().into();
        if self.log.is_poisoned() {
            self.shared.failure.send_replace(Some(Arc::clone(&reason)));
        }
        let refused = AppendError::Unavailable(reason);
        group.answers.into_iter().for_each(|answer| answer.refuse(&refused));
    }
}
