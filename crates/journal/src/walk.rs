//! Reading a log without its lock, while somebody may be writing it: every whole batch once, in order.
//!
//! Nothing is changed. What is found is judged by [`recovery`](crate::recovery), as when the log is opened; only
//! that damage is looked at twice, since bytes that were read while they were written may look like it. A batch is
//! shown when its bytes are in the file, as after a kill. Beside a writer that may be a moment before its flush is
//! confirmed, and should that flush fail, the batch is cut again.

use std::{fmt, ops::ControlFlow, path::PathBuf, sync::Arc};

use crate::{
    disk::{Disk, DiskFile, read_full},
    error::{Damage, Error, Reason},
    folders::Folders,
    format::{Address, Batch, Boundary, Layout, MARKER_BYTES, SEGMENT_HEADER_BYTES},
    journal::{check_header, is_torn_header, read_from},
    recovery::{Tail, first_number, scan, scan_after, scan_behind},
};

/// A walk over the batches in the folders of a log. Memory is bounded by the largest segment.
pub struct Walk {
    folders: Folders,
    disk: Arc<dyn Disk>,
    log_id: Option<u128>,
    at: Boundary,
    /// Damage that was seen at the last look.
    suspect: Option<Damage>,
    /// The bytes of one segment at a time.
    bytes: Vec<u8>,
}

/// Why a walk came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<B> {
    /// All that is there was shown. Walk on for what was added since.
    Whole,
    /// The same, but for a group that is being written, or that a crash left unfinished.
    Unfinished {
        /// Where it begins.
        at: Address,
        /// What it lacks.
        reason: Reason,
    },
    /// Acknowledged bytes do not read back: go on behind them with [`Walk::skip`], if need be.
    Damaged(Damage),
    /// The caller had enough, and says why.
    Stopped(B),
}

impl Walk {
    /// A walk over the log in these folders that begins at a boundary that an earlier one has shown; [`Boundary::default`] is
    /// the beginning of the log.
    #[must_use]
    pub fn new(folders: impl Into<Folders>, disk: Arc<dyn Disk>, from: Boundary) -> Self {
        Self { folders: folders.into(), disk, log_id: None, at: from, suspect: None, bytes: Vec::new() }
    }

