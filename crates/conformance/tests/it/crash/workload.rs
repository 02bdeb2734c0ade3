//! What is asked of the store between two crashes: all of it follows from the dice and from what was written before.

use std::time::Duration;

use sillage_journal::testing::Dice;
use sillage_kernel::{
    CommandId, ContentHash, EventId, Expected, Metadata, NewEvent, Position, Rejection, StreamName, Tenant,
    Timestamp, UserId, Version,
};
use sillage_store::event_store::{BoxFuture, Mode};
use sillage_store::{
    Append, AppendError, Appended, CursorError, CursorUpdate, Entry, EventStore, Fence, Lease, LedgerKey,
    LedgerWrite, Parked, ParkedBecause, StoreError, Verdict,
};
use uuid::Uuid;

use super::truth::Truth;

const STREAMS: [&str; 5] = ["thing-a", "thing-b", "thing-c", "other-a", "other-b"];
const REACTORS: [&str; 2] = ["one", "another"];
pub(super) const LEASES: [&str; 2] = ["left", "right"];
pub(super) const OWNERS: [&str; 2] = ["anna", "bert"];
/// Longer than any run: a lease for that long is not over before its end.
const LONG: Duration = Duration::from_secs(24 * 3_600);

/// How long a lease is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    /// It is over before anybody else asks.
    Over,
    /// It is held to the end.
    Long,
}

/// One thing that the store is asked for.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Append(Append),
    Cursor(CursorUpdate),
    Lease { name: &'static str, owner: &'static str, term: Term },
}

/// What the store says to it.
#[derive(Debug)]
pub(super) enum Answer {
    Append(Result<Appended, AppendError>),
    Cursor(Result<(), CursorError>),
    Lease(Result<Option<Lease>, StoreError>),
}

impl Answer {
    /// Whether it says that nobody knows, or nothing was kept.
    pub(super) fn is_unavailable(&self) -> bool {
        self.failure().is_some()
    }

    /// Why nobody knows, or nothing was kept.
    pub(super) fn failure(&self) -> Option<&str> {
        match self {
            Self::Append(Err(AppendError::Unavailable(why)))
            | Self::Cursor(Err(CursorError::Unavailable(why)))
            | Self::Lease(Err(StoreError::Unavailable(why))) => Some(why),
            _ => None,
        }
    }
}

/// What one writer hands over at once: some appends in one call, or one thing of another kind.
pub(super) type Job = Vec<Op>;

/// Hands a job to the store, which has it in its queue when this returns.
pub(super) fn submit(store: &dyn EventStore, job: Job) -> BoxFuture<Vec<(Op, Answer)>> {
    match job.first() {
        Some(Op::Cursor(update)) => {
            let answer = store.write_cursor(update.clone());
            Box::pin(async move { alone(job, Answer::Cursor(answer.await)) })
        }
        Some(Op::Lease { name, owner, term }) => {
            let ttl = if *term == Term::Over { Duration::ZERO } else { LONG };
            let answer = store.acquire_lease(name, owner, ttl);
            Box::pin(async move { alone(job, Answer::Lease(answer.await)) })
        }
        Some(Op::Append(_)) | None => {
            let append = |op: &Op| match op {
                Op::Append(append) => Some(append.clone()),
                Op::Cursor(_) | Op::Lease { .. } => None,
            };
            let answers = store.append(job.iter().filter_map(append).collect());
            Box::pin(
                async move { job.into_iter().zip(answers.await.into_iter().map(Answer::Append)).collect() },
            )
        }
    }
}

fn alone(job: Job, answer: Answer) -> Vec<(Op, Answer)> {
    job.into_iter().zip([answer]).collect()
}

/// What keeps the writing thread at the disk while others queue up.
pub(super) fn plug(dice: &mut Dice) -> Job {
    let entries = vec![entry(dice, "plug-a", Expected::Any, 1)];
    vec![Op::Append(Append { tenant: tenant(), entries, ledger: None, fence: None, recorded_at: None })]
}

/// What several writers ask for at the same time.
pub(super) fn jobs(dice: &mut Dice, truth: &mut Truth) -> Vec<Job> {
    let writers = 1 + dice.below(*dice.clone().pick(&[1, 4, 12]));
    (0..writers).map(|_| job(dice, truth)).collect()
}

