//! The index over a stretch of the log in memory: the tail while it grows, and what waits to become a run.
//!
//! Positions in it have no gaps; the addresses of a stream are in the order of its versions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::ops::Range;

use sillage_journal::{Address, Boundary};
use sillage_kernel::{Event, Filter, Position, Timestamp, Version};

use super::bloom::{Hash, HashKey};
use super::{Layer, Name, Span};
use crate::event_store::LedgerKey;
use crate::event_store::sequencer::StreamMap;

/// Where an event stands, and of which category it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) category: Category,
}

/// The number of a category in one layer, from 1; 0 is any that has no number.
pub(super) type Category = u16;

/// How many categories have a number in one layer; the events of others are read to know.
const MAX_CATEGORIES: usize = 1_023;

/// The categories of a layer.
#[derive(Debug, Default)]
pub(super) struct Categories {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, Category>,
}

impl Categories {
    /// The number of a category, which it gets if it has none and one is left.
    pub(super) fn number(&mut self, name: &str) -> Category {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.names.len() == MAX_CATEGORIES {
            return 0;
        }
        self.names.push(name.into());
        let number = Category::try_from(self.names.len()).expect("there are at most 1,023");
        self.numbers.insert(name.into(), number);
        number
    }

    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Of each number whether a filter may want its events.
    pub(super) fn admitted(&self, filter: &Filter) -> Admitted {
        let named = self.names.iter().map(|name| filter.admits_category(name));
        // As long as numbers are left, nothing is without one.
        let unnumbered = self.names.len() == MAX_CATEGORIES;
        Admitted(std::iter::once(unnumbered).chain(named).collect())
    }
}

/// The categories of a layer that are wanted.
pub(super) struct Admitted(Vec<bool>);

impl Admitted {
    /// Whether nothing of the layer is wanted.
    pub(super) fn is_none(&self) -> bool {
        !self.0.contains(&true)
    }

    /// A number that nobody gave out is read to know.
    pub(super) fn has(&self, category: Category) -> bool {
        self.0.get(usize::from(category)).copied().unwrap_or(true)
    }
}

/// The events of one stream.
#[derive(Debug)]
pub(super) struct Postings {
    pub(super) first: Version,
    category: Category,
    pub(super) addresses: Vec<Address>,
}

/// Where commands were settled. Several may have one hash.
#[derive(Debug, Default)]
pub(super) struct Commands {
    first: HashMap<Hash, Address>,
    more: HashMap<Hash, Vec<Address>>,
    count: usize,
    /// The latest moment at which one of them was settled or, by the clock of its client, minted.
    pub(super) newest: Timestamp,
}

impl Commands {
    fn insert(&mut self, hash: Hash, address: Address, newest: Timestamp) {
        match self.first.entry(hash) {
            Entry::Occupied(_) => self.more.entry(hash).or_default().push(address),
            Entry::Vacant(vacant) => {
                vacant.insert(address);
            }
        }
        self.count += 1;
        self.newest = self.newest.max(newest);
    }

    pub(super) fn find(&self, hash: Hash) -> impl Iterator<Item = Address> {
        self.first.get(&hash).into_iter().chain(self.more.get(&hash).into_iter().flatten()).copied()
    }

    /// All of them, by hash.
    pub(super) fn sorted(&self) -> Vec<(Hash, Address)> {
        let more = self.more.iter().flat_map(|(hash, addresses)| addresses.iter().map(|at| (*hash, *at)));
        let mut all: Vec<_> = self.first.iter().map(|(hash, at)| (*hash, *at)).chain(more).collect();
        all.sort_unstable();
        all
    }
}

/// The index over a stretch of the log.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) from: Boundary,
    pub(super) to: Boundary,
    /// The position of its first event, if it has one.
    pub(super) first: Position,
    pub(super) places: Vec<Place>,
    pub(super) categories: Categories,
    pub(super) streams: StreamMap<Postings>,
    pub(super) commands: Commands,
    /// When the last event of the log before `to` was recorded.
    pub(super) recorded_at: Timestamp,
}

impl Part {
    /// An empty one, from the end of another.
    pub(super) fn new(from: Boundary, first: Position, recorded_at: Timestamp) -> Self {
        let (places, categories, streams) = (Vec::new(), Categories::default(), StreamMap::default());
        let commands = Commands::default();
        Self { from, to: from, first, places, categories, streams, commands, recorded_at }
    }

    /// An empty one behind this one. It has room for as much, so that growing does not hold up who writes.
    pub(super) fn following(&self) -> Self {
        let mut next = Self::new(self.to, self.next(), self.recorded_at);
        next.places.reserve(self.places.len());
        next.streams.reserve(self.streams.len());
        next.commands.first.reserve(self.commands.count);
        next
    }

    /// Adds the event after all that are here.
    pub(super) fn add(&mut self, event: &Event, address: Address) {
        let key = (event.tenant.clone(), event.stream.clone());
        let postings = self.streams.entry(key).or_insert_with(|| Postings {
            first: event.version,
            category: self.categories.number(event.stream.category()),
            addresses: Vec::new(),
        });
        postings.addresses.push(address);
        self.places.push(Place { address, category: postings.category });
        self.recorded_at = self.recorded_at.max(event.recorded_at);
    }

    pub(super) fn settle(&mut self, key: &LedgerKey, hash: HashKey, address: Address, at: Timestamp) {
        let newest = key.command_id.minted_at().map_or(at, |minted| minted.max(at));
        self.commands.insert(hash.command(key), address, newest);
    }

    /// How many events and commands it has.
    pub(super) fn entries(&self) -> usize {
        self.places.len() + self.commands.count
    }

    pub(super) fn command_count(&self) -> usize {
        self.commands.count
    }

    /// The position that the event after its last one has.
    pub(super) fn next(&self) -> Position {
        Position::new(self.first.get() + self.places.len() as u64)
    }
}

impl Layer for Part {
    fn positions(&self) -> Range<u64> {
        self.first.get()..self.next().get()
    }

    fn span(&self, name: &Name) -> io::Result<Option<Span>> {
        Ok(self.streams.get(&name.key).map(|Postings { first, category: _, addresses }| Span {
            first: *first,
            count: addresses.len() as u64,
            at: 0,
        }))
    }

    fn addresses(&self, name: &Name, _: &Span, range: Range<u64>) -> io::Result<Vec<Address>> {
        let addresses = self.streams.get(&name.key).map_or(&[][..], |postings| &postings.addresses);
        Ok(addresses.get(indexes(range)).unwrap_or_default().to_vec())
    }

    fn admitted(&self, filter: &Filter) -> Admitted {
        self.categories.admitted(filter)
    }

    fn places(&self, range: Range<u64>) -> io::Result<Vec<Place>> {
        Ok(self.places.get(indexes(range)).unwrap_or_default().to_vec())
    }
}

fn indexes(Range { start, end }: Range<u64>) -> Range<usize> {
    let index = |at| usize::try_from(at).unwrap_or(usize::MAX);
    index(start)..index(end)
}
