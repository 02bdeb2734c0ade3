//! Searches over all layers. What is in memory is answered under the lock of the index, what is on disk without it:
//! layers never change, so what is found is right whenever it is found.

use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use sillage_journal::Address;
use sillage_kernel::{Filter, Position, Version};

use super::run::Run;
use super::{Found, Index, Layer, Name};
use crate::event_store::journal::unreadable;
use crate::event_store::sequencer::StreamKey;
use crate::event_store::{Direction, LedgerKey, StoreError};

/// How many events one page holds at most: what is asked for beyond comes with the next.
const MAX_PAGE_EVENTS: usize = 65_536;
/// How many places one page looks at for those that are wanted.
const MAX_PAGE_PLACES: u64 = 65_536;
/// How many places are read at once at most.
const WINDOW_PLACES: u64 = 4_096;

/// Looks for some events of a stream, from the newest layer to the oldest.
pub(in crate::event_store::journal) struct StreamSearch {
    name: Name,
    from: Version,
    direction: Direction,
    limit: u64,
    found: Option<StreamFound>,
    /// What is left to be asked, the newest first.
    runs: Vec<Arc<Run>>,
}

struct StreamFound {
    head: Version,
    /// The versions that were asked for and exist.
    wanted: Range<u64>,
    /// Their addresses layer by layer, the newest layer first.
    addresses: Vec<Vec<Address>>,
    /// The first version whose address was found, or one behind the wanted.
    down_to: u64,
}

impl Index {
    /// Begins to look for up to `limit` events of a stream.
    pub(in crate::event_store::journal) fn of_stream(
        &self,
        key: StreamKey,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> StreamSearch {
        let name = Name { hash: self.key.stream(&key.0, &key.1), key };
        let limit = limit.min(MAX_PAGE_EVENTS) as u64;
        let mut search = StreamSearch { name, from, direction, limit, found: None, runs: Vec::new() };
        for part in std::iter::once(&self.tail).chain(self.frozen.as_ref().map(|frozen| &frozen.part)) {
            search.visit(part).expect("what is in memory can be read");
        }
        if !search.is_done() {
            let may_have = |run: &&Arc<Run>| run.may_have_stream(search.name.hash);
            search.runs = self.runs.iter().rev().filter(may_have).cloned().collect();
        }
        search
    }

    /// Begins to look for a command.
    pub(in crate::event_store::journal) fn of_command(&self, key: &LedgerKey) -> CommandSearch {
        let hash = self.key.command(key);
        let minted = key.command_id.minted_at();
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.part.commands.find(hash));
        let addresses = self.tail.commands.find(hash).chain(frozen).collect();
        let may_have = |run: &&Arc<Run>| {
            run.header.to.at > self.forgotten_to
                && minted.is_none_or(|minted| minted <= run.header.newest)
                && run.may_have_command(hash)
        };
        let runs = self.runs.iter().rev().filter(may_have).cloned().collect();
        CommandSearch { hash, addresses, runs }
    }
}

impl StreamSearch {
    /// Whether it is certain that there is nothing to read.
    pub(in crate::event_store::journal) fn is_empty(&self) -> bool {
        let nothing_found = self.found.as_ref().is_none_or(|found| found.addresses.is_empty());
        nothing_found && (self.is_done() || self.runs.is_empty())
    }

    /// The version of the stream's last event, as far as is known.
    pub(in crate::event_store::journal) fn head(&self) -> Version {
        self.found.as_ref().map_or(Version::ZERO, |found| found.head)
    }

    /// The version of the stream's last event, and where the events are, in the order that was asked for.
    pub(in crate::event_store::journal) fn finish(mut self) -> io::Result<(Version, Vec<Address>)> {
        for run in std::mem::take(&mut self.runs) {
            if self.is_done() {
                break;
            }
            self.visit(run.as_ref())?;
        }
        let Some(StreamFound { head, wanted, addresses, down_to }) = self.found else {
            return Ok((Version::ZERO, Vec::new()));
        };
        if down_to > wanted.start {
            return Err(super::blocks::damaged("some events of a stream are in no index"));
        }
        let mut addresses: Vec<_> = addresses.into_iter().rev().flatten().collect();
        if self.direction == Direction::Backward {
            addresses.reverse();
        }
        Ok((head, addresses))
    }

