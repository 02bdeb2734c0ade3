//! Opening a log: lock, replay every committed batch behind the start, cut what a crash left, start the writer.
//!
//! The replay reads one segment at a time, so memory is bounded by the largest segment. Before anything is shown
//! to readers the last group is written again and flushed: after a crash of the process alone, whole batches may
//! stand in the kernel's cache that the disk never got.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    compacted::Footer,
    compaction::{FOREIGN, Keeper},
    disk::{Disk, DiskFile, read_full},
    error::{Damage, Error, Reason, ReplayError},
    folders::{FIRST, Folders, Home, remove_unfinished},
    format::{
        Address, Batch, Boundary, HeaderFlaw, Layout, MARKER_BYTES, Marker, SEGMENT_HEADER_BYTES,
        SegmentHeader,
    },
    reader::{Reader, Shared},
    recovery::{Scan, Tail, scan, scan_after},
    writer::{Active, Writer, cut},
};

/// How large a segment file grows before the next group goes to a new one, in bytes.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;

const LOCK_NAME: &str = "lock";

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The id of the log, if it has to be created; an existing one keeps its own, see [`Reader::log_id`].
    pub log_id: u128,
    /// The size in bytes from which on a segment takes no further group. A segment passes it by at most one
    /// group. May change between two openings.
    pub segment_bytes: u64,
    /// What to do when acknowledged bytes do not read back.
    pub accept_loss: AcceptLoss,
    /// Where the replay begins, if not at the beginning: the end of a batch that an earlier opening has shown. The
    /// log must hold the marker of that very batch there, or opening it is [`Error::NoBoundary`]. What stands before
    /// is trusted: it is not read, so damage in it is neither found nor cut, until a [`Reader`] comes to it. For
    /// what stands behind all promises hold.
    pub start: Option<Boundary>,
    /// Is told after each segment how far the replay has come.
    pub progress: Option<fn(Progress)>,
}

impl Options {
    /// Segments of [`DEFAULT_SEGMENT_BYTES`], no loss accepted, everything replayed.
    #[must_use]
    pub fn new(log_id: u128) -> Self {
        let (segment_bytes, accept_loss) = (DEFAULT_SEGMENT_BYTES, AcceptLoss::No);
        Self { log_id, segment_bytes, accept_loss, start: None, progress: None }
    }
}

/// How far a replay has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The bytes of the log that lie behind it.
    pub done_bytes: u64,
    /// The bytes of the whole log.
    pub total_bytes: u64,
}

/// What to do when acknowledged bytes do not read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptLoss {
    /// Refuse to open, with [`Error::Damaged`].
    #[default]
    No,
    /// Cut the log where the damage begins, or, in a segment that was compacted or archived, where that begins, since
    /// such a one is never written on. What is cut off stays in its directory in files whose names end in `.lost`. An
    /// operator's decision, never a default.
    Yes,
}

/// What was found while opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// How many batches the log holds; the last one has this number.
    pub batches: u64,
    /// How many bytes were cut from the end: a torn tail, or the accepted loss.
    pub cut_bytes: u64,
    /// The damage whose loss was accepted, if any.
    pub lost: Option<Lost>,
}

/// Damage that was cut away with the operator's consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where it began, and where the log ends now.
    pub at: Address,
    /// What was wrong there.
    pub reason: Reason,
}

/// An open log.
#[derive(Debug)]
pub struct Opened {
    /// Appends; give it to the one thread that writes.
    pub writer: Writer,
    /// Reads; clone it freely.
    pub reader: Reader,
    /// Compacts and archives what is sealed; drop it before the writer.
    pub keeper: Keeper,
    /// What was found.
    pub recovered: Recovered,
}

/// The way into a log.
#[derive(Debug)]
pub struct Journal;

