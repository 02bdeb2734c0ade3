//! The real disk, with faults on order and a list of what was asked of it.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use sillage_journal::{Disk, DiskFile, Lock, RealDisk};

/// What the log asks of the disk that can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Write,
    Sync,
    SyncDir,
    Truncate,
}

/// `raw_os_error` of a full and of a failing disk.
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EIO: i32 = 5;

#[derive(Default)]
struct State {
    /// Each fails the next operation of its kind, once.
    faults: Vec<(Op, i32)>,
    /// How far a file may reach, in bytes; no bound unless it is set.
    room: Option<u64>,
    log: Vec<Op>,
}

#[derive(Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// Lets the next `op` fail with this error.
    pub(crate) fn fail(&self, op: Op, error: i32) {
        self.0.lock().unwrap().faults.push((op, error));
    }

    /// From now on a file may reach this far, in bytes, and not beyond.
    pub(crate) fn limit(&self, room: u64) {
        self.0.lock().unwrap().room = Some(room);
    }

    /// What was done since the last call; faults that did not strike are a mistake of the test.
    pub(crate) fn take_log(&self) -> Vec<Op> {
        let mut state = self.0.lock().unwrap();
        assert_eq!(state.faults, []);
        std::mem::take(&mut state.log)
    }

    /// How many files are open: each holds the disk, as do the test and the log.
    pub(crate) fn open_files(&self) -> usize {
        Arc::strong_count(&self.0) - 2
    }

    fn strike(&self, op: Op) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.log.push(op);
        match state.faults.iter().position(|(kind, _)| *kind == op) {
            Some(index) => Err(io::Error::from_raw_os_error(state.faults.remove(index).1)),
            None => Ok(()),
        }
    }
}

struct FaultyFile {
    file: Arc<dyn DiskFile>,
    disk: FaultyDisk,
}

impl Disk for FaultyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.strike(Op::Create)?;
        Ok(Arc::new(FaultyFile { file: RealDisk.create(path)?, disk: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FaultyFile { file: RealDisk.open(path)?, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.strike(Op::SyncDir)?;
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        // Short reads are allowed, so let there be some.
        let most = into.len().min(100);
        self.file.read_at(&mut into[..most], offset)
    }

    /// A failing write leaves a part of its bytes behind, as a real one does; on a full disk, as many as fit.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.strike(Op::Write).inspect_err(|_| {
            self.file.write_all_at(&bytes[..bytes.len() * 3 / 4], offset).unwrap();
        })?;
        let room = self.disk.0.lock().unwrap().room.map_or(bytes.len(), |room| {
            usize::try_from(room.saturating_sub(offset)).unwrap().min(bytes.len())
        });
        self.file.write_all_at(&bytes[..room], offset)?;
        if room < bytes.len() { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.strike(Op::Sync)?;
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.strike(Op::Truncate)?;
        self.file.truncate(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
