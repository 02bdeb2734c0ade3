//! What this node knows of the log while no other writes: where its last group has left it, and where streams end.
//!
//! Invariant: a group that rests on this is sent with a check of it, so nothing that was known wrongly is ever kept or
//! told. What the check cannot see is refused by a key of the tables: a command that is known, a stream that is there.

use std::collections::HashMap;

use sillage_kernel::{Expected, Position, Timestamp, Version};
use tokio::time::Instant;

use super::group::{Base, Group};
use super::rows::State;
use crate::clock;
use crate::event_store::Append;
use crate::event_store::heads::RecentHeads;
use crate::event_store::queue::Job;
use crate::event_store::sequencer::{Head, StreamMap};

/// Of how many streams the end is kept.
const MAX_HEADS: usize = 200_000;

/// The log as this node has left it.
pub(super) struct Left {
    state: State,
    heads: RecentHeads,
    /// Whether the last group that has read the log has found it as the one before had left it.
    is_alone: bool,
}

impl Left {
    fn at(state: State) -> Self {
        Self { state, heads: RecentHeads::new(MAX_HEADS), is_alone: false }
    }

    /// Takes in what was read under the lock of the log.
    pub(super) fn found(left: &mut Option<Self>, Base { state, heads, .. }: &Base) {
        let is_same = |left: &Self| {
            let State { log_id, position, ending, .. } = left.state;
            (log_id, position, ending) == (state.log_id, state.position, state.ending)
        };
        let left = match left {
            Some(left) if is_same(left) => {
                left.is_alone = true;
                left.state = *state;
                left
            }
            _ => left.insert(Self::at(*state)),
        };
        heads.iter().for_each(|(key, head)| left.heads.set(key.clone(), *head));
    }

    /// The group is in the log.
    pub(super) fn wrote(&mut self, group: &Group) {
        for event in &group.events {
            let head = Head { version: event.version, checksum: event.checksum };
            self.heads.set((event.tenant.clone(), event.stream.clone()), head);
        }
        if let Some(last) = group.events.last() {
            self.state.position = last.position;
            self.state.recorded_at = last.recorded_at;
            self.state.ending = Some(last.checksum);
        }
    }

    /// What time it was, by the clock of the database, when that was heard.
    pub(super) fn heard(&mut self, (now, heard): (Timestamp, Instant)) {
        (self.state.now, self.state.heard) = (now, heard);
    }

    /// What the jobs rest on, if nothing of it has to be read; with copies of what they append. `head` is how far the
    /// log is known to be.
    ///
    /// A stream that is not known here and that nobody may have begun is taken for one that is not there: if it is, its
    /// first event cannot be added.
    pub(super) fn base_of(&mut self, jobs: &[Job], head: Position) -> Option<(Base, Vec<Vec<Append>>)> {
        if !self.is_alone || head != self.state.position {
            return None;
        }
        let (mut heads, mut copies) = (StreamMap::default(), Vec::with_capacity(jobs.len()));
        for job in jobs {
            let Job::Append(appends, ..) = job else { return None };
            for Append { tenant, entries, fence, .. } in appends {
                if fence.is_some() {
                    return None;
                }
                for entry in entries {
                    let key = (tenant.clone(), entry.stream.clone());
                    if heads.contains_key(&key) {
                        continue;
                    }
                    let is_new =
                        matches!(entry.expected, Expected::NoStream | Expected::Exactly(Version::ZERO))
                            && !entry.events.is_empty();
                    let head = self.heads.get(&key).or_else(|| is_new.then(Head::default))?;
                    heads.insert(key, head);
                }
            }
            copies.push(appends.clone());
        }
        let state = State { now: clock::later(self.state.now, self.state.heard.elapsed()), ..self.state };
        let base = Base { state, heads, ledger: HashMap::new(), leases: Vec::new(), cursors: HashMap::new() };
        Some((base, copies))
    }
}