impl Journal {
    /// Opens the log in these folders, creating it if need be. `on_batch` gets every committed batch, in order, so that
    /// the caller can build its indexes; an error from it stops the opening. When the opening fails, forget what
    /// was built.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Damaged`], [`Error::Unsupported`], [`Error::Replay`], [`Error::NoBeginning`],
    /// [`Error::Archive`], [`Error::Io`].
    pub fn open(
        folders: impl Into<Folders>,
        options: Options,
        disk: Arc<dyn Disk>,
        mut on_batch: impl FnMut(Batch<'_>) -> Result<(), ReplayError>,
    ) -> Result<Opened, Error> {
        let folders = folders.into();
        let dir = folders.own();
        disk.create_dir(dir).map_err(Error::io("create the directory"))?;
        let lock = disk.lock(&dir.join(LOCK_NAME)).map_err(Error::io("lock the directory"))?;
        let lock = lock.ok_or(Error::Locked)?;
        remove_unfinished(disk.as_ref(), dir)?;

        let bases = folders.list_whole(disk.as_ref())?;
        let mut replay = Replay {
            disk: disk.as_ref(),
            folders: &folders,
            options: &options,
            log_id: None,
            active: None,
            end: None,
            kept: Vec::new(),
            last: options.start.unwrap_or_default(),
            recovered: Recovered::default(),
            bytes: Vec::new(),
        };
        replay.run(&bases, &mut on_batch)?;
        let (active, log_id) = replay.finish()?;

        let Replay { kept, last, mut recovered, .. } = replay;
        recovered.batches = last.batches;
        let shared = Arc::new(Shared::new(disk, folders, log_id, active.end, kept));
        // A segment with nothing but a header would otherwise be full, and be followed by another, for ever.
        let segment_bytes = options.segment_bytes.max(SEGMENT_HEADER_BYTES as u64 + 1);
        let writer = Writer::new(Arc::clone(&shared), active, segment_bytes, last, lock);
        Ok(Opened {
            writer,
            reader: Reader::new(Arc::clone(&shared)),
            keeper: Keeper::new(shared),
            recovered,
        })
    }

    /// The id of the log in these folders, if there is one whose first segment has a sound header. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::Io`].
    pub fn log_id(folders: &Folders, disk: &dyn Disk) -> Result<Option<u128>, Error> {
        disk.create_dir(folders.own()).map_err(Error::io("create the directory"))?;
        if !folders.list(disk)?.contains(&FIRST) {
            return Ok(None);
        }
        let (file, _) = folders.open(disk, FIRST, |disk, path| disk.open(path))?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        read_full(file.as_ref(), &mut header, 0).map_err(Error::io("read a segment header"))?;
        Ok(SegmentHeader::decode(&header).ok().map(|header| header.log_id))
    }

    /// The files that hold the log up to a boundary, and how many bytes of each: of all but the last all that there
    /// are, and of the last too if it was compacted. Without any batch it is the header.
    ///
    /// # Errors
    /// [`Error::NoBoundary`]: it lies within a segment that was compacted since. [`Error::Archive`], [`Error::Io`].
    pub fn files(
        folders: &Folders,
        disk: &dyn Disk,
        to: Boundary,
    ) -> Result<Vec<(PathBuf, Option<u64>)>, Error> {
        let end = to.at.max(FIRST.after(SEGMENT_HEADER_BYTES));
        let mut bases = folders.list(disk)?;
        bases.retain(|base| *base < end);
        let last = bases.last().copied();
        let file = |base| {
            let path = folders.find(disk, base)?;
            if Some(base) != last {
                return Ok((path, None));
            }
            let file = disk.open_to_read(&path).map_err(Error::io("open a segment"))?;
            let mut header = [0; SEGMENT_HEADER_BYTES];
            read_full(file.as_ref(), &mut header, 0).map_err(Error::io("read a segment header"))?;
            if check_header(&header, base, &mut None)? != Ok(Layout::Compacted) {
                return Ok((path, Some(end.offset_from(base))));
            }
            let (Footer { end: length, .. }, _) = Footer::read(file.as_ref(), base)?;
            if length == end.offset_from(base) { Ok((path, None)) } else { Err(Error::NoBoundary(to)) }
        };
        bases.into_iter().map(file).collect()
    }

    /// The file that an address lies in, and the offset in it, if it was not compacted.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::Io`].
    pub fn locate(folders: &Folders, disk: &dyn Disk, at: Address) -> Result<(PathBuf, u64), Error> {
        let base = folders.list(disk)?.into_iter().rfind(|base| *base <= at).unwrap_or_default();
        Ok((folders.find(disk, base)?, at.offset_from(base)))
    }
}

type OnBatch<'a> = dyn FnMut(Batch<'_>) -> Result<(), ReplayError> + 'a;

