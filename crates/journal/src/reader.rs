//! Records by address. Nothing is read beyond the durable end, and every byte is checked at every read.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::{Bound, ControlFlow},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    compacted::{Directory, LastPage},
    disk::{Disk, DiskFile, read_full},
    error::{Error, Reason, ReplayError},
    folders::Folders,
    format::{
        Address, Batch, Boundary, Flaw, Layout, MARKER_KIND, Marker, Record, RecordRef, Run,
        SEGMENT_HEADER_BYTES, decode_record,
    },
    journal::check_header,
    recovery::{scan, scan_after},
};

/// How many segment files the readers of one log keep open together; the one opened longest ago is closed first.
pub const MAX_OPEN_SEGMENTS: usize = 256;

/// What one record is expected to take at most, so that one read suffices.
const RECORD_GUESS_BYTES: usize = 512;
const BATCH_GUESS_BYTES: usize = 16 << 10;
/// Between records that are no further apart, reading on costs less than another read.
const NEAR_BYTES: u64 = 4 << 10;
/// How much is read at once of records that are near each other.
const STRETCH_BYTES: u64 = 128 << 10;

/// Reads what is durable. Clones share their open files; any number of threads may read at once.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The id that the log was created with.
    #[must_use]
    pub fn log_id(&self) -> u128 {
        self.shared.log_id
    }

    /// The address up to which everything is durable. It only grows.
    #[must_use]
    pub fn durable_end(&self) -> Address {
        self.shared.durable_end()
    }

    /// The record at an address that [`Writer::push`](crate::Writer::push) or the replay gave out.
    ///
    /// # Errors
    /// [`Error::BeyondEnd`] when it is not durable yet, [`Error::Damaged`] when it does not read back, or no
    /// record begins there, [`Error::LeftOut`] when compaction has left it out, [`Error::Archive`], [`Error::Io`].
    pub fn read(&self, at: Address) -> Result<Record, Error> {
        let mut window = Window::new(self.shared.locate(at)?, RECORD_GUESS_BYTES);
        let record = window.record(at)?;
        if record.kind == MARKER_KIND {
            return Err(window.place.damaged(at, Reason::NoRecord));
        }
        Ok(record.to_owned())
    }

    /// Shows the records at these addresses, in this order, until `on_record` breaks off. Those that follow one another
    /// closely are read together.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub fn read_each<B>(
        &self,
        addresses: &[Address],
        mut on_record: impl FnMut(RecordRef<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        let mut window: Option<Window> = None;
        for (index, &at) in addresses.iter().enumerate() {
            let mut near = match window.take().filter(|window| window.place.holds(at)) {
                Some(window) => window,
                None => Window::new(self.shared.locate(at)?, RECORD_GUESS_BYTES),
            };
            let record = near.record_of(at, || stretch(addresses.get(index..).unwrap_or_default()))?;
            if record.kind == MARKER_KIND {
                return Err(near.place.damaged(at, Reason::NoRecord));
            }
            if let ControlFlow::Break(why) = on_record(record) {
                return Ok(ControlFlow::Break(why));
            }
            window = Some(near);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// All records of the batch whose first record stands at `first`, if its segment was not compacted.
    ///
    /// # Errors
    /// As for [`Reader::read`]; an address inside a batch is [`Error::Damaged`] too, with [`Reason::Marker`], and so is
    /// one of a batch that has lost records.
    pub fn read_batch(&self, first: Address) -> Result<Vec<Record>, Error> {
        let mut window = Window::new(self.shared.locate(first)?, BATCH_GUESS_BYTES);
        let (mut records, mut run, mut at) = (Vec::new(), Run::default(), first);
        loop {
            let record = window.record(at)?;
            let next = at.after(record.encoded_len());
            if record.kind == MARKER_KIND {
                let closes = Marker::from_record(&record).is_some_and(|marker| marker.closes(run));
                return if closes { Ok(records) } else { Err(window.place.damaged(first, Reason::Marker)) };
            }
            records.push(record.to_owned());
            run.add(1, window.encoded(at, next)?);
            at = next;
        }
    }

    /// Shows every batch between two boundaries, in order, checked as when the log is opened. Reads one segment at a
    /// time.
    ///
    /// # Errors
    /// [`Error::NoBoundary`] or [`Error::Damaged`] when `from` is none, or what follows does not read back,
    /// [`Error::BeyondEnd`], [`Error::Replay`], [`Error::Io`].
    pub fn replay(
        &self,
        from: Boundary,
        to: Boundary,
        mut on_batch: impl FnMut(Batch<'_>) -> Result<(), ReplayError>,
    ) -> Result<(), Error> {
        let mut last = from;
        while last.batches < to.batches {
            let place = self.shared.locate(last.at)?;
            let Place { base, limit, .. } = place;
            let bytes = place.read_whole()?;
            let batches = if last.at == base {
                scan(&bytes, base, last.batches + 1).batches
            } else {
                scan_after(&bytes, base, last).ok_or(Error::NoBoundary(last))?.batches
            };
            let before = last;
            for batch in batches.into_iter().take_while(|batch| batch.number() <= to.batches) {
                on_batch(batch).map_err(|source| Error::Replay { at: batch.address(), source })?;
                last = batch.end();
            }
            if last.batches < to.batches && (last.at != limit || last == before) {
                return Err(place.damaged(last.at, Reason::CutShort));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("durable_end", &self.durable_end()).finish_non_exhaustive()
    }
}

/// How many bytes to read for the first of these records, so that those near it come along.
fn stretch(addresses: &[Address]) -> usize {
    let first = addresses.first().copied().unwrap_or_default();
    let near = |(one, next): &(&Address, &Address)| {
        next > one && next.offset_from(**one) <= NEAR_BYTES && next.offset_from(first) <= STRETCH_BYTES
    };
    let last = addresses.iter().zip(addresses.iter().skip(1)).take_while(near).last();
    let until_last = last.map_or(0, |(_, last)| last.offset_from(first));
    RECORD_GUESS_BYTES + usize::try_from(until_last).expect("it is at most a stretch")
}

/// A stretch of the file of one segment in memory, which moves forward over it.
struct Window {
    place: Place,
    /// The offset in the file at which it begins.
    start: u64,
    bytes: Vec<u8>,
    guess: usize,
    page: LastPage,
}

impl Window {
    fn new(place: Place, guess: usize) -> Self {
        Self { place, start: 0, bytes: Vec::new(), guess, page: LastPage::default() }
    }

    /// The checked record at `at`; reads only if the window does not hold the whole of it.
    fn record(&mut self, at: Address) -> Result<RecordRef<'_>, Error> {
        let guess = self.guess;
        self.record_of(at, || guess)
    }

    /// The same; `guess` says how many bytes to read if it has to.
    fn record_of(&mut self, at: Address, guess: impl FnOnce() -> usize) -> Result<RecordRef<'_>, Error> {
        let offset = self.place.offset(at, &mut self.page)?;
        let mut wanted = match decode_record(self.from(offset), at) {
            Err(Flaw::Short(needed)) => needed.max(guess()),
            _ => 0,
        };
        // The second read is for a record longer than the guess: its header has told how long.
        while wanted > 0 {
            self.load(offset, wanted)?;
            wanted = match decode_record(&self.bytes, at) {
                Err(Flaw::Short(needed)) if needed > wanted => needed,
                _ => 0,
            };
        }
        decode_record(self.from(offset), at).map_err(|flaw| match flaw {
            Flaw::Short(_) => self.place.damaged(at, Reason::CutShort),
            Flaw::Broken(reason) => self.place.damaged(at, reason),
            Flaw::Unsupported(version) => Error::Unsupported { at, version: version.into() },
        })
    }

    /// Fills the window from an offset on, with `wanted` bytes or as many as are durable in this segment.
    fn load(&mut self, offset: u64, wanted: usize) -> Result<(), Error> {
        let available = usize::try_from(self.place.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        self.start = offset;
        self.bytes.resize(wanted.min(available), 0);
        let file = self.place.segment.file.as_ref();
        let filled = read_full(file, &mut self.bytes, offset).map_err(Error::io("read a record"))?;
        self.bytes.truncate(filled);
        Ok(())
    }

    /// What the window holds from an offset on; nothing if that lies outside of it.
    fn from(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }

    /// The bytes of the record between two addresses, which has just been read; nothing if they are not that far apart
    /// in the file.
    fn encoded(&mut self, at: Address, next: Address) -> Result<&[u8], Error> {
        let offset = self.place.offset(at, &mut self.page)?;
        let len = usize::try_from(next.offset_from(at)).unwrap_or(usize::MAX);
        Ok(self.from(offset).get(..len).unwrap_or_default())
    }
}

/// The segment that an address lies in, and how far it may be read.
struct Place {
    base: Address,
    limit: Address,
    segment: Arc<Segment>,
}

impl Place {
    fn holds(&self, at: Address) -> bool {
        self.base <= at && at < self.limit
    }

    /// Where in the file the record with that address stands.
    fn offset(&self, at: Address, page: &mut LastPage) -> Result<u64, Error> {
        let (offset, Segment { file, directory }) = (at.offset_from(self.base), self.segment.as_ref());
        let Some(directory) = directory else { return Ok(offset) };
        let found = directory.find(file.as_ref(), offset, page, self.base)?;
        found.ok_or(Error::LeftOut { at })
    }

    /// Where the records end in the file, or what of them may be read.
    fn len(&self) -> u64 {
        let written = || self.limit.offset_from(self.base);
        self.segment.directory.as_ref().map_or_else(written, Directory::start)
    }

    /// All of the segment that is durable.
    fn read_whole(&self) -> Result<Vec<u8>, Error> {
        let file = self.segment.file.as_ref();
        let len = match self.segment.directory {
            Some(_) => file.size().map_err(Error::io("measure a segment"))?,
            None => self.len(),
        };
        let mut bytes = vec![0; usize::try_from(len).expect("a segment fits the address space")];
        let filled = read_full(file, &mut bytes, 0).map_err(Error::io("read a segment"))?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn damaged(&self, at: Address, reason: Reason) -> Error {
        Error::Damaged { segment: self.base, at, reason }
    }
}

/// What the writer and the readers of one log share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folders: Folders,
    pub(crate) log_id: u128,
    durable: AtomicU64,
    segments: RwLock<Segments>,
}

/// Every segment of the log, and the files of those that are open.
struct Segments {
    files: BTreeMap<Address, Option<Arc<Segment>>>,
    /// The bases of the open ones, the one opened longest ago first.
    opened: VecDeque<Address>,
    /// How often a file took the place of another.
    renewals: u64,
}

/// The file of a segment, and its directory if it was compacted.
struct Segment {
    file: Arc<dyn DiskFile>,
    directory: Option<Directory>,
}

impl Shared {
    /// `segments` are the bases of all segments.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        folders: Folders,
        log_id: u128,
        durable: Address,
        segments: impl IntoIterator<Item = Address>,
    ) -> Self {
        let files = segments.into_iter().map(|base| (base, None)).collect();
        let segments = RwLock::new(Segments { files, opened: VecDeque::new(), renewals: 0 });
        Self { disk, folders, log_id, durable: AtomicU64::new(durable.get()), segments }
    }

    pub(crate) fn durable_end(&self) -> Address {
        Address::new(self.durable.load(Ordering::Acquire))
    }

    /// Lets readers see everything before `end`. Called only once that is durable.
    pub(crate) fn publish(&self, end: Address) {
        self.durable.store(end.get(), Ordering::Release);
    }

    /// Makes a new segment known, with its file.
    pub(crate) fn add(&self, base: Address, file: Arc<dyn DiskFile>) {
        self.write().keep(base, Arc::new(Segment { file, directory: None }));
    }

    /// Another file has taken the place of a segment's. Reads under way go on with the one that they have.
    pub(crate) fn renew(&self, base: Address) {
        let Segments { files, opened, renewals } = &mut *self.write();
        *renewals += 1;
        if files.get_mut(&base).and_then(Option::take).is_some() {
            opened.retain(|other| *other != base);
        }
    }

    /// The sealed segments, the oldest first, each with where it ends.
    pub(crate) fn sealed(&self) -> Vec<(Address, Address)> {
        let segments = self.read();
        let bases = || segments.files.keys().copied();
        bases().zip(bases().skip(1)).collect()
    }

    fn locate(&self, at: Address) -> Result<Place, Error> {
        let durable = self.durable_end();
        if at >= durable {
            return Err(Error::BeyondEnd { at, end: durable });
        }
        let (base, limit, segment) = {
            let segments = self.read();
            let (&base, segment) =
                segments.files.range(..=at).next_back().expect("the first segment has address 0");
            let next = segments.files.range((Bound::Excluded(at), Bound::Unbounded)).next();
            (base, next.map_or(durable, |(&next, _)| next.min(durable)), segment.clone())
        };
        let segment = match segment {
            Some(segment) => segment,
            None => self.open(base)?,
        };
        Ok(Place { base, limit, segment })
    }

    fn open(&self, base: Address) -> Result<Arc<Segment>, Error> {
        loop {
            let renewals = self.read().renewals;
            let segment = Arc::new(Segment::open(self, base)?);
            let segments = &mut *self.write();
            // What was opened before another took its place must not be kept.
            if segments.renewals == renewals {
                segments.keep(base, Arc::clone(&segment));
                return Ok(segment);
            }
        }
    }

    // A panic cannot leave the map half-changed, so a poisoned lock is still sound.
    fn read(&self) -> RwLockReadGuard<'_, Segments> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Segments> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segments {
    fn keep(&mut self, base: Address, segment: Arc<Segment>) {
        let Self { files, opened, renewals: _ } = self;
        if files.insert(base, Some(segment)).flatten().is_none() {
            opened.push_back(base);
        }
        if opened.len() > MAX_OPEN_SEGMENTS {
            // Reads under way hold the file; it closes with the last of them.
            let evicted = opened.pop_front().and_then(|oldest| files.get_mut(&oldest));
            evicted.and_then(Option::take);
        }
    }
}

impl Segment {
    fn open(shared: &Shared, base: Address) -> Result<Self, Error> {
        let Shared { disk, folders, log_id, .. } = shared;
        let (file, _) = folders.open(disk.as_ref(), base, |disk, path| disk.open(path))?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        read_full(file.as_ref(), &mut header, 0).map_err(Error::io("read a segment header"))?;
        // Without the header nobody knows where the records stand.
        let layout = check_header(&header, base, &mut Some(*log_id))?;
        let directory = match layout {
            Ok(Layout::Written) => None,
            Ok(Layout::Compacted) => Some(Directory::open(file.as_ref(), base)?),
            Err(reason) => return Err(Error::Damaged { segment: base, at: base, reason }),
        };
        Ok(Self { file, directory })
    }
}
