//! A segment that was written anew without some of its records. Those that are left keep their addresses, and each
//! batch keeps its marker, so boundaries stay what they were; a directory says where each record stands now.
//!
//! ```text
//! header     as of any segment, with format 2                                                 40 bytes
//! records    what is left of each batch, then its marker, one behind the other, as they are in any segment
//! directory  of each of them: the offset that it had u32 | its offset here u32
//! footer     the length that the segment had u64 | entries u32 | crc32c of the directory u32 | magic 8 |
//!            crc32c of the footer up to here u32                                              28 bytes
//! ```
//!
//! A record may also stand in place of another, at its address. A marker still has the checksum of the run that was
//! written; each record has its own, and the directory says that none is missing. Such a segment gets its name once it
//! is durable, so it is never torn: whatever does not check is damage.

use crate::{
    disk::{DiskFile, read_full},
    error::{Error, Reason},
    format::{
        Address, Batch, Boundary, EncodedEntry, Entry, Flaw, MARKER_BYTES, MARKER_KIND, Marker, Places,
        RecordRef, SEGMENT_HEADER_BYTES, decode_record, take,
    },
    recovery::{Scan, Tail},
};

pub(crate) const FOOTER_BYTES: usize = 28;
const MAGIC: [u8; 8] = *b"JEGALLIS";
const ENTRY_BYTES: usize = size_of::<EncodedEntry>();
/// How many entries of a directory are read at once to find one.
const PAGE_ENTRIES: usize = 512;

/// What the end of a compacted segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// The length of the segment as it was first written.
    pub(crate) end: u64,
    pub(crate) entries: u32,
    /// The checksum of the directory.
    pub(crate) crc: u32,
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { end, entries, crc } = self;
        let mut bytes = Vec::with_capacity(FOOTER_BYTES);
        bytes.extend_from_slice(&end.to_le_bytes());
        bytes.extend_from_slice(&entries.to_le_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (checked, mut crc) = bytes.split_at_checked(FOOTER_BYTES - 4)?;
        let mut rest = checked;
        let footer = Self {
            end: u64::from_le_bytes(take(&mut rest)?),
            entries: u32::from_le_bytes(take(&mut rest)?),
            crc: u32::from_le_bytes(take(&mut rest)?),
        };
        let sound = u32::from_le_bytes(take(&mut crc)?) == crc32c::crc32c(checked);
        (sound && take(&mut rest) == Some(MAGIC)).then_some(footer)
    }

    /// The footer of a compacted segment, and where it begins in the file.
    pub(crate) fn read(file: &dyn DiskFile, base: Address) -> Result<(Self, u64), Error> {
        let damaged = || Error::Damaged { segment: base, at: base, reason: Reason::Directory };
        let size = file.size().map_err(Error::io("measure a segment"))?;
        let at = size.checked_sub(FOOTER_BYTES as u64).ok_or_else(damaged)?;
        let mut footer = [0; FOOTER_BYTES];
        read_full(file, &mut footer, at).map_err(Error::io("read a directory"))?;
        Ok((Self::decode(&footer).ok_or_else(damaged)?, at))
    }

    fn directory_bytes(&self) -> u64 {
        u64::from(self.entries) * ENTRY_BYTES as u64
    }
}

