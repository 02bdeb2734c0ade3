//! A journal that is moved elsewhere: it is held, so that nobody writes it, and read as it stands.
//!
//! Invariant: a piece ends where a batch does, so whoever has taken it has every append whole.

use std::ops::ControlFlow;
use std::sync::Arc;

use sillage_journal::{Batch, End, Error as LogError, Walk};
use sillage_kernel::{Epoch, Position};
use tokio::sync::mpsc;

use super::walk::{LogWalk, Recorded};
use super::{
    Address, Boundary, Folders, JournalOptions, JournalStore, LeaseRecord, NewEpoch, Progress, RealDisk,
};
use crate::event_store::codec::Malformed;
use crate::event_store::{CursorState, EventStore};
use crate::transfer::{Origin, Piece};

/// How many bytes of log a piece has, unless one batch has more.
const PIECE_BYTES: u64 = 1 << 20;
/// How many batches a piece has at most.
const PIECE_BATCHES: usize = 4_096;
/// How many pieces are read ahead.
const AHEAD: usize = 2;

/// A log that nobody writes until it is moved.
pub struct Leaving {
    store: JournalStore,
    folders: Folders,
    options: JournalOptions,
    origin: Origin,
}

/// Why a log cannot leave.
#[derive(Debug, thiserror::Error)]
pub enum LeavingError {
    /// The log cannot be opened or read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its bytes are not what was written: `sillage verify` tells more.
    #[error("the log is damaged at {0}; `sillage verify` tells more")]
    Damaged(Address),
    /// A record is sound but not what its kind promises: another program wrote it.
    #[error("at {at}: {problem}")]
    Malformed {
        /// Where it stands in the log.
        at: Address,
        /// What is wrong with it.
        problem: Malformed,
    },
    /// Its epoch was not begun by a program of ours.
    #[error("the epoch {0} is not one that a program of ours begins")]
    Epoch(Epoch),
    /// The mark was not made by this program.
    #[error("the database does not say how far the log was copied: it says {0:?}")]
    Mark(String),
}

impl Leaving {
    /// Opens the log in the folder `journal` of a data folder, which is the first of `folders`, and keeps others from
    /// writing it. `id` is a random number.
    ///
    /// # Errors
    /// [`LeavingError::Log`], [`LeavingError::Epoch`].
    pub fn open(folders: Folders, id: u128) -> Result<Self, LeavingError> {
        let archive = folders.archive().map(std::path::Path::to_owned);
        let options = JournalOptions { archive, ..JournalOptions::default() };
        let (store, _) = JournalStore::open(folders.own(), id, options.clone())?;
        let epoch = store.epoch();
        let number = u128::from_str_radix(epoch.as_str(), 16).ok();
        let number = number.filter(|number| Epoch::from_log_id(*number) == epoch);
        let origin =
            Origin { born: store.shared.reader.log_id(), epoch: number.ok_or(LeavingError::Epoch(epoch))? };
        Ok(Self { store, folders, options, origin })
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn head(&self) -> Position {
        self.store.head()
    }

    /// Where all reactors stand that were heard of.
    pub(crate) fn cursors(&self) -> Vec<(Box<str>, CursorState)> {
        self.store.shared.index().cursors()
    }

    /// What comes after a mark, piece by piece, read on a thread of its own.
    pub(crate) fn pieces(
        &self,
        mark: &str,
    ) -> Result<mpsc::Receiver<Result<Piece, LeavingError>>, LeavingError> {
        let mut walk = Walk::new(self.folders.clone(), Arc::new(RealDisk), boundary(mark)?);
        let total_bytes = walk.total_bytes()?;
        let (pieces, received) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut reading =
                Reading { piece: Piece::default(), batches: 0, begun: walk.boundary().at, total_bytes };
            let end = walk.run(|batch| match reading.batch(&batch) {
                Ok(None) => ControlFlow::Continue(()),
                // Whoever no longer takes them does not want the rest either.
                Ok(Some(piece)) => match pieces.blocking_send(Ok(piece)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(None),
                },
                Err(error) => ControlFlow::Break(Some(error)),
            });
            let last = match end {
                Ok(End::Whole | End::Unfinished { .. }) if reading.batches > 0 => Some(Ok(reading.piece)),
                Ok(End::Whole | End::Unfinished { .. }) => None,
                Ok(End::Damaged(damage)) => Some(Err(LeavingError::Damaged(damage.at))),
                Ok(End::Stopped(error)) => error.map(Err),
                Err(error) => Some(Err(error.into())),
            };
            if let Some(last) = last {
                drop(pieces.blocking_send(last));
            }
        });
        Ok(received)
    }

    /// Begins a new epoch, unless it has begun one since it was opened the first time: `origin` is what it was then.
    /// Answers whether nothing stands between the mark and the new epoch.
    pub(crate) fn retire(self, mark: &str, epoch: u128, id: u128) -> Result<bool, LeavingError> {
        let Self { store, folders, options, origin } = self;
        drop(store);
        if origin.epoch == epoch {
            let options = JournalOptions { new_epoch: NewEpoch::Now, ..options };
            drop(JournalStore::open(folders.own(), id, options)?);
        }
        let mut walk = LogWalk::new(folders, boundary(mark)?);
        let end = walk.run(|placed| ControlFlow::Break(matches!(placed.record, Ok(Recorded::Epoch(_)))))?;
        Ok(end == End::Stopped(true))
    }
}