/// Whether another segment follows.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Sealed,
    Last,
}

/// The log as far as it has been replayed.
struct Replay<'a> {
    disk: &'a dyn Disk,
    folders: &'a Folders,
    options: &'a Options,
    /// From the header of the first segment; the others must have the same.
    log_id: Option<u128>,
    /// The last segment found sound so far, and where its last whole batch ends; none if it is never written on.
    active: Option<Active>,
    /// Where the last segment found sound so far ends.
    end: Option<Address>,
    /// The bases of the segments that belong to the log.
    kept: Vec<Address>,
    /// The end of the last batch found sound so far, or where the replay begins.
    last: Boundary,
    recovered: Recovered,
    /// The bytes of one segment at a time.
    bytes: Vec<u8>,
}

impl Replay<'_> {
    fn run(&mut self, bases: &[Address], on_batch: &mut OnBatch<'_>) -> Result<(), Error> {
        let total_bytes = self.total_bytes(bases)?;
        for (index, &base) in bases.iter().enumerate().skip(self.first_segment(bases)?) {
            let order = if index + 1 == bases.len() { Order::Last } else { Order::Sealed };
            let Some(Damage { segment, at, reason }) = self.segment(base, order, on_batch)? else {
                if let Some(progress) = self.options.progress {
                    progress(Progress { done_bytes: self.last.at.get(), total_bytes });
                }
                continue;
            };
            self.check_archive(bases)?;
            if self.options.accept_loss == AcceptLoss::No {
                return Err(Error::Damaged { segment, at, reason });
            }
            self.recovered.lost = Some(Lost { at: self.end.unwrap_or(at), reason });
            return self.set_aside(bases.get(index..).unwrap_or_default());
        }
        Ok(())
    }

    fn total_bytes(&self, bases: &[Address]) -> Result<u64, Error> {
        let Some(&last) = bases.last() else { return Ok(0) };
        let (file, _) = self.folders.open(self.disk, last, |disk, path| disk.open(path))?;
        Ok(last.get() + file.size().map_err(Error::io("measure a segment"))?)
    }

    /// The index of the segment in which the replay begins. Those before it belong to the log unseen.
    fn first_segment(&mut self, bases: &[Address]) -> Result<usize, Error> {
        let Some(start) = self.options.start else { return Ok(0) };
        let index = bases.partition_point(|base| *base < start.at).checked_sub(1);
        let index = index.filter(|_| bases.first() == Some(&FIRST)).ok_or(Error::NoBoundary(start))?;
        self.kept.extend(bases.iter().take(index));
        Ok(index)
    }

    /// Replays one segment. Damage is returned, not acted on; `active` is then where the sound log ends.
    fn segment(
        &mut self,
        base: Address,
        order: Order,
        on_batch: &mut OnBatch<'_>,
    ) -> Result<Option<Damage>, Error> {
        // The segment that holds the start comes first, and must hold it before anything is changed.
        let start = self.options.start.filter(|_| self.end.is_none());
        let expected = match (self.end, start) {
            (Some(end), _) => end,
            (None, Some(_)) => base,
            (None, None) => FIRST,
        };
        if base != expected {
            return Ok(Some(Damage { segment: base, at: expected, reason: Reason::Gap }));
        }
        let (file, home) = self.folders.open(self.disk, base, |disk, path| disk.open(path))?;
        let mut bytes = std::mem::take(&mut self.bytes);
        read_from(file.as_ref(), 0, &mut bytes)?;
        let layout = check_header(&bytes, base, &mut self.log_id)?;
        let scan = match (layout, start) {
            (Err(_), Some(start)) => return Err(Error::NoBoundary(start)),
            (Err(reason), None) => Err(reason),
            (Ok(_), Some(start)) => Ok(scan_after(&bytes, base, start).ok_or(Error::NoBoundary(start))?),
            (Ok(_), None) => Ok(scan(&bytes, base, self.last.batches + 1)),
        };
        let found = match scan {
            Err(reason) if order == Order::Last && is_torn_header(bytes.len() as u64, reason) => {
                self.recovered.cut_bytes += bytes.len() as u64;
                self.create_segment(base)?;
                None
            }
            Err(reason) => Some(Damage { segment: base, at: base, reason }),
            Ok(scan) if home == Home::Archive || layout == Ok(Layout::Compacted) => {
                self.closed(base, &scan, start, on_batch)?
            }
            Ok(scan) => self.batches(Active { base, file, end: base }, scan, bytes.len(), order, on_batch)?,
        };
        self.bytes = bytes;
        Ok(found)
    }

    /// Replays the batches of a segment that is never written on, all of them or none: if some are damaged, what would
    /// follow the others must stand in a segment of its own.
    fn closed(
        &mut self,
        base: Address,
        scan: &Scan<'_>,
        start: Option<Boundary>,
        on_batch: &mut OnBatch<'_>,
    ) -> Result<Option<Damage>, Error> {
        self.active = None;
        let (at, reason) = match scan.tail {
            Tail::Clean => {
                self.show(&scan.batches, on_batch)?;
                self.end = Some(base.after(scan.end));
                self.kept.push(base);
                return Ok(None);
            }
            Tail::Unsupported { at, version } => {
                return Err(Error::Unsupported { at, version: version.into() });
            }
            Tail::Damaged { at, reason } | Tail::Torn { at, reason } => (at, reason),
        };
        match start {
            // What stands before the start is lost with it.
            Some(start) if self.options.accept_loss == AcceptLoss::Yes => Err(Error::NoBoundary(start)),
            _ => {
                self.end = Some(base);
                Ok(Some(Damage { segment: base, at, reason }))
            }
        }
    }

    fn show(&mut self, batches: &[Batch<'_>], on_batch: &mut OnBatch<'_>) -> Result<(), Error> {
        for batch in batches {
            on_batch(*batch).map_err(|source| Error::Replay { at: batch.address(), source })?;
            self.last = batch.end();
        }
        Ok(())
    }

    /// Replays the batches of a segment of `len` bytes whose header is sound, and makes it the active one.
    fn batches(
        &mut self,
        mut active: Active,
        scan: Scan<'_>,
        len: usize,
        order: Order,
        on_batch: &mut OnBatch<'_>,
    ) -> Result<Option<Damage>, Error> {
        let segment = active.base;
        let Scan { batches, end, tail } = scan;
        self.show(&batches, on_batch)?;
        active.end = segment.after(end);
        self.end = Some(active.end);
        let rest = len - end;
        let damage = match (tail, order) {
            (Tail::Unsupported { at, version }, _) => {
                return Err(Error::Unsupported { at, version: version.into() });
            }
            (Tail::Damaged { at, reason }, _) | (Tail::Torn { at, reason }, Order::Sealed) => {
                Some(Damage { segment, at, reason })
            }
            (Tail::Torn { .. }, Order::Last) => {
                self.recovered.cut_bytes += rest as u64;
                None
            }
            (Tail::Clean, _) => None,
        };
        // Zeros are cut as well, so that the length of the file is always the end of the log.
        if damage.is_none() && order == Order::Last && rest > 0 {
            cut(active.file.as_ref(), end as u64).map_err(Error::io("cut a torn tail"))?;
        }
        self.kept.push(segment);
        self.active = Some(active);
        Ok(damage)
    }

    /// Refuses an archive with segments of another log: beside them all that is sound here looks like damage.
    fn check_archive(&self, bases: &[Address]) -> Result<(), Error> {
        let Some(folder) = self.folders.archive() else { return Ok(()) };
        let mut log_id = None;
        for &base in bases {
            let (file, _) = self.folders.open(self.disk, base, |disk, path| disk.open_to_read(path))?;
            let mut header = [0; SEGMENT_HEADER_BYTES];
            read_full(file.as_ref(), &mut header, 0).map_err(Error::io("read a segment header"))?;
            let Ok(header) = SegmentHeader::decode(&header) else { continue };
            if *log_id.get_or_insert(header.log_id) != header.log_id {
                let source = io::Error::new(ErrorKind::AlreadyExists, FOREIGN);
                return Err(Error::Archive { folder: folder.to_owned(), source });
            }
        }
        Ok(())
    }

    /// Cuts the log at the end of the active segment. `bases` are the segments from the damaged one on. What is
    /// lost is saved before anything that proves the damage goes, so a crash in between loses no more.
    fn set_aside(&mut self, bases: &[Address]) -> Result<(), Error> {
        let cut_at = self.save_lost_bytes()?;
        let active_base = self.active.as_ref().map(|active| active.base);
        for &base in bases.iter().filter(|base| Some(**base) != active_base) {
            for path in self.folders.find_all(self.disk, base)? {
                self.set_file_aside(&path, base)?;
            }
        }
        match (&self.active, cut_at) {
            (Some(active), Some(len)) => {
                cut(active.file.as_ref(), len).map_err(Error::io("cut at the damage"))
            }
            _ => Ok(()),
        }
    }

    fn set_file_aside(&mut self, path: &Path, base: Address) -> Result<(), Error> {
        let file = self.disk.open(path).map_err(Error::io("open a lost segment"))?;
        self.recovered.cut_bytes += file.size().map_err(Error::io("measure a lost segment"))?;
        let dir = path.parent().unwrap_or(self.folders.own());
        let aside = self.lost_path(dir, base)?;
        self.disk.rename(path, &aside).map_err(Error::io("set a lost segment aside"))?;
        self.disk.sync_dir(dir).map_err(Error::io("flush the directory"))
    }

    /// Copies what follows the sound part of the active segment to a file of its own, and returns the offset at
    /// which that part ends; `None` when nothing follows.
    fn save_lost_bytes(&mut self) -> Result<Option<u64>, Error> {
        let Some(Active { base, file, end }) = &self.active else { return Ok(None) };
        let offset = end.offset_from(*base);
        let mut bytes = Vec::new();
        read_from(file.as_ref(), 0, &mut bytes)?;
        let sound = usize::try_from(offset).expect("the scan ended within the bytes");
        let lost = bytes.get(sound..).unwrap_or_default();
        if lost.is_empty() {
            return Ok(None);
        }
        let aside = self.lost_path(self.folders.own(), *end)?;
        let aside = self.disk.create(&aside).map_err(Error::io("create a lost file"))?;
        let saved = aside.write_all_at(lost, 0).and_then(|()| aside.sync_data());
        saved.map_err(Error::io("save lost bytes"))?;
        self.recovered.cut_bytes += lost.len() as u64;
        Ok(Some(offset))
    }

    /// A name for bytes that stood at `at` which no earlier loss has taken.
    fn lost_path(&self, dir: &Path, at: Address) -> Result<PathBuf, Error> {
        let taken = self.disk.list(dir).map_err(Error::io("list the directory"))?;
        let free = (0_u64..).map(|number| format!("{at}.{number}.lost")).find(|name| !taken.contains(name));
        Ok(dir.join(free.expect("a directory has fewer files than there are numbers")))
    }

    /// Makes sure that there is a segment to write to, and that all that was replayed is durable.
    fn finish(&mut self) -> Result<(Active, u128), Error> {
        if self.active.is_none() {
            self.create_segment(self.end.unwrap_or(FIRST))?;
        }
        let active = self.active.take().expect("a segment was just made sure of");
        write_last_group_again(&active)?;
        active.file.sync_data().map_err(Error::io("flush the last segment"))?;
        self.disk.sync_dir(self.folders.own()).map_err(Error::io("flush the directory"))?;
        Ok((active, self.own_log_id()))
    }

    fn own_log_id(&self) -> u128 {
        self.log_id.unwrap_or(self.options.log_id)
    }

    /// Starts an empty segment, in place of whatever its file held.
    fn create_segment(&mut self, base: Address) -> Result<(), Error> {
        let header = SegmentHeader { layout: Layout::Written, log_id: self.own_log_id(), base }.encode();
        let file = self.disk.create(&self.folders.own_path(base)).map_err(Error::io("create a segment"))?;
        file.write_all_at(&header, 0).map_err(Error::io("write a segment header"))?;
        file.sync_data().map_err(Error::io("flush a new segment"))?;
        self.kept.push(base);
        let end = base.after(header.len());
        (self.active, self.end) = (Some(Active { base, file, end }), Some(end));
        Ok(())
    }
}

