//! How many events a reactor is given at once.
//!
//! Few enough that at the speed it has shown it is done in half of its time-out, so that quick events which
//! come in crowds do not run into it. After a failure it begins anew with one; and where one of several failed
//! and nobody knows which, each of them is given alone, so that no other is blamed.

use std::time::Duration;

/// How many events a reactor is given at once at most.
pub(super) const PAGE: usize = 1_024;

/// The pace of a reactor, in the log or in one queue of events that wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    part: usize,
    /// How many of the next events are given alone.
    suspects: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { part: 1, suspects: 0 }
    }
}

impl Pace {
    /// How many events are given next at most.
    pub(super) fn part(self) -> usize {
        if self.suspects > 0 { 1 } else { self.part }
    }

    /// So many were confirmed after so long.
    pub(super) fn confirmed(&mut self, events: usize, took: Duration, timeout: Duration) {
        let affordable = (timeout / 2).as_nanos() * events as u128 / took.as_nanos().max(1);
        let affordable = usize::try_from(affordable).unwrap_or(PAGE);
        self.part = self.part.max(2 * events).min(affordable).clamp(1, PAGE);
        self.suspects = self.suspects.saturating_sub(events);
    }

    /// One failed, and it is known which.
    pub(super) fn failed(&mut self) {
        self.part = 1;
        self.suspects = self.suspects.saturating_sub(1);
    }

    /// One of so many failed, and nobody knows which.
    pub(super) fn failed_among(&mut self, events: usize) {
        (self.part, self.suspects) = (1, events);
    }
}
