//! The records of a log's folder, typed, for whoever has no part in writing it: operators' commands.
//!
//! It takes no lock and changes nothing, so it works beside a running server; see [`Walk`].

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sillage_journal::{Address, Boundary, Damage, End, Error as LogError, RealDisk, RecordRef, Walk};
use sillage_kernel::{Epoch, Event, Timestamp};

use super::{Kind, LeaseRecord};
use crate::event_store::codec::{Malformed, decode_event, decode_ledger};
use crate::event_store::{CursorUpdate, LedgerEntry, LedgerKey};

/// What a record of the log says.
#[derive(Debug, Clone)]
pub enum Recorded {
    /// Something happened.
    Event(Event),
    /// A command was settled, then.
    Ledger(LedgerKey, LedgerEntry, Timestamp),
    /// A cursor moved.
    Cursor(CursorUpdate),
    /// A lease changed hands or was prolonged.
    Lease(LeaseRecord),
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
        })
    }
}

fn json<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(payload).map_err(|_| Malformed("a cursor or lease that is not JSON"))
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
pub struct LogWalk(Walk);

impl LogWalk {
    /// A walk over the log in `dir`, the folder `journal` of a data folder, from the end of a batch that an earlier
    /// walk has shown, or from [`Boundary::default`], the beginning.
    #[must_use]
    pub fn new(dir: &Path, from: Boundary) -> Self {
        Self(Walk::new(dir, Arc::new(RealDisk), from))
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
        self.0.run(|batch| {
            batch.records().try_for_each(|record| {
                let (batch, address) = (batch.number(), record.address);
                on_record(Placed { batch, address, record: Recorded::decode(&record) })
            })
        })
    }

    /// Goes on behind the damage that was just found; see [`Walk::skip`].
    ///
    /// # Errors
    /// As [`Walk::skip`].
    pub fn skip(&mut self) -> Result<bool, LogError> {
        self.0.skip()
    }

    /// Where it stands: behind the last batch that was shown.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.0.boundary()
    }

    /// The identity of the log, once any of it has been seen. A folder that holds none is none.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.0.log_id().map(Epoch::from_log_id)
    }

    /// The file that the damage is in, and the offset in it.
    #[must_use]
    pub fn place(&self, damage: Damage) -> (PathBuf, u64) {
        self.0.place(damage)
    }

    /// How many bytes of log there are: where [`Self::boundary`] is at the end.
    ///
    /// # Errors
    /// As [`Walk::total_bytes`].
    pub fn total_bytes(&self) -> Result<u64, LogError> {
        self.0.total_bytes()
    }
}
