//! SQLite as the usual table of events: WAL, `synchronous = FULL`, a unique index over stream and version. One thread
//! writes, and commits whatever waits as one transaction.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::peer::{self, Peer, Seen};

/// The most appends of one transaction.
const GROUP: usize = 4_096;

struct Job {
    stream: usize,
    version: u64,
    id: Uuid,
    answer: oneshot::Sender<u64>,
}

struct Sqlite(Sender<Job>);

impl Peer for Sqlite {
    async fn append(&self, stream: usize, seen: Seen) -> u64 {
        let (answer, appended) = oneshot::channel();
        let job = Job { stream, version: seen.version + 1, id: Uuid::now_v7(), answer };
        self.0.send(job).expect("the writer lives");
        appended.await.expect("it is appended")
    }
}

/// Durable events a second, with so many appends waiting.
pub fn measure(folder: &Path, waiting: usize, time: Duration) -> f64 {
    let connection = open(folder).expect("a database");
    let (jobs, queue) = mpsc::channel();
    let writer = thread::spawn(move || write(connection, &queue).expect("it is written"));
    let rate = peer::block_on(peer::drive(Arc::new(Sqlite(jobs)), waiting, time));
    writer.join().expect("the writer ends");
    rate
}

fn open(folder: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(folder.join("events.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // 64 MiB of pages in memory.
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.execute_batch(
        "CREATE TABLE events (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,
            id BLOB NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL);
         CREATE UNIQUE INDEX versions ON events (stream, version);",
    )?;
    Ok(connection)
}

fn write(mut connection: Connection, queue: &Receiver<Job>) -> rusqlite::Result<()> {
    let data = peer::data();
    while let Ok(first) = queue.recv() {
        let transaction = connection.transaction()?;
        let mut answers = Vec::new();
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO events (stream, version, id, type, data) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for Job { stream, version, id, answer } in
                std::iter::once(first).chain(queue.try_iter()).take(GROUP)
            {
                // Two who expect the same version meet in the index.
                let version = i64::try_from(version).expect("a small number");
                let row = insert.insert(params![
                    peer::name(stream),
                    version,
                    id.as_bytes(),
                    "ThingHappened",
                    data
                ])?;
                answers.push((answer, row));
            }
        }
        transaction.commit()?;
        for (answer, row) in answers {
            // Nobody who waits has gone.
            let _ = answer.send(row.unsigned_abs());
        }
    }
    Ok(())
}
