//! Many at once: whatever the order in which writers, readers and followers come to their turn, there is one order in
//! which it has happened, and everybody has seen that one.
//!
//! Who yields when follows from a seed, which a failure prints; `SILLAGE_SEED=n` takes that seed again. The threads
//! do not follow from it, so a failure that needs their luck may take some tries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sillage_kernel::{Event, EventId, Expected, Filter, Position, Receipt, StreamName, Version};
use sillage_store::event_store::Positions;
use sillage_store::{Append, AppendError, Appended, Direction, EventStore, LedgerKey, Subscription, Verdict};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Fixture;
use super::contents::assert_linked;
use super::things::{
    append, entry, look_up, main_tenant, new_command, settling, thing, version_of, whole_log, whole_stream,
};

const WRITERS: usize = 8;
const APPENDS: usize = 40;
const READERS: usize = 3;
const FOLLOWERS: usize = 4;
const STREAMS: usize = 3;
/// From how many commands a writer picks one.
const SHARED: usize = 2;
const COMMANDS: usize = APPENDS + SHARED;

/// Whoever runs gives way to others that often in a row at most.
const MAX_YIELDS: u32 = 4;

/// Many write to a few streams with expectations and commands that they share, while others read and follow. Then
/// positions are unique and in order, versions have no gaps, every follower saw exactly the log, what an append
/// expected was so where it was taken and was not where it was refused, and each command was settled once.
pub async fn many_at_once_agree_on_one_order(fixture: impl Fixture) {
    let seed = match std::env::var("SILLAGE_SEED") {
        Ok(text) => text.parse().expect("SILLAGE_SEED is a number"),
        Err(_) => Uuid::new_v4().as_u64_pair().0,
    };
    let seed_on_failure = TellSeed(seed);
    let store = fixture.store();
    let commands: Arc<[LedgerKey]> = std::iter::repeat_with(new_command).take(COMMANDS).collect();
    let (done, running) = watch::channel(());
    let (end, ended) = watch::channel(None);
    let (mut writers, mut readers, mut followers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for n in 0..WRITERS {
        writers.spawn(write(store.clone(), Turns::new(seed, n), commands.clone()));
    }
    for n in 0..READERS {
        readers.spawn(read(store.clone(), Turns::new(seed, WRITERS + n), running.clone()));
    }
    for n in 0..FOLLOWERS {
        let turns = Turns::new(seed, WRITERS + READERS + n);
        followers.spawn(follow(store.clone(), turns, n, ended.clone()));
    }
    let attempts: Vec<Attempt> = writers.join_all().await.into_iter().flatten().collect();
    drop(done);
    end.send_replace(Some(store.head()));
    readers.join_all().await;
    let log = whole_log(&*store).await;
    for (filter, seen) in followers.join_all().await {
        let wanted: Vec<_> = log.iter().filter(|event| filter.admits(event)).cloned().collect();
        assert!(seen == wanted, "a follower of {filter:?} has not seen the log");
    }
    assert_in_order(&*store, &log).await;
    assert_answered(&log, &attempts);
    assert_settled_once(&*store, &log, &commands, &attempts).await;
    drop(seed_on_failure);
}

/// Tells the seed if it goes while a test fails.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SILLAGE_SEED={} takes the same seed again", self.0);
        }
    }
}

/// The random choices of one of many.
struct Turns(TestRng);

impl Turns {
    fn new(seed: u64, who: usize) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(who as u64).to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u32()).expect("it fits") % bound
    }

    /// Lets others go first, or not.
    async fn give_way(&mut self) {
        for _ in 0..self.0.next_u32() % MAX_YIELDS {
            tokio::task::yield_now().await;
        }
    }
}

/// An append, and what was answered.
struct Attempt {
    append: Append,
    answer: Result<Appended, AppendError>,
}

