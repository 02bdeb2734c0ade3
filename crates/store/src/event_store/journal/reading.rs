//! Reading what the index has found. What was dropped is told or passed over, and never taken for something else.

use std::ops::ControlFlow;
use std::sync::Arc;

use sillage_journal::{Address, Error as LogError, Reader};
use sillage_kernel::{Event, Filter, Position, Version};

use super::index::{Page, StreamSearch};
use super::{Kind, Shared, unreadable};
use crate::event_store::codec::{decode_dropped, decode_event_after, decode_ledger};
use crate::event_store::sequencer::StreamKey;
use crate::event_store::{Direction, LedgerEntry, LedgerKey, LogPage, StoreError, StreamPage, room};

/// The events at some addresses.
struct Run {
    events: Vec<Arc<Event>>,
    end: End,
}

/// Why a run ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// All of it was read.
    Whole,
    /// There is no room for more.
    Full,
    /// Where the next one was to come is one that was dropped.
    Dropped,
}

/// What comes of an event that was dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtDropped {
    Stop,
    PassOver,
}

impl Shared {
    /// The events that were looked for, or where those that are kept begin.
    pub(super) fn read_stream(&self, key: StreamKey, search: StreamSearch) -> Result<StreamPage, StoreError> {
        let (head, addresses) = search.finish().map_err(unreadable)?;
        let Run { events, end } = self.read_page(&addresses)?;
        match addresses.first() {
            Some(first) if events.is_empty() && end == End::Dropped => {
                let kept_from = self.kept_from(key, self.version_at(*first)?, head)?;
                Err(StoreError::Dropped { kept_from })
            }
            _ => Ok(StreamPage { events, head }),
        }
    }

    pub(super) fn read_all(
        &self,
        after: Position,
        filter: &Filter,
        limit: usize,
    ) -> Result<LogPage, StoreError> {
        let Page { addresses, through, .. } =
            Page::find(&self.index, after, filter, limit).map_err(unreadable)?;
        let Run { events, end } = self.read(&addresses, AtDropped::PassOver)?;
        // A page without room for all of them has come as far as the last that is on it.
        let through = if end == End::Full { LogPage::end_of(&events, after) } else { through };
        Ok(LogPage { events: events.into_iter().filter(|event| filter.admits(event)).collect(), through })
    }

    /// The events at these addresses, up to the first that was dropped, as far as a page has room for them.
    fn read_page(&self, addresses: &[Address]) -> Result<Run, StoreError> {
        self.read(addresses, AtDropped::Stop)
    }

    fn read(&self, addresses: &[Address], at_dropped: AtDropped) -> Result<Run, StoreError> {
        let mut events: Vec<Arc<Event>> = Vec::with_capacity(addresses.len());
        let mut has_room = room();
        let read = self.reader.read_each(addresses, |record| {
            if record.kind == Kind::Dropped.number() {
                return match at_dropped {
                    AtDropped::Stop => ControlFlow::Break(Ok(End::Dropped)),
                    AtDropped::PassOver => ControlFlow::Continue(()),
                };
            }
            match decode_event_after(events.last().map(|last| &**last), record.payload) {
                Ok(event) if has_room(&event) => events.push(Arc::new(event)),
                Ok(_) => return ControlFlow::Break(Ok(End::Full)),
                Err(error) => return ControlFlow::Break(Err(unreadable(error))),
            }
            ControlFlow::Continue(())
        });
        let end = match read.map_err(unreadable)? {
            ControlFlow::Break(end) => end?,
            ControlFlow::Continue(()) => End::Whole,
        };
        Ok(Run { events, end })
    }

    /// The version of the dropped event at an address.
    fn version_at(&self, address: Address) -> Result<Version, StoreError> {
        let record = self.reader.read(address).map_err(unreadable)?;
        Ok(decode_dropped(&record.payload).map_err(unreadable)?.version)
    }

    /// A version behind a dropped one that is kept or yet to come, and the one before it is not. What is dropped of a
    /// stream nearly always is its beginning, so looking in the middle again and again finds where that ends.
    fn kept_from(&self, key: StreamKey, dropped: Version, head: Version) -> Result<Version, StoreError> {
        let (mut dropped, mut kept) = (dropped, head.next());
        while dropped.next() < kept {
            let middle = Version::new(dropped.get().midpoint(kept.get()));
            let search = self.index().of_stream(key.clone(), middle, Direction::Forward, 1);
            let (_, addresses) = search.finish().map_err(unreadable)?;
            match self.read_page(&addresses)?.end {
                End::Dropped => dropped = middle,
                End::Whole | End::Full => kept = middle,
            }
        }
        Ok(kept)
    }
}

/// The ledger record at `address`, if it is of that command. What was left out was forgotten before.
pub(super) fn read_ledger(
    reader: &Reader,
    address: Address,
    key: &LedgerKey,
) -> Result<Option<LedgerEntry>, StoreError> {
    let record = match reader.read(address) {
        Err(LogError::LeftOut { .. }) => return Ok(None),
        record => record.map_err(unreadable)?,
    };
    if record.kind != Kind::Ledger.number() {
        return Ok(None);
    }
    let (found, entry, _) = decode_ledger(&record.payload).map_err(unreadable)?;
    Ok((found == *key).then_some(entry))
}