fn job(dice: &mut Dice, truth: &mut Truth) -> Job {
    match dice.below(10) {
        0 => vec![Op::Cursor(step(dice, truth))],
        1 => {
            let (name, owner) = (*dice.pick(&LEASES), *dice.pick(&OWNERS));
            vec![Op::Lease { name, owner, term: *dice.pick(&[Term::Over, Term::Over, Term::Long]) }]
        }
        2 => (0..20).map(|_| Op::Append(append(dice, truth))).collect(),
        _ => (0..1 + dice.below(3)).map(|_| Op::Append(append(dice, truth))).collect(),
    }
}

fn step(dice: &mut Dice, truth: &Truth) -> CursorUpdate {
    let some = |dice: &mut Dice| Position::new(1 + dice.below(truth.len() + 1) as u64);
    let park = (0..dice.below(3)).map(|_| {
        let because = match dice.below(2) {
            0 => ParkedBecause::Behind,
            _ => ParkedBecause::Failed { error: "x".repeat(dice.below(2_000)), attempts: 3 },
        };
        let (position, since) = (some(dice), Timestamp::from_micros(7));
        Parked { position, tenant: tenant(), key: "key".into(), because, since }
    });
    let park = park.collect();
    CursorUpdate {
        reactor: (*dice.pick(&REACTORS)).into(),
        fence: None,
        position: dice.percent(80).then(|| some(dice)),
        mode: dice.percent(20).then(|| *dice.pick(&[Mode::Running, Mode::Paused])),
        park,
        unpark: (0..dice.below(2)).map(|_| some(dice)).collect(),
    }
}

fn append(dice: &mut Dice, truth: &mut Truth) -> Append {
    let first = dice.below(STREAMS.len());
    let entries: Vec<Entry> = (0..*dice.pick(&[1, 1, 1, 2, 3]))
        .map(|index| {
            let stream = STREAMS[(first + index) % STREAMS.len()];
            let expected = expected(dice, truth.version(&name(stream)));
            let events = *dice.pick(&[0, 1, 1, 2, 4]);
            entry(dice, stream, expected, events)
        })
        .collect();
    let fence = dice.percent(10).then(|| {
        let lease = *dice.pick(&LEASES);
        Fence { lease: lease.into(), held: Lease { token: truth.token(lease) + dice.below(2) as u64 } }
    });
    let ledger = dice.percent(60).then(|| {
        let events = entries.iter().map(|entry| entry.events.len()).sum::<usize>();
        let rejection = Rejection::new("TOO_LATE", "it is too late".to_owned());
        let verdict = match events {
            0 if dice.percent(50) => Verdict::Rejected(rejection),
            0 => Verdict::Unchanged,
            _ => Verdict::Applied,
        };
        LedgerWrite {
            key: command(dice, truth),
            content: ContentHash([7; 16]),
            stream: entries[0].stream.clone(),
            verdict,
        }
    });
    Append { tenant: tenant(), entries, ledger, fence, recorded_at: None }
}

/// A command that nobody has sent yet, or one that is sent again.
fn command(dice: &mut Dice, truth: &mut Truth) -> LedgerKey {
    if dice.percent(20) && !truth.commands.is_empty() {
        return dice.pick(&truth.commands).clone();
    }
    let principal: UserId = "anna".parse().unwrap();
    let key = LedgerKey { tenant: tenant(), principal, command_id: CommandId(uuid(dice)) };
    truth.commands.push(key.clone());
    key
}

fn expected(dice: &mut Dice, version: u64) -> Expected {
    match dice.below(10) {
        0 => Expected::NoStream,
        1 => Expected::Exists,
        2 => Expected::Exactly(Version::new(version + 1)),
        3..6 => Expected::Exactly(Version::new(version)),
        _ => Expected::Any,
    }
}

fn entry(dice: &mut Dice, stream: &str, expected: Expected, events: usize) -> Entry {
    let event = |_| {
        let bytes = *dice.pick(&[1, 1, 100, 100, 100, 600, 4_000]);
        let id = EventId(uuid(dice));
        let metadata = Metadata { schema: 1, ..Metadata::default() };
        NewEvent::new(id, "ThingHappened", format!("\"{}\"", "x".repeat(dice.below(bytes))), metadata)
    };
    Entry { stream: name(stream), expected, events: (0..events).map(event).collect() }
}

pub(super) fn tenant() -> Tenant {
    "main".parse().unwrap()
}

fn name(stream: &str) -> StreamName {
    stream.parse().unwrap()
}

fn uuid(dice: &mut Dice) -> Uuid {
    Uuid::from_u64_pair(dice.roll(), dice.roll())
}