/// Judges a whole compacted segment whose header has been checked; with a start only what stands behind it. `None` if
/// the batch before the start does not end there.
pub(crate) fn scan<'a>(
    bytes: &'a [u8],
    base: Address,
    next_batch: u64,
    start: Option<Boundary>,
) -> Option<Scan<'a>> {
    let nothing = Scan {
        batches: Vec::new(),
        end: SEGMENT_HEADER_BYTES.min(bytes.len()),
        tail: Tail::Damaged { at: base, reason: Reason::Directory },
    };
    let Some((entries, footer)) = directory(bytes) else { return start.is_none().then_some(nothing) };
    let mut scanner = Scanner { bytes, base, entries, next: 0, here: SEGMENT_HEADER_BYTES };
    let mut at = base.after(SEGMENT_HEADER_BYTES);
    if let Some(start) = start {
        scanner.skip_to(start)?;
        at = start.at;
    }
    let mut scan = Scan { end: within(at, base), ..nothing };
    scan.tail = loop {
        if scanner.next == entries.len() {
            let whole =
                at.offset_from(base) == footer.end && scanner.here + footer_bytes(&footer) == bytes.len();
            break if whole { Tail::Clean } else { Tail::Damaged { at, reason: Reason::CutShort } };
        }
        match scanner.batch(at, next_batch + scan.batches.len() as u64) {
            Ok(batch) => {
                at = batch.end;
                scan.end = within(at, base);
                scan.batches.push(batch);
            }
            Err(Flaw::Unsupported(version)) => break Tail::Unsupported { at, version },
            Err(Flaw::Short(_)) => break Tail::Damaged { at, reason: Reason::CutShort },
            Err(Flaw::Broken(reason)) => break Tail::Damaged { at, reason },
        }
    };
    Some(scan)
}

fn within(at: Address, base: Address) -> usize {
    usize::try_from(at.offset_from(base)).expect("a segment fits the address space")
}

fn footer_bytes(footer: &Footer) -> usize {
    FOOTER_BYTES + usize::try_from(footer.directory_bytes()).expect("it was found in the bytes")
}

/// The directory of a segment, if it is sound.
fn directory(bytes: &[u8]) -> Option<(&[EncodedEntry], Footer)> {
    let (rest, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_BYTES)?)?;
    let footer = Footer::decode(footer)?;
    let start = rest.len().checked_sub(usize::try_from(footer.directory_bytes()).ok()?)?;
    let directory = rest.get(start..).filter(|_| start >= SEGMENT_HEADER_BYTES)?;
    let (entries, _) = directory.as_chunks();
    (crc32c::crc32c(directory) == footer.crc).then_some((entries, footer))
}

/// Goes over the records of a compacted segment.
struct Scanner<'a> {
    bytes: &'a [u8],
    base: Address,
    entries: &'a [EncodedEntry],
    /// The index of the next entry, and where its record must begin.
    next: usize,
    here: usize,
}

impl<'a> Scanner<'a> {
    /// Goes behind the marker that ends at a boundary.
    fn skip_to(&mut self, start: Boundary) -> Option<()> {
        let old = start.at.before(MARKER_BYTES)?.offset_from(self.base);
        let index = self.entries.partition_point(|entry| u64::from(Entry::decode(*entry).old) < old);
        let entry = Entry::decode(*self.entries.get(index)?);
        self.here = usize::try_from(entry.new).ok()?;
        self.next = index;
        let marker = Marker::from_record(&self.record().ok()?)?;
        (u64::from(entry.old) == old && marker.ends_at(start)).then_some(())
    }

    /// Takes the next record, which must begin where the one before it ends.
    fn record(&mut self) -> Result<RecordRef<'a>, Flaw> {
        let entry = self.entries.get(self.next).ok_or(Flaw::Short(0))?;
        let Entry { old, new } = Entry::decode(*entry);
        if new as usize != self.here {
            return Err(Flaw::Broken(Reason::Directory));
        }
        let rest = self.bytes.get(self.here..).ok_or(Flaw::Short(0))?;
        let record = decode_record(rest, self.base.after_u32(old))?;
        self.next += 1;
        self.here += record.encoded_len();
        Ok(record)
    }

    /// Takes the next batch, which began at `at`.
    fn batch(&mut self, at: Address, number: u64) -> Result<Batch<'a>, Flaw> {
        let (first, start) = (self.next, self.here);
        let mut least = at;
        loop {
            let (entry, run_end) = (self.next, self.here);
            let record = self.record()?;
            if record.address < least {
                return Err(Flaw::Broken(Reason::Directory));
            }
            if record.kind != MARKER_KIND {
                least = record.address.after(1);
                continue;
            }
            let marker = Marker::from_record(&record).ok_or(Flaw::Broken(Reason::Marker))?;
            if marker.number != number {
                return Err(Flaw::Broken(Reason::Sequence));
            }
            const THERE: &str = "the records of the batch were taken from there";
            let listed = self.entries.get(first..entry).expect(THERE);
            return Ok(Batch {
                number,
                address: at,
                end: record.address.after(MARKER_BYTES),
                count: u32::try_from(listed.len()).expect("a directory has no more entries"),
                checksum: marker.checksum(),
                run: self.bytes.get(start..run_end).expect(THERE),
                marker: self.bytes.get(run_end..self.here).expect(THERE),
                places: Places::Listed(self.base, listed),
            });
        }
    }
}

