//! The records of a log's folder, typed, for whoever has no part in writing it: operators' commands.
//!
//! It takes no lock and changes nothing, so it works beside a running server; see [`Walk`].

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use sillage_journal::{
    Address, Boundary, Damage, End, Error as LogError, Folders, RealDisk, RecordRef, Walk,
};
use sillage_kernel::{Epoch, Event, Timestamp};

use super::{EpochRecord, Kind, LeaseRecord};
use crate::event_store::codec::{Malformed, decode_dropped, decode_event, decode_forgotten, decode_ledger};
use crate::event_store::{CursorUpdate, LedgerEntry, LedgerKey};

/// What a record of the log says.
#[derive(Debug, Clone)]
pub enum Recorded {
    /// Something happened.
    Event(Event),
    /// Something happened whose contents were dropped: data and metadata are empty.
    Dropped(Event),
    /// A command was settled, then.
    Ledger(LedgerKey, LedgerEntry, Timestamp),
    /// A cursor moved.
    Cursor(CursorUpdate),
    /// A lease changed hands or was prolonged.
    Lease(LeaseRecord),
    /// The log began a new epoch.
    Epoch(EpochRecord),
    /// Commands that were minted before this moment were left out.
    Forgotten(Timestamp),
}

impl Recorded {
    /// Reads the payload of a record.
    ///
    /// # Errors
    /// [`Malformed`] when it is not what its kind promises, or of a kind that is not known.
    pub(super) fn decode(record: &RecordRef<'_>) -> Result<Self, Malformed> {
        let kind = Kind::from_number(record.kind).ok_or(Malformed("it is of an unknown kind"))?;
        Ok(match kind {
            Kind::Event => Self::Event(decode_event(record.payload)?),
            Kind::Ledger => {
                let (key, entry, at) = decode_ledger(record.payload)?;
                Self::Ledger(key, entry, at)
            }
            Kind::Cursor => Self::Cursor(json(record.payload)?),
            Kind::Lease => Self::Lease(json(record.payload)?),
            Kind::Epoch => Self::Epoch(json(record.payload)?),
            Kind::Dropped => Self::Dropped(decode_dropped(record.payload)?),
            Kind::Forgotten => Self::Forgotten(decode_forgotten(record.payload)?),
        })
    }
}

fn json<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(payload).map_err(|_| Malformed("a cursor, lease or epoch that is not JSON"))
}

/// One record, and where it stands.
#[derive(Debug)]
pub struct Placed {
    /// The number of its batch.
    pub batch: u64,
    /// Where it begins.
    pub address: Address,
    /// What it says, if it can be read.
    pub record: Result<Recorded, Malformed>,
}

/// A walk over the records in a log's folder, from a boundary on.
#[derive(Debug)]
pub struct LogWalk {
    walk: Walk,
    /// The last epoch that was seen to begin.
    epoch: Option<Epoch>,
}

impl LogWalk {
    /// A walk over the log in these folders, the first of which is `journal` in a data folder, from the end of a batch that an earlier
    /// walk has shown, or from [`Boundary::default`], the beginning.
    #[must_use]
    pub fn new(folders: impl Into<Folders>, from: Boundary) -> Self {
        Self { walk: Walk::new(folders, Arc::new(RealDisk), from), epoch: None }
    }

    /// Shows every record from where it stands, until `on_record` breaks or no more are there. Call it again for what
    /// was added since. A break passes over the rest of its batch.
    ///
    /// # Errors
    /// As [`Walk::run`].
    pub fn run<B>(
        &mut self,
        mut on_record: impl FnMut(Placed) -> ControlFlow<B>,
    ) -> Result<End<B>, LogError> {
        let Self { walk, epoch } = self;
        walk.run(|batch| {
            batch.records().try_for_each(|record| {
                let (batch, address) = (batch.number(), record.address);
                let record = Recorded::decode(&record);
                if let Ok(Recorded::Epoch(begun)) = &record {
                    *epoch = Some(begun.epoch.clone());
                }
                on_record(Placed { batch, address, record })
            })
        })
    }

    /// Where its files begin, in order.
    ///
    /// # Errors
    /// As [`Walk::files`].
    pub fn files(&self) -> Result<Vec<Address>, LogError> {
        self.walk.files()
    }

    /// Goes to the beginning of a file, if a whole batch stands there; see [`Walk::go_to`].
    ///
    /// # Errors
    /// As [`Walk::go_to`].
    pub fn go_to(&mut self, base: Address) -> Result<bool, LogError> {
        self.walk.go_to(base)
    }

    /// Goes on behind the damage that was just found; see [`Walk::skip`].
    ///
    /// # Errors
    /// As [`Walk::skip`].
    pub fn skip(&mut self) -> Result<bool, LogError> {
        self.walk.skip()
    }

    /// Where it stands: behind the last batch that was shown.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.walk.boundary()
    }

    /// The id that the log was born with, once any of it has been seen.
    #[must_use]
    pub fn log_id(&self) -> Option<u128> {
        self.walk.log_id()
    }

    /// The epoch of the log where the walk stands, once any of it has been seen. A folder that holds no log has none.
    /// Of what stands before the boundary that the walk began at it knows nothing.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch.clone().or_else(|| self.walk.log_id().map(Epoch::from_log_id))
    }

    /// The file that the damage is in, and the offset in it.
    #[must_use]
    pub fn place(&self, damage: Damage) -> (PathBuf, u64) {
        self.walk.place(damage)
    }

    /// How many bytes of log there are: where [`Self::boundary`] is at the end.
    ///
    /// # Errors
    /// As [`Walk::total_bytes`].
    pub fn total_bytes(&self) -> Result<u64, LogError> {
        self.walk.total_bytes()
    }
}
