//! The real disk, on which something goes wrong with the files of the index.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sillage_journal::{Disk, DiskFile, Lock, RealDisk};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One operation fails.
    Fail,
    /// That operation and all later ones fail.
    Crash,
    /// That operation and all later ones wait until they are released.
    Hold,
}

/// Counts the operations that change the index, and lets one go wrong.
pub(crate) struct FailingDisk {
    at: u64,
    fault: Fault,
    done: AtomicU64,
    /// Reads of any file, and of those of the log.
    pub(crate) reads: AtomicU64,
    pub(crate) log_reads: AtomicU64,
    released: AtomicBool,
    moved: (Mutex<Instant>, Condvar),
}

impl FailingDisk {
    /// The operation with this number, from 0, goes wrong.
    pub(crate) fn new(at: u64, fault: Fault) -> Self {
        let (done, reads, log_reads) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let moved = (Mutex::new(Instant::now()), Condvar::new());
        Self { at, fault, done, reads, log_reads, released: AtomicBool::new(false), moved }
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.done.load(Ordering::SeqCst) > self.at
    }

    /// Whether nothing has changed the index for a while.
    pub(crate) fn is_quiet(&self) -> bool {
        self.moved.0.lock().unwrap().elapsed() > Duration::from_millis(100)
    }

    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
        self.moved.1.notify_all();
    }

    fn strike(&self, path: &Path) -> io::Result<()> {
        if !in_index(path) {
            return Ok(());
        }
        let mut moved = self.moved.0.lock().unwrap();
        *moved = Instant::now();
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        let released = || self.released.load(Ordering::SeqCst);
        match self.fault {
            Fault::Fail if number == self.at => Err(io::Error::from_raw_os_error(28)),
            Fault::Crash if number >= self.at && !released() => Err(io::Error::from_raw_os_error(5)),
            Fault::Hold if number >= self.at => {
                drop(self.moved.1.wait_while(moved, |_| !released()).unwrap());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn in_index(path: &Path) -> bool {
    path.components().any(|folder| folder.as_os_str() == "index")
}

/// A disk that several openings share.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<FailingDisk>);

struct File {
    file: Arc<dyn DiskFile>,
    disk: Arc<FailingDisk>,
    path: Box<Path>,
}

impl Shared {
    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(File { file, disk: Arc::clone(&self.0), path: path.into() })
    }
}

impl Disk for Shared {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.strike(path)?;
        RealDisk.create(path).map(|file| self.file(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path).map(|file| self.file(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.strike(to)?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.strike(path)?;
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.strike(dir)?;
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.reads.fetch_add(1, Ordering::Relaxed);
        if !in_index(&self.path) {
            self.disk.log_reads.fetch_add(1, Ordering::Relaxed);
        }
        self.file.read_at(into, offset)
    }

    /// A failing write leaves a part of its bytes behind, as a real one does.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.disk.strike(&self.path) {
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.strike(&self.path)?;
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
