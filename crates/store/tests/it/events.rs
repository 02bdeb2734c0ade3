//! The events in a folder, read beside the store that writes them.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sillage_kernel::{Epoch, Event, EventId, Expected, Filter, Metadata, NewEvent, Position};
use sillage_store::event_store::journal::events::{Found, LogEvents, ReadError};
use sillage_store::event_store::journal::{IndexLimits, JournalOptions, JournalStore, NewEpoch};
use sillage_store::{Append, CursorUpdate, Entry, EventStore};
use tempfile::TempDir;
use uuid::Uuid;

/// Small enough for dozens of files, some of them without an event.
const OPTIONS: fn() -> JournalOptions =
    || JournalOptions { segment_bytes: 1_500, ..JournalOptions::default() };

async fn add(store: &JournalStore, n: u64) {
    let new = || NewEvent::new(EventId(Uuid::now_v7()), "Happened", n.to_string(), Metadata::default());
    let stream = format!("thing-{}", n % 7).parse().unwrap();
    let entries = vec![Entry { stream, expected: Expected::Any, events: vec![new(), new()] }];
    let append =
        Append { tenant: "main".parse().unwrap(), entries, ledger: None, fence: None, recorded_at: None };
    store.append(vec![append]).await.remove(0).unwrap();
}

/// A log of 120 events, with many records between them that are none.
async fn log(dir: &Path) -> (JournalStore, Vec<Arc<Event>>) {
    let (store, _) = JournalStore::open(dir, 7, OPTIONS()).unwrap();
    for n in 0..60 {
        add(&store, n).await;
        let reactor = "r".repeat(if n % 10 == 5 { 3_000 } else { 10 }).into();
        let cursor = CursorUpdate { reactor, position: Some(Position::new(n)), ..CursorUpdate::default() };
        store.write_cursor(cursor).await.unwrap();
    }
    let events = store.read_all(Position::ZERO, Filter::Everything, 1_000).await.unwrap().events;
    assert_eq!(events.len(), 120);
    assert!(std::fs::read_dir(dir).unwrap().count() > 20, "there are many files");
    (store, events)
}

fn rest(events: &mut LogEvents) -> Vec<Event> {
    let mut found = Vec::new();
    let stopped = events.run(|Found { event, .. }| {
        found.push(event);
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(stopped.unwrap(), None);
    found
}

fn is_of(events: &[Arc<Event>], found: &[Event]) -> bool {
    found.iter().eq(events.iter().map(|event| &**event))
}

#[tokio::test]
async fn from_a_position_all_that_follows_is_there_and_little_before() {
    let dir = TempDir::new().unwrap();
    let (_store, all) = log(dir.path()).await;
    let mut events = LogEvents::open(dir.path()).unwrap();
    assert!(is_of(&all, &rest(&mut events)));
    for position in (0..=121).rev() {
        events.seek(Position::new(position)).unwrap();
        let found = rest(&mut events);
        assert!(is_of(&all[all.len() - found.len()..], &found), "from {position}");
        let more = found.len() as u64 + position.max(1);
        assert!((121..150).contains(&more), "{} from {position}", found.len());
    }
    assert_eq!(events.epoch().as_str(), format!("{:032x}", 7));
}

#[tokio::test]
async fn the_last_are_found_from_the_end_and_then_what_is_new() {
    let dir = TempDir::new().unwrap();
    let (store, all) = log(dir.path()).await;
    for count in [0, 1, 2, 3, 10, 50, 119, 120, 121, 1_000] {
        let mut events = LogEvents::open(dir.path()).unwrap();
        let last = Vec::from(events.last(count, |_| true).unwrap());
        assert!(is_of(&all[all.len() - last.len()..], &last) && last.len() == count.min(120), "{count}");
        assert_eq!(rest(&mut events), []);
        let third = |event: &Event| event.stream.id() == "3";
        let wanted: Vec<_> = all.iter().filter(|event| third(event)).cloned().collect();
        let last = Vec::from(LogEvents::open(dir.path()).unwrap().last(count, third).unwrap());
        let (all, expected) = (wanted.len(), count.min(wanted.len()));
        assert!(is_of(&wanted[all - last.len()..], &last) && last.len() == expected, "{count} of stream 3");
    }
    let mut events = LogEvents::open(dir.path()).unwrap();
    events.last(1, |_| true).unwrap();
    add(&store, 60).await;
    assert_eq!(rest(&mut events).iter().map(|event| event.position.get()).collect::<Vec<_>>(), [121, 122]);
}

#[tokio::test]
async fn an_empty_folder_becomes_a_log_before_the_readers_eyes() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(LogEvents::open(dir.path()), Err(ReadError::NoLog)));
    JournalStore::open(dir.path(), 7, OPTIONS()).unwrap().0.close().await;
    let mut events = LogEvents::open(dir.path()).unwrap();
    assert_eq!(events.last(10, |_| true).unwrap().len(), 0);
    events.seek(Position::new(3)).unwrap();
    let (_store, all) = log(dir.path()).await;
    assert!(is_of(&all, &rest(&mut events)));
}

