//! A journal that a log is moved into, in a folder that no server opens until it has its name.
//!
//! Invariant: what was settled is in one batch with its events, behind the last of them, as the writer of a journal has
//! it. So up to an append that may go on with what comes next is kept back.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sillage_journal::{Disk, Error as LogError, Folders, Journal, Opened, Options, RealDisk};
use sillage_kernel::{Epoch, Event, EventId, Outcome, Position, Timestamp};

use super::walk::Recorded;
use super::{EpochRecord, Kind, write_epoch};
use crate::clock;
use crate::event_store::codec::{
    encode_event, encode_forgotten, encode_ledger, is_dropped, without_contents,
};
use crate::event_store::{CursorState, CursorUpdate, LedgerEntry, LedgerKey, MAX_APPEND_RECORDS};
use crate::transfer::{Piece, Rest};

/// How much is written at once, in bytes.
const GROUP_BYTES: usize = 1 << 20;
/// How much is parked in one record.
const PARKED_AT_ONCE: usize = 100;
/// The file that says which epoch the source begins when all is here.
const RETIRED: &str = "retired";

/// The one who moves a log into a folder.
pub(crate) struct Arriving {
    writer: sillage_journal::Writer,
    folder: PathBuf,
    epoch: Option<Epoch>,
    cursors: BTreeMap<Box<str>, CursorState>,
    /// The last event that is written.
    last: Option<(Position, EventId)>,
    /// What came and is not written yet.
    pending: VecDeque<Arc<Event>>,
}

impl Arriving {
    /// Opens the folder, or makes it. `id` is a random number, for a log that is made.
    pub(crate) fn open(folder: &Path, id: u128) -> Result<Self, LogError> {
        let (mut epoch, mut last) = (None, None);
        let mut cursors: BTreeMap<Box<str>, CursorState> = BTreeMap::new();
        let opened = Journal::open(Folders::from(folder), Options::new(id), Arc::new(RealDisk), |batch| {
            for record in batch.records() {
                match Recorded::decode(&record)? {
                    Recorded::Event(event) | Recorded::Dropped(event) => {
                        last = Some((event.position, event.id))
                    }
                    Recorded::Epoch(begun) => epoch = Some(begun.epoch),
                    Recorded::Cursor(step) => cursors.entry(step.reactor.clone()).or_default().apply(&step),
                    Recorded::Ledger(..) | Recorded::Lease(_) | Recorded::Forgotten(_) => {}
                }
            }
            Ok(())
        });
        let Opened { writer, .. } = opened?;
        Ok(Self { writer, folder: folder.to_owned(), epoch, cursors, last, pending: VecDeque::new() })
    }

    /// The last event that is here.
    pub(crate) fn last(&self) -> Option<(Position, EventId)> {
        self.last
    }

    /// The epoch that the source begins, or has begun, if all was here once.
    pub(crate) fn retired_as(&self) -> Option<u128> {
        let text = fs::read_to_string(self.folder.join(RETIRED)).ok()?;
        u128::from_str_radix(&text, 16).ok()
    }

    /// Makes sure that it is of that epoch; answers whether it is.
    pub(crate) fn begin(&mut self, epoch: &Epoch) -> Result<bool, LogError> {
        if self.epoch.is_none() && self.last.is_none() {
            let record = EpochRecord { epoch: epoch.clone(), since: clock::now() };
            write_epoch(&mut self.writer, &record)?;
            self.epoch = Some(record.epoch);
        }
        Ok(self.epoch.as_ref() == Some(epoch))
    }

    /// Takes a piece. What may belong to an append that is not over is written with the next.
    pub(crate) fn take(&mut self, piece: Piece) -> Result<(), LogError> {
        self.pending.extend(piece.events);
        for (key, entry, at) in &piece.ledger {
            self.settle(key, entry, *at)?;
        }
        let surplus = self.pending.len().saturating_sub(MAX_APPEND_RECORDS);
        self.write_events(surplus)
    }

