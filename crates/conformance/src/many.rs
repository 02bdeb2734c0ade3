//! Many at once on one log: some write, read and follow, and tell what they ask for, are answered and see; in the end
//! that is held against the log.
//!
//! What they tell can be carried from one process to another, so that whoever is killed has told what came before.

mod history;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sillage_kernel::{CommandId, Event, Expected, Filter, Position, StreamName, Version};
use sillage_store::{Append, EventStore, LedgerKey, Subscription, Verdict};
use tokio::sync::watch;
use uuid::{Builder, Uuid};

pub use self::history::{Answer, Asked, History, Told, mark};
use crate::event_store::things::{append, entry, new_command, settling, thing, version_of, whole_stream};

/// From how many commands a writer picks one.
pub const SHARED: usize = 2;
const STREAMS: usize = 3;
/// Whoever runs gives way to others that often in a row at most.
const MAX_YIELDS: u32 = 4;

/// Where somebody tells what is going on.
pub type Tell = Arc<dyn Fn(Told) + Send + Sync>;

/// The seed of a test, which it tells if it goes while the test fails.
pub struct TellSeed(pub u64);

impl TellSeed {
    /// The one that `SILLAGE_SEED` names, or another each time.
    #[allow(clippy::new_without_default, reason = "it is another each time")]
    pub fn new() -> Self {
        Self(match std::env::var("SILLAGE_SEED") {
            Ok(text) => text.parse().expect("SILLAGE_SEED is a number"),
            Err(_) => Uuid::new_v4().as_u64_pair().0,
        })
    }
}

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SILLAGE_SEED={} takes the same seed again", self.0);
        }
    }
}

/// The random choices of one of many.
pub struct Turns(TestRng);

impl Turns {
    /// Those of somebody, as they follow from a seed.
    pub fn new(seed: u64, who: usize) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(who as u64).to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// A number below another.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u32()).expect("it fits") % bound
    }

    /// Lets others go first, or not.
    async fn give_way(&mut self) {
        for _ in 0..self.0.next_u32() % MAX_YIELDS {
            tokio::task::yield_now().await;
        }
    }
}

/// The commands that all writers of a log send.
#[derive(Debug, Clone, Copy)]
pub struct Commands {
    seed: u64,
    minted_ms: u64,
}

impl Commands {
    /// They are minted now.
    pub fn new(seed: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        Self::minted(seed, u64::try_from(now.as_millis()).expect("it fits"))
    }

    /// They were minted at a time, in milliseconds since 1970.
    pub fn minted(seed: u64, minted_ms: u64) -> Self {
        Self { seed, minted_ms }
    }

    /// When they were minted, in milliseconds since 1970.
    pub fn minted_ms(&self) -> u64 {
        self.minted_ms
    }

    /// One of them, the same for everybody.
    pub fn get(&self, number: usize) -> LedgerKey {
        let mut random = [0; 10];
        random[..4].copy_from_slice(&u32::try_from(number).expect("there are fewer").to_be_bytes());
        random[4..].copy_from_slice(&self.seed.to_be_bytes()[2..]);
        key(CommandId(Builder::from_unix_timestamp_millis(self.minted_ms, &random).into_uuid()))
    }
}

/// What names a command of theirs in the ledger.
fn key(command_id: CommandId) -> LedgerKey {
    LedgerKey { command_id, ..new_command() }
}

/// Somebody who writes.
pub struct Writer {
    /// Where to.
    pub store: Arc<dyn EventStore>,
    /// What is chosen.
    pub turns: Turns,
    /// Who hears of it.
    pub tell: Tell,
}

impl Writer {
    /// Asks for something in one call, some of which settles one of these commands.
    pub async fn round(&mut self, commands: &[LedgerKey]) {
        let mut appends = Vec::new();
        for _ in 0..1 + self.turns.below(3) {
            appends.push(plan(&*self.store, &mut self.turns, commands).await);
        }
        self.turns.give_way().await;
        self.append(appends).await;
        self.turns.give_way().await;
    }

    /// Sends a command again of which nobody knows what became of it.
    pub async fn resend(&mut self, command: CommandId) {
        let stream = thing(self.turns.below(STREAMS));
        let again = settling(&key(command), Verdict::Applied, [entry(&stream, Expected::Any, 1)]);
        self.append(vec![again]).await;
    }

    async fn append(&self, appends: Vec<Append>) {
        let ids = appends.iter().map(|append| {
            let asked = Asked::of(append);
            let id = asked.id();
            (self.tell)(Told::Asked(asked));
            id
        });
        let ids: Vec<_> = ids.collect();
        let answers = self.store.append(appends).await;
        for (id, answer) in ids.into_iter().zip(answers) {
            (self.tell)(Told::Answered(id, Answer::of(answer)));
        }
    }
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
pub async fn read(store: Arc<dyn EventStore>, mut turns: Turns, running: watch::Receiver<()>) {
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

/// Somebody who follows the log.
pub struct Follower {
    /// Which one.
    pub store: Arc<dyn EventStore>,
    /// What is chosen.
    pub turns: Turns,
    /// Who hears of it.
    pub tell: Tell,
    /// Which of the followers this is, and so what it wants to see.
    pub number: usize,
    /// What it has seen before.
    pub cursor: Position,
}

impl Follower {
    /// What a follower wants to see.
    pub fn filter(number: usize) -> Filter {
        let category = Filter::Category("thing".into());
        [Filter::Everything, Filter::People, category][number % 3].clone()
    }

    /// Follows until the end that it is told.
    pub async fn follow(self, mut ended: watch::Receiver<Option<Position>>) {
        let Self { store, mut turns, tell, number, cursor } = self;
        let mut subscription = Subscription::new(store, cursor, Self::filter(number));
        loop {
            let end = *ended.borrow_and_update();
            if end.is_some_and(|end| subscription.cursor() >= end) {
                return;
            }
            let limit = 1 + turns.below(20);
            tokio::select! {
                page = subscription.next(limit) => {
                    let events = page.unwrap().events.iter().map(|event| mark(event)).collect();
                    tell(Told::Saw { follower: number, events, cursor: subscription.cursor() });
                }
                _ = ended.changed() => {}
            }
            turns.give_way().await;
        }
    }
}
