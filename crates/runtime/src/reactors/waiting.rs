//! Events that failed and wait for their next try, in a queue per key.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use sillage_kernel::{Event, Position, Reactor, Tenant};
use tokio::time::Instant;

use super::Retry;
use super::pace::Pace;

/// How much of a reactor's key counts: as much as a stream's name may have.
const MAX_KEY_BYTES: usize = 1_024;

/// What events are in order with.
pub(super) type Key = (Tenant, Arc<str>);

/// The key of an event. Longer keys that begin alike count as one, which only makes more events wait for each
/// other: what is parked has to fit into a step of the cursor.
pub(super) fn key_of(reactor: &dyn Reactor, event: &Event) -> Key {
    let key = reactor.key(event);
    let key = match key.split_at_checked(key.floor_char_boundary(MAX_KEY_BYTES)) {
        Some((start, rest)) if !rest.is_empty() => start.into(),
        _ => key,
    };
    (event.tenant.clone(), key)
}

/// Where the events of a queue are written down while they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nowhere: the cursor stays before them.
    Log,
    /// Among the parked ones: they stay there until they are confirmed.
    Parked,
}

/// The events of one key that wait.
pub(super) struct Queue {
    pub(super) events: VecDeque<Arc<Event>>,
    pub(super) origin: Origin,
    /// How often the first of them has failed.
    pub(super) attempts: u32,
    pub(super) pace: Pace,
    pauses: ExponentialBackoff,
    due: Instant,
}

impl Queue {
    pub(super) fn new(events: VecDeque<Arc<Event>>, origin: Origin, retry: &Retry) -> Self {
        let (pace, pauses, due) = (Pace::default(), pauses(retry), Instant::now());
        Self { events, origin, attempts: 0, pace, pauses, due }
    }

    /// The first has failed once more.
    pub(super) fn failed(&mut self) {
        self.attempts += 1;
        self.due = Instant::now() + self.pauses.next().unwrap_or(Duration::ZERO);
    }

    /// So many at the front are confirmed; the next begins anew, once the other keys had their turn.
    pub(super) fn confirm(&mut self, count: usize, retry: &Retry) {
        if count > 0 {
            self.events.drain(..count.min(self.events.len()));
            (self.attempts, self.pauses, self.due) = (0, pauses(retry), Instant::now());
        }
    }
}

fn pauses(retry: &Retry) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(retry.first_pause)
        .with_max_delay(retry.longest_pause)
        .with_jitter()
        .without_max_times()
        .build()
}

/// All queues of a reactor.
#[derive(Default)]
pub(super) struct Waiting(pub(super) BTreeMap<Key, Queue>);

impl Waiting {
    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|queue| queue.events.len()).sum()
    }

    /// The key that is to be tried next, and when.
    pub(super) fn next_due(&self) -> Option<(Key, Instant)> {
        let next = self.0.iter().min_by_key(|(_, queue)| queue.due)?;
        Some((next.0.clone(), next.1.due))
    }

    /// The first event that only the cursor remembers.
    pub(super) fn oldest_unwritten(&self) -> Option<Position> {
        let unwritten = self.0.values().filter(|queue| queue.origin == Origin::Log);
        unwritten.filter_map(|queue| queue.events.front()).map(|event| event.position).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_up_to_a_limit() {
        let (first_pause, longest_pause) = (Duration::from_millis(100), Duration::from_secs(1));
        let retry = Retry { first_pause, longest_pause, ..Retry::default() };
        let shortest = [100, 200, 400, 800, 1_000, 1_000].map(Duration::from_millis);
        let told: Vec<Vec<_>> = (0..8).map(|_| pauses(&retry).take(shortest.len()).collect()).collect();
        for pauses in &told {
            for (pause, shortest) in pauses.iter().zip(shortest) {
                assert!((shortest..=2 * shortest).contains(pause), "{pauses:?}");
            }
        }
        assert!(told.iter().any(|pauses| *pauses != told[0]), "all would come at the same time");
    }
}
