//! What waits, as one group: what must be known to judge it, and what it becomes. There is no I/O here.
//!
//! Invariant: a group is judged by what was committed before it and by itself, and nobody is answered from here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sillage_kernel::{Event, Position, Timestamp};
use uuid::{NoContext, Uuid};

use super::rows::State;
use crate::clock;
use crate::event_store::queue::{Answer, Job, LeaseRequest};
use crate::event_store::sequencer::{Admitted, Head, Sequencer, StreamKey, StreamMap};
use crate::event_store::{
    Append, AppendError, Appended, CursorError, CursorState, CursorUpdate, Entry, Fence, Lease, LedgerEntry,
    LedgerKey, Parked, StoreError,
};

/// What some jobs speak of, each once.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) streams: Vec<StreamKey>,
    pub(super) commands: Vec<LedgerKey>,
    pub(super) leases: Vec<Box<str>>,
    pub(super) reactors: Vec<Box<str>>,
}

impl Wanted {
    pub(super) fn of(jobs: &[Job]) -> Self {
        let (mut streams, mut commands) = (HashSet::new(), HashSet::new());
        let (mut leases, mut reactors) = (HashSet::new(), HashSet::new());
        let lease = |fence: &Option<Fence>| fence.as_ref().map(|fence| fence.lease.clone());
        for job in jobs {
            match job {
                Job::Append(appends, ..) => {
                    for Append { tenant, entries, ledger, fence, recorded_at: _ } in appends {
                        streams.extend(entries.iter().map(|entry| (tenant.clone(), entry.stream.clone())));
                        commands.extend(ledger.iter().map(|write| write.key.clone()));
                        leases.extend(lease(fence));
                    }
                }
                Job::Cursor(CursorUpdate { reactor, fence, .. }, _) => {
                    reactors.insert(reactor.clone());
                    leases.extend(lease(fence));
                }
                Job::Lease(LeaseRequest { name, .. }, _) => drop(leases.insert(name.clone())),
            }
        }
        Self {
            streams: streams.into_iter().collect(),
            commands: commands.into_iter().collect(),
            leases: leases.into_iter().collect(),
            reactors: reactors.into_iter().collect(),
        }
    }
}

/// What was committed of all that some jobs speak of.
pub(super) struct Base {
    pub(super) state: State,
    pub(super) heads: StreamMap<Head>,
    pub(super) ledger: HashMap<LedgerKey, LedgerEntry>,
    pub(super) leases: Vec<LeaseRow>,
    /// Without what is parked.
    pub(super) cursors: HashMap<Box<str>, CursorState>,
}

/// Who holds a lease, and until when.
pub(super) struct LeaseRow {
    pub(super) name: Box<str>,
    pub(super) owner: Box<str>,
    pub(super) lease: Lease,
    pub(super) until: Timestamp,
}

/// What jobs have become.
pub(super) struct Group {
    pub(super) id: Uuid,
    pub(super) now: Timestamp,
    /// The position of the log once this is in it.
    pub(super) position: Position,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) ledger: Vec<(LedgerKey, LedgerEntry)>,
    pub(super) leases: BTreeMap<Box<str>, LeaseRow>,
    pub(super) cursors: BTreeMap<Box<str>, Steps>,
    answers: Vec<Answer>,
}

/// What all steps of a cursor in a group come to.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Where it stands then, and whether it runs.
    pub(super) cursor: CursorState,
    /// What is parked or no longer is, whatever was before.
    pub(super) changes: BTreeMap<Position, Option<Parked>>,
    /// What was skipped and stands here or before is forgotten first.
    pub(super) passed: Position,
}

