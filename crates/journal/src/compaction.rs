//! Writing sealed segments anew without what is not needed any more, and moving them to an archive.
//!
//! What is made is complete and durable before it gets the name of a segment, and what it takes the place of goes with
//! that or after it. So a crash leaves the one or the other, or both, which is the same. Readers go on meanwhile.

use std::{
    fmt,
    io::{self, ErrorKind},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use crate::{
    compacted::Footer,
    disk::{DiskFile, read_full},
    error::{Error, Reason},
    folders::{segment_path, unfinished_path},
    format::{
        Address, Batch, Entry, Layout, MARKER_BYTES, MAX_PAYLOAD_BYTES, RecordRef, SEGMENT_HEADER_BYTES,
        SegmentHeader, encode_record,
    },
    journal::{check_header, read_from},
    reader::Shared,
    recovery::{Tail, first_number, scan},
};

/// Of its bytes a segment must lose at least one part in so many, or writing it anew is not worth it; unless it is told
/// otherwise.
pub const LEAST_SAVED: u64 = 4;
/// How much is written and flushed before the next pause, so that whoever else writes never waits for more.
const PIECE_BYTES: usize = 1 << 20;

const SAME_FOLDER: &str = "it is the folder of the log itself: name another one";
pub(crate) const FOREIGN: &str = "it has a file of another log: each log needs an archive of its own";

/// Writes segments anew and moves them. There is one for a log, since two would be in each other's way.
pub struct Keeper {
    shared: Arc<Shared>,
    least_saved: u64,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// Another stands in its place, at its address.
    Replace {
        /// What that is to the caller: 1 to 255.
        kind: u8,
        /// Its bytes, at most [`MAX_PAYLOAD_BYTES`].
        payload: Vec<u8>,
    },
    /// It is left out.
    Leave,
}

/// Tells which records of a segment are needed.
pub trait Sieve {
    /// Is shown every record of the segment, in order, before the first is judged.
    fn look(&mut self, record: &RecordRef<'_>);
    /// Says of one after the other, in the same order, what becomes of it.
    fn judge(&mut self, record: &RecordRef<'_>) -> Fate;
    /// Is called after each piece that was written, to let others work; a break gives the segment up.
    fn pause(&mut self) -> ControlFlow<()>;
}

/// What has become of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// It was written anew.
    Done {
        /// How many bytes its file had.
        before: u64,
        /// How many it has.
        after: u64,
    },
    /// It is as it was, since too little would be saved.
    NotWorth,
    /// It is as it was, since the sieve has broken off.
    Stopped,
    /// It is as it was: it is being written, archived, or not there.
    NotHere,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, least_saved: LEAST_SAVED }
    }

    /// With another [`LEAST_SAVED`].
    #[must_use]
    pub fn with_least_saved(self, least_saved: u64) -> Self {
        Self { least_saved, ..self }
    }

    /// Whether it is worth it to write a segment of so many bytes anew without so many.
    #[must_use]
    pub fn is_worth(&self, bytes: u64, saved: u64) -> bool {
        saved > 0 && saved.saturating_mul(self.least_saved) >= bytes
    }

    /// The sealed segments, the oldest first: where each begins and ends.
    #[must_use]
    pub fn sealed(&self) -> Vec<(Address, Address)> {
        self.shared.sealed()
    }

    /// How long the file of a segment is; none if it is being written, archived, or not there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file_bytes(&self, base: Address) -> Result<Option<u64>, Error> {
        let Some(Sealed { file, .. }) = self.own_file(base)? else { return Ok(None) };
        Ok(Some(file.size().map_err(Error::io("measure a segment"))?))
    }

    /// Writes the segment that begins at `base` anew, as the sieve says, if that saves enough. All of it is in memory
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`]: it is as it was, or written anew.
    pub fn compact(&mut self, base: Address, sieve: &mut impl Sieve) -> Result<Compaction, Error> {
        let Some(Sealed { file, end }) = self.own_file(base)? else { return Ok(Compaction::NotHere) };
        let Ok(length) = u32::try_from(end.offset_from(base)) else { return Ok(Compaction::NotWorth) };
        let mut bytes = Vec::new();
        read_from(file.as_ref(), 0, &mut bytes)?;
        let batches = self.sound(&bytes, base, end)?;
        for record in batches.iter().flat_map(Batch::records) {
            sieve.look(&record);
        }
        let folder = self.shared.folders.own();
        let path = unfinished_path(folder, base);
        let before = bytes.len() as u64;
        let written = self.write(&path, base, length, &batches, sieve);
        let worth = |after: &u64| self.is_worth(before, before.saturating_sub(*after));
        match written {
            Ok(ControlFlow::Continue(after)) if worth(&after) => {
                self.name(&path, folder, base)?;
                Ok(Compaction::Done { before, after })
            }
            given_up => {
                // What stays is overwritten by the next attempt, or removed when the log is opened.
                let _ = self.shared.disk.remove(&path);
                let given_up = given_up?;
                Ok(if given_up.is_break() { Compaction::Stopped } else { Compaction::NotWorth })
            }
        }
    }

    /// Moves the segment that begins at `base` to the archive. Answers whether it was moved: it is not if it is being
    /// written, there already, or there is no archive. What another log has put there is never overwritten.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::Io`]: it can be read from where it was, or from the archive.
    pub fn archive(&mut self, base: Address) -> Result<bool, Error> {
        let Shared { disk, folders, .. } = self.shared.as_ref();
        let Some(folder) = folders.archive() else { return Ok(false) };
        let Some(Sealed { file, .. }) = self.own_file(base)? else { return Ok(false) };
        let failed = |source| Error::Archive { folder: folder.to_owned(), source };
        let path = unfinished_path(folder, base);
        disk.create_dir(folder).map_err(failed)?;
        self.check_own(&segment_path(folder, base), base).map_err(failed)?;
        let target = self.create_elsewhere(&path, base).map_err(failed)?;
        let (mut bytes, mut at) = (Vec::new(), 0);
        loop {
            bytes.resize(PIECE_BYTES, 0);
            let filled = read_full(file.as_ref(), &mut bytes, at).map_err(Error::io("read a segment"))?;
            bytes.truncate(filled);
            if bytes.is_empty() {
                break;
            }
            target.write_all_at(&bytes, at).and_then(|()| target.sync_data()).map_err(failed)?;
            at += filled as u64;
        }
        disk.rename(&path, &segment_path(folder, base)).map_err(failed)?;
        disk.sync_dir(folder).map_err(failed)?;
        let removed = disk.remove(&folders.own_path(base)).and_then(|()| disk.sync_dir(folders.own()));
        self.shared.renew(base);
        removed.map_err(Error::io("remove an archived segment"))?;
        Ok(true)
    }

    /// Creates the file that is to become that segment in the archive, unless this is the log's own folder under another
    /// name: the copy would be removed with what it is a copy of.
    fn create_elsewhere(&self, path: &Path, base: Address) -> io::Result<Arc<dyn DiskFile>> {
        let disk = &self.shared.disk;
        let seen_here = unfinished_path(self.shared.folders.own(), base);
        let is_here = || disk.open_to_read(&seen_here).is_ok();
        if is_here() {
            // It was left by an attempt to write the segment anew.
            disk.remove(&seen_here)?;
        }
        let file = disk.create(path)?;
        if is_here() {
            disk.remove(&seen_here)?;
            return Err(io::Error::new(ErrorKind::InvalidInput, SAME_FOLDER));
        }
        Ok(file)
    }

    /// Whether what has this name already, if anything, is a copy of that segment of this log.
    fn check_own(&self, path: &Path, base: Address) -> io::Result<()> {
        let there = match self.shared.disk.open_to_read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            there => there?,
        };
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let filled = read_full(there.as_ref(), &mut header, 0)?;
        match SegmentHeader::decode(header.get(..filled).unwrap_or_default()) {
            Ok(header) if header.log_id == self.shared.log_id && header.base == base => Ok(()),
            _ => Err(io::Error::new(ErrorKind::AlreadyExists, FOREIGN)),
        }
    }

    /// The file of a sealed segment in the log's own folder, and where the segment ends.
    fn own_file(&self, base: Address) -> Result<Option<Sealed>, Error> {
        let sealed = self.shared.sealed();
        let Some((_, end)) = sealed.into_iter().find(|(begin, _)| *begin == base) else { return Ok(None) };
        match self.shared.disk.open_to_read(&self.shared.folders.own_path(base)) {
            Ok(file) => Ok(Some(Sealed { file, end })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { doing: "open a segment", source }),
        }
    }

    /// The batches of a segment, all of which must be sound: what is damaged stays as it is, for whoever can mend it.
    fn sound<'a>(&self, bytes: &'a [u8], base: Address, end: Address) -> Result<Vec<Batch<'a>>, Error> {
        let damaged = |at, reason| Error::Damaged { segment: base, at, reason };
        check_header(bytes, base, &mut Some(self.shared.log_id))?.map_err(|reason| damaged(base, reason))?;
        let first = first_number(bytes).ok_or_else(|| damaged(base, Reason::CutShort))?;
        let found = scan(bytes, base, first);
        match found.tail {
            Tail::Clean if base.after(found.end) == end => Ok(found.batches),
            Tail::Clean => Err(damaged(base.after(found.end), Reason::CutShort)),
            Tail::Torn { at, reason } | Tail::Damaged { at, reason } => Err(damaged(at, reason)),
            Tail::Unsupported { at, version } => Err(Error::Unsupported { at, version: version.into() }),
        }
    }

    /// Writes what the sieve leaves of the batches, durably, and answers how many bytes that is.
    fn write(
        &self,
        path: &Path,
        base: Address,
        length: u32,
        batches: &[Batch<'_>],
        sieve: &mut impl Sieve,
    ) -> Result<ControlFlow<(), u64>, Error> {
        let file = self.shared.disk.create(path).map_err(Error::io("create a compacted segment"))?;
        let header = SegmentHeader { layout: Layout::Compacted, log_id: self.shared.log_id, base };
        let mut out = Pieces { file, at: 0, piece: header.encode() };
        let mut directory = Vec::new();
        for batch in batches {
            for record in batch.records() {
                let (kind, payload) = match sieve.judge(&record) {
                    Fate::Keep => (record.kind, None),
                    Fate::Replace { kind, payload } => (kind, Some(payload)),
                    Fate::Leave => continue,
                };
                let payload = payload.as_deref().unwrap_or(record.payload);
                if payload.len() > MAX_PAYLOAD_BYTES {
                    return Err(Error::PayloadTooLarge { len: payload.len() });
                }
                directory.push((record.address, out.len()));
                encode_record(&mut out.piece, kind, record.flags, record.key_id, payload);
            }
            let at = batch.end().at.before(MARKER_BYTES).expect("a batch ends with a marker");
            directory.push((at, out.len()));
            out.piece.extend_from_slice(batch.marker);
            if out.len() >= length.into() {
                return Ok(ControlFlow::Continue(out.len()));
            }
            if out.piece.len() >= PIECE_BYTES {
                out.flush()?;
                if sieve.pause().is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        const FITS: &str = "it is no longer than the segment was, which fits";
        let offset = |bytes: u64| u32::try_from(bytes).expect(FITS);
        let entry =
            |(at, new): &(Address, u64)| Entry { old: offset(at.offset_from(base)), new: offset(*new) };
        let encoded: Vec<_> = directory.iter().map(|record| entry(record).encode()).collect();
        let (directory, entries) = (encoded.as_flattened(), offset(encoded.len() as u64));
        out.piece.extend_from_slice(directory);
        let footer = Footer { end: length.into(), entries, crc: crc32c::crc32c(directory) };
        out.piece.extend_from_slice(&footer.encode());
        out.flush()?;
        Ok(ControlFlow::Continue(out.at))
    }

    /// Gives a durable file the name of the segment.
    fn name(&self, path: &Path, folder: &Path, base: Address) -> Result<(), Error> {
        let disk = &self.shared.disk;
        disk.rename(path, &segment_path(folder, base)).map_err(Error::io("name a compacted segment"))?;
        self.shared.renew(base);
        disk.sync_dir(folder).map_err(Error::io("flush the directory"))
    }
}

/// A sealed segment in the log's own folder.
struct Sealed {
    file: Arc<dyn DiskFile>,
    end: Address,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("folders", &self.shared.folders).finish_non_exhaustive()
    }
}

/// A file that is written from its beginning to its end, piece by piece.
struct Pieces {
    file: Arc<dyn DiskFile>,
    at: u64,
    piece: Vec<u8>,
}

impl Pieces {
    /// How long the file is with what is yet to be written.
    fn len(&self) -> u64 {
        self.at + self.piece.len() as u64
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.file.write_all_at(&self.piece, self.at).and_then(|()| self.file.sync_data());
        written.map_err(Error::io("write a compacted segment"))?;
        self.at += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}
