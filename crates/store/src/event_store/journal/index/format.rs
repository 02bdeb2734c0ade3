//! The bytes of a run. All numbers are little endian; a golden file locks the layout. It stands on checked blocks, so
//! no part of it has a checksum of its own.
//!
//! ```text
//! header      magic 8 | format u32 | log id u128 | hash key u128 | level u8 | from, to: boundary |
//!             first position u64 | events u64 | last recorded at i64 |
//!             commands u64 | newest of them i64 | forgotten until i64
//! boundary    address u64 | batches u64 | checksum u32
//! places      of each event, by position: address | category u16
//! streams     by hash, then names: hash u64 | lengths of the names u16, u16 | first version u64 | count u64 |
//!             tenant | stream | address of each event
//! commands    by hash: hash u64 | address
//! fences      of the streams, then of the commands: the hash and the offset of the first of each group, u64, u64
//! filters     of the streams, then of the commands: words u64
//! categories  length u16 | name, from number 1 on
//! checkpoint  JSON
//! footer      the end of each section but the header and itself, u64 | number of streams u64 | magic 8
//! ```
//!
//! An address is relative to `from`, as wide as the run needs: 4 to 8 bytes. A group ends with the entry that makes it
//! [`GROUP_BYTES`] long or longer, and equal hashes may cross from one to the next.

use std::io;

use sillage_journal::{Address, Boundary};
use sillage_kernel::{Position, Timestamp};

use super::blocks::damaged;

const MAGIC: [u8; 8] = *b"SILLAGER";
const END_MAGIC: [u8; 8] = *b"REGALLIS";
/// Also stands for the hash function: another one is another format.
const FORMAT: u32 = 1;

pub(super) const HEADER_BYTES: usize = 8 + 4 + 16 + 16 + 1 + 2 * 20 + 6 * 8;
pub(super) const FOOTER_BYTES: usize = SECTIONS * 8 + 8 + 8;
/// What an entry of a stream takes before its names.
pub(super) const STREAM_BYTES: usize = 8 + 2 + 2 + 8 + 8;
/// What an entry of a fence takes.
pub(super) const FENCE_BYTES: usize = 16;
/// What the category of a place takes.
pub(super) const CATEGORY_BYTES: usize = 2;
/// A group of entries that is this long takes no further one.
pub(super) const GROUP_BYTES: u64 = 4_096;

/// The parts of a run between header and footer, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Places,
    Streams,
    Commands,
    StreamFence,
    CommandFence,
    StreamFilter,
    CommandFilter,
    Categories,
    Checkpoint,
}

pub(super) const SECTIONS: usize = 9;

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log_id: u128,
    pub(super) key: u128,
    /// How often it was merged.
    pub(super) level: u8,
    pub(super) from: Boundary,
    pub(super) to: Boundary,
    /// The position of its first event, or the next one if it has none.
    pub(super) first: Position,
    pub(super) events: u64,
    /// When the last event before `to` was recorded.
    pub(super) recorded_at: Timestamp,
    pub(super) commands: u64,
    /// The latest moment at which one of its commands was settled or minted.
    pub(super) newest: Timestamp,
    /// What the ledger had forgotten when the run was written.
    pub(super) forgotten_until: Timestamp,
}

impl Header {
    /// How many bytes an address takes.
    pub(super) fn width(&self) -> usize {
        let span = self.to.at.get().saturating_sub(self.from.at.get());
        let zeros = usize::try_from(span.leading_zeros() / 8).expect("it is at most 8");
        (8 - zeros).max(4)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Self {
            log_id,
            key,
            level,
            from,
            to,
            first,
            events,
            recorded_at,
            commands,
            newest,
            forgotten_until,
        } = self;
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend(log_id.to_le_bytes());
        out.extend(key.to_le_bytes());
        out.push(*level);
        for Boundary { at, batches, checksum } in [from, to] {
            out.extend(at.get().to_le_bytes());
            out.extend(batches.to_le_bytes());
            out.extend(checksum.to_le_bytes());
        }
        out.extend(first.get().to_le_bytes());
        out.extend(events.to_le_bytes());
        out.extend(recorded_at.as_micros().to_le_bytes());
        out.extend(commands.to_le_bytes());
        out.extend(newest.as_micros().to_le_bytes());
        out.extend(forgotten_until.as_micros().to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let mut rest = Fields(bytes);
        if rest.take()? != MAGIC || rest.u32()? != FORMAT {
            return Err(damaged("it is no index of this version"));
        }
        Ok(Self {
            log_id: u128::from_le_bytes(rest.take()?),
            key: u128::from_le_bytes(rest.take()?),
            level: u8::from_le_bytes(rest.take()?),
            from: rest.boundary()?,
            to: rest.boundary()?,
            first: Position::new(rest.u64()?),
            events: rest.u64()?,
            recorded_at: rest.time()?,
            commands: rest.u64()?,
            newest: rest.time()?,
            forgotten_until: rest.time()?,
        })
    }
}

/// Where the sections end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) ends: [u64; SECTIONS],
    pub(super) streams: u64,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { ends, streams } = self;
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        ends.iter().for_each(|end| out.extend(end.to_le_bytes()));
        out.extend(streams.to_le_bytes());
        out.extend(END_MAGIC);
        out
    }

    /// The footer of a file with so many bytes of data.
    pub(super) fn decode(bytes: &[u8], len: u64) -> io::Result<Self> {
        let mut rest = Fields(bytes);
        let mut ends = [0; SECTIONS];
        for end in &mut ends {
            *end = rest.u64()?;
        }
        let footer = Self { ends, streams: rest.u64()? };
        let whole = ends.is_sorted()
            && ends.first().is_some_and(|end| *end >= HEADER_BYTES as u64)
            && ends.last().is_some_and(|end| end + FOOTER_BYTES as u64 == len);
        if rest.take()? == END_MAGIC && whole { Ok(footer) } else { Err(damaged("it has no footer")) }
    }

    /// Where a section begins and ends.
    pub(super) fn section(&self, section: Section) -> std::ops::Range<u64> {
        let (index, end) = (section as usize, "there is one for each section");
        let start = index.checked_sub(1).map(|before| *self.ends.get(before).expect(end));
        start.unwrap_or(HEADER_BYTES as u64)..*self.ends.get(index).expect(end)
    }
}

/// Appends an address of a run.
pub(super) fn put_address(address: Address, from: Boundary, width: usize, out: &mut Vec<u8>) {
    let relative = address.get().saturating_sub(from.at.get()).to_le_bytes();
    out.extend(relative.iter().take(width));
}

/// The address that [`put_address`] wrote.
pub(super) fn address(bytes: &[u8], from: Boundary) -> Address {
    let mut relative = [0; 8];
    relative.iter_mut().zip(bytes).for_each(|(into, byte)| *into = *byte);
    Address::new(from.at.get().saturating_add(u64::from_le_bytes(relative)))
}

/// What is left of some bytes of a run.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or_else(|| damaged("the index ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(io::Error::other)
    }

    pub(super) fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn time(&mut self) -> io::Result<Timestamp> {
        Ok(Timestamp::from_micros(i64::from_le_bytes(self.take()?)))
    }

    fn boundary(&mut self) -> io::Result<Boundary> {
        Ok(Boundary { at: Address::new(self.u64()?), batches: self.u64()?, checksum: self.u32()? })
    }
}
