//! Staging batches and committing them as a group: one write, one flush, and now and then zeros ahead of both.
//!
//! Staging and writing are two halves, so that one group can be staged while another is on its way to the disk.
//!
//! The flusher is poisoned while it touches the disk, and healed only when it knows again what the disk holds:
//! after a confirmed flush, or after a failed write that was rewound. So neither an error nor a panic in between
//! can let a later call build on unknown bytes. What was staged behind a group that failed is refused.

use std::{fmt, io, sync::Arc};

use crate::{
    disk::{DiskFile, Lock},
    error::Error,
    format::{
        Address, Boundary, Layout, MARKER_BYTES, MARKER_KIND, MAX_PAYLOAD_BYTES, Marker, Run,
        SEGMENT_HEADER_BYTES, SegmentHeader, encode_record_with,
    },
    reader::Shared,
};

/// The most that one group may take in the log, in bytes. The staging buffer keeps what it has grown to.
pub const MAX_GROUP_BYTES: usize = 64 << 20;

/// Behind a small group, zeros are written this far, so that the next groups go into space that is there already:
/// their flush need not wait for the file system's own journal, nor for what others have in it.
const AHEAD_BYTES: u64 = 256 << 10;
/// With less than this ahead, more is written.
const LEAST_AHEAD_BYTES: u64 = AHEAD_BYTES / 4;
/// A larger group is not worth it: writing its bytes twice costs more than the wait.
const SMALL_GROUP_BYTES: usize = 64 << 10;

/// The segment that is being written.
pub(crate) struct Active {
    pub(crate) base: Address,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next group goes: everything before it is durable.
    pub(crate) end: Address,
}

/// The one writer of a log. Dropping it releases the lock; what was not committed is gone.
///
/// It is made of two halves, which may be [split](Self::split): while one group is on its way to the disk, the next is
/// staged.
#[derive(Debug)]
pub struct Writer {
    stager: Stager,
    flusher: Flusher,
    /// A buffer that was used before.
    spare: Group,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        segment: Active,
        segment_bytes: u64,
        boundary: Boundary,
        lock: Lock,
    ) -> Self {
        let (allocated, health) = (0, Health::Good);
        let failures = 0;
        let flusher =
            Flusher { shared, segment, segment_bytes, allocated, boundary, health, failures, _lock: lock };
        Self { stager: Stager::behind(&flusher), flusher, spare: Group::default() }
    }

    /// The halves, for two threads. Nothing may be staged.
    #[must_use]
    pub fn split(self) -> (Stager, Flusher) {
        (self.stager, self.flusher)
    }

    /// The end of the last batch that is durable: what [`Options::start`](crate::Options::start) takes.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.flusher.boundary()
    }

    /// As [`Stager::push`] with the bytes of `payload`.
    ///
    /// # Errors
    /// As there; and [`Error::Poisoned`].
    pub fn push(&mut self, kind: u8, flags: u16, key_id: u32, payload: &[u8]) -> Result<Address, Error> {
        self.flusher.check_health()?;
        self.stager.push(kind, flags, key_id, |bytes| bytes.extend_from_slice(payload))
    }

    /// Closes the open batch: it will be committed whole or not at all. Without records it does nothing.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn end_batch(&mut self) -> Result<(), Error> {
        self.flusher.check_health()?;
        self.stager.end_batch();
        Ok(())
    }

    /// Drops the records pushed since the last [`Writer::end_batch`]. Their addresses will be given out again.
    pub fn discard_batch(&mut self) {
        self.stager.discard_batch();
    }

    /// What waits for the commit, in bytes as they will stand in the log, the open batch included.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.stager.staged_bytes()
    }

    /// Writes all ended batches, waits until the disk has them, and shows them to the readers. After any error
    /// but [`Error::BatchOpen`] nothing is staged any more.
    ///
    /// # Errors
    /// [`Error::BatchOpen`]: nothing was done. Else as [`Flusher::flush`].
    pub fn commit(&mut self) -> Result<(), Error> {
        self.flusher.check_health()?;
        let group = self.stager.seal(std::mem::take(&mut self.spare))?;
        let result = self.flusher.flush(&group);
        if result.is_err() {
            self.stager = Stager::behind(&self.flusher);
        }
        self.spare = group;
        result
    }

    /// Whether an earlier failure left the writer unsure of what the disk holds. Then only opening the log
    /// again helps.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.flusher.is_poisoned()
    }
}

/// The half of a [`Writer`] that encodes what will be written, and knows where it will stand.
pub struct Stager {
    segment_bytes: u64,
    /// The segment and the place in it behind all groups that were sealed, if they all come to the disk.
    base: Address,
    end: Address,
    /// The batches before this group.
    batches: u64,
    /// The failures of the flusher that it knows of.
    failures: u64,
    group: Group,
    /// How many of its bytes belong to ended batches; the rest is the open one.
    ended: usize,
    open_records: u32,
}

