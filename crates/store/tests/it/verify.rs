//! Every kind of damage is told, where it is, and nothing else is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sillage_journal::{Journal, Opened, Options, RealDisk, RecordRef};
use sillage_kernel::{
    Checksum, CommandId, ContentHash, Event, EventId, Expected, Metadata, NewEvent, Outcome, Position,
    StreamName, Version,
};
use sillage_store::event_store::codec::{decode_event, decode_ledger, encode_event, encode_ledger};
use sillage_store::event_store::journal::verify::{Concern, Defect, Verified, verify};
use sillage_store::event_store::journal::{IndexLimits, JournalOptions, JournalStore};
use sillage_store::{Append, CursorUpdate, Entry, EventStore, LedgerKey, LedgerWrite, Verdict};
use tempfile::TempDir;
use uuid::Uuid;

const LOG_ID: u128 = 7;
const STREAMS: u64 = 4;
/// Each with two events and a command.
pub(crate) const APPENDS: u64 = 40;
const EVENT: u8 = 1;
const LEDGER: u8 = 2;

pub(crate) fn open(dir: &Path) -> JournalStore {
    let index = IndexLimits { tail_entries: 20, ..IndexLimits::default() };
    let options = JournalOptions { index, segment_bytes: 4_000, ..JournalOptions::default() };
    JournalStore::open(dir, LOG_ID, options).unwrap().0
}

/// The n-th append: two events of one of four streams.
pub(crate) fn append(n: u64) -> Append {
    let new = || NewEvent::new(EventId(Uuid::now_v7()), "Happened", "{\"a\":1}", Metadata::default());
    let tenant: sillage_kernel::Tenant = "main".parse().unwrap();
    let stream = StreamName::new("thing", &(n % STREAMS).to_string()).unwrap();
    let principal = "anna".parse().unwrap();
    let key = LedgerKey { tenant: tenant.clone(), principal, command_id: CommandId(Uuid::now_v7()) };
    let (content, verdict) = (ContentHash([0; 16]), Verdict::Applied);
    let ledger = Some(LedgerWrite { key, content, stream: stream.clone(), verdict });
    let expected = Expected::Exactly(Version::new(2 * (n / STREAMS)));
    let entries = vec![Entry { stream, expected, events: vec![new(), new()] }];
    Append { tenant, entries, ledger, fence: None, recorded_at: None }
}

/// A log of several segments and runs.
pub(crate) async fn log() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for n in 0..APPENDS {
        store.append(vec![append(n)]).await.remove(0).unwrap();
        let position = Some(Position::new(n));
        store
            .write_cursor(CursorUpdate { reactor: "r".into(), position, ..CursorUpdate::default() })
            .await
            .unwrap();
    }
    store.close().await;
    // What was set aside when it was closed is written at the next start.
    drop(open(dir.path()));
    assert!(files(dir.path(), "seg").len() > 4 && !files(&dir.path().join("index"), "run").is_empty());
    dir
}

pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == ending)).collect();
    files.sort();
    files
}

pub(crate) fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 1;
    fs::write(file, bytes).unwrap();
}

pub(crate) fn look(dir: &Path) -> (Verified, Vec<Defect>) {
    let mut defects = Vec::new();
    let mut progress = Vec::new();
    let verified = verify(dir, |defect| defects.push(defect), |now| progress.push(now.done_bytes)).unwrap();
    assert!(progress.is_sorted());
    (verified, defects)
}

#[tokio::test]
async fn a_sound_log_is_sound_also_while_it_is_written() {
    let dir = log().await;
    let (verified, defects) = look(dir.path());
    assert_eq!(defects, []);
    let Verified { head, events, streams, commands, runs, unfinished, .. } = verified;
    assert_eq!((head.get(), events, streams, commands), (80, 80, 4, 40));
    assert!(runs > 1 && unfinished.is_none());

    let store = Arc::new(open(dir.path()));
    let writing = Arc::clone(&store);
    let writer = tokio::spawn(async move {
        for n in APPENDS..10 * APPENDS {
            writing.append(vec![append(n)]).await.remove(0).unwrap();
        }
    });
    let mut last = 0;
    while !writer.is_finished() {
        let path = dir.path().to_owned();
        let (verified, defects) = tokio::task::spawn_blocking(move || look(&path)).await.unwrap();
        assert_eq!(defects, []);
        assert!(verified.head.get() >= last);
        last = verified.head.get();
    }
    writer.await.unwrap();
    assert_eq!(look(dir.path()).0.head, store.head());
}