/// What is read of a piece so far.
struct Reading {
    piece: Piece,
    batches: usize,
    begun: Address,
    total_bytes: u64,
}

impl Reading {
    /// Takes a batch, and answers the piece if it is large enough with it.
    fn batch(&mut self, batch: &Batch<'_>) -> Result<Option<Piece>, LeavingError> {
        let Piece { events, ledger, leases, forgotten_until, mark, progress } = &mut self.piece;
        for record in batch.records() {
            let malformed = |problem| LeavingError::Malformed { at: record.address, problem };
            match Recorded::decode(&record).map_err(malformed)? {
                Recorded::Event(event) | Recorded::Dropped(event) => events.push(Arc::new(event)),
                Recorded::Ledger(key, entry, at) => ledger.push((key, entry, at)),
                Recorded::Lease(lease) => {
                    leases.retain(|held: &LeaseRecord| held.name != lease.name);
                    leases.push(lease);
                }
                Recorded::Forgotten(until) => *forgotten_until = until.max(*forgotten_until),
                // Where cursors stand is told at the end, and which epoch it is at the beginning.
                Recorded::Cursor(_) | Recorded::Epoch(_) => {}
            }
        }
        let end = batch.end();
        *mark = mark_of(end);
        *progress = Progress { done_bytes: end.at.get(), total_bytes: self.total_bytes.max(end.at.get()) };
        self.batches += 1;
        if self.batches < PIECE_BATCHES && end.at.get() - self.begun.get() < PIECE_BYTES {
            return Ok(None);
        }
        (self.batches, self.begun) = (0, end.at);
        Ok(Some(std::mem::take(&mut self.piece)))
    }
}

fn mark_of(Boundary { at, batches, checksum }: Boundary) -> String {
    format!("{} {batches} {checksum}", at.get())
}

/// The boundary that a mark names; the empty one is the beginning.
fn boundary(mark: &str) -> Result<Boundary, LeavingError> {
    if mark.is_empty() {
        return Ok(Boundary::default());
    }
    let unknown = || LeavingError::Mark(mark.to_owned());
    let numbers: Result<Vec<u64>, _> = mark.split(' ').map(str::parse).collect();
    let Ok([at, batches, checksum]) = <[u64; 3]>::try_from(numbers.map_err(|_| unknown())?) else {
        return Err(unknown());
    };
    let checksum = checksum.try_into().map_err(|_| unknown())?;
    Ok(Boundary { at: Address::new(at), batches, checksum })
}
