//! Moves a whole log from the journal of a data folder into a database, or back, as it stands: past the sequencer, with
//! all of its numbers, ids, times and checksums, its ledger, cursors and leases, and what was dropped of it.
//!
//! Invariant: at no moment can two logs be opened that have one epoch. Nobody opens the destination before all of it is
//! there and was verified, and before that the source has begun a new epoch, in which it is another log. Whatever
//! kills the move, it is run again and goes on; every piece is in the destination with the mark that says so.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sillage_kernel::{Epoch, Event, Position, Timestamp};

use crate::event_store::journal::leaving::{Leaving, LeavingError};
use crate::event_store::journal::{self, LeaseRecord, LogError, Progress};
use crate::event_store::postgres::arriving::{Arriving, Stage};
use crate::event_store::postgres::{self, Database, PostgresError};
use crate::event_store::{CursorState, LedgerEntry, LedgerKey};

/// A part of a log that is taken in one step.
#[derive(Debug, Default)]
pub struct Piece {
    /// What happened. What was dropped has neither data nor metadata.
    pub(crate) events: Vec<Arc<Event>>,
    /// What was settled, and when.
    pub(crate) ledger: Vec<(LedgerKey, LedgerEntry, Timestamp)>,
    /// Who came to hold what, the last one of each lease only.
    pub(crate) leases: Vec<LeaseRecord>,
    /// What was minted before that is not in the log any more.
    pub(crate) forgotten_until: Timestamp,
    /// Where it ends, as its source tells it.
    pub(crate) mark: String,
    /// How much of the source that is.
    pub(crate) progress: Progress,
}

/// What a log has that is not in its order.
pub(crate) struct Rest {
    pub(crate) cursors: BTreeMap<Box<str>, CursorState>,
    pub(crate) leases: Vec<LeaseRecord>,
    pub(crate) forgotten_until: Timestamp,
}

/// What a log is known by.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// What it was born with, which no other log has.
    pub(crate) born: u128,
    /// What its epoch comes from.
    pub(crate) epoch: u128,
}

/// What is done just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Records are copied.
    Copying,
    /// What was copied is read again and checked.
    Verifying,
}

/// A log that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Its last position.
    pub head: Position,
    /// Of how many of its events the contents were dropped.
    pub dropped: u64,
    /// How many streams it has.
    pub streams: usize,
    /// How many settled commands are in its ledger.
    pub commands: u64,
}

/// Why a log was not moved. What was copied stays, and the move goes on when it is run again.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] LeavingError),
    /// The database cannot be used.
    #[error(transparent)]
    Destination(#[from] PostgresError),
    /// The database has a log: name another database.
    #[error("the database holds a log already, of the epoch {0}: name an empty one")]
    Taken(Epoch),
    /// Another log is being moved there: finish that, or empty the database.
    #[error(
        "another log is being moved into the database: go on with that one, or empty the database with \
         `DROP SCHEMA sillage CASCADE`"
    )]
    AnotherMove,
    /// It was moved there before: run the nodes on the database.
    #[error("this log was moved into the database before: nodes with --store run on it")]
    Done,
    /// The source is not what it was when the move began: begin anew.
    #[error(
        "the log was used, or has begun another epoch, since it was copied, and what is in the database is not all of \
         it: empty the database with `DROP SCHEMA sillage CASCADE`, and run this again"
    )]
    Changed,
    /// There is a log in the folder: name another folder.
    #[error("{} is there already: name another folder", .0.display())]
    Exists(PathBuf),
    /// What was copied before into the folder is not the beginning of this log: remove it.
    #[error("{} holds another log, or more than this one: remove it, and run this again", .0.display())]
    Other(PathBuf),
    /// The file system refused.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// Which folder.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The journal cannot be written or read.
    #[error(transparent)]
    Journal(#[from] LogError),
    /// What arrived does not agree with itself: look at the source with `sillage verify`.
    #[error("what is in the database has {defects} defects, first: {first}; nothing was opened")]
    Defects {
        /// How many there are.
        defects: u64,
        /// One of them.
        first: String,
    },
}