async fn write(store: Arc<dyn EventStore>, mut turns: Turns, commands: Arc<[LedgerKey]>) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for round in 0..APPENDS {
        // All are at about the same commands at the same time, so that they meet.
        let commands = &commands[round..round + SHARED];
        let calls = 1 + turns.below(3);
        let mut appends = Vec::new();
        for _ in 0..calls {
            appends.push(plan(&*store, &mut turns, commands).await);
        }
        turns.give_way().await;
        let answers = store.append(appends.clone()).await;
        let both = appends.into_iter().zip(answers);
        attempts.extend(both.map(|(append, answer)| Attempt { append, answer }));
        turns.give_way().await;
    }
    attempts
}

/// What a writer wants after having looked; by the time it is taken others may have been there.
async fn plan(store: &dyn EventStore, turns: &mut Turns, commands: &[LedgerKey]) -> Append {
    let first = turns.below(STREAMS);
    let mut entries = Vec::new();
    for index in 0..1 + turns.below(2) {
        let stream = thing((first + index) % STREAMS);
        let version = Version::new(version_of(store, &stream).await);
        let expected = match turns.below(6) {
            0..3 => Expected::Any,
            3 => Expected::NoStream,
            _ => Expected::Exactly(version),
        };
        entries.push(entry(&stream, expected, 1 + turns.below(2)));
        turns.give_way().await;
    }
    match turns.below(2) {
        0 => append(entries),
        _ => settling(&commands[turns.below(commands.len())], Verdict::Applied, entries),
    }
}

/// Reads streams again and again: what is there stays, and what comes is added behind it.
async fn read(store: Arc<dyn EventStore>, mut turns: Turns, running: watch::Receiver<()>) {
    let mut seen: BTreeMap<StreamName, Vec<Arc<Event>>> = BTreeMap::new();
    while running.has_changed().is_ok() {
        let stream = thing(turns.below(STREAMS));
        let events = whole_stream(&*store, &stream).await;
        let before = seen.entry(stream).or_default();
        assert!(events.starts_with(before), "a stream has changed while it grew");
        *before = events;
        turns.give_way().await;
        tokio::task::yield_now().await;
    }
}

async fn follow(
    store: Arc<dyn EventStore>,
    mut turns: Turns,
    n: usize,
    mut ended: watch::Receiver<Option<Position>>,
) -> (Filter, Vec<Arc<Event>>) {
    let category = Filter::Category("thing".into());
    let filter = [Filter::Everything, Filter::People, category][n % 3].clone();
    let mut subscription = Subscription::new(store, Position::ZERO, filter.clone());
    let mut seen = Vec::new();
    loop {
        let end = *ended.borrow_and_update();
        if end.is_some_and(|end| subscription.cursor() >= end) {
            return (filter, seen);
        }
        let limit = 1 + turns.below(20);
        tokio::select! {
            page = subscription.next(limit) => seen.extend(page.unwrap().events),
            _ = ended.changed() => {}
        }
        turns.give_way().await;
    }
}

/// Positions are unique and grow, versions have no gaps, and each stream is what the log has of it.
async fn assert_in_order(store: &dyn EventStore, log: &[Arc<Event>]) {
    let positions: Vec<u64> = log.iter().map(|event| event.position.get()).collect();
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "a position is out of order or there twice");
    if store.features().positions == Positions::Gapless {
        assert_eq!(positions, Vec::from_iter(1..=log.len() as u64));
    }
    assert_linked(log);
    for n in 0..STREAMS {
        let stream = thing(n);
        let own: Vec<_> = log.iter().filter(|event| event.stream == stream).cloned().collect();
        assert!((1..).zip(&own).all(|(version, event)| event.version.get() == version), "{stream} has gaps");
        let newest = Version::new(u64::MAX);
        let page = store.read_stream(&main_tenant(), &stream, newest, Direction::Backward, 1).await.unwrap();
        assert_eq!(page.head.get(), own.len() as u64);
        assert!(whole_stream(store, &stream).await == own, "{stream} is not what the log has of it");
    }
}