/// Batches that are to be written in one go, encoded.
#[derive(Default)]
pub struct Group {
    bytes: Vec<u8>,
    /// Where they go. Decided at the first push, so that addresses are exact.
    start: Address,
    batches: u64,
    /// The checksum of the last ended batch.
    checksum: u32,
    /// The batches before it.
    after: u64,
    /// The failures of the flusher that its stager knew of.
    failures: u64,
}

impl Group {
    /// Forgets what is in it, and keeps the space.
    fn clear(&mut self) {
        self.bytes.clear();
        self.batches = 0;
    }
}

impl Stager {
    /// One that goes on where the flusher has come to. After a flush that failed this is the only one whose groups it
    /// takes.
    #[must_use]
    pub fn behind(flusher: &Flusher) -> Self {
        let Flusher { segment: Active { base, file: _, end }, segment_bytes, boundary, failures, .. } =
            flusher;
        Self {
            segment_bytes: *segment_bytes,
            base: *base,
            end: *end,
            batches: boundary.batches,
            failures: *failures,
            group: Group::default(),
            ended: 0,
            open_records: 0,
        }
    }

    /// Adds a record to the open batch, with the payload that `write` appends to what it is given, and returns the
    /// address that it will have once committed.
    ///
    /// # Errors
    /// [`Error::ReservedKind`], [`Error::PayloadTooLarge`], [`Error::GroupFull`]; the open batch is then as it was.
    pub fn push(
        &mut self,
        kind: u8,
        flags: u16,
        key_id: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Address, Error> {
        if kind == MARKER_KIND {
            return Err(Error::ReservedKind);
        }
        let staged = self.group.bytes.len();
        if staged == 0 {
            self.group.start = self.place_for_group();
        }
        let bytes = &mut self.group.bytes;
        let payload = encode_record_with(bytes, kind, flags, key_id, write);
        // Room for the marker is kept, so that ending a batch cannot fail.
        let refusal = if payload > MAX_PAYLOAD_BYTES {
            Some(Error::PayloadTooLarge { len: payload })
        } else if bytes.len() + MARKER_BYTES > MAX_GROUP_BYTES {
            Some(Error::GroupFull)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            bytes.truncate(staged);
            return Err(refusal);
        }
        self.open_records += 1;
        Ok(self.group.start.after(staged))
    }

    /// Closes the open batch: it will be committed whole or not at all. Without records it does nothing.
    pub fn end_batch(&mut self) {
        if self.open_records == 0 {
            return;
        }
        let Group { bytes, start, batches, checksum, .. } = &mut self.group;
        let mut run = Run::default();
        run.add(self.open_records, bytes.get(self.ended..).expect("the open batch ends the buffer"));
        Marker::new(self.batches + 1 + *batches, run, *start).encode(bytes);
        (*checksum, self.ended, self.open_records) = (run.checksum(), bytes.len(), 0);
        *batches += 1;
    }

    /// Drops the records pushed since the last [`Stager::end_batch`]. Their addresses will be given out again.
    pub fn discard_batch(&mut self) {
        self.group.bytes.truncate(self.ended);
        self.open_records = 0;
    }

    /// What waits to be sealed, in bytes as they will stand in the log, the open batch included.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.group.bytes.len()
    }

    /// Takes all ended batches as one group, which the flusher must be given before any later one, and begins the next
    /// behind it, in the buffer of `next`, whose contents are forgotten.
    ///
    /// # Errors
    /// [`Error::BatchOpen`]: nothing was done.
    pub fn seal(&mut self, mut next: Group) -> Result<Group, Error> {
        if self.open_records > 0 {
            return Err(Error::BatchOpen);
        }
        next.clear();
        let mut group = std::mem::replace(&mut self.group, next);
        (group.after, group.failures) = (self.batches, self.failures);
        if !group.bytes.is_empty() {
            if group.start != self.end {
                self.base = self.end;
            }
            self.end = group.start.after(group.bytes.len());
            self.batches += group.batches;
        }
        self.ended = 0;
        Ok(group)
    }

    /// Where a group goes that begins now.
    fn place_for_group(&self) -> Address {
        let full = self.end.offset_from(self.base) >= self.segment_bytes;
        if full { self.end.after(SEGMENT_HEADER_BYTES) } else { self.end }
    }
}

/// The half of a [`Writer`] that brings groups to the disk, in the order in which they were sealed. Dropping it
/// releases the lock of the log.
pub struct Flusher {
    shared: Arc<Shared>,
    segment: Active,
    segment_bytes: u64,
    /// How far the file of the segment has space, as an offset in it; less than its end if nothing was written ahead.
    allocated: u64,
    /// The end of the last batch that is durable.
    boundary: Boundary,
    health: Health,
    /// How many groups it has given up.
    failures: u64,
    _lock: Lock,
}

#[derive(Debug, PartialEq)]
enum Health {
    Good,
    Poisoned,
}

