//! An index over a stretch of the log on disk: what it holds of it in memory is a fence and a filter.
//!
//! A run never changes. Whatever is read of it is checked, so it answers what was written or fails.

use std::fmt;
use std::io::{self, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sillage_journal::{Address, Boundary, Disk};
use sillage_kernel::{Filter, Position, Version};

use super::blocks::{Blocks, Stretch, damaged};
use super::bloom::{Bloom, Hash};
use super::format::{
    CATEGORY_BYTES, FENCE_BYTES, FOOTER_BYTES, Fields, Footer, GROUP_BYTES, HEADER_BYTES, Header,
    STREAM_BYTES, Section, address,
};
use super::part::{Admitted, Categories, Place};
use super::{Layer, Name, Span};
use crate::event_store::sequencer::StreamKey;

/// How much is read at once of a section that is read to its end.
const STRETCH_BYTES: usize = 64 << 10;

/// An open run.
pub(in crate::event_store::journal) struct Run {
    pub(super) header: Header,
    pub(super) footer: Footer,
    pub(super) path: PathBuf,
    pub(super) categories: Categories,
    width: usize,
    blocks: Blocks,
    streams: Directory,
    commands: Directory,
}

/// What tells which group of a section to read, if any.
struct Directory {
    /// The hash and the offset of the first entry of each group.
    groups: Vec<(Hash, u64)>,
    end: u64,
    filter: Bloom,
}

/// What stands of a stream before its addresses.
pub(super) struct Entry {
    pub(super) hash: Hash,
    pub(super) tenant: Box<str>,
    pub(super) stream: Box<str>,
    pub(super) first: Version,
    pub(super) count: u64,
}

impl Run {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let blocks = Blocks::new(disk.open_to_read(path)?)?;
        let header = Header::decode(&blocks.read(0, HEADER_BYTES)?)?;
        let end = blocks.len().checked_sub(FOOTER_BYTES as u64);
        let end = end.ok_or_else(|| damaged("it has no footer"))?;
        let footer = Footer::decode(&blocks.read(end, FOOTER_BYTES)?, blocks.len())?;
        let width = header.width();
        let places = footer.section(Section::Places);
        if places.end - places.start != header.events * (width + CATEGORY_BYTES) as u64 {
            return Err(damaged("its places are not as many as its events"));
        }
        let read = |section| read_section(&blocks, &footer, section);
        let directory = |entries, fence, filter| -> io::Result<Directory> {
            let mut rest = Fields(&read(fence)?);
            let mut groups = Vec::with_capacity(rest.0.len() / FENCE_BYTES);
            while !rest.0.is_empty() {
                groups.push((rest.u64()?, rest.u64()?));
            }
            let filter = Bloom::from_bytes(&read(filter)?).ok_or_else(|| damaged("it has no filter"))?;
            Ok(Directory { groups, end: footer.section(entries).end, filter })
        };
        let streams = directory(Section::Streams, Section::StreamFence, Section::StreamFilter)?;
        let commands = directory(Section::Commands, Section::CommandFence, Section::CommandFilter)?;
        let mut categories = Categories::default();
        let mut rest = Fields(&read(Section::Categories)?);
        while !rest.0.is_empty() {
            let len = rest.u16()?.into();
            categories.number(text(rest.bytes(len)?)?);
        }
        let path = path.to_owned();
        Ok(Self { header, footer, path, categories, width, blocks, streams, commands })
    }

    /// What was written as its checkpoint.
    pub(super) fn checkpoint(&self) -> io::Result<Vec<u8>> {
        read_section(&self.blocks, &self.footer, Section::Checkpoint)
    }

    /// Where it begins and ends.
    pub(in crate::event_store::journal) fn ends(&self) -> (Boundary, Boundary) {
        (self.header.from, self.header.to)
    }

    /// Whether something of it did not read back. Then it must be written anew.
    pub(super) fn is_damaged(&self) -> bool {
        self.blocks.is_damaged()
    }

    /// Whether a stream may be in it. Costs no read.
    pub(super) fn may_have_stream(&self, hash: Hash) -> bool {
        self.streams.filter.may_have(hash)
    }

    /// Whether a command may be in it. Costs no read.
    pub(super) fn may_have_command(&self, hash: Hash) -> bool {
        self.header.commands > 0 && self.commands.filter.may_have(hash)
    }

    /// Where commands with this hash were settled.
    pub(super) fn commands(&self, hash: Hash) -> io::Result<Vec<Address>> {
        let mut found = Vec::new();
        for (start, end) in self.commands.groups_of(hash) {
            let mut rest = Fields(&self.read(start, end - start)?);
            while !rest.0.is_empty() {
                let (entry, bytes) = (rest.u64()?, rest.bytes(self.width)?);
                if entry == hash {
                    found.push(address(bytes, self.header.from));
                }
            }
        }
        Ok(found)
    }

    /// A section, to be read from its beginning to its end.
    pub(super) fn stretch(&self, section: Section) -> BufReader<Stretch<'_>> {
        let Range { start, end } = self.footer.section(section);
        BufReader::with_capacity(STRETCH_BYTES, Stretch { blocks: &self.blocks, at: start, end })
    }

    /// The addresses that stand one behind the other in some bytes.
    pub(super) fn address(&self, bytes: &[u8]) -> Address {
        address(bytes, self.header.from)
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.len()
    }

    /// Some of its bytes, checked.
    pub(super) fn read(&self, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.blocks.read(at, len)
    }

    /// Looks for a stream in one group. Its entries but the last begin within the first [`GROUP_BYTES`].
    fn span_in_group(&self, name: &Name, start: u64, end: u64) -> io::Result<Option<Span>> {
        let longest = GROUP_BYTES + (STREAM_BYTES + super::MAX_NAMES_BYTES) as u64;
        let window = self.read(start, (end - start).min(longest))?;
        let mut rest = Fields(&window);
        while rest.0.len() >= STREAM_BYTES {
            let (entry, names) = Entry::decode(&mut rest)?;
            let addresses = entry.count.saturating_mul(self.width as u64);
            if entry.hash == name.hash && name.is(names) {
                let at = start + (window.len() - rest.0.len()) as u64;
                return Ok(Some(Span { first: entry.first, count: entry.count, at }));
            }
            let skip = usize::try_from(addresses).unwrap_or(usize::MAX).min(rest.0.len());
            if entry.hash > name.hash {
                break;
            }
            rest.bytes(skip)?;
        }
        Ok(None)
    }
}

