//! Where in the log each command was settled: the ledger's index, in memory.
//!
//! It holds a hash of each key and an address; whoever finds an address reads the record there and compares.
//! It is partitioned by time, and forgets whole partitions, the oldest first. What it has forgotten it must
//! never take for new: [`LedgerIndex::remembers_since`] only moves forward, and a command that was minted
//! before it is refused as expired. The clock that mints an id is not ours and may be ahead, so an entry counts
//! for as young as its id says: whatever is forgotten was minted before the moment that memory begins with.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use sillage_kernel::Timestamp;

use super::LedgerKey;
use crate::clock;

/// How long and how much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerLimits {
    /// A command is remembered at least that long, unless more than [`Self::max_commands`] come meanwhile.
    pub memory: Duration,
    /// How many commands are remembered at most. Each costs about 50 bytes of memory.
    pub max_commands: usize,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self { memory: Duration::from_secs(30 * 24 * 3_600), max_commands: 10_000_000 }
    }
}

/// Into how many partitions [`LedgerLimits::max_commands`] are divided.
const PARTITIONS: usize = 10;

/// The index. `A` is an address in the log.
pub struct LedgerIndex<A> {
    limits: LedgerLimits,
    hashers: [RandomState; 2],
    partitions: VecDeque<Partition<A>>,
    forgotten_until: Timestamp,
}

struct Partition<A> {
    settled: HashMap<u128, A>,
    /// The latest moment at which one of them was settled or, by the clock of its client, minted.
    newest: Timestamp,
}

impl<A: Copy> LedgerIndex<A> {
    /// An empty index.
    pub fn new(limits: LedgerLimits) -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Self { limits, hashers, partitions: VecDeque::new(), forgotten_until: Timestamp::default() }
    }

    /// Remembers that the command was settled there and then.
    pub fn insert(&mut self, key: &LedgerKey, address: A, at: Timestamp) {
        let hash = self.hash(key);
        let newest = key.command_id.minted_at().map_or(at, |minted| minted.max(at));
        let per_partition = (self.limits.max_commands / PARTITIONS).max(1);
        match self.partitions.back_mut() {
            Some(last) if last.settled.len() < per_partition => {
                last.settled.insert(hash, address);
                last.newest = last.newest.max(newest);
            }
            _ => self.partitions.push_back(Partition { settled: HashMap::from([(hash, address)]), newest }),
        }
        self.forget(at);
    }

    /// Where a command with this key was settled, as far as its hash tells.
    pub fn find(&self, key: &LedgerKey) -> Option<A> {
        let hash = self.hash(key);
        self.partitions.iter().rev().find_map(|partition| partition.settled.get(&hash)).copied()
    }

    /// A command that was minted before this moment may have been forgotten.
    pub fn remembers_since(&self, now: Timestamp) -> Timestamp {
        self.forgotten_until.max(self.cut_off(now))
    }

    fn cut_off(&self, now: Timestamp) -> Timestamp {
        let memory = i64::try_from(self.limits.memory.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(memory))
    }

    fn forget(&mut self, now: Timestamp) {
        let cut_off = self.cut_off(now);
        while let Some(oldest) = self.partitions.front()
            && (self.partitions.len() > PARTITIONS || oldest.newest < cut_off)
        {
            // What was minted at that very moment is forgotten too.
            let after = clock::later(oldest.newest, Duration::from_micros(1));
            self.forgotten_until = self.forgotten_until.max(after);
            self.partitions.pop_front();
        }
    }

    fn hash(&self, key: &LedgerKey) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(key)));
        high << 64 | low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sillage_kernel::CommandId;
    use uuid::Uuid;

    fn key(n: u128) -> LedgerKey {
        let (tenant, principal) = ("main".parse().unwrap(), "alice".parse().unwrap());
        LedgerKey { tenant, principal, command_id: CommandId(Uuid::from_u128(n)) }
    }

    fn second(n: u64) -> Timestamp {
        Timestamp::from_micros(i64::try_from(n).unwrap() * 1_000_000)
    }

    #[test]
    fn what_is_settled_is_found_until_it_is_too_old() {
        let memory = Duration::from_secs(100);
        let mut index = LedgerIndex::new(LedgerLimits { memory, max_commands: 100 });
        for n in 0..15 {
            index.insert(&key(n.into()), n, second(n));
        }
        assert_eq!(index.find(&key(3)), Some(3));
        assert_eq!(index.find(&key(99)), None);
        index.insert(&key(15), 15, second(115));
        // The first partition of ten ended at second 9, and is whole too old.
        assert_eq!(index.find(&key(3)), None);
        assert_eq!(index.find(&key(12)), Some(12));
        assert_eq!(index.remembers_since(second(115)), second(15));
    }

    /// The id of the command that is settled at second `n`, by clients whose clocks are ahead, right or behind.
    fn minted_around(n: u64) -> LedgerKey {
        let minted = second(n + [40, 0, 3, 20][usize::try_from(n % 4).unwrap()]).as_millis() - 3_000;
        let random = u128::from(n).to_be_bytes();
        let id = uuid::Builder::from_unix_timestamp_millis(minted, random.last_chunk().unwrap()).into_uuid();
        LedgerKey { command_id: CommandId(id), ..key(0) }
    }

    #[test]
    fn what_was_forgotten_is_never_taken_for_new_whatever_the_clocks_of_clients_say() {
        let memory = Duration::from_secs(30);
        let want_of_room = LedgerLimits { max_commands: 20, ..LedgerLimits::default() };
        for limits in [want_of_room, LedgerLimits { memory, max_commands: 100 }] {
            let mut index = LedgerIndex::new(limits);
            for n in 3..300_u64 {
                index.insert(&minted_around(n), n, second(n));
                let since = index.remembers_since(second(n));
                for old in 3..=n {
                    let key = minted_around(old);
                    let forgotten = index.find(&key).is_none();
                    assert!(!forgotten || key.command_id.minted_at().unwrap() < since, "{old} of {n}");
                }
            }
            assert_eq!(index.find(&minted_around(3)), None, "nothing was forgotten: {limits:?}");
        }
    }
}
