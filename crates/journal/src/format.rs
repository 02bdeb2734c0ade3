//! The bytes of the log. All numbers are little endian; golden files in `tests/golden` lock the layout.
//!
//! ```text
//! segment  magic 8 | format u32 (1) | log id u128 | base u64 | crc32c u32                      40 bytes
//! record   len u32 | crc32c u32 | format u8 | kind u8 | flags u16 | key_id u32 | payload  16 + len bytes
//! marker   a record of kind 0: batch number u64 | record count u32 | crc32c of the run u32 | group start u64
//! ```
//!
//! A segment of format 2 was written anew without some of its records; see `compacted`.
//!
//! A record's checksum covers what follows it in the header, and the payload. The place and meaning of `len`,
//! `crc32c` and `format` hold for every format version, so that an old program recognises a newer record as
//! sound but unknown, and does not take it for a torn one.

use std::fmt;

use crate::error::Reason;

/// The longest payload of one record, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

pub(crate) const SEGMENT_HEADER_BYTES: usize = 40;
pub(crate) const RECORD_HEADER_BYTES: usize = 16;
pub(crate) const MARKER_BYTES: usize = RECORD_HEADER_BYTES + MARKER_PAYLOAD_BYTES;
pub(crate) const MARKER_KIND: u8 = 0;
const MARKER_PAYLOAD_BYTES: usize = 24;
const SEGMENT_MAGIC: [u8; 8] = *b"SILLAGEJ";
const WRITTEN_FORMAT: u32 = 1;
const COMPACTED_FORMAT: u32 = 2;
const RECORD_FORMAT: u8 = 1;

/// A place in the whole log: the base address of a segment plus the offset in its file, in bytes.
///
/// Addresses grow with the log and are never given out twice for different acknowledged records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u64);

impl Address {
    /// The address with this number, as it was stored by the caller.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number to store.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on. A log cannot reach 2^64 bytes, so this does not overflow.
    pub(crate) fn after(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }

    /// The same.
    pub(crate) fn after_u32(self, bytes: u32) -> Self {
        Self(self.0 + u64::from(bytes))
    }

    /// The address `bytes` before it, if the log is that long.
    pub(crate) fn before(self, bytes: usize) -> Option<Self> {
        self.0.checked_sub(bytes as u64).map(Self)
    }

    /// The bytes from `base` to here; `base` never lies behind.
    pub(crate) fn offset_from(self, base: Self) -> u64 {
        self.0.saturating_sub(base.0)
    }
}

impl fmt::Display for Address {
    /// Sixteen hexadecimal digits, as in the names of segment files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place between two batches, with enough of what stands before it to recognise it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    /// Where the batch before it ends.
    pub at: Address,
    /// How many batches stand before it.
    pub batches: u64,
    /// The checksum of the last of them, 0 if there is none.
    pub checksum: u32,
}

/// One record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is to the caller: 1 to 255.
    pub kind: u8,
    /// Bits that belong to the caller.
    pub flags: u16,
    /// The key that seals the payload; 0 means that it is not encrypted.
    pub key_id: u32,
    /// The bytes, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Vec<u8>,
}

/// One record, borrowed from the bytes of its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Where it stands in the log.
    pub address: Address,
    /// What it is to the caller: 1 to 255.
    pub kind: u8,
    /// Bits that belong to the caller.
    pub flags: u16,
    /// The key that seals the payload; 0 means that it is not encrypted.
    pub key_id: u32,
    /// The bytes.
    pub payload: &'a [u8],
}

impl RecordRef<'_> {
    /// The bytes that the record takes in the log.
    pub(crate) fn encoded_len(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload.len()
    }

    pub(crate) fn to_owned(self) -> Record {
        let Self { address: _, kind, flags, key_id, payload } = self;
        Record { kind, flags, key_id, payload: payload.to_vec() }
    }
}

/// One committed batch: whole, and checked; of a compacted segment with what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub(crate) number: u64,
    pub(crate) address: Address,
    pub(crate) end: Address,
    pub(crate) count: u32,
    pub(crate) checksum: u32,
    pub(crate) run: &'a [u8],
    /// Its marker, encoded.
    pub(crate) marker: &'a [u8],
    pub(crate) places: Places<'a>,
}

/// Where the records of a batch stand in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Places<'a> {
    /// One behind the other, from the address of the batch on.
    Adjacent,
    /// Where the directory of a compacted segment with this base says.
    Listed(Address, &'a [EncodedEntry]),
}

/// Where a record of a compacted segment stood in the segment as it was first written, and where it stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) old: u32,
    pub(crate) new: u32,
}

/// An entry as it stands in the directory.
pub(crate) type EncodedEntry = [u8; 8];

impl Entry {
    pub(crate) fn encode(self) -> EncodedEntry {
        let ([a, b, c, d], [e, f, g, h]) = (self.old.to_le_bytes(), self.new.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }

    pub(crate) fn decode([a, b, c, d, e, f, g, h]: EncodedEntry) -> Self {
        Self { old: u32::from_le_bytes([a, b, c, d]), new: u32::from_le_bytes([e, f, g, h]) }
    }
}

impl<'a> Batch<'a> {
    /// Its number, from 1 without gaps over the whole log.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where its first record stands: what [`Reader::read_batch`](crate::Reader::read_batch) takes.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The place behind it.
    #[must_use]
    pub fn end(&self) -> Boundary {
        Boundary { at: self.end, batches: self.number, checksum: self.checksum }
    }