#[tokio::test]
async fn damaged_bytes_are_told_with_their_file_and_the_rest_is_looked_at() {
    type Row<'a> = (&'a str, fn(&[PathBuf]), usize, &'a str);
    let rows: [Row<'_>; 9] = [
        ("header", |files| flip(&files[2], 10), 2, "the segment header does not check"),
        ("length", |files| flip(&files[2], 40), 2, "a record"),
        ("checksum", |files| flip(&files[2], 45), 2, "a record does not match its checksum"),
        ("kind", |files| flip(&files[2], 49), 2, "a record does not match its checksum"),
        ("payload", |files| flip(&files[2], 70), 2, "a record does not match its checksum"),
        (
            "cut short",
            |files| fs::write(&files[2], &fs::read(&files[2]).unwrap()[..1_000]).unwrap(),
            2,
            "the bytes end inside a batch",
        ),
        ("gone", |files| fs::remove_file(&files[2]).unwrap(), 1, "is missing"),
        ("first gone", |files| fs::remove_file(&files[0]).unwrap(), 0, "is missing"),
        (
            "exchanged",
            |files| {
                let (one, other) = (fs::read(&files[2]).unwrap(), fs::read(&files[3]).unwrap());
                fs::write(&files[2], other).unwrap();
                fs::write(&files[3], one).unwrap();
            },
            2,
            "the segment belongs to another log or place",
        ),
    ];
    for (name, harm, file, what) in rows {
        let dir = log().await;
        let segments = files(dir.path(), "seg");
        harm(&segments);
        let (verified, defects) = look(dir.path());
        assert_eq!(defects[0].concern, Concern::Bytes, "{name}: {}", defects[0]);
        assert_eq!(defects[0].file, segments[file], "{name}: {}", defects[0]);
        assert!(defects[0].what.contains(what), "{name}: {}", defects[0]);
        // What follows is looked at, and what is missing is told of the log and of each stream.
        assert_eq!(verified.head.get(), 80, "{name}");
        let streams = defects.iter().filter(|defect| defect.what.contains("missing before it")).count();
        assert!((2..=5).contains(&streams), "{name}: {defects:?}");
        assert!(defects.iter().all(|defect| defect.concern != Concern::Index), "{name}: {defects:?}");
    }
}

/// Every byte of a segment in the middle: whichever is flipped, it is told.
#[tokio::test]
async fn no_byte_of_the_log_can_be_flipped_unnoticed() {
    let dir = log().await;
    let file = files(dir.path(), "seg").remove(1);
    let sound = fs::read(&file).unwrap();
    let end = sound.iter().rposition(|byte| *byte != 0).unwrap();
    for offset in (0..=end).step_by(7) {
        flip(&file, offset);
        let (_, defects) = look(dir.path());
        assert!(defects.first().is_some_and(|defect| defect.file == file), "byte {offset}: {defects:?}");
        fs::write(&file, &sound).unwrap();
    }
    assert_eq!(look(dir.path()).1, []);
}

/// Writes the log again with sound bytes throughout, but for what `change` does to a record: nothing leaves it out.
fn forge(dir: &Path, mut change: impl FnMut(&RecordRef<'_>) -> Option<(u8, Vec<u8>)>) -> TempDir {
    let forged = TempDir::new().unwrap();
    let new = Journal::open(forged.path(), Options::new(LOG_ID), Arc::new(RealDisk), |_| Ok(())).unwrap();
    let Opened { mut writer, .. } = new;
    Journal::open(dir, Options::new(LOG_ID), Arc::new(RealDisk), |batch| {
        for (kind, payload) in batch.records().filter_map(|record| change(&record)) {
            writer.push(kind, 0, 0, &payload)?;
        }
        Ok(writer.end_batch()?)
    })
    .unwrap();
    writer.commit().unwrap();
    forged
}

/// Forges the event at position 43, the third of its stream `thing-1` from version 11 on.
pub(crate) fn with_event(dir: &Path, change: impl Fn(Event) -> Option<Event>) -> TempDir {
    forge(dir, |record| {
        if record.kind == EVENT {
            let event = decode_event(record.payload).unwrap();
            if event.position.get() == 43 {
                let mut payload = Vec::new();
                encode_event(&change(event)?, &mut payload);
                return Some((EVENT, payload));
            }
        }
        Some((record.kind, record.payload.to_vec()))
    })
}

#[tokio::test]
async fn what_was_changed_with_sound_bytes_is_told_by_the_numbers_and_the_chain() {
    type Row<'a> = (&'a str, fn(Event) -> Option<Event>, &'a [&'a str]);
    let chain = "its checksum does not follow";
    let rows: [Row<'_>; 8] = [
        ("nothing", Some, &[]),
        ("data", |event| Some(Event { data: "{\"a\":2}".into(), ..event }), &[chain]),
        ("type", |event| Some(Event { event_type: "Hippened".into(), ..event }), &[chain]),
        ("checksum", |event| Some(Event { checksum: Checksum([7; 32]), ..event }), &[chain, chain]),
        (
            "position",
            |event| Some(Event { position: Position::new(44), ..event }),
            &["position 43 is missing", "position 45 was to come"],
        ),
        (
            "version",
            |event| Some(Event { version: event.version.next(), ..event }),
            &["version 11 is missing", "version 13 was to come", "the command"],
        ),
        ("left out", |_| None, &["position 43 is missing", "the command"]),
        (
            "stream",
            |event| Some(Event { stream: "thing-9".parse().unwrap(), ..event }),
            &["version", "version", "the command"],
        ),
    ];
    let dir = log().await;
    for (name, change, wanted) in rows {
        let forged = with_event(dir.path(), change);
        let (_, defects) = look(forged.path());
        assert!(defects.iter().all(|defect| defect.concern == Concern::Content), "{name}: {defects:?}");
        assert!(defects.iter().all(|defect| defect.offset > 0), "{name}: {defects:?}");
        for what in wanted {
            assert!(
                defects.iter().any(|defect| defect.what.contains(what)),
                "{name} without {what}: {defects:?}"
            );
        }
        assert_eq!(defects.is_empty(), wanted.is_empty(), "{name}: {defects:?}");
    }
}