    /// Where it stands: behind the last batch that was shown.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.at
    }

    /// The id of the log, once a segment has been seen. A folder without any is no log.
    #[must_use]
    pub fn log_id(&self) -> Option<u128> {
        self.log_id
    }

    /// The file that the damage is in, and the offset in it, if it was not compacted.
    #[must_use]
    pub fn place(&self, damage: Damage) -> (PathBuf, u64) {
        let path = self.folders.find(self.disk.as_ref(), damage.segment);
        let path = path.unwrap_or_else(|_| self.folders.own_path(damage.segment));
        (path, damage.at.offset_from(damage.segment))
    }

    /// How many bytes of log there are, with what may stand behind the last batch.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn total_bytes(&self) -> Result<u64, Error> {
        let Some(last) = self.folders.list(self.disk.as_ref())?.pop() else { return Ok(0) };
        let file = self.open(last)?;
        Ok(last.get() + file.size().map_err(Error::io("measure a segment"))?)
    }

    /// Shows every batch from where it stands, until `on_batch` breaks or no more are there.
    ///
    /// # Errors
    /// [`Error::NoBoundary`]: the log no longer holds the batch that it stands behind, which was cut. [`Error::Io`],
    /// [`Error::Unsupported`].
    pub fn run<B>(&mut self, mut on_batch: impl FnMut(Batch<'_>) -> ControlFlow<B>) -> Result<End<B>, Error> {
        loop {
            let end = self.look(&mut on_batch)?;
            let found = if let End::Damaged(damage) = end { Some(damage) } else { None };
            let before = std::mem::replace(&mut self.suspect, found);
            if found.is_none() || found == before {
                return Ok(end);
            }
        }
    }

    /// Where its files begin, in order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn files(&self) -> Result<Vec<Address>, Error> {
        self.folders.list(self.disk.as_ref())
    }

    /// Goes to the beginning of a file, and answers whether a whole batch stands there. If not, it stays where it is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn go_to(&mut self, base: Address) -> Result<bool, Error> {
        let file = self.open(base)?;
        read_from(file.as_ref(), 0, &mut self.bytes)?;
        let Some(first) = first_number(&self.bytes) else { return Ok(false) };
        self.at = Boundary { at: base, batches: first.saturating_sub(1), checksum: 0 };
        self.suspect = None;
        Ok(true)
    }

    /// Steps over the damage that [`Walk::run`] has found to the next segment, and answers whether there is one. The
    /// numbers of the batches tell how many were passed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn skip(&mut self) -> Result<bool, Error> {
        let Some(Damage { segment, at: _, reason }) = self.suspect.take() else { return Ok(false) };
        let follows = |base: &Address| *base > segment || (reason == Reason::Gap && *base == segment);
        let bases = self.folders.list(self.disk.as_ref())?;
        let Some(next) = bases.into_iter().find(follows) else { return Ok(false) };
        let file = self.open(next)?;
        read_from(file.as_ref(), 0, &mut self.bytes)?;
        let batches = first_number(&self.bytes).map_or(self.at.batches, |number| number.saturating_sub(1));
        self.at = Boundary { at: next, batches, checksum: 0 };
        Ok(true)
    }

    /// One look at what is there.
    fn look<B>(&mut self, on_batch: &mut impl FnMut(Batch<'_>) -> ControlFlow<B>) -> Result<End<B>, Error> {
        let bases = self.folders.list(self.disk.as_ref())?;
        // The segment that begins here, or else the one that holds what stands before.
        let begun = bases.partition_point(|base| *base <= self.at.at).saturating_sub(1);
        for (index, &base) in bases.iter().enumerate().skip(begun) {
            if base != self.at.at && (index > begun || base > self.at.at) {
                return Ok(End::Damaged(Damage { segment: base, at: self.at.at, reason: Reason::Gap }));
            }
            let end = self.segment(base, on_batch)?;
            let sealed = index + 1 < bases.len();
            match end {
                End::Whole => {}
                End::Unfinished { at, reason } if sealed => {
                    return Ok(End::Damaged(Damage { segment: base, at, reason }));
                }
                end => return Ok(end),
            }
        }
        Ok(End::Whole)
    }

    fn segment<B>(
        &mut self,
        base: Address,
        on_batch: &mut impl FnMut(Batch<'_>) -> ControlFlow<B>,
    ) -> Result<End<B>, Error> {
        let file = self.open(base)?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let filled = read_full(file.as_ref(), &mut header, 0).map_err(Error::io("read a segment header"))?;
        let header = header.get(..filled).unwrap_or_default();
        let layout = match check_header(header, base, &mut self.log_id)? {
            Ok(layout) => layout,
            Err(reason) => {
                let len = file.size().map_err(Error::io("measure a segment"))?;
                return Ok(match is_torn_header(len, reason) {
                    true => End::Unfinished { at: base, reason },
                    false => End::Damaged(Damage { segment: base, at: base, reason }),
                });
            }
        };
        // What stands before the boundary need not be read where its offset is known.
        let inside = (self.at.at > base).then_some(layout);
        let from = match inside {
            Some(Layout::Written) => self.at.at.offset_from(base).saturating_sub(MARKER_BYTES as u64),
            Some(Layout::Compacted) | None => 0,
        };
        let mut bytes = std::mem::take(&mut self.bytes);
        read_from(file.as_ref(), from, &mut bytes)?;
        let scan = match inside {
            Some(Layout::Written) => scan_behind(&bytes, self.at).ok_or(Error::NoBoundary(self.at))?,
            Some(Layout::Compacted) => scan_after(&bytes, base, self.at).ok_or(Error::NoBoundary(self.at))?,
            None => scan(&bytes, base, self.at.batches + 1),
        };
        for batch in scan.batches {
            self.at = batch.end();
            if let ControlFlow::Break(why) = on_batch(batch) {
                return Ok(End::Stopped(why));
            }
        }
        let end = match scan.tail {
            Tail::Clean => End::Whole,
            Tail::Torn { at, reason } => End::Unfinished { at, reason },
            Tail::Damaged { at, reason } => End::Damaged(Damage { segment: base, at, reason }),
            Tail::Unsupported { at, version } => {
                return Err(Error::Unsupported { at, version: version.into() });
            }
        };
        self.bytes = bytes;
        Ok(end)
    }

    fn open(&self, base: Address) -> Result<Arc<dyn DiskFile>, Error> {
        let (file, _) = self.folders.open(self.disk.as_ref(), base, |disk, path| disk.open_to_read(path))?;
        Ok(file)
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("folders", &self.folders).field("at", &self.at).finish_non_exhaustive()
    }
}
