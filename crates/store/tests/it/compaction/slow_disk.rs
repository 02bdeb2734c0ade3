//! A real disk, on which whatever is written anew waits or fails when it is told to.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use sillage_journal::{Disk, DiskFile, Lock, RealDisk};

#[derive(Default)]
pub(super) struct Slow {
    pub(super) state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) held: bool,
    pub(super) fails: bool,
    pub(super) waiting: usize,
}

impl Slow {
    fn pass(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        while state.held {
            state = self.moved.wait(state).unwrap();
        }
        state.waiting -= 1;
        if state.fails { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.moved.notify_all();
    }
}

pub(super) struct SlowDisk(pub(super) Arc<Slow>);
struct SlowFile(Arc<dyn DiskFile>, Arc<Slow>);

impl Disk for SlowDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        let anew = path.to_str().unwrap().ends_with(".seg.new");
        Ok(if anew { Arc::new(SlowFile(file, Arc::clone(&self.0))) } else { file })
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for SlowFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.pass()?;
        self.0.write_all_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}