/// Moves the log into the database. `id` is a random number, of the epoch that the source begins.
///
/// # Errors
/// [`TransferError`].
pub async fn migrate(
    source: Leaving,
    database: &Database,
    id: u128,
    mut on_progress: impl FnMut(Doing, Progress),
) -> Result<Moved, TransferError> {
    let origin = source.origin();
    let mut arriving = Arriving::begin(database, &origin).await?;
    let is_retired = match arriving.stage() {
        Stage::Done => return Err(TransferError::Done),
        Stage::Copying if arriving.epoch() != origin.epoch => return Err(TransferError::Changed),
        Stage::Copying | Stage::Whole => arriving.epoch() != origin.epoch,
    };
    if !is_retired {
        let mut pieces = source.pieces(arriving.mark())?;
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            on_progress(Doing::Copying, piece.progress);
            arriving.take(piece).await?;
        }
    }
    let (mut defects, mut first) = (0, None);
    let note = |defect| {
        defects += 1;
        first.get_or_insert(defect);
    };
    let verified = arriving.verify(note, |progress| on_progress(Doing::Verifying, progress)).await?;
    if let Some(first) = first {
        return Err(TransferError::Defects { defects, first });
    }
    if !is_retired {
        if verified.head != source.head() {
            return Err(TransferError::Changed);
        }
        arriving.settle(source.cursors()).await?;
    }
    if !source.retire(arriving.mark(), arriving.epoch(), id)? {
        return Err(TransferError::Changed);
    }
    arriving.finish().await?;
    Ok(verified)
}

/// Moves the log of a database into the folder `to`, which must not be there. Nobody can write it meanwhile, and nodes that
/// run end when it is done. `id` and `next` are random numbers: of the journal, and of the epoch that the source begins.
///
/// # Errors
/// [`TransferError`].
pub async fn migrate_back(
    database: &Database,
    to: &Path,
    (id, next): (u128, u128),
    mut on_progress: impl FnMut(Doing, Progress),
) -> Result<Moved, TransferError> {
    let io = |source| TransferError::Io { path: to.to_owned(), source };
    if to.exists() {
        return Err(TransferError::Exists(to.to_owned()));
    }
    let unfinished = to.with_extension("unfinished");
    let mut source = postgres::leaving::Leaving::open(database).await?;
    let mut arriving = journal::arriving::Arriving::open(&unfinished, id)?;
    if arriving.retired_as() != Some(source.epoch()) {
        let other = || TransferError::Other(unfinished.clone());
        let (last, id) = arriving.last().unzip();
        let found = source.seek(last.unwrap_or_default()).await?;
        if !arriving.begin(&Epoch::from_log_id(source.epoch()))? || found != id {
            return Err(other());
        }
        while let Some(piece) = source.next().await? {
            on_progress(Doing::Copying, piece.progress);
            arriving.take(piece)?;
        }
        arriving.settle_rest(source.rest().await?)?;
        let verified = verify_journal(&unfinished, |progress| on_progress(Doing::Verifying, progress))?;
        if verified.head != source.head() {
            return Err(other());
        }
        journal::arriving::retire(&unfinished, next).map_err(io)?;
        source.retire(next).await?;
    } else {
        drop(arriving);
    }
    let moved = verify_journal(&unfinished, |_| ())?;
    journal::arriving::finish(&unfinished, to).map_err(io)?;
    Ok(moved)
}

fn verify_journal(folder: &Path, on_progress: impl FnMut(Progress)) -> Result<Moved, TransferError> {
    let (mut defects, mut first) = (0, None);
    let note = |defect: journal::verify::Defect| {
        defects += 1;
        first.get_or_insert(defect.to_string());
    };
    let verified = journal::verify::verify(folder, note, on_progress)?;
    if let Some(first) = first {
        return Err(TransferError::Defects { defects, first });
    }
    let journal::verify::Verified { head, dropped, streams, commands, .. } = verified;
    Ok(Moved { head, dropped, streams, commands })
}