/// The directory of an open segment. In memory is of each page the first entry, and what it must look like.
#[derive(Debug)]
pub(crate) struct Directory {
    pages: Vec<Page>,
    /// Where it begins in the file, which is where the records end.
    start: u64,
    entries: usize,
}

#[derive(Debug)]
struct Page {
    first: u32,
    crc: u32,
}

/// The page of a directory that was read last.
#[derive(Debug, Default)]
pub(crate) struct LastPage(Option<(usize, Vec<u8>)>);

impl Directory {
    /// Reads and checks the directory of a compacted segment.
    pub(crate) fn open(file: &dyn DiskFile, base: Address) -> Result<Self, Error> {
        let damaged = || Error::Damaged { segment: base, at: base, reason: Reason::Directory };
        let (footer, end) = Footer::read(file, base)?;
        let start = end.checked_sub(footer.directory_bytes()).ok_or_else(damaged)?;
        let mut bytes = vec![0; usize::try_from(end - start).map_err(|_| damaged())?];
        read_full(file, &mut bytes, start).map_err(Error::io("read a directory"))?;
        if crc32c::crc32c(&bytes) != footer.crc {
            return Err(damaged());
        }
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let page = |page: &[EncodedEntry]| {
            let first = page.first().map_or(0, |entry| Entry::decode(*entry).old);
            Page { first, crc: crc32c::crc32c(page.as_flattened()) }
        };
        Ok(Self { pages: entries.chunks(PAGE_ENTRIES).map(page).collect(), start, entries: entries.len() })
    }

    /// Where the records end in the file.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The offset of the record that once stood at the offset `old`; none if it was left out.
    pub(crate) fn find(
        &self,
        file: &dyn DiskFile,
        old: u64,
        last: &mut LastPage,
        base: Address,
    ) -> Result<Option<u64>, Error> {
        let Ok(old) = u32::try_from(old) else { return Ok(None) };
        let number = self.pages.partition_point(|page| page.first <= old).checked_sub(1);
        let Some((number, page)) = number.and_then(|number| Some((number, self.pages.get(number)?))) else {
            return Ok(None);
        };
        if last.0.as_ref().is_none_or(|(held, _)| *held != number) {
            let skip = number * PAGE_ENTRIES;
            let mut bytes = vec![0; PAGE_ENTRIES.min(self.entries - skip) * ENTRY_BYTES];
            let at = self.start + (skip * ENTRY_BYTES) as u64;
            read_full(file, &mut bytes, at).map_err(Error::io("read a directory"))?;
            if crc32c::crc32c(&bytes) != page.crc {
                return Err(Error::Damaged {
                    segment: base,
                    at: base.after_u32(old),
                    reason: Reason::Directory,
                });
            }
            last.0 = Some((number, bytes));
        }
        let bytes = last.0.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let found = entries.binary_search_by_key(&old, |entry| Entry::decode(*entry).old).ok();
        Ok(found.and_then(|index| entries.get(index)).map(|entry| Entry::decode(*entry).new.into()))
    }
}
