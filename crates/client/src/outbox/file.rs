//! The outbox as a file: the messages that wait, one a line, and a line for each that is settled.
//!
//! A thread of its own writes it, so that a flush holds nothing else up; whatever comes during a flush goes into
//! the next one. That a command is settled is not flushed: if it is forgotten, the command is sent again, and the
//! server answers as it did before.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use serde::Deserialize;
use sillage_kernel::{CommandId, StreamName};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Batch, Entry};
use crate::error::Error;

/// What is settled is cut out of the file when it has so many bytes, and more than what waits.
const COMPACT_BYTES: u64 = 64 << 10;
/// How many notes go into one flush at most.
const MAX_BATCH: usize = 1_024;
/// How many finished flushes may wait to be heard of.
const MAX_DONE: usize = 16;

/// The side of the file that does not block.
pub(super) struct FileKeeper {
    notes: Sender<Note>,
    /// Nothing once the thread has ended before its time.
    done: Option<Receiver<Batch>>,
    thread: JoinHandle<()>,
}

enum Note {
    Store(CommandId, Arc<str>),
    Settle(CommandId),
}

impl FileKeeper {
    pub(super) fn open(path: PathBuf, max_commands: usize) -> Result<(Self, Vec<Entry>), Error> {
        let (log, entries) = Log::open(path)?;
        // Each command that is held has at most a note that stores it and one that settles it under way.
        let (notes, inbox) = mpsc::channel(2 * max_commands + 1);
        let (outbox, done) = mpsc::channel(MAX_DONE);
        let thread = thread::Builder::new()
            .name("sillage-outbox".to_owned())
            .spawn(move || write_all(log, inbox, &outbox))
            .map_err(failed)?;
        Ok((Self { notes, done: Some(done), thread }, entries))
    }

    pub(super) fn store(&mut self, entry: &Entry) -> Result<(), Error> {
        let note = Note::Store(entry.command_id, Arc::clone(&entry.message));
        self.notes.try_send(note).map_err(|_| Error::Outbox("nothing more can be written".to_owned()))
    }

    pub(super) fn settle(&mut self, command_id: CommandId) {
        if self.notes.try_send(Note::Settle(command_id)).is_err() {
            tracing::warn!(%command_id, "a settled command stays in the outbox, and will be sent again");
        }
    }

    pub(super) async fn stored(&mut self) -> Batch {
        let Some(done) = &mut self.done else { return std::future::pending().await };
        if let Some(batch) = done.recv().await {
            return batch;
        }
        self.done = None;
        // Whatever waits to be stored will not be.
        Batch { commands: usize::MAX, result: Err(Error::Outbox("its thread has ended".to_owned())) }
    }

    pub(super) async fn close(self) {
        let Self { notes, done, thread } = self;
        drop((notes, done));
        if tokio::task::spawn_blocking(|| thread.join()).await.is_err() {
            tracing::error!("the outbox was not closed");
        }
    }
}

/// Writes until nobody has anything to write any longer.
fn write_all(mut log: Log, mut inbox: Receiver<Note>, done: &Sender<Batch>) {
    while let Some(first) = inbox.blocking_recv() {
        let mut notes = vec![first];
        while notes.len() < MAX_BATCH
            && let Ok(note) = inbox.try_recv()
        {
            notes.push(note);
        }
        let commands = notes.iter().filter(|note| matches!(note, Note::Store(..))).count();
        let result = log.write(notes);
        if commands > 0 {
            // Whoever wanted to know may be gone.
            drop(done.blocking_send(Batch { commands, result }));
        } else if let Err(error) = result {
            tracing::warn!(%error, "settled commands stay in the outbox, and will be sent again");
        }
    }
    if let Err(error) = log.compact(0) {
        tracing::warn!(%error, "the outbox was not compacted");
    }
}

/// The file, and what is alive in it.
struct Log {
    path: PathBuf,
    file: File,
    /// So many bytes of the file are whole lines.
    bytes: u64,
    live: Live,
    /// A flush failed. What the disk holds is unknown, so it is not added to.
    broken: Option<Error>,
    /// Held as long as the file is open.
    _lock: File,
}