impl Group {
    pub(super) fn stage(jobs: Vec<Job>, base: Base) -> Self {
        let Base { state, heads, ledger: known, leases, mut cursors } = base;
        let now = state.now;
        let mut sequencer = Sequencer::resume(heads, state.position, state.recorded_at);
        for LeaseRow { name, owner, lease, until } in leases {
            sequencer.replay_lease(name, owner, lease, until);
        }
        let mut group = Self {
            id: minted_at(now),
            now,
            position: state.position,
            events: Vec::new(),
            ledger: Vec::new(),
            leases: BTreeMap::new(),
            cursors: BTreeMap::new(),
            answers: Vec::with_capacity(jobs.len()),
        };
        for job in jobs {
            let answer = match job {
                Job::Append(appends, _, reply) => {
                    let results =
                        appends.into_iter().map(|append| group.append(&mut sequencer, append, &known));
                    Answer::Append(results.collect(), reply)
                }
                Job::Cursor(update, reply) => {
                    let result = sequencer.check_fence(update.fence.as_ref());
                    if result.is_ok() {
                        let steps = group.cursors.entry(update.reactor.clone()).or_insert_with(|| {
                            let known = cursors.remove(&update.reactor);
                            let cursor = known.unwrap_or_else(|| state.unknown_cursor());
                            Steps { cursor, ..Steps::default() }
                        });
                        steps.take(&update);
                    }
                    Answer::Cursor(result.map_err(|_| CursorError::Fenced), reply)
                }
                Job::Lease(LeaseRequest { name, owner, ttl }, reply) => {
                    let until = clock::later(now, ttl);
                    let lease = sequencer.stage_lease(&name, &owner, now, until);
                    if let Some(lease) = lease {
                        group.leases.insert(name.clone(), LeaseRow { name, owner, lease, until });
                    }
                    Answer::Lease(Ok(lease), reply)
                }
            };
            group.answers.push(answer);
        }
        sequencer.commit();
        group.position = sequencer.position();
        group
    }

    fn append(
        &mut self,
        sequencer: &mut Sequencer<StreamMap<Head>>,
        append: Append,
        known: &HashMap<LedgerKey, LedgerEntry>,
    ) -> Result<Appended, AppendError> {
        if has_nul(&append) {
            return Err(AppendError::Invalid("the type of an event has a character that no text may have"));
        }
        let known = |key: &LedgerKey| Ok::<_, StoreError>(known.get(key).cloned());
        let Admitted { events, ledger, appended } = sequencer.stage(append, self.now, known)?;
        self.events.extend(events);
        self.ledger.extend(ledger);
        Ok(appended)
    }

    /// Whether nothing of it is to be kept: then what everybody hears rests on what was committed before.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.ledger.is_empty() && self.leases.is_empty() && self.cursors.is_empty()
    }

    /// What readers see of it, and what is told once they do.
    pub(super) fn publish(self) -> (Position, Vec<Arc<Event>>, impl FnOnce()) {
        let Self { position, events, answers, .. } = self;
        (position, events, || answers.into_iter().for_each(Answer::send))
    }

    /// Nothing of it was kept, or nobody knows, so nobody in it is told anything else.
    pub(super) fn refuse(self, error: &AppendError) {
        self.answers.into_iter().for_each(|answer| answer.refuse(error));
    }
}

impl Steps {
    /// Takes one more step, as [`CursorState::apply`] does where everything that is parked is known.
    fn take(&mut self, update: &CursorUpdate) {
        let unpark = update.unpark.iter().map(|position| (*position, None));
        let park = update.park.iter().map(|parked| (parked.position, Some(parked.clone())));
        self.changes.extend(unpark.chain(park));
        self.cursor.position = update.position.unwrap_or(self.cursor.position);
        self.cursor.mode = update.mode.unwrap_or(self.cursor.mode);
        let reached = self.cursor.position;
        self.passed = self.passed.max(reached);
        for (position, change) in &mut self.changes {
            if *position <= reached && change.as_ref().is_some_and(|parked| !parked.waits()) {
                *change = None;
            }
        }
    }
}

/// An id from which it can be told when it was made.
fn minted_at(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.as_micros()).unwrap_or_default();
    let nanos = u32::try_from(micros % 1_000_000 * 1_000).expect("a second has fewer nanoseconds than that");
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, micros / 1_000_000, nanos))
}

/// The database has no text with this character. Names have none of it; data and metadata are kept as bytes.
fn has_nul(append: &Append) -> bool {
    let event_types = |entry: &Entry| entry.events.iter().any(|event| event.event_type.contains('\0'));
    append.entries.iter().any(event_types)
}
