//! Writes runs and merges them, beside the thread that writes the log and never in its way.
//!
//! The index changes only once a run is durable, and what it takes the place of goes only then. So whatever fails,
//! and wherever a crash strikes, the layers still follow one another; it is tried again later.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use sillage_journal::Reader;
use sillage_kernel::Timestamp;

use super::run::Run;
use super::writing::Folder;
use super::{Frozen, Index, IndexLimits};
use crate::event_store::journal::LeaseRecord;
use crate::event_store::journal::replay::repair;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often to look for work that nobody has told of: a run that turned out to be damaged.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps the runs of one index.
#[derive(Clone)]
pub(in crate::event_store::journal) struct Upkeep {
    pub(in crate::event_store::journal) index: Arc<RwLock<Index>>,
    pub(in crate::event_store::journal) folder: Arc<Folder>,
    /// The log, once it is open: what is damaged is written anew from it.
    pub(in crate::event_store::journal) reader: Option<Reader>,
}

/// The threads that do it in the background, until they are dropped.
pub(in crate::event_store::journal) struct Background {
    upkeep: Upkeep,
    wake: Vec<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Upkeep {
    /// Starts the threads.
    pub(in crate::event_store::journal) fn start(self, reader: Reader) -> io::Result<Background> {
        let upkeep = Self { reader: Some(reader), ..self };
        let mut background = Background { upkeep, wake: Vec::new(), threads: Vec::new() };
        let works: [(&str, Work); 2] = [("journal-merge", Self::merge), ("journal-index", Self::write)];
        for (name, work) in works {
            // One wake-up stands for all that came before it was taken.
            let (wake, woken) = mpsc::sync_channel(1);
            let (upkeep, next) = (background.upkeep.clone(), background.wake.last().cloned());
            let thread = std::thread::Builder::new().name(name.into());
            background.threads.push(thread.spawn(move || upkeep.work(&woken, work, next.as_ref()))?);
            background.wake.push(wake);
        }
        background.wake();
        Ok(background)
    }

    fn work(&self, woken: &Receiver<()>, work: Work, next: Option<&SyncSender<()>>) {
        let mut patience = LOOK;
        while woken.recv_timeout(patience) != Err(RecvTimeoutError::Disconnected) {
            patience = loop {
                match self.done(work) {
                    Ok(Done::Something) => next.iter().for_each(|next| wake(next)),
                    Ok(Done::Nothing) => break LOOK,
                    Err(Failed) => break RETRY,
                }
            };
        }
    }

    /// Does a piece of work; a failure is told here.
    fn done(&self, work: Work) -> Result<Done, Failed> {
        work(self).map_err(|error| {
            if !self.folder.is_stopped() {
                tracing::warn!(%error, "the index cannot be written, and is tried again later");
            }
            Failed
        })
    }

    /// Writes and merges all that there is.
    pub(in crate::event_store::journal) fn write_all(&self) {
        for work in [Self::write, Self::merge] {
            while self.done(work) == Ok(Done::Something) {}
        }
    }

    /// Removes whatever the index does not use.
    pub(in crate::event_store::journal) fn remove_others(&self) {
        self.folder.keep_only(&self.read(|index| index.runs.clone()));
    }

    /// Writes what was set aside as a run.
    pub(in crate::event_store::journal) fn write(&self) -> io::Result<Done> {
        let Some(frozen) = self.read(|index| index.frozen.clone()) else { return Ok(Done::Nothing) };
        let Frozen { part, forgotten_until, .. } = &*frozen;
        let run = self.folder.write(part, &frozen.checkpoint()?, *forgotten_until)?;
        let mut index = self.index();
        index.runs.push(Arc::new(run));
        index.frozen = None;
        drop(index);
        Ok(Done::Something)
    }

    /// Makes one run of some, if any level has so many.
    pub(in crate::event_store::journal) fn merge(&self) -> io::Result<Done> {
        if let Some(reader) = &self.reader
            && repair(self, reader)? == Done::Something
        {
            return Ok(Done::Something);
        }
        let Some((runs, forgotten_to, forgotten_until)) = self.read(Index::to_merge) else {
            return Ok(Done::Nothing);
        };
        let merged = Arc::new(self.folder.merge(&runs, forgotten_to, forgotten_until)?);
        self.splice(&runs, vec![merged]);
        Ok(Done::Something)
    }

    /// Puts runs in the place of others that cover the same. Only one thread does so.
    fn splice(&self, old: &[Arc<Run>], new: Vec<Arc<Run>>) {
        let mut index = self.index();
        let first =
            index.runs.iter().position(|run| old.first().is_some_and(|first| Arc::ptr_eq(run, first)));
        let first = first.expect("only this thread takes runs away");
        index.runs.splice(first..first + old.len(), new.iter().cloned());
        drop(index);
        for run in old.iter().filter(|old| new.iter().all(|new| new.path != old.path)) {
            // Whoever still reads it can go on. One that stays is removed at the next start.
            if let Err(error) = self.folder.disk.remove(&run.path) {
                tracing::warn!(%error, "an index that is not needed any more cannot be removed");
            }
        }
    }

    /// The oldest run that did not read back.
    pub(in crate::event_store::journal) fn damaged(&self) -> Option<Arc<Run>> {
        self.read(|index| index.runs.iter().find(|run| run.is_damaged()).cloned())
    }

    /// An index of the runs before that one, which merges none of them, and the leases at its beginning.
    pub(in crate::event_store::journal) fn up_to(&self, run: &Run) -> io::Result<(Index, Vec<LeaseRecord>)> {
        self.read(|index| {
            let older = index.runs.iter().take_while(|older| older.header.to.at <= run.header.from.at);
            let limits = IndexLimits { levels: 0, ..index.limits };
            Index::new(limits, index.memory.limits(), &self.folder, older.cloned().collect())
        })
    }

    /// Puts what another index has of the log from the beginning of that run on in its place.
    pub(in crate::event_store::journal) fn replace(&self, run: &Arc<Run>, anew: &Self) {
        let begins = run.header.from.at;
        let new = anew.read(|index| {
            let new = index.runs.iter().filter(|new| new.header.from.at >= begins);
            new.cloned().collect()
        });
        self.splice(std::slice::from_ref(run), new);
    }

    fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn index(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread does again and again.
type Work = fn(&Upkeep) -> io::Result<Done>;

/// Something failed, and was told.
#[derive(Debug, PartialEq, Eq)]
struct Failed;

/// Whether there may be more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event_store::journal) enum Done {
    Something,
    Nothing,
}

impl Background {
    /// Says that there may be something to do.
    pub(in crate::event_store::journal) fn wake(&self) {
        self.wake.iter().for_each(wake);
    }
}

fn wake(thread: &SyncSender<()>) {
    // A full channel has a wake-up in it; a thread that is gone has told why.
    let _ = thread.try_send(());
}

impl Drop for Background {
    fn drop(&mut self) {
        self.upkeep.folder.stop();
        self.wake.clear();
        // A panic has been told by its own thread.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Some runs that follow one another, and what the ledger has forgotten.
type Merge = (Vec<Arc<Run>>, sillage_journal::Address, Timestamp);

impl Index {
    /// The oldest runs of one level that are to become one of the next.
    fn to_merge(&self) -> Option<Merge> {
        let level = |run: &Arc<Run>| run.header.level;
        let same_level = self.runs.chunk_by(|one, other| level(one) == level(other));
        let mut due = same_level.filter_map(|runs| {
            let first = runs.first().filter(|run| level(run) < self.limits.levels)?;
            let runs = runs.get(..self.limits.merged_runs.max(2))?;
            Some((level(first), runs))
        });
        let (_, runs) = due.next()?;
        Some((runs.to_vec(), self.forgotten_to, self.memory.forgotten_until()))
    }
}
