//! How long the ledger remembers, and what it says it may have forgotten.
//!
//! What it has forgotten it must never take for new: [`Memory::remembers_since`] only moves forward, and a command
//! that was minted before it is refused as expired. The clock that mints an id is not ours and may be ahead, so an
//! entry counts for as young as its id says: whatever is forgotten was minted before the moment that memory begins
//! with.

use std::time::Duration;

use sillage_kernel::Timestamp;

use crate::clock;

/// How long and how much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerLimits {
    /// A command is remembered at least that long, unless more than [`Self::max_commands`] come meanwhile.
    pub memory: Duration,
    /// How many commands are remembered at most, but for those of one run of the index. Each costs about 2 bytes of
    /// memory and 14 of the disk.
    pub max_commands: u64,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self { memory: Duration::from_secs(30 * 24 * 3_600), max_commands: 100_000_000 }
    }
}

/// The moment that the memory of a ledger begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    limits: LedgerLimits,
    forgotten_until: Timestamp,
}

impl Memory {
    /// A memory that has forgotten what was minted before that.
    pub(crate) fn new(limits: LedgerLimits, forgotten_until: Timestamp) -> Self {
        Self { limits, forgotten_until }
    }

    pub(crate) fn limits(&self) -> LedgerLimits {
        self.limits
    }

    /// A command that was minted before this moment may have been forgotten.
    pub(crate) fn remembers_since(&self, now: Timestamp) -> Timestamp {
        self.forgotten_until.max(self.cut_off(now))
    }

    /// What was minted before this moment may have been forgotten, whatever time it is.
    pub(crate) fn forgotten_until(&self) -> Timestamp {
        self.forgotten_until
    }

    /// What was minted before that moment is no longer in the log.
    pub(crate) fn forget_until(&mut self, moment: Timestamp) {
        self.forgotten_until = self.forgotten_until.max(moment);
    }

    /// Forgets the oldest commands if they are too old or too many, and says whether it did. `newest` is the latest
    /// moment at which one of them was settled or minted, `known` how many there are with all others.
    pub(crate) fn forgets(&mut self, newest: Timestamp, known: u64, now: Timestamp) -> bool {
        let forgets = known > self.limits.max_commands || newest < self.cut_off(now);
        if forgets {
            // What was minted at that very moment is forgotten too.
            let after = clock::later(newest, Duration::from_micros(1));
            self.forgotten_until = self.forgotten_until.max(after);
        }
        forgets
    }

    fn cut_off(&self, now: Timestamp) -> Timestamp {
        let memory = i64::try_from(self.limits.memory.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(memory))
    }
}
