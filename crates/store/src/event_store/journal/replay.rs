//! Building the index from the log: what follows the runs when it is opened, and what a damaged run covered.
//!
//! Memory is bounded: what fills the tail is written as a run at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use sillage_journal::{
    Batch, Disk, Error as LogError, Folders, Journal, Opened, Options, Reader, ReplayError,
};

use super::index::{self, Done, Fullness, Index, Upkeep};
use super::walk::Recorded;
use super::{JournalOptions, LeaseRecord};

/// The folder of the index, in that of the log.
pub(super) const INDEX_FOLDER: &str = "index";

/// A log that was read from where its runs end.
pub(super) struct Replayed {
    pub(super) opened: Opened,
    pub(super) upkeep: Upkeep,
    pub(super) leases: BTreeMap<Box<str>, LeaseRecord>,
}

/// Opens the log behind the runs that fit it, and indexes what follows.
pub(super) fn open(
    folders: &Folders,
    log_id: u128,
    options: &JournalOptions,
    disk: Arc<dyn Disk>,
) -> Result<Replayed, LogError> {
    let failed = |source| LogError::Io { doing: "open the index", source };
    let JournalOptions {
        ledger,
        segment_bytes,
        archive: _,
        least_group: _,
        least_saved: _,
        accept_loss,
        new_epoch: _,
        index: limits,
        progress,
    } = *options;
    let (folder, mut runs) =
        index::open(Arc::clone(&disk), folders.own().join(INDEX_FOLDER), log_id).map_err(failed)?;
    let folder = Arc::new(folder);
    loop {
        let (index, leases) = match Index::new(limits, ledger, &folder, runs.clone()) {
            Ok(new) => new,
            Err(error) if runs.pop().is_some() => {
                tracing::warn!(%error, "an index does not read back");
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let start = index.covered();
        let leases = leases.into_iter().map(|lease| (lease.name.clone(), lease)).collect();
        let index = Arc::new(RwLock::new(index));
        let mut replay =
            Replay { upkeep: Upkeep { index, folder: Arc::clone(&folder), reader: None }, leases };
        let options = Options { log_id, segment_bytes, accept_loss, start, progress };
        match Journal::open(folders.clone(), options, Arc::clone(&disk), |batch| replay.take(&batch)) {
            Err(LogError::NoBoundary(_)) if runs.pop().is_some() => {
                tracing::warn!("the log does not reach as far as its index");
            }
            opened => {
                let (opened, Replay { upkeep, leases }) = (opened?, replay);
                upkeep.remove_others();
                return Ok(Replayed { opened, upkeep, leases });
            }
        }
    }
}

/// What is rebuilt from the log.
struct Replay {
    upkeep: Upkeep,
    leases: BTreeMap<Box<str>, LeaseRecord>,
}

impl Replay {
    /// Takes a batch of the log. What it fills is written as a run at once, so that memory stays bounded.
    fn take(&mut self, batch: &Batch<'_>) -> Result<(), ReplayError> {
        let Self { upkeep, leases } = self;
        let mut index = upkeep.index.write().unwrap_or_else(PoisonError::into_inner);
        for record in batch.records() {
            match Recorded::decode(&record)? {
                Recorded::Event(event) | Recorded::Dropped(event) => index.add(&event, record.address),
                Recorded::Forgotten(until) => index.forget_until(until),
                Recorded::Ledger(key, _, at) => index.settle(&key, record.address, at),
                Recorded::Cursor(update) => index.step(&update),
                Recorded::Epoch(epoch) => index.begin_epoch(epoch),
                Recorded::Lease(lease) => drop(leases.insert(lease.name.clone(), lease)),
            }
        }
        if index.reach(batch.end()) == Fullness::Full {
            index.freeze(leases.values().cloned().collect());
            drop(index);
            upkeep.write_all();
        }
        Ok(())
    }
}

/// Writes anew, from the log, what a damaged run covers.
pub(super) fn repair(upkeep: &Upkeep, reader: &Reader) -> io::Result<Done> {
    let Some(damaged) = upkeep.damaged() else { return Ok(Done::Nothing) };
    tracing::error!(run = %damaged, "an index is damaged, and is written anew from the log");
    let (index, leases) = upkeep.up_to(&damaged)?;
    let leases = leases.into_iter().map(|lease| (lease.name.clone(), lease)).collect();
    let (index, folder) = (Arc::new(RwLock::new(index)), Arc::clone(&upkeep.folder));
    let mut replay = Replay { upkeep: Upkeep { index, folder, reader: None }, leases };
    let (from, to) = damaged.ends();
    reader.replay(from, to, |batch| replay.take(&batch)).map_err(io::Error::other)?;
    let Replay { upkeep: anew, leases } = replay;
    // What could not be written on the way, then what is left.
    anew.write()?;
    let mut index = anew.index.write().unwrap_or_else(PoisonError::into_inner);
    if index.covered() != Some(to) {
        index.freeze(leases.into_values().collect());
    }
    drop(index);
    anew.write()?;
    upkeep.replace(&damaged, &anew);
    Ok(Done::Something)
}