#[derive(PartialEq, Eq)]
enum Flush {
    Now,
    Never,
}

/// The lines that are not settled, in order.
#[derive(Default)]
struct Live {
    lines: BTreeMap<u64, (CommandId, Arc<str>)>,
    places: HashMap<CommandId, u64>,
    next: u64,
    bytes: u64,
}

impl Live {
    fn add(&mut self, command_id: CommandId, line: Arc<str>) {
        self.remove(command_id);
        self.bytes += line.len() as u64 + 1;
        self.lines.insert(self.next, (command_id, line));
        self.places.insert(command_id, self.next);
        self.next += 1;
    }

    fn remove(&mut self, command_id: CommandId) {
        let place = self.places.remove(&command_id);
        if let Some((_, line)) = place.and_then(|place| self.lines.remove(&place)) {
            self.bytes -= line.len() as u64 + 1;
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (_, line) in self.lines.values() {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// What a line says, so far as it matters here.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Action { feed: StreamName, command_id: CommandId },
    Settled { command_id: CommandId },
}

impl Log {
    fn open(path: PathBuf) -> Result<(Self, Vec<Entry>), Error> {
        let lock = lock(&path)?;
        let old = match fs::read(&path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let (live, entries) = read(&path, &old);
        // Written anew each time, so that whatever is torn, broken or settled is gone.
        let file = rewrite(&path, &live).map_err(failed)?;
        let bytes = live.bytes;
        Ok((Self { path, file, bytes, live, broken: None, _lock: lock }, entries))
    }

    fn write(&mut self, notes: Vec<Note>) -> Result<(), Error> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let mut text = String::new();
        for note in &notes {
            match note {
                Note::Store(_, line) => text.push_str(line),
                Note::Settle(id) => text.push_str(&format!(r#"{{"type":"settled","command_id":"{id}"}}"#)),
            }
            text.push('\n');
        }
        let stores = notes.iter().any(|note| matches!(note, Note::Store(..)));
        self.append(&text, if stores { Flush::Now } else { Flush::Never })?;
        for note in notes {
            match note {
                Note::Store(command_id, line) => self.live.add(command_id, line),
                Note::Settle(command_id) => self.live.remove(command_id),
            }
        }
        if let Err(error) = self.compact(COMPACT_BYTES) {
            // What was to be written is; the file is only longer than it need be.
            tracing::warn!(%error, "the outbox was not compacted");
        }
        Ok(())
    }

    /// Appends lines. If that fails they are cut off again, so that none is half there.
    fn append(&mut self, text: &str, flush: Flush) -> Result<(), Error> {
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            if let Err(error) = self.file.set_len(self.bytes) {
                self.broken = Some(failed(error));
            }
            return Err(failed(error));
        }
        self.bytes += text.len() as u64;
        if flush == Flush::Now
            && let Err(error) = self.file.sync_data()
        {
            self.broken = Some(failed(error));
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Writes the file anew if more than `at_least` bytes of it, and more than half, are of no use.
    fn compact(&mut self, at_least: u64) -> Result<(), Error> {
        let useless = self.bytes - self.live.bytes;
        if self.broken.is_some() || useless <= at_least.max(self.live.bytes) {
            return Ok(());
        }
        if self.live.bytes == 0 {
            self.file.set_len(0).map_err(failed)?;
        } else {
            // The old file is whole and in use until the new one has its name.
            self.file = rewrite(&self.path, &self.live).map_err(failed)?;
        }
        self.bytes = self.live.bytes;
        Ok(())
    }
}

/// Reads what is alive. The last line may be torn, and a disk may have written the last few in another order
/// before it lost power: what cannot be read was never confirmed to anybody, and is passed over.
fn read(path: &Path, old: &[u8]) -> (Live, Vec<Entry>) {
    let mut live = Live::default();
    let mut feeds = HashMap::new();
    for line in old.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").and_then(|whole| std::str::from_utf8(whole).ok());
        match text.and_then(|text| Some((text, serde_json::from_str(text).ok()?))) {
            Some((text, Line::Action { feed, command_id })) => {
                live.add(command_id, text.into());
                feeds.insert(command_id, feed);
            }
            Some((_, Line::Settled { command_id })) => live.remove(command_id),
            None => {
                let bytes = line.len();
                tracing::warn!(path = %path.display(), bytes, "a torn line of the outbox is cut");
            }
        }
    }
    let entries = live.lines.values().filter_map(|(command_id, message)| {
        let feed = feeds.remove(command_id)?;
        Some(Entry { feed, command_id: *command_id, message: Arc::clone(message) })
    });
    let entries = entries.collect();
    (live, entries)
}

fn lock(path: &Path) -> Result<File, Error> {
    let lock = File::options().create(true).truncate(false).write(true).open(beside(path, ".lock"));
    let lock = lock.map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::OutboxInUse),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn rewrite(path: &Path, live: &Live) -> io::Result<File> {
    let new = beside(path, ".new");
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = File::options().create_new(true).append(true).open(&new)?;
    file.write_all(live.text().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn failed(error: io::Error) -> Error {
    Error::Outbox(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> CommandId {
        CommandId(uuid::Uuid::from_u128(n))
    }

    fn line(n: u128) -> Arc<str> {
        let message =
            r#"{"type":"action","feed":"like-a","event_type":"LikeAdd","command_id":"ID","data":{}}"#;
        message.replace("ID", &id(n).to_string()).into()
    }

    fn store(n: u128) -> Note {
        Note::Store(id(n), line(n))
    }

    fn waiting(path: &Path) -> Vec<u128> {
        let (_log, entries) = Log::open(path.to_owned()).unwrap();
        entries.iter().map(|entry| entry.command_id.0.as_u128()).collect()
    }

    #[test]
    fn what_is_settled_is_gone_and_the_rest_keeps_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut log, entries) = Log::open(path.clone()).unwrap();
        assert_eq!(entries, []);
        log.write(vec![store(3), store(1), store(2)]).unwrap();
        log.write(vec![Note::Settle(id(1)), store(4)]).unwrap();
        drop(log);
        assert_eq!(waiting(&path), [3, 2, 4]);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n{}\n{}\n", line(3), line(2), line(4)));
    }

    #[test]
    fn a_torn_or_broken_line_is_cut_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let torn = &line(9)[..40];
        for (row, broken) in [
            format!("{}\n{}\n{torn}", line(1), line(2)).into_bytes(),
            [line(1).as_bytes(), b"\n\0\0\0\0\0\0\0\n", line(2).as_bytes(), b"\n"].concat(),
            [line(1).as_bytes(), b"\n", line(2).as_bytes(), b"\n\xff\xfe"].concat(),
            // Whole, but its newline is missing: it was never flushed.
            format!("{}\n{}\n{}", line(1), line(2), line(3)).into_bytes(),
        ]
        .into_iter()
        .enumerate()
        {
            fs::write(&path, broken).unwrap();
            assert_eq!(waiting(&path), [1, 2], "row {row}");
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n{}\n", line(1), line(2)));
        }
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut log, _) = Log::open(path.clone()).unwrap();
        log.write(vec![store(u128::MAX)]).unwrap();
        for n in 0..100 {
            let ids = n * 50..(n + 1) * 50;
            log.write(ids.flat_map(|n| [store(n), Note::Settle(id(n))]).collect()).unwrap();
            assert!(log.bytes <= 2 * COMPACT_BYTES, "{} bytes", log.bytes);
            assert_eq!(fs::metadata(&path).unwrap().len(), log.bytes);
        }
        log.write(vec![Note::Settle(id(u128::MAX))]).unwrap();
        log.compact(0).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        log.write(vec![store(1)]).unwrap();
        drop(log);
        assert_eq!(waiting(&path), [1]);
    }

    #[test]
    fn a_file_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let first = Log::open(path.clone()).unwrap();
        assert_eq!(Log::open(path.clone()).map(|_| ()), Err(Error::OutboxInUse));
        drop(first);
        assert!(Log::open(path).is_ok());
    }
}