    fn is_done(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.down_to <= found.wanted.start)
    }

    /// Asks the next older layer.
    fn visit(&mut self, layer: &dyn Layer) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let Some(span) = layer.span(&self.name)? else { return Ok(()) };
        let (first, end) = (span.first.get(), span.first.get() + span.count);
        let (from, limit, direction) = (self.from.get(), self.limit, self.direction);
        let found = self.found.get_or_insert_with(|| {
            let wanted = match direction {
                Direction::Forward => from.max(1)..from.max(1).saturating_add(limit).min(end),
                Direction::Backward => {
                    let last = from.min(end - 1);
                    last.saturating_sub(limit) + 1..last + 1
                }
            };
            let down_to = wanted.end.max(wanted.start);
            StreamFound { head: Version::new(end - 1), wanted, addresses: Vec::new(), down_to }
        });
        let (start, stop) = (found.wanted.start.max(first), found.wanted.end.min(end));
        if start < stop {
            found.addresses.push(layer.addresses(&self.name, &span, start - first..stop - first)?);
            found.down_to = start;
        }
        Ok(())
    }
}

/// Looks for a command, from the newest layer to the oldest.
pub(in crate::event_store::journal) struct CommandSearch {
    hash: super::Hash,
    /// Where it may have been settled, as far as memory knows.
    addresses: Vec<Address>,
    runs: Vec<Arc<Run>>,
}

impl CommandSearch {
    /// Whether it is certain that the command is not known.
    pub(in crate::event_store::journal) fn is_hopeless(&self) -> bool {
        self.addresses.is_empty() && self.runs.is_empty()
    }

    /// Tries each place where the command may have been settled until `read` finds it there.
    pub(in crate::event_store::journal) fn find<T>(
        self,
        read: impl Fn(Address) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        for address in self.addresses {
            if let Some(found) = read(address)? {
                return Ok(Some(found));
            }
        }
        for run in self.runs {
            for address in run.commands(self.hash).map_err(unreadable)? {
                if let Some(found) = read(address)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

/// The addresses of what is wanted behind a position.
pub(in crate::event_store::journal) struct Page<'a> {
    filter: &'a Filter,
    limit: usize,
    places_left: u64,
    /// Where what may be wanted stands; of some only the event itself tells.
    pub(in crate::event_store::journal) addresses: Vec<Address>,
    /// Everything that may be wanted up to here is among them.
    pub(in crate::event_store::journal) through: Position,
}

impl<'a> Page<'a> {
    /// Looks for up to `limit` events after `after`.
    pub(in crate::event_store::journal) fn find(
        index: &RwLock<Index>,
        after: Position,
        filter: &'a Filter,
        limit: usize,
    ) -> io::Result<Self> {
        let limit = limit.min(MAX_PAGE_EVENTS);
        let (places_left, addresses) = (MAX_PAGE_PLACES, Vec::new());
        let mut page = Self { filter, limit, places_left, addresses, through: after };
        while !page.is_full() {
            let index = index.read().unwrap_or_else(PoisonError::into_inner);
            match index.layer_of(page.through.next()) {
                None => break,
                Some(Found::Tail(tail)) => page.take(tail)?,
                Some(Found::Frozen(frozen)) => {
                    drop(index);
                    page.take(&frozen.part)?;
                }
                Some(Found::Run(run)) => {
                    drop(index);
                    page.take(run.as_ref())?;
                }
            }
        }
        Ok(page)
    }

    fn is_full(&self) -> bool {
        self.addresses.len() == self.limit || self.places_left == 0
    }

    /// Takes what a layer has, as long as there is room.
    fn take(&mut self, layer: &dyn Layer) -> io::Result<()> {
        let Range { start, end } = layer.positions();
        let admitted = layer.admitted(self.filter);
        if admitted.is_none() {
            self.through = Position::new(end - 1);
            return Ok(());
        }
        let mut window = (self.limit - self.addresses.len()) as u64;
        while !self.is_full() && self.through.get() + 1 < end {
            let at = self.through.get() + 1 - start;
            let len = window.min(WINDOW_PLACES).min(self.places_left).min(end - start - at);
            for place in layer.places(at..at + len)? {
                if self.is_full() {
                    break;
                }
                self.through = self.through.next();
                self.places_left -= 1;
                if admitted.has(place.category) {
                    self.addresses.push(place.address);
                }
            }
            window = WINDOW_PLACES;
        }
        Ok(())
    }
}
