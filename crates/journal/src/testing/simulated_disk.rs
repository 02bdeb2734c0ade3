//! The disk: what programs see of it, and what of that the plates hold.
//!
//! Invariant: what a loss of power leaves of a file is what was synced, and of each later change any part: each
//! sector reaches the plates by itself or not at all, in any order, and so do the lengths, and the names in each
//! directory. Only what [`DiskFile::sync_data`] or [`Disk::sync_dir`] has confirmed is sure, and after a flush that
//! failed, the bytes that it should have written are given up: programs still see them, and no later flush writes
//! them. A file that was cut is not given up: a file system that cannot keep its own books refuses all that follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::Dice;
use crate::disk::{Disk, DiskFile, Lock};

/// What reaches the plates whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// How the machine comes to its end.
#[derive(Debug)]
pub enum Crash<'a> {
    /// The process is killed. What it has written stays, flushed or not.
    Kill,
    /// The power goes. The dice tell what of the unsynced is left.
    PowerLoss(&'a mut Dice),
}

/// What goes wrong once, and is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A write leaves a part of its bytes behind, and fails.
    Write,
    /// A flush of a file fails, and gives up what it should have written.
    Sync,
}

/// How the disk deceives. Under a lying disk sound code is what broken code is on an honest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A flush is confirmed at once and done with the next one: as if it was answered before the flush.
    SyncsLate,
    /// The same, but the last sector of each write is there at once: as if a marker was made durable before its
    /// records.
    SyncsLastSectorFirst,
    /// A directory is never flushed.
    SyncsNoDirectory,
    /// A flush that failed is confirmed: as if its error was ignored.
    HidesFailedSyncs,
    /// A file whose name another one takes is removed for good before that has it for good: as if an old segment was
    /// removed before the new one was durable.
    RemovesBeforeRenaming,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes whoever waits for an operation to wait, or for the gate to open.
    moved: Condvar,
}

impl SimulatedDisk {
    /// An empty disk, with the dice for what a failed flush gives up.
    #[must_use]
    pub fn new(dice: Dice) -> Self {
        Self::with(dice, None)
    }

    /// An empty disk that lies.
    #[must_use]
    pub fn lying(dice: Dice, lie: Lie) -> Self {
        Self::with(dice, Some(lie))
    }

    fn with(dice: Dice, lie: Option<Lie>) -> Self {
        let state = State {
            files: Vec::new(),
            directories: BTreeSet::new(),
            names: Names::new(),
            durable_names: Names::new(),
            namings: Vec::new(),
            locks: BTreeSet::new(),
            life: 0,
            power: Power::On,
            faults: Vec::new(),
            gate: Gate::Open,
            awaited: false,
            flush_takes: Duration::ZERO,
            lie,
            dice,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), moved: Condvar::new() }))
    }

    /// Lets the machine stop during the operation after so many others. From then on all fail, until
    /// [`SimulatedDisk::restart`]. Reading is no operation.
    pub fn stop_after(&self, operations: usize) {
        self.state().power = Power::OnFor(operations);
    }

    /// Whether the machine has stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.state().power == Power::Off
    }

    /// Lets the next operation of that kind fail, once.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Lets nothing go wrong any more that has not yet.
    pub fn calm(&self) {
        let state = &mut *self.state();
        state.faults.clear();
        if state.power != Power::Off {
            state.power = Power::On;
        }
    }

    /// Lets every flush take a while, as on a real disk: what others do meanwhile is then done before it ends.
    pub fn slow_down(&self, flush_takes: Duration) {
        self.state().flush_takes = flush_takes;
    }

    /// Starts the machine again after a crash. Files and locks that are still held from before are dead.
    pub fn restart(&self, crash: Crash<'_>) {
        let state = &mut *self.state();
        state.life += 1;
        state.power = Power::On;
        state.faults.clear();
        state.locks.clear();
        if let Crash::PowerLoss(dice) = crash {
            state.lose_power(dice);
        }
    }

    /// Lets each operation wait until what is returned is dropped.
    #[must_use]
    pub fn hold(&self) -> Held {
        let state = &mut *self.state();
        (state.gate, state.awaited) = (Gate::Closed, false);
        Held(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation, once the gate is passed. If the machine stops during it, the inner result says so: a change may then be half
    /// done, and a flush is not.
    fn begin(&self, state: &mut State, life: u64) -> io::Result<io::Result<()>> {
        let dead = || io::Error::other("the machine has stopped");
        if life != state.life {
            return Err(dead());
        }
        match state.power {
            Power::On => Ok(Ok(())),
            Power::Off => Err(dead()),
            Power::OnFor(0) => {
                state.power = Power::Off;
                Ok(Err(dead()))
            }
            Power::OnFor(left) => {
                state.power = Power::OnFor(left - 1);
                Ok(Ok(()))
            }
        }
    }

    fn file(&self, state: &State, number: usize) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile { disk: self.clone(), number, life: state.life })
    }

    /// Waits at the gate, if it is closed.
    fn pass_gate(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.gate == Gate::Closed {
            state.awaited = true;
            self.0.moved.notify_all();
            state = self.0.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }
}

