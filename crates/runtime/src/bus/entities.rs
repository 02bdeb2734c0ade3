//! The streams that a shard has in memory, each with a state that is ahead of the disk.

use std::collections::HashMap;

use sillage_kernel::Version;

use super::StreamKey;
use super::shard::Pending;
use crate::deciders::State;
use crate::replay::Replayed;

/// A stream as it will be once all that is on its way to the disk is there.
pub(super) struct Entity {
    pub(super) state: State,
    pub(super) version: Version,
    /// At which version the next snapshot is due.
    pub(super) snapshot_due: Version,
    /// How many decisions are on their way.
    pub(super) in_flight: usize,
    pub(super) trust: Trust,
    last_turn: u64,
}

/// Whether the state of an entity can be decided on.
pub(super) enum Trust {
    /// All that it rests on is durable or on its way.
    Good,
    /// Something that it rests on did not become durable. Commands wait until nothing is on its way any
    /// more; then the stream is read again.
    Lost(Queue),
}

/// Commands that wait, in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    /// Those that were decided on what was lost.
    pub(super) again: Vec<Pending>,
    /// Those that came later.
    pub(super) fresh: Vec<Pending>,
}

/// The streams in memory; the least recently used are forgotten when there are too many.
pub(super) struct Entities {
    by_key: HashMap<StreamKey, Entity>,
    limit: usize,
    turn: u64,
}

impl Entities {
    pub(super) fn new(limit: usize) -> Self {
        Self { by_key: HashMap::new(), limit: limit.max(1), turn: 0 }
    }

    pub(super) fn insert(&mut self, key: StreamKey, replayed: Replayed) {
        let version = replayed.version();
        let Replayed { state, last: _, snapshot_due } = replayed;
        let (trust, last_turn) = (Trust::Good, self.turn);
        let entity = Entity { state, version, snapshot_due, in_flight: 0, trust, last_turn };
        self.by_key.insert(key, entity);
    }

    pub(super) fn get(&mut self, key: &StreamKey) -> Option<&mut Entity> {
        let entity = self.by_key.get_mut(key)?;
        entity.last_turn = self.turn;
        Some(entity)
    }

    /// Forgets a state that cannot be decided on once nothing is on its way, and gives back what waited.
    pub(super) fn rewind(&mut self, key: &StreamKey) -> Vec<Pending> {
        match self.by_key.get(key) {
            Some(Entity { in_flight: 0, trust: Trust::Lost(_), .. }) => match self.by_key.remove(key) {
                Some(Entity { trust: Trust::Lost(Queue { mut again, fresh }), .. }) => {
                    again.extend(fresh);
                    again
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Ends a turn; if there are too many streams, the older half of the idle ones goes. What was decided in
    /// the turn is on its way, and so not idle.
    pub(super) fn end_turn(&mut self) {
        self.turn += 1;
        if self.by_key.len() <= self.limit {
            return;
        }
        let idle = |entity: &Entity| entity.in_flight == 0 && matches!(entity.trust, Trust::Good);
        let mut ages: Vec<u64> =
            self.by_key.values().filter(|entity| idle(entity)).map(|entity| entity.last_turn).collect();
        let middle = ages.len() / 2;
        if middle < ages.len() {
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            self.by_key.retain(|_, entity| !idle(entity) || entity.last_turn > median);
        }
    }
}

impl Entity {
    /// Its state rests on something that was not kept.
    pub(super) fn distrust(&mut self) -> &mut Queue {
        if matches!(self.trust, Trust::Good) {
            self.trust = Trust::Lost(Queue::default());
        }
        match &mut self.trust {
            Trust::Lost(queue) => queue,
            Trust::Good => unreachable!("it was just distrusted"),
        }
    }
}
