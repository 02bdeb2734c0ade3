//! The engine with a folder of its own, on a disk that can be stopped and broken.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use sillage_conformance::event_store::{Fixture, HeldDisk};
use sillage_journal::{Disk, DiskFile, Lock, RealDisk};
use sillage_store::EventStore;
use sillage_store::event_store::journal::{IndexLimits, JournalOptions, JournalStore};
use tempfile::TempDir;

/// About as much as an event of the properties that drop some.
const SMALL_SEGMENT_BYTES: u64 = 4_096;

pub(crate) struct InFolder {
    // Before the folder, so that the log is closed when the folder goes.
    store: Arc<JournalStore>,
    gate: Arc<Gate>,
    options: JournalOptions,
    folder: TempDir,
}

impl InFolder {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), 7, JournalOptions::default())
    }

    /// With an index of such small runs that every property meets several layers of it, and their merging; and with such
    /// small files of the log that what is dropped is dropped at once.
    pub(crate) fn with_small_runs() -> Self {
        let index = IndexLimits {
            tail_entries: 2,
            merged_runs: 2,
            levels: 3,
            hot_streams: 2,
            ..IndexLimits::default()
        };
        let options =
            JournalOptions { index, segment_bytes: SMALL_SEGMENT_BYTES, ..JournalOptions::default() };
        Self::open(tempfile::tempdir().unwrap(), 7, options)
    }

    fn open(folder: TempDir, log_id: u128, options: JournalOptions) -> Self {
        let gate = Arc::new(Gate::default());
        let disk = Arc::new(GatedDisk(Arc::clone(&gate)));
        let (store, _) = JournalStore::open_on(folder.path(), log_id, options.clone(), disk).unwrap();
        Self { store: Arc::new(store), gate, options, folder }
    }
}

impl Fixture for InFolder {
    fn store(&self) -> Arc<dyn EventStore> {
        self.store.clone()
    }

    async fn reopen(self) -> Self {
        let Self { store, gate: _, options, folder } = self;
        assert!(Arc::into_inner(store).is_some(), "somebody still has the store");
        // Another id, which a log that has one must not take.
        Self::open(folder, 8, options)
    }

    fn drops_at_once(&self) -> bool {
        self.options.segment_bytes == SMALL_SEGMENT_BYTES
    }

    fn hold_disk(&self) -> Option<Box<dyn HeldDisk>> {
        self.gate.state.lock().unwrap().held = true;
        Some(Box::new(Held(Arc::clone(&self.gate))))
    }

    fn break_disk(&self) -> Option<Box<dyn Send + Sync>> {
        self.gate.state.lock().unwrap().broken = true;
        Some(Box::new(Broken(Arc::clone(&self.gate))))
    }
}

/// Whether flushes and writes may pass.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    moved: Condvar,
}

#[derive(Default)]
struct GateState {
    held: bool,
    broken: bool,
    waiting: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        while state.held {
            state = self.moved.wait(state).unwrap();
        }
        state.waiting -= 1;
    }
}

struct Held(Arc<Gate>);

impl HeldDisk for Held {
    fn is_awaited(&self) -> bool {
        self.0.state.lock().unwrap().waiting > 0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().held = false;
        self.0.moved.notify_all();
    }
}

struct Broken(Arc<Gate>);

impl Drop for Broken {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().broken = false;
    }
}

/// The disk of the machine, whose flushes of the log wait at the gate. Nobody waits for those of its index.
struct GatedDisk(Arc<Gate>);

impl GatedDisk {
    fn gated(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let gate = if in_index(path) { Arc::default() } else { Arc::clone(&self.0) };
        Arc::new(GatedFile { file, gate })
    }
}

fn in_index(path: &Path) -> bool {
    path.components().any(|folder| folder.as_os_str() == "index")
}

impl Disk for GatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path).map(|file| self.gated(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path).map(|file| self.gated(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if !in_index(dir) {
            self.0.pass();
        }
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        RealDisk.lock(path)
    }
}

struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for GatedFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.gate.state.lock().unwrap().broken {
            return Err(io::Error::other("broken on purpose"));
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