/// Operations wait as long as this lives.
pub struct Held(SimulatedDisk);

impl Held {
    /// Returns once an operation waits.
    pub fn wait(&self) {
        let mut state = self.0.state();
        while !state.awaited {
            state = self.0.0.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().gate = Gate::Open;
        self.0.0.moved.notify_all();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// For so many operations.
    OnFor(usize),
    Off,
}

/// Which file has which name.
type Names = BTreeMap<PathBuf, usize>;

/// A change of names that its directory was not flushed after.
#[derive(Clone)]
enum Naming {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf },
    Removed(PathBuf),
}

impl Naming {
    fn directory(&self) -> Option<&Path> {
        let (Self::Created(path) | Self::Renamed { from: _, to: path } | Self::Removed(path)) = self;
        path.parent()
    }

    fn apply(&self, number: usize, names: &mut Names) {
        match self {
            Self::Created(path) => {
                names.insert(path.clone(), number);
            }
            Self::Renamed { from, to } => {
                names.remove(from);
                names.insert(to.clone(), number);
            }
            Self::Removed(path) => {
                names.remove(path);
            }
        }
    }
}

struct State {
    files: Vec<File>,
    directories: BTreeSet<PathBuf>,
    names: Names,
    durable_names: Names,
    /// Each with the file that it is about.
    namings: Vec<(Naming, usize)>,
    locks: BTreeSet<PathBuf>,
    flush_takes: Duration,
    /// How often the machine was started.
    life: u64,
    power: Power,
    faults: Vec<Fault>,
    gate: Gate,
    awaited: bool,
    lie: Option<Lie>,
    dice: Dice,
}

impl State {
    fn strikes(&mut self, fault: Fault) -> bool {
        let found = self.faults.iter().position(|waiting| *waiting == fault);
        found.map(|index| self.faults.remove(index)).is_some()
    }

    fn name(&mut self, naming: Naming, number: usize) {
        naming.apply(number, &mut self.names);
        self.namings.push((naming, number));
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self, number: usize) -> io::Result<()> {
        let file = &mut self.files[number];
        if self.faults.contains(&Fault::Sync) {
            self.faults.retain(|fault| *fault != Fault::Sync);
            let dice = &mut self.dice;
            file.settle(file.pending.len(), &mut |part| part == Part::Cut || dice.percent(50));
            let hidden = self.lie == Some(Lie::HidesFailedSyncs);
            return if hidden { Ok(()) } else { Err(io::Error::other("a flush failed on purpose")) };
        }
        match self.lie {
            Some(Lie::SyncsLate | Lie::SyncsLastSectorFirst) => {
                file.settle(file.promised, &mut |_| true);
                file.promised = file.pending.len();
                if self.lie == Some(Lie::SyncsLastSectorFirst) {
                    file.keep_last_sectors();
                }
            }
            Some(Lie::SyncsNoDirectory | Lie::HidesFailedSyncs | Lie::RemovesBeforeRenaming) | None => {
                file.settle(file.pending.len(), &mut |_| true);
            }
        }
        Ok(())
    }