impl Flusher {
    /// The end of the last batch that is durable: what [`Options::start`](crate::Options::start) takes.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// Whether an earlier failure left it unsure of what the disk holds. Then only opening the log again helps.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.health == Health::Poisoned
    }

    /// Writes a group, waits until the disk has it, and shows it to the readers.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing of the group was kept; stage it again if the cause has gone. [`Error::OutcomeUnknown`]:
    /// only opening the log again tells whether the group is in it. [`Error::Poisoned`]. After any of them groups that
    /// were staged meanwhile are refused as [`Error::OutOfTurn`]: their addresses and numbers rest on what is not
    /// there. Go on with [`Stager::behind`].
    pub fn flush(&mut self, group: &Group) -> Result<(), Error> {
        self.check_health()?;
        if group.bytes.is_empty() {
            return Ok(());
        }
        if (group.failures, group.after) != (self.failures, self.boundary.batches) {
            return Err(Error::OutOfTurn);
        }
        self.health = Health::Poisoned;
        let result = self.write_group(group);
        match result {
            Ok(()) => {
                let batches = group.after + group.batches;
                self.boundary = Boundary { at: self.segment.end, batches, checksum: group.checksum };
            }
            Err(_) => self.failures += 1,
        }
        result
    }

    fn write_group(&mut self, group: &Group) -> Result<(), Error> {
        if group.start != self.segment.end {
            self.roll()?;
        }
        let Active { base, file, end } = &mut self.segment;
        let offset = end.offset_from(*base);
        if let Err(source) = file.write_all_at(&group.bytes, offset) {
            const DOING: &str = "write a group";
            self.allocated = 0;
            return Err(match cut(file.as_ref(), offset) {
                Ok(()) => {
                    self.health = Health::Good;
                    Error::Io { doing: DOING, source }
                }
                Err(_) => Error::OutcomeUnknown { doing: DOING, source },
            });
        }
        let small = group.bytes.len() <= SMALL_GROUP_BYTES;
        let written = end.after(group.bytes.len()).offset_from(*base);
        let wanted = (written + LEAST_AHEAD_BYTES).min(self.segment_bytes);
        if small && wanted > written && wanted > self.allocated {
            self.allocated = allocate(file.as_ref(), written, self.segment_bytes);
        }
        if let Err(source) = file.sync_data() {
            // Pages that the kernel holds as clean but the disk never got must not be read as data by whoever
            // opens the log next. Should this fail as well, the writer is poisoned all the same.
            let _ = file.truncate(offset);
            return Err(Error::OutcomeUnknown { doing: "flush a group", source });
        }
        *end = end.after(group.bytes.len());
        self.shared.publish(*end);
        self.health = Health::Good;
        Ok(())
    }

    /// Goes on in a new segment. The old one is durable to its end, so it counts as sealed from here on.
    fn roll(&mut self) -> Result<(), Error> {
        let Shared { disk, folders, log_id, .. } = self.shared.as_ref();
        let base = self.segment.end;
        let path = folders.own_path(base);
        let header = SegmentHeader { layout: Layout::Written, log_id: *log_id, base }.encode();
        // A file that never got its header is what a crash leaves too: recovery cuts it, the next roll empties it.
        let file = match disk.create(&path) {
            Ok(file) => file,
            Err(source) => {
                self.health = Health::Good;
                return Err(Error::Io { doing: "create a segment", source });
            }
        };
        if let Err(source) = file.write_all_at(&header, 0) {
            if cut(file.as_ref(), 0).is_ok() {
                self.health = Health::Good;
            }
            return Err(Error::Io { doing: "write a segment header", source });
        }
        file.sync_data()
            .and_then(|()| disk.sync_dir(folders.own()))
            .map_err(Error::io("flush a new segment"))?;
        self.shared.add(base, Arc::clone(&file));
        self.segment = Active { base, file, end: base.after(SEGMENT_HEADER_BYTES) };
        self.allocated = 0;
        Ok(())
    }

    fn check_health(&self) -> Result<(), Error> {
        match self.health {
            Health::Good => Ok(()),
            Health::Poisoned => Err(Error::Poisoned),
        }
    }
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher")
            .field("end", &self.segment.end)
            .field("boundary", &self.boundary)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("batches", &self.batches).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stager")
            .field("end", &self.end)
            .field("staged_bytes", &self.staged_bytes())
            .finish_non_exhaustive()
    }
}

/// Writes zeros from `written` on, not beyond `limit`, and answers how far there is space now. A disk that has no room
/// for them may still have room for the groups themselves, so a failure only means that nothing is ahead.
fn allocate(file: &dyn DiskFile, written: u64, limit: u64) -> u64 {
    let until = (written + AHEAD_BYTES).min(limit).max(written);
    let zeros = vec![0; usize::try_from(until - written).expect("it is at most 256 KiB")];
    if file.write_all_at(&zeros, written).is_ok() { until } else { 0 }
}

/// Shortens a file durably, so that what stood behind can never be taken for data again.
pub(crate) fn cut(file: &dyn DiskFile, len: u64) -> io::Result<()> {
    file.truncate(len)?;
    file.sync_data()
}