/// Forges the ledger entry of the n-th append.
fn with_command(dir: &Path, change: impl Fn(&mut Position, &mut Outcome)) -> TempDir {
    let mut seen = 0;
    forge(dir, |record| {
        seen += u32::from(record.kind == LEDGER);
        if record.kind != LEDGER || seen != 20 {
            return Some((record.kind, record.payload.to_vec()));
        }
        let (key, mut entry, at) = decode_ledger(record.payload).unwrap();
        change(&mut entry.receipt.position, &mut entry.receipt.outcome);
        let mut payload = Vec::new();
        encode_ledger(&key, &entry, at, &mut payload);
        Some((LEDGER, payload))
    })
}

#[tokio::test]
async fn a_command_that_names_what_is_not_there_is_told() {
    let dir = log().await;
    let forged = [
        with_command(dir.path(), |position, _| *position = position.next()),
        with_command(dir.path(), |position, _| *position = position.previous()),
        with_command(dir.path(), |_, outcome| {
            *outcome = Outcome::Applied { versions: vec![Version::new(1)] }
        }),
        with_command(dir.path(), |_, outcome| *outcome = Outcome::Applied { versions: vec![] }),
        forge(dir.path(), |record| {
            let kind = if record.kind == LEDGER { 77 } else { record.kind };
            Some((kind, record.payload.to_vec()))
        }),
        forge(dir.path(), |record| {
            let len = if record.kind == LEDGER { 20 } else { record.payload.len() };
            Some((record.kind, record.payload[..len].to_vec()))
        }),
    ];
    for (row, forged) in forged.iter().enumerate() {
        let (_, defects) = look(forged.path());
        assert_eq!(defects.len(), if row < 4 { 1 } else { 40 }, "row {row}: {defects:?}");
        assert!(defects.iter().all(|defect| defect.concern == Concern::Content), "row {row}: {defects:?}");
    }
}

/// What nobody reads when a run is opened is read too.
#[tokio::test]
async fn damage_deep_in_a_run_is_told() {
    let dir = TempDir::new().unwrap();
    let options = || {
        let index = IndexLimits { tail_entries: 3_000, ..IndexLimits::default() };
        JournalOptions { index, ..JournalOptions::default() }
    };
    let store = JournalStore::open(dir.path(), LOG_ID, options()).unwrap().0;
    for appended in store.append((0..1_500).map(append).collect()).await {
        appended.unwrap();
    }
    store.append(vec![append(1_500)]).await.remove(0).unwrap();
    store.close().await;
    drop(JournalStore::open(dir.path(), LOG_ID, options()).unwrap());
    let run = files(&dir.path().join("index"), "run").remove(0);
    assert!(fs::metadata(&run).unwrap().len() > 16_000);
    assert_eq!(look(dir.path()).1, []);
    flip(&run, 9_000);
    let (_, defects) = look(dir.path());
    assert!(matches!(&defects[..], [one] if one.concern == Concern::Index && one.file == run), "{defects:?}");
}

#[tokio::test]
async fn an_index_that_is_damaged_or_does_not_fit_is_told() {
    let dir = log().await;
    let runs = files(&dir.path().join("index"), "run");
    let sound = fs::read(&runs[0]).unwrap();
    for offset in (0..sound.len()).step_by(97) {
        flip(&runs[0], offset);
        let (_, defects) = look(dir.path());
        assert_eq!(defects.len(), 1, "byte {offset}: {defects:?}");
        assert_eq!((defects[0].concern, &defects[0].file), (Concern::Index, &runs[0]));
        fs::write(&runs[0], &sound).unwrap();
    }
    let other = log().await;
    let foreign = files(&other.path().join("index"), "run").remove(0);
    fs::copy(foreign, &runs[0]).unwrap();
    let (_, defects) = look(dir.path());
    assert!(matches!(&defects[..], [one] if one.concern == Concern::Index), "{defects:?}");

    // A log that ends earlier, at a batch, than the index says.
    let segments = files(other.path(), "seg");
    segments[3..].iter().for_each(|segment| fs::remove_file(segment).unwrap());
    let (verified, defects) = look(other.path());
    assert!(verified.head.get() < 80 && !defects.is_empty());
    assert!(defects.iter().all(|defect| defect.concern == Concern::Index), "{defects:?}");
}