    /// Writes what was settled, with its events.
    fn settle(&mut self, key: &LedgerKey, entry: &LedgerEntry, at: Timestamp) -> Result<(), LogError> {
        let (stream, position) = (&entry.receipt.stream, entry.receipt.position);
        let end = self.pending.partition_point(|event| event.position <= position);
        let begin = match &entry.receipt.outcome {
            Outcome::Applied { versions } => self.pending.iter().position(|event| {
                Some(&event.version) == versions.first()
                    && event.stream == *stream
                    && event.tenant == key.tenant
            }),
            Outcome::Unchanged | Outcome::Rejected(_) => None,
        };
        let begin = begin.unwrap_or(end);
        self.write_events(begin)?;
        for event in self.pending.drain(..end - begin).collect::<Vec<_>>() {
            self.push_event(&event)?;
        }
        let mut payload = Vec::new();
        encode_ledger(key, entry, at, &mut payload);
        self.push(Kind::Ledger, &payload)?;
        self.end_batch()
    }

    /// Writes the first of the events that came, each by itself.
    fn write_events(&mut self, count: usize) -> Result<(), LogError> {
        for event in self.pending.drain(..count).collect::<Vec<_>>() {
            self.push_event(&event)?;
            self.end_batch()?;
        }
        Ok(())
    }

    fn push_event(&mut self, event: &Event) -> Result<(), LogError> {
        let mut payload = Vec::new();
        encode_event(event, &mut payload);
        if !is_dropped(event) {
            return self.push(Kind::Event, &payload);
        }
        let place = without_contents(&payload).expect("it was just encoded").to_vec();
        self.push(Kind::Dropped, &place)
    }

    fn push(&mut self, kind: Kind, payload: &[u8]) -> Result<(), LogError> {
        self.writer.push(kind.number(), 0, 0, payload).map(drop)
    }

    fn end_batch(&mut self) -> Result<(), LogError> {
        self.writer.end_batch()?;
        if self.writer.staged_bytes() < GROUP_BYTES {
            return Ok(());
        }
        self.writer.commit()
    }

    fn push_json(&mut self, kind: Kind, record: &impl serde::Serialize) -> Result<(), LogError> {
        let json = serde_json::to_vec(record).expect("a cursor or lease has only string keys");
        self.push(kind, &json)?;
        self.end_batch()
    }

    /// Writes what was kept back, and what is not in the order of the log, and makes all of it durable.
    pub(crate) fn settle_rest(mut self, rest: Rest) -> Result<(), LogError> {
        let Rest { cursors, leases, forgotten_until } = rest;
        self.write_events(self.pending.len())?;
        if forgotten_until > Timestamp::default() {
            let mut payload = Vec::new();
            encode_forgotten(forgotten_until, &mut payload);
            self.push(Kind::Forgotten, &payload)?;
            self.end_batch()?;
        }
        for (reactor, CursorState { position, mode, parked }) in cursors {
            let known = self.cursors.remove(&reactor).unwrap_or_default();
            let gone = known.parked.keys().filter(|at| !parked.contains_key(at)).copied().collect();
            let step =
                CursorUpdate { reactor, position: Some(position), mode: Some(mode), ..Default::default() };
            self.push_json(Kind::Cursor, &CursorUpdate { unpark: gone, ..step.clone() })?;
            let parked: Vec<_> = parked.into_values().collect();
            for park in parked.chunks(PARKED_AT_ONCE) {
                self.push_json(Kind::Cursor, &CursorUpdate { park: park.to_vec(), ..step.clone() })?;
            }
        }
        for lease in leases {
            self.push_json(Kind::Lease, &lease)?;
        }
        self.writer.commit()
    }
}

/// Remembers which epoch the source of what is in the folder begins.
pub(crate) fn retire(folder: &Path, id: u128) -> io::Result<()> {
    let mut file = File::create(folder.join(RETIRED))?;
    file.write_all(format!("{id:032x}").as_bytes())?;
    file.sync_all()?;
    RealDisk.sync_dir(folder)
}

/// Gives the folder its name.
pub(crate) fn finish(folder: &Path, to: &Path) -> io::Result<()> {
    RealDisk.sync_dir(folder)?;
    fs::rename(folder, to)?;
    to.parent()
        .filter(|parent| *parent != Path::new(""))
        .map_or(Ok(()), |parent| RealDisk.sync_dir(parent))?;
    fs::remove_file(to.join(RETIRED))
}