/// What was taken is there once, together, and where it expected to be; of what was refused nothing is there.
fn assert_answered(log: &[Arc<Event>], attempts: &[Attempt]) {
    let places: BTreeMap<EventId, usize> =
        log.iter().enumerate().map(|(index, event)| (event.id, index)).collect();
    assert_eq!(places.len(), log.len(), "an event is there twice");
    let mut taken = BTreeSet::new();
    for Attempt { append, answer } in attempts {
        let ids: Vec<EventId> = append.entries.iter().flat_map(|e| &e.events).map(|event| event.id).collect();
        let Ok(Appended { position, receipt: _ }) = answer else {
            assert!(ids.iter().all(|id| !places.contains_key(id)), "what was refused is there: {answer:?}");
            assert_refusal(log, append, answer);
            continue;
        };
        let start = places[&ids[0]];
        let there: Vec<EventId> = log[start..].iter().take(ids.len()).map(|event| event.id).collect();
        assert_eq!(there, ids, "an append is not in one piece");
        assert_eq!(log[start + ids.len() - 1].position, *position);
        taken.extend(ids);
        for entry in &append.entries {
            let before = log[..start].iter().filter(|event| event.stream == entry.stream).count() as u64;
            let held = entry.expected.holds_at(Version::new(before));
            assert!(held, "{} was at {before}, not {:?}", entry.stream, entry.expected);
        }
    }
    assert_eq!(taken.len(), log.len(), "there is what nobody has written");
}

/// A refusal tells the truth: the stream has been at that version, which was not what was expected.
fn assert_refusal(log: &[Arc<Event>], append: &Append, answer: &Result<Appended, AppendError>) {
    match answer {
        Err(AppendError::Conflict { stream, expected, actual }) => {
            let named = append.entries.iter().any(|e| e.stream == *stream && e.expected == *expected);
            assert!(named && !expected.holds_at(*actual), "{answer:?}");
            let reached = log.iter().filter(|event| event.stream == *stream).count() as u64;
            assert!(actual.get() <= reached, "{stream} never was at {actual}");
        }
        Err(AppendError::Known(known)) => {
            let asked = append.ledger.as_ref().map(|write| write.key.command_id);
            assert_eq!(asked, Some(known.receipt.command_id));
        }
        other => panic!("nobody expected {other:?}"),
    }
}

/// Each command was settled by one append at most, and everybody was told of that one.
async fn assert_settled_once(
    store: &dyn EventStore,
    log: &[Arc<Event>],
    commands: &[LedgerKey],
    attempts: &[Attempt],
) {
    let mut settled = 0;
    for key in commands {
        let own = |attempt: &&Attempt| attempt.append.ledger.as_ref().is_some_and(|write| write.key == *key);
        let receipts = attempts.iter().filter(own).filter_map(|attempt| match &attempt.answer {
            Ok(appended) => Some((Outcome::Settled, appended.receipt.clone()?)),
            Err(AppendError::Known(known)) => Some((Outcome::Known, known.receipt.clone())),
            Err(_) => None,
        });
        let receipts: Vec<(Outcome, Receipt)> = receipts.collect();
        let winners = receipts.iter().filter(|(told, _)| *told == Outcome::Settled).count();
        let known = look_up(store, key).await.map(|entry| entry.receipt);
        assert_eq!(winners, usize::from(known.is_some()), "a command was settled {winners} times");
        for (_, receipt) in &receipts {
            assert_eq!(Some(receipt), known.as_ref(), "somebody was told of another outcome");
            assert!(log.iter().any(|event| event.position == receipt.position));
        }
        settled += winners;
    }
    assert!(settled > 0, "no command was ever settled");
}

/// What the answer to a command was.
#[derive(PartialEq)]
enum Outcome {
    Settled,
    Known,
}
