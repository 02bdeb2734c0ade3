//! A file as a sequence of checked blocks: whoever reads a range gets what was written there, or an error.
//!
//! ```text
//! block   data, 4,092 bytes (fewer in the last) | crc32c u32 of the block's number (u64) and the data
//! ```

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sillage_journal::{DiskFile, read_full};

const BLOCK_BYTES: usize = 4_096;
const CHECKSUM_BYTES: usize = 4;
const DATA_BYTES: usize = BLOCK_BYTES - CHECKSUM_BYTES;
/// How many bytes go to the file in one write.
const WRITE_BYTES: usize = 64 * BLOCK_BYTES;

/// Bytes that do not read back as they were written.
pub(super) fn damaged(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn checksum(number: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), data)
}

/// Writes a file from its beginning to its end. Offsets are those of the data, without the checksums.
pub(super) struct BlockWriter<'a> {
    file: Arc<dyn DiskFile>,
    /// Once set, nothing more is written.
    stopped: &'a AtomicBool,
    /// Whole blocks that wait to be written.
    sealed: Vec<u8>,
    written: u64,
    /// The number of the open block, and its data.
    number: u64,
    open: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    pub(super) fn new(file: Arc<dyn DiskFile>, stopped: &'a AtomicBool) -> Self {
        let (sealed, open) = (Vec::with_capacity(WRITE_BYTES), Vec::with_capacity(DATA_BYTES));
        Self { file, stopped, sealed, written: 0, number: 0, open }
    }

    /// Where the next byte goes.
    pub(super) fn at(&self) -> u64 {
        self.number * DATA_BYTES as u64 + self.open.len() as u64
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((now, later)) = bytes.split_at_checked(DATA_BYTES - self.open.len()) {
            self.open.extend(now);
            self.seal()?;
            bytes = later;
        }
        self.open.extend(bytes);
        Ok(())
    }

    /// Ends the file and makes it durable.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.open.is_empty() {
            self.seal()?;
        }
        self.flush()?;
        self.file.sync_data()
    }

    fn seal(&mut self) -> io::Result<()> {
        self.sealed.extend(&self.open);
        self.sealed.extend(checksum(self.number, &self.open).to_le_bytes());
        self.number += 1;
        self.open.clear();
        if self.sealed.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("the engine is closing"));
        }
        self.file.write_all_at(&self.sealed, self.written)?;
        self.written += self.sealed.len() as u64;
        self.sealed.clear();
        Ok(())
    }
}

/// Reads a file that a [`BlockWriter`] has written.
pub(super) struct Blocks {
    file: Arc<dyn DiskFile>,
    len: u64,
    /// Whether anything did not read back.
    damaged: AtomicBool,
}

impl Blocks {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let size = file.size()?;
        let blocks = size.div_ceil(BLOCK_BYTES as u64);
        let len = size.saturating_sub(blocks * CHECKSUM_BYTES as u64);
        Ok(Self { file, len, damaged: AtomicBool::new(false) })
    }

    /// How many bytes of data there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether anything that was read of it was not what was written.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The bytes from `at` on, exactly so many.
    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        self.checked(at, len).inspect_err(|_| self.damaged.store(true, Ordering::Relaxed))
    }

    fn checked(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| damaged("the index ends too early"))?;
        let first = at / DATA_BYTES as u64;
        let blocks = end.div_ceil(DATA_BYTES as u64).saturating_sub(first);
        let mut bytes = vec![0; usize::try_from(blocks).map_err(io::Error::other)? * BLOCK_BYTES];
        let filled = read_full(self.file.as_ref(), &mut bytes, first * BLOCK_BYTES as u64)?;
        bytes.truncate(filled);
        let mut data = Vec::with_capacity(bytes.len());
        for (number, block) in (first..).zip(bytes.chunks(BLOCK_BYTES)) {
            let (block, stored) =
                block.split_last_chunk().ok_or_else(|| damaged("the index ends too early"))?;
            if checksum(number, block) != u32::from_le_bytes(*stored) {
                return Err(damaged("a block of the index does not match its checksum"));
            }
            data.extend(block);
        }
        let skip = usize::try_from(at % DATA_BYTES as u64).expect("it is less than a block");
        data.truncate(skip + len);
        data.drain(..skip);
        if data.len() == len { Ok(data) } else { Err(damaged("the index ends too early")) }
    }
}

/// A range of the data, read from its beginning to its end.
pub(super) struct Stretch<'a> {
    pub(super) blocks: &'a Blocks,
    pub(super) at: u64,
    pub(super) end: u64,
}

impl Read for Stretch<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let bytes = self.blocks.read(self.at, into.len().min(left))?;
        into.iter_mut().zip(&bytes).for_each(|(into, byte)| *into = *byte);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