    /// How many records it has; 0 only if compaction has left out all of them.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its records, in the order in which they were pushed.
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'a>> + use<'a> {
        let (mut next, mut rest) = (self.address, self.run);
        let mut listed = match self.places {
            Places::Adjacent => None,
            Places::Listed(base, entries) => {
                Some(entries.iter().map(move |entry| base.after_u32(Entry::decode(*entry).old)))
            }
        };
        std::iter::from_fn(move || {
            let (header, after) = RecordHeader::decode(rest)?;
            let (payload, after) = after.split_at_checked(header.len)?;
            let address = listed.as_mut().map_or(Some(next), Iterator::next)?;
            let record = header.with(address, payload);
            (next, rest) = (address.after(record.encoded_len()), after);
            Some(record)
        })
    }
}

/// Why no record could be taken from the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The bytes end too early; the record needs this many.
    Short(usize),
    /// The bytes are not a record.
    Broken(Reason),
    /// A sound record of a format that this program does not know.
    Unsupported(u8),
}

struct RecordHeader {
    len: usize,
    crc: u32,
    format: u8,
    kind: u8,
    flags: u16,
    key_id: u32,
}

impl RecordHeader {
    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = bytes;
        let header = Self {
            len: usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?,
            crc: u32::from_le_bytes(take(&mut rest)?),
            format: u8::from_le_bytes(take(&mut rest)?),
            kind: u8::from_le_bytes(take(&mut rest)?),
            flags: u16::from_le_bytes(take(&mut rest)?),
            key_id: u32::from_le_bytes(take(&mut rest)?),
        };
        Some((header, rest))
    }

    fn with<'a>(&self, address: Address, payload: &'a [u8]) -> RecordRef<'a> {
        let Self { len: _, crc: _, format: _, kind, flags, key_id } = *self;
        RecordRef { address, kind, flags, key_id, payload }
    }
}

/// Takes the record, or marker, that begins `bytes`, and checks it.
pub(crate) fn decode_record(bytes: &[u8], address: Address) -> Result<RecordRef<'_>, Flaw> {
    let (header, rest) = RecordHeader::decode(bytes).ok_or(Flaw::Short(RECORD_HEADER_BYTES))?;
    if header.len > MAX_PAYLOAD_BYTES {
        return Err(Flaw::Broken(Reason::RecordLength));
    }
    let whole = RECORD_HEADER_BYTES + header.len;
    let checked = bytes.get(8..whole).ok_or(Flaw::Short(whole))?;
    if crc32c::crc32c(checked) != header.crc {
        return Err(Flaw::Broken(Reason::RecordChecksum));
    }
    if header.format != RECORD_FORMAT {
        return Err(Flaw::Unsupported(header.format));
    }
    let payload = rest.get(..header.len).ok_or(Flaw::Short(whole))?;
    Ok(header.with(address, payload))
}

/// Appends a record. `payload` is at most [`MAX_PAYLOAD_BYTES`]; the caller has checked.
pub(crate) fn encode_record(into: &mut Vec<u8>, kind: u8, flags: u16, key_id: u32, payload: &[u8]) {
    encode_record_with(into, kind, flags, key_id, |into| into.extend_from_slice(payload));
}

/// Appends a record whose payload is what `write` appends, and answers how long that is. One of more than
/// [`MAX_PAYLOAD_BYTES`] is for the caller to take away again.
pub(crate) fn encode_record_with(
    into: &mut Vec<u8>,
    kind: u8,
    flags: u16,
    key_id: u32,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let [flags_low, flags_high] = flags.to_le_bytes();
    let [key_0, key_1, key_2, key_3] = key_id.to_le_bytes();
    let start = into.len();
    // Length and checksum are known when the payload is there.
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&[RECORD_FORMAT, kind, flags_low, flags_high, key_0, key_1, key_2, key_3]);
    write(into);
    let record = into.get_mut(start..).expect("what was appended is there");
    let (lead, checked) = record.split_at_mut(8);
    let payload = checked.len() - (RECORD_HEADER_BYTES - 8);
    let (len, crc) = lead.split_at_mut(4);
    len.copy_from_slice(&u32::try_from(payload).unwrap_or(u32::MAX).to_le_bytes());
    crc.copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
    payload
}

/// What has been seen of a batch so far: the two facts that its marker must repeat.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    count: u32,
    crc: u32,
}

impl Run {
    /// Adds `count` encoded records.
    pub(crate) fn add(&mut self, count: u32, encoded: &[u8]) {
        self.count = self.count.saturating_add(count);
        self.crc = crc32c::crc32c_append(self.crc, encoded);
    }

    pub(crate) fn count(self) -> u32 {
        self.count
    }

    pub(crate) fn checksum(self) -> u32 {
        self.crc
    }
}