/// What an entry of a stream says in its fixed part.
pub(super) struct Fixed {
    pub(super) hash: Hash,
    pub(super) first: Version,
    pub(super) count: u64,
    pub(super) tenant_bytes: usize,
    pub(super) stream_bytes: usize,
}

impl Fixed {
    pub(super) fn decode(rest: &mut Fields<'_>) -> io::Result<Self> {
        let hash = rest.u64()?;
        let (tenant_bytes, stream_bytes) = (rest.u16()?.into(), rest.u16()?.into());
        let (first, count) = (Version::new(rest.u64()?), rest.u64()?);
        Ok(Self { hash, first, count, tenant_bytes, stream_bytes })
    }
}

impl Entry {
    fn decode<'a>(rest: &mut Fields<'a>) -> io::Result<(Fixed, [&'a [u8]; 2])> {
        let fixed = Fixed::decode(rest)?;
        let names = [rest.bytes(fixed.tenant_bytes)?, rest.bytes(fixed.stream_bytes)?];
        Ok((fixed, names))
    }
}

impl Directory {
    /// The ranges of the groups that entries with this hash may stand in; none if there is none.
    fn groups_of(&self, hash: Hash) -> impl Iterator<Item = (u64, u64)> {
        let first = self.groups.partition_point(|(first, _)| *first < hash).saturating_sub(1);
        let first = if self.filter.may_have(hash) { first } else { self.groups.len() };
        let ends = self.groups.iter().skip(first + 1).map(|(_, start)| *start).chain([self.end]);
        let groups = self.groups.iter().skip(first).zip(ends);
        groups.take_while(move |((first, _), _)| *first <= hash).map(|((_, start), end)| (*start, end))
    }
}

impl Layer for Run {
    fn positions(&self) -> Range<u64> {
        self.header.first.get()..self.header.first.get() + self.header.events
    }

    fn span(&self, name: &Name) -> io::Result<Option<Span>> {
        for (start, end) in self.streams.groups_of(name.hash) {
            let found = self.span_in_group(name, start, end)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn addresses(&self, _: &Name, span: &Span, range: Range<u64>) -> io::Result<Vec<Address>> {
        let width = self.width as u64;
        let range = range.start..range.end.min(span.count);
        let bytes = self.read(span.at + range.start * width, (range.end - range.start) * width)?;
        Ok(bytes.chunks(self.width).map(|bytes| self.address(bytes)).collect())
    }

    fn admitted(&self, filter: &Filter) -> Admitted {
        self.categories.admitted(filter)
    }

    fn places(&self, range: Range<u64>) -> io::Result<Vec<Place>> {
        let entry = self.width + CATEGORY_BYTES;
        let at = self.footer.section(Section::Places).start + range.start * entry as u64;
        let bytes = self.read(at, (range.end - range.start) * entry as u64)?;
        bytes.chunks(entry).map(|bytes| self.place(bytes)).collect()
    }
}

impl Run {
    /// The place that an entry of that section says.
    pub(super) fn place(&self, bytes: &[u8]) -> io::Result<Place> {
        let mut rest = Fields(bytes);
        let address = self.address(rest.bytes(self.width)?);
        Ok(Place { address, category: rest.u16()? })
    }

    /// The position that the event after its last one has.
    pub(super) fn next(&self) -> Position {
        Position::new(self.positions().end)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Name {
    fn is(&self, [tenant, stream]: [&[u8]; 2]) -> bool {
        let (own_tenant, own_stream): &StreamKey = &self.key;
        own_tenant.as_str().as_bytes() == tenant && own_stream.as_str().as_bytes() == stream
    }
}

fn read_section(blocks: &Blocks, footer: &Footer, section: Section) -> io::Result<Vec<u8>> {
    let Range { start, end } = footer.section(section);
    blocks.read(start, usize::try_from(end - start).map_err(io::Error::other)?)
}

pub(super) fn text(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged("a name of the index is not UTF-8"))
}
