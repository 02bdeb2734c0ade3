//! Staging batches and committing them as a group: one write, one flush, and now and then zeros ahead of both.
//!
//! The writer is poisoned while it touches the disk, and healed only when it knows again what the disk holds:
//! after a confirmed flush, or after a failed write that was rewound. So neither an error nor a panic in between
//! can let a later call build on unknown bytes.

use std::{fmt, io, sync::Arc};

use crate::{
    disk::{DiskFile, Lock},
    error::Error,
    format::{
        Address, Boundary, Layout, MARKER_BYTES, MARKER_KIND, MAX_PAYLOAD_BYTES, Marker, RECORD_HEADER_BYTES,
        Run, SEGMENT_HEADER_BYTES, SegmentHeader, encode_record,
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
pub struct Writer {
    shared: Arc<Shared>,
    segment: Active,
    segment_bytes: u64,
    /// How far the file of the segment has space, as an offset in it; less than its end if nothing was written ahead.
    allocated: u64,
    /// The end of the last batch that is durable.
    boundary: Boundary,
    group: Group,
    health: Health,
    _lock: Lock,
}

#[derive(Debug, PartialEq)]
enum Health {
    Good,
    Poisoned,
}

/// The batches that wait for the next commit, encoded.
struct Group {
    bytes: Vec<u8>,
    start: Address,
    batches: u64,
    /// The checksum of the last ended batch.
    checksum: u32,
    /// How many of the bytes belong to ended batches; the rest is the open one.
    ended: usize,
    open_records: u32,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        segment: Active,
        segment_bytes: u64,
        boundary: Boundary,
        lock: Lock,
    ) -> Self {
        let (start, bytes) = (segment.end, Vec::new());
        let group = Group { bytes, start, batches: 0, checksum: 0, ended: 0, open_records: 0 };
        let (allocated, health) = (0, Health::Good);
        Self { shared, segment, segment_bytes, allocated, boundary, group, health, _lock: lock }
    }

    /// The end of the last batch that is durable: what [`Options::start`](crate::Options::start) takes.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// Adds a record to the open batch and returns the address that it will have once committed.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ReservedKind`], [`Error::PayloadTooLarge`], [`Error::GroupFull`]; the open
    /// batch is then as it was.
    pub fn push(&mut self, kind: u8, flags: u16, key_id: u32, payload: &[u8]) -> Result<Address, Error> {
        self.check_health()?;
        if kind == MARKER_KIND {
            return Err(Error::ReservedKind);
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Error::PayloadTooLarge { len: payload.len() });
        }
        // Room for the marker is kept, so that ending a batch cannot fail.
        let staged = self.group.bytes.len();
        if staged + RECORD_HEADER_BYTES + payload.len() + MARKER_BYTES > MAX_GROUP_BYTES {
            return Err(Error::GroupFull);
        }
        if staged == 0 {
            self.group.start = self.place_for_group();
        }
        encode_record(&mut self.group.bytes, kind, flags, key_id, payload);
        self.group.open_records += 1;
        Ok(self.group.start.after(staged))
    }

    /// Closes the open batch: it will be committed whole or not at all. Without records it does nothing.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn end_batch(&mut self) -> Result<(), Error> {
        self.check_health()?;
        let Group { bytes, start, batches, checksum, ended, open_records } = &mut self.group;
        if *open_records == 0 {
            return Ok(());
        }
        let mut run = Run::default();
        run.add(*open_records, bytes.get(*ended..).expect("the open batch ends the buffer"));
        Marker::new(self.boundary.batches + 1 + *batches, run, *start).encode(bytes);
        (*checksum, *ended, *open_records) = (run.checksum(), bytes.len(), 0);
        *batches += 1;
        Ok(())
    }

    /// Drops the records pushed since the last [`Writer::end_batch`]. Their addresses will be given out again.
    pub fn discard_batch(&mut self) {
        self.group.bytes.truncate(self.group.ended);
        self.group.open_records = 0;
    }

    /// What waits for the commit, in bytes as they will stand in the log, the open batch included.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.group.bytes.len()
    }

    /// Writes all ended batches, waits until the disk has them, and shows them to the readers. After any error
    /// but [`Error::BatchOpen`] nothing is staged any more.
    ///
    /// # Errors
    /// [`Error::BatchOpen`]: nothing was done. [`Error::Io`]: nothing of the group was kept; stage it again if
    /// the cause has gone. [`Error::OutcomeUnknown`]: only opening the log again tells whether the group is in
    /// it. [`Error::Poisoned`].
    pub fn commit(&mut self) -> Result<(), Error> {
        self.check_health()?;
        if self.group.open_records > 0 {
            return Err(Error::BatchOpen);
        }
        if self.group.bytes.is_empty() {
            return Ok(());
        }
        self.health = Health::Poisoned;
        let result = self.write_group();
        if result.is_ok() {
            let batches = self.boundary.batches + self.group.batches;
            self.boundary = Boundary { at: self.segment.end, batches, checksum: self.group.checksum };
        }
        self.discard_group();
        result
    }

    /// Whether an earlier failure left the writer unsure of what the disk holds. Then only opening the log
    /// again helps.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.health == Health::Poisoned
    }

    /// Drops everything that is staged, ended batches too. Their addresses are given out again.
    pub fn discard_group(&mut self) {
        let Group { bytes, start: _, batches, checksum: _, ended, open_records } = &mut self.group;
        bytes.clear();
        (*batches, *ended, *open_records) = (0, 0, 0);
    }

    fn write_group(&mut self) -> Result<(), Error> {
        if self.group.start != self.segment.end {
            self.roll()?;
        }
        let Active { base, file, end } = &mut self.segment;
        let offset = end.offset_from(*base);
        if let Err(source) = file.write_all_at(&self.group.bytes, offset) {
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
        let small = self.group.bytes.len() <= SMALL_GROUP_BYTES;
        let written = end.after(self.group.bytes.len()).offset_from(*base);
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
        *end = end.after(self.group.bytes.len());
        self.shared.publish(*end);
        self.health = Health::Good;
        Ok(())
    }

    /// Where a group goes that begins now. Decided at its first push, so that addresses are exact.
    fn place_for_group(&self) -> Address {
        let Active { base, file: _, end } = &self.segment;
        let full = end.offset_from(*base) >= self.segment_bytes;
        if full { end.after(SEGMENT_HEADER_BYTES) } else { *end }
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

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("end", &self.segment.end)
            .field("boundary", &self.boundary)
            .field("staged_bytes", &self.staged_bytes())
            .field("health", &self.health)
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