#[tokio::test]
async fn damage_is_told_and_not_passed_over() {
    let dir = TempDir::new().unwrap();
    let (store, all) = log(dir.path()).await;
    store.close().await;
    let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    let middle = files[files.len() / 2].clone();
    OpenOptions::new().write(true).open(&middle).unwrap().write_all_at(&[0xff; 8], 60).unwrap();
    let mut found = Vec::new();
    let mut events = LogEvents::open(dir.path()).unwrap();
    let error = events.run(|Found { event, .. }| {
        found.push(event);
        ControlFlow::<()>::Continue(())
    });
    assert!(matches!(error, Err(ReadError::Damaged { file, .. }) if file == middle));
    assert!(is_of(&all[..found.len()], &found) && found.len() > 20);
    for position in 1..=120 {
        events.seek(Position::new(position)).unwrap();
        let mut first = None;
        let ended = events.run(|Found { event, .. }| {
            first.get_or_insert(event.position);
            ControlFlow::<()>::Continue(())
        });
        assert!(
            ended.is_err() || first.is_some_and(|first| first.get() <= position),
            "{position}: {first:?}"
        );
    }
    assert!(LogEvents::open(dir.path()).unwrap().last(100, |_| true).is_err());
    assert!(LogEvents::open(dir.path()).unwrap().last(10, |_| true).is_ok());
}

/// The epoch is the last that has begun, wherever that stands, with an index and without one.
#[tokio::test]
async fn the_epoch_is_the_last_of_the_whole_log() {
    let dir = TempDir::new().unwrap();
    log(dir.path()).await.0.close().await;
    let small_runs = IndexLimits { tail_entries: 16, ..IndexLimits::default() };
    let only = |epoch: &Epoch| HashSet::from([epoch.clone()]);
    let options = JournalOptions { new_epoch: NewEpoch::Now, index: small_runs, ..OPTIONS() };
    for (log_id, added) in [(8, 0), (9, 30)] {
        let (store, _) = JournalStore::open(dir.path(), log_id, options.clone()).unwrap();
        let mut followed = LogEvents::open(dir.path()).unwrap();
        for n in 0..added {
            add(&store, n).await;
        }
        store.close().await;
        let epoch = Epoch::from_log_id(log_id);
        let deadline = Instant::now() + Duration::from_secs(20);
        let index = dir.path().join("index");
        while std::fs::read_dir(&index).unwrap().count() == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let told = |events: &mut LogEvents| {
            let mut told = HashSet::new();
            let stopped = events.run(|Found { epoch, .. }| {
                told.insert(epoch.clone());
                ControlFlow::<()>::Continue(())
            });
            assert_eq!(stopped.unwrap(), None);
            told
        };
        assert_eq!(told(&mut LogEvents::open(dir.path()).unwrap()), only(&epoch));
        assert_eq!(told(&mut followed), only(&epoch));
        std::fs::rename(&index, dir.path().join("aside")).unwrap();
        assert_eq!(told(&mut LogEvents::open(dir.path()).unwrap()), only(&epoch));
        std::fs::rename(dir.path().join("aside"), &index).unwrap();
        // Whoever follows hears of an epoch that begins.
        let (store, _) = JournalStore::open(dir.path(), log_id + 10, options.clone()).unwrap();
        add(&store, 1).await;
        assert_eq!(told(&mut followed), only(&Epoch::from_log_id(log_id + 10)));
        store.close().await;
    }
}