/// Writes the last group as it was read, or the header where there is none yet. If an earlier flush of it failed, be
/// it while the log was opened, the kernel may hold it as clean although the disk never got it, and would flush
/// nothing. What stands before it was flushed before it was written.
fn write_last_group_again(Active { base, file, end }: &Active) -> Result<(), Error> {
    const MARKER: u64 = MARKER_BYTES as u64;
    let end = end.offset_from(*base);
    let marker_at = end.saturating_sub(MARKER);
    let marker = read_range(file.as_ref(), marker_at, end)?;
    let marker = Marker::at_start_of(&marker, base.after(within(marker_at)));
    let start = marker.map_or(0, |marker| marker.group_start.offset_from(*base));
    let bytes = read_range(file.as_ref(), start, end)?;
    file.write_all_at(&bytes, start).map_err(Error::io("write the last group again"))
}

fn read_range(file: &dyn DiskFile, from: u64, to: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; within(to - from)];
    let filled = read_full(file, &mut bytes, from).map_err(Error::io("read the last group"))?;
    bytes.truncate(filled);
    Ok(bytes)
}

fn within(offset: u64) -> usize {
    usize::try_from(offset).expect("a segment fits the address space")
}

/// How the segment is laid out whose header begins `bytes`, or what is wrong with that. The first one that is sound
/// says which log it is.
pub(crate) fn check_header(
    bytes: &[u8],
    base: Address,
    log_id: &mut Option<u128>,
) -> Result<Result<Layout, Reason>, Error> {
    match SegmentHeader::decode(bytes) {
        Err(HeaderFlaw::Unsupported(version)) => Err(Error::Unsupported { at: base, version }),
        Err(HeaderFlaw::Broken) => Ok(Err(Reason::SegmentHeader)),
        Ok(header) => {
            let own = *log_id.get_or_insert(header.log_id) == header.log_id && header.base == base;
            Ok(if own { Ok(header.layout) } else { Err(Reason::ForeignSegment) })
        }
    }
}

/// Whether a crash can have left this header: groups are written only once the header is durable.
pub(crate) fn is_torn_header(len: u64, reason: Reason) -> bool {
    reason == Reason::SegmentHeader && len <= SEGMENT_HEADER_BYTES as u64
}

/// Reads all of a file from an offset on.
pub(crate) fn read_from(file: &dyn DiskFile, offset: u64, into: &mut Vec<u8>) -> Result<(), Error> {
    let len = file.size().map_err(Error::io("measure a segment"))?;
    into.resize(within(len.saturating_sub(offset)), 0);
    let filled = read_full(file, into, offset).map_err(Error::io("read a segment"))?;
    into.truncate(filled);
    Ok(())
}