/// The payload of a commit marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) number: u64,
    pub(crate) group_start: Address,
    count: u32,
    crc: u32,
}

impl Marker {
    pub(crate) fn new(number: u64, run: Run, group_start: Address) -> Self {
        Self { number, group_start, count: run.count, crc: run.crc }
    }

    /// Whether this marker closes that run. No batch is empty.
    pub(crate) fn closes(&self, run: Run) -> bool {
        run.count > 0 && self.count == run.count && self.crc == run.crc
    }

    /// The checksum of the run that this marker closes.
    pub(crate) fn checksum(&self) -> u32 {
        self.crc
    }

    /// Whether the batch that this marker closes is the last one before the boundary.
    pub(crate) fn ends_at(&self, boundary: Boundary) -> bool {
        self.number == boundary.batches && self.crc == boundary.checksum
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let Self { number, group_start, count, crc } = self;
        let mut payload = Vec::with_capacity(MARKER_PAYLOAD_BYTES);
        payload.extend_from_slice(&number.to_le_bytes());
        payload.extend_from_slice(&count.to_le_bytes());
        payload.extend_from_slice(&crc.to_le_bytes());
        payload.extend_from_slice(&group_start.get().to_le_bytes());
        encode_record(into, MARKER_KIND, 0, 0, &payload);
    }

    /// Reads the marker in a record of kind 0 that has been checked.
    pub(crate) fn from_record(record: &RecordRef<'_>) -> Option<Self> {
        if record.kind != MARKER_KIND || record.payload.len() != MARKER_PAYLOAD_BYTES {
            return None;
        }
        let mut rest = record.payload;
        Some(Self {
            number: u64::from_le_bytes(take(&mut rest)?),
            count: u32::from_le_bytes(take(&mut rest)?),
            crc: u32::from_le_bytes(take(&mut rest)?),
            group_start: Address(u64::from_le_bytes(take(&mut rest)?)),
        })
    }

    /// The marker that begins `bytes`, if a sound one does. The length is looked at first, so that a search over
    /// every offset computes hardly any checksum.
    pub(crate) fn at_start_of(bytes: &[u8], address: Address) -> Option<Self> {
        const LEN: [u8; 4] = [24, 0, 0, 0];
        if !bytes.starts_with(&LEN) {
            return None;
        }
        Self::from_record(&decode_record(bytes, address).ok()?)
    }
}

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) layout: Layout,
    pub(crate) log_id: u128,
    pub(crate) base: Address,
}

/// How the records stand in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As they were written, each at the offset that its address says.
    Written,
    /// Those that compaction has left, with a directory.
    Compacted,
}

impl Layout {
    const fn format(self) -> u32 {
        match self {
            Self::Written => WRITTEN_FORMAT,
            Self::Compacted => COMPACTED_FORMAT,
        }
    }
}

/// Why the header of a segment could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFlaw {
    Broken,
    Unsupported(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { layout, log_id, base } = self;
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&layout.format().to_le_bytes());
        bytes.extend_from_slice(&log_id.to_le_bytes());
        bytes.extend_from_slice(&base.get().to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFlaw> {
        let (format, log_id, base) = Self::fields(bytes).ok_or(HeaderFlaw::Broken)?;
        let layout =
            [Layout::Written, Layout::Compacted].into_iter().find(|layout| layout.format() == format);
        let layout = layout.ok_or(HeaderFlaw::Unsupported(format))?;
        Ok(Self { layout, log_id, base })
    }

    fn fields(bytes: &[u8]) -> Option<(u32, u128, Address)> {
        let checked = bytes.get(..SEGMENT_HEADER_BYTES - 4)?;
        let mut rest = bytes;
        let magic: [u8; 8] = take(&mut rest)?;
        let format = u32::from_le_bytes(take(&mut rest)?);
        let log_id = u128::from_le_bytes(take(&mut rest)?);
        let base = Address(u64::from_le_bytes(take(&mut rest)?));
        let crc = u32::from_le_bytes(take(&mut rest)?);
        let sound = magic == SEGMENT_MAGIC && crc == crc32c::crc32c(checked);
        sound.then_some((format, log_id, base))
    }
}

/// Takes the first `N` bytes off `bytes`.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound record or segment of a later format must never be mistaken for a torn one, which would be cut.
    #[test]
    fn a_newer_format_is_unsupported_not_broken() {
        let mut record = Vec::new();
        encode_record(&mut record, 1, 0, 0, b"later");
        record[8] = 2;
        let crc = crc32c::crc32c(&record[8..]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_record(&record, Address::new(0)), Err(Flaw::Unsupported(2)));

        let layout = Layout::Compacted;
        let mut header = SegmentHeader { layout, log_id: 7, base: Address::new(0) }.encode();
        header[8] = 3;
        let crc = crc32c::crc32c(&header[..36]);
        header[36..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&header), Err(HeaderFlaw::Unsupported(3)));
    }

    #[test]
    fn zero_bytes_are_not_a_record() {
        let flaw = decode_record(&[0; 64], Address::new(0));
        assert_eq!(flaw, Err(Flaw::Broken(Reason::RecordChecksum)));
    }
}
