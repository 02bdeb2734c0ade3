//! Where everything stands in the log. Derived from it, rebuilt when the log is opened, and held in memory:
//! about 16 bytes an event, and about 150 bytes and its name a stream.

use std::collections::HashMap;

use sillage_journal::Address;
use sillage_kernel::{Event, Position, Version};

use crate::event_store::ledger::{LedgerIndex, LedgerLimits};
use crate::event_store::sequencer::StreamKey;
use crate::event_store::{CursorState, Direction};

/// The index of a journal.
pub(super) struct Index {
    /// The address of the event at each position, from 1.
    addresses: Vec<Address>,
    /// The position of each version of a stream, from 1.
    streams: HashMap<StreamKey, Vec<Position>>,
    pub(super) cursors: HashMap<Box<str>, CursorState>,
    pub(super) ledger: LedgerIndex<Address>,
}

impl Index {
    pub(super) fn new(limits: LedgerLimits) -> Self {
        let (addresses, streams, cursors) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { addresses, streams, cursors, ledger: LedgerIndex::new(limits) }
    }

    /// Adds the event after all that are here.
    pub(super) fn add(&mut self, event: &Event, address: Address) {
        let key = (event.tenant.clone(), event.stream.clone());
        self.streams.entry(key).or_default().push(event.position);
        self.addresses.push(address);
    }

    /// The position of the last event.
    pub(super) fn head(&self) -> Position {
        Position::new(self.addresses.len() as u64)
    }

    /// Where the events after `after` are, up to `limit` of them.
    pub(super) fn after(&self, after: Position, limit: usize) -> Vec<Address> {
        let start = usize::try_from(after.get()).unwrap_or(usize::MAX);
        self.addresses.iter().skip(start).take(limit).copied().collect()
    }

    /// The version of the stream's last event, and where the asked-for events are.
    pub(super) fn of_stream(
        &self,
        key: &StreamKey,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> (Version, Vec<Address>) {
        let positions = self.streams.get(key).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(from.get()).unwrap_or(usize::MAX);
        let address = |position: &Position| {
            let at = usize::try_from(position.previous().get()).expect("it was an index before");
            *self.addresses.get(at).expect("every position of a stream has an address")
        };
        let addresses = match direction {
            Direction::Forward => positions.iter().skip(from.max(1) - 1).take(limit).map(address).collect(),
            Direction::Backward => positions.iter().take(from).rev().take(limit).map(address).collect(),
        };
        (Version::new(positions.len() as u64), addresses)
    }
}
