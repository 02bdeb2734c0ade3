//! Saved states of streams, so that a long stream is not read from its beginning: a cache beside each node.
//!
//! Invariant: a snapshot is believed only if the log has, at its version, the very event that it names. So one of
//! another log, or of a part of the log that was lost, is as good as none; and the file can be deleted at any time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use sillage_kernel::{EventId, StreamName, Tenant, Version};
use uuid::Uuid;

use crate::event_store::BoxFuture;

/// How many snapshots wait to be written; beyond that none is taken.
pub const MAX_WAITING: usize = 256;
/// How many bytes of states wait to be written; beyond that none is taken.
pub const MAX_WAITING_BYTES: usize = 64 << 20;
/// The longest state that is kept, in bytes. A larger one is read from its events.
pub const MAX_STATE_BYTES: usize = 16 << 20;
/// What comes within this time is written in one transaction, of each stream only the last.
const GATHER: Duration = Duration::from_millis(100);

/// The stream that a state is of, and what folded it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SnapshotOf {
    /// Whose stream.
    pub tenant: Tenant,
    /// Which stream.
    pub stream: StreamName,
    /// The revision of the state's shape; those of others are not found.
    pub revision: u32,
}

/// The state of a stream at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The version of the last event in it.
    pub version: Version,
    /// The id of that event.
    pub event: EventId,
    /// The state, as JSON.
    pub state: String,
}

/// The snapshots of a node. Whatever fails is told, and is as if there were no snapshot.
pub struct Snapshots {
    reader: Arc<Mutex<Connection>>,
    waiting_bytes: Arc<AtomicUsize>,
    queue: Option<SyncSender<(SnapshotOf, Snapshot)>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// Opens the file, or makes it. One that is damaged is made anew.
    pub fn open(file: &Path) -> rusqlite::Result<Self> {
        let (reader, writer) = both(file).or_else(|error| {
            tracing::warn!(%error, "the snapshots cannot be read, and are begun anew");
            // What cannot be removed fails again below.
            ["", "-wal", "-shm"].iter().for_each(|suffix| drop(std::fs::remove_file(beside(file, suffix))));
            both(file)
        })?;
        let (queue, waiting) = sync_channel(MAX_WAITING);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&waiting_bytes);
        let thread = std::thread::Builder::new().name("snapshots".into());
        let thread = thread.spawn(move || write_all(writer, &waiting, &taken)).ok();
        let reader = Arc::new(Mutex::new(reader));
        // Without the thread nothing is taken, and so nothing found.
        Ok(Self { reader, waiting_bytes, queue: Some(queue), thread })
    }

    /// The last one that was kept.
    pub fn find(&self, of: SnapshotOf) -> BoxFuture<Option<Snapshot>> {
        let reader = Arc::clone(&self.reader);
        let find = move || read(&reader.lock().unwrap_or_else(PoisonError::into_inner), &of);
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(find).await.ok()?;
            found.unwrap_or_else(|error| {
                tracing::warn!(%error, "a snapshot cannot be read");
                None
            })
        })
    }

    /// Whether one more would be taken. Ask before saving a state costs anything.
    pub fn has_room(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) < MAX_WAITING_BYTES
    }

    /// Keeps a snapshot, a little later and if there is room; nothing waits for it. Its event must be durable.
    pub fn offer(&self, of: SnapshotOf, snapshot: Snapshot) {
        let bytes = snapshot.state.len();
        if bytes > MAX_STATE_BYTES || !self.has_room() {
            return;
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let queue = self.queue.as_ref().expect("it is there until it is dropped");
        if queue.try_send((of, snapshot)).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Snapshots {
    /// Writes what waits.
    fn drop(&mut self) {
        self.queue = None;
        // A panic has been told by its own thread.
        self.thread.take().map(JoinHandle::join).into_iter().for_each(drop);
    }
}

fn beside(file: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Two connections to the file: one to read, one to write.
fn both(file: &Path) -> rusqlite::Result<(Connection, Connection)> {
    let open = || -> rusqlite::Result<Connection> {
        let db = Connection::open(file)?;
        // The file is a cache: what the power takes is made again.
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA busy_timeout = 5000;
             CREATE TABLE IF NOT EXISTS snapshots(
                 tenant TEXT NOT NULL, stream TEXT NOT NULL, revision INTEGER NOT NULL,
                 version INTEGER NOT NULL, event BLOB NOT NULL, checksum INTEGER NOT NULL, state TEXT NOT NULL,
                 PRIMARY KEY(tenant, stream)) WITHOUT ROWID",
        )?;
        Ok(db)
    };
    Ok((open()?, open()?))
}

fn read(db: &Connection, of: &SnapshotOf) -> rusqlite::Result<Option<Snapshot>> {
    let SnapshotOf { tenant, stream, revision } = of;
    let mut find = db.prepare_cached(
        "SELECT version, event, checksum, state FROM snapshots WHERE tenant = ?1 AND stream = ?2 AND revision = ?3",
    )?;
    let found = find.query_row(params![tenant.as_str(), stream.as_str(), revision], |row| {
        let (version, event): (u64, [u8; 16]) = (row.get(0)?, row.get(1)?);
        let (checksum, state): (u32, String) = (row.get(2)?, row.get(3)?);
        let snapshot =
            Snapshot { version: Version::new(version), event: EventId(Uuid::from_bytes(event)), state };
        Ok((checksum, snapshot))
    });
    let found = found.optional()?;
    Ok(found.filter(|(stored, snapshot)| *stored == checksum(snapshot)).map(|(_, snapshot)| snapshot))
}

fn checksum(Snapshot { version, event, state }: &Snapshot) -> u32 {
    let known = crc32c::crc32c_append(crc32c::crc32c(&version.get().to_le_bytes()), event.0.as_bytes());
    crc32c::crc32c_append(known, state.as_bytes())
}

/// Writes until nobody can offer any more and nothing waits.
fn write_all(mut db: Connection, waiting: &Receiver<(SnapshotOf, Snapshot)>, waiting_bytes: &AtomicUsize) {
    while let Ok(first) = waiting.recv() {
        let until = Instant::now() + GATHER;
        let mut last_of: HashMap<SnapshotOf, Snapshot> = HashMap::from([first]);
        while last_of.len() < MAX_WAITING {
            match waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((of, snapshot)) => {
                    if let Some(older) = last_of.insert(of, snapshot) {
                        waiting_bytes.fetch_sub(older.state.len(), Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = write(&mut db, &last_of) {
            tracing::warn!(%error, "snapshots cannot be written");
        }
        let bytes = last_of.values().map(|snapshot| snapshot.state.len()).sum();
        waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn write(db: &mut Connection, snapshots: &HashMap<SnapshotOf, Snapshot>) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT OR REPLACE INTO snapshots(tenant, stream, revision, version, event, checksum, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for (SnapshotOf { tenant, stream, revision }, snapshot) in snapshots {
            let Snapshot { version, event, state } = snapshot;
            let (tenant, stream, event) = (tenant.as_str(), stream.as_str(), event.0.as_bytes());
            put.execute(params![tenant, stream, revision, version.get(), event, checksum(snapshot), state])?;
        }
    }
    transaction.commit()
}