    fn sync_names(&mut self, directory: &Path) {
        for (naming, number) in std::mem::take(&mut self.namings) {
            if naming.directory() == Some(directory) {
                naming.apply(number, &mut self.durable_names);
            } else {
                self.namings.push((naming, number));
            }
        }
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        // How much of the unsynced is left differs from one time to the other: nothing, all, or anything between.
        let often = *dice.pick(&[0, 10, 50, 90, 100]);
        for file in &mut self.files {
            file.settle(file.pending.len(), &mut |_| dice.percent(often));
            file.promised = 0;
            file.cache.clone_from(&file.durable);
        }
        for (naming, number) in std::mem::take(&mut self.namings) {
            if dice.percent(often) {
                naming.apply(number, &mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
    }
}

#[derive(Default)]
struct File {
    /// What programs see.
    cache: Vec<u8>,
    /// What is on the plates for sure.
    durable: Vec<u8>,
    /// What is on its way there, in order.
    pending: Vec<Change>,
    /// How many of the changes a lying disk has confirmed already.
    promised: usize,
}

/// What reaches the plates by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Sector,
    /// That a file is longer.
    Length,
    /// That it is shorter.
    Cut,
}

enum Change {
    /// Whole sectors from that one on, as programs saw them afterwards, and the length of the file then.
    Written {
        first: usize,
        sectors: Vec<u8>,
        len: usize,
    },
    Truncated(usize),
}

impl File {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        let len = self.cache.len().max(end);
        self.cache.resize(len, 0);
        self.cache[offset..end].copy_from_slice(bytes);
        let (first, last) = (offset / SECTOR_BYTES, end.div_ceil(SECTOR_BYTES));
        let mut sectors = self.cache[first * SECTOR_BYTES..len.min(last * SECTOR_BYTES)].to_vec();
        sectors.resize((last - first) * SECTOR_BYTES, 0);
        self.pending.push(Change::Written { first, sectors, len });
    }

    fn truncate(&mut self, len: usize) {
        self.cache.resize(len, 0);
        self.pending.push(Change::Truncated(len));
    }

    /// Ends the way of the first `count` changes. Each of their parts is on the plates afterwards if it `reaches`.
    fn settle(&mut self, count: usize, reaches: &mut dyn FnMut(Part) -> bool) {
        // A sector may be there before the length says so; it is seen if a later length reaches over it.
        let mut len = self.durable.len();
        for change in self.pending.drain(..count) {
            match change {
                Change::Written { first, sectors, len: then } => {
                    for (index, sector) in sectors.chunks(SECTOR_BYTES).enumerate() {
                        if reaches(Part::Sector) {
                            put(&mut self.durable, first + index, sector);
                        }
                    }
                    if then > len && reaches(Part::Length) {
                        len = then;
                    }
                }
                Change::Truncated(then) => {
                    if reaches(Part::Cut) {
                        self.durable.truncate(then);
                        len = then;
                    }
                }
            }
        }
        self.durable.resize(len, 0);
        self.promised = self.promised.saturating_sub(count);
    }

    /// Puts the last sector of each write on the plates, and leaves the rest on its way.
    fn keep_last_sectors(&mut self) {
        for change in &self.pending {
            if let Change::Written { first, sectors, len } = change {
                let count = sectors.len() / SECTOR_BYTES;
                put(&mut self.durable, first + count - 1, &sectors[(count - 1) * SECTOR_BYTES..]);
                self.durable.resize(*len, 0);
            }
        }
    }
}

fn put(plates: &mut Vec<u8>, number: usize, sector: &[u8]) {
    let start = number * SECTOR_BYTES;
    plates.resize(plates.len().max(start + SECTOR_BYTES), 0);
    plates[start..start + SECTOR_BYTES].copy_from_slice(sector);
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.pass_gate();
        self.begin(state, state.life)??;
        state.directories.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.directories.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = &mut *self.pass_gate();
        let done = self.begin(state, state.life)?;
        let number = match state.find(path) {
            Ok(number) => {
                state.files[number].truncate(0);
                number
            }
            Err(_) => {
                state.files.push(File::default());
                let number = state.files.len() - 1;
                state.name(Naming::Created(path.to_owned()), number);
                number
            }
        };
        done.map(|()| self.file(state, number))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.find(path).map(|number| self.file(&state, number))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.pass_gate();
        let done = self.begin(state, state.life)?;
        let number = state.find(from)?;
        if state.lie == Some(Lie::RemovesBeforeRenaming) {
            state.durable_names.remove(to);
        }
        state.name(Naming::Renamed { from: from.to_owned(), to: to.to_owned() }, number);
        done
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.pass_gate();
        let done = self.begin(state, state.life)?;
        let number = state.find(path)?;
        state.name(Naming::Removed(path.to_owned()), number);
        done
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.pass_gate();
        self.begin(state, state.life)??;
        if state.lie != Some(Lie::SyncsNoDirectory) {
            state.sync_names(dir);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let state = &mut *self.pass_gate();
        self.begin(state, state.life)??;
        let free = state.locks.insert(path.to_owned());
        let lock = || HeldLock { disk: self.clone(), path: path.to_owned(), life: state.life };
        Ok(free.then(|| Box::new(lock()) as Lock))
    }
}

struct HeldLock {
    disk: SimulatedDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let state = &mut *self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

struct OpenFile {
    disk: SimulatedDisk,
    number: usize,
    life: u64,
}

fn within(number: u64) -> usize {
    usize::try_from(number).expect("a file in memory is no longer than memory")
}

impl DiskFile for OpenFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let rest = state.files[self.number].cache.get(within(offset)..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.disk.pass_gate();
        let done = self.disk.begin(state, self.life)?;
        let fails = state.strikes(Fault::Write);
        let part = if fails { bytes.len() * 3 / 4 } else { bytes.len() };
        state.files[self.number].write(&bytes[..part], within(offset));
        if fails { Err(io::Error::other("a write failed on purpose")) } else { done }
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.disk.state().flush_takes);
        let state = &mut *self.disk.pass_gate();
        let done = self.disk.begin(state, self.life)?;
        done.and_then(|()| state.sync(self.number))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let state = &mut *self.disk.pass_gate();
        let done = self.disk.begin(state, self.life)?;
        state.files[self.number].truncate(within(len));
        done
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.number].cache.len() as u64)
    }
}
