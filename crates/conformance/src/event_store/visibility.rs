//! What can be seen when: all up to the head and nothing of it later, and one's own at once.

use std::sync::Arc;

use sillage_kernel::{Event, Expected, Filter, Position, StreamName, Version};
use sillage_store::event_store::Positions;
use sillage_store::{Direction, EventStore, Verdict};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Fixture;
use super::things::{
    add, append, append_one, entry, look_up, main_tenant, new_command, pages, settling, thing, version_of,
    whole_log,
};

/// Whoever is answered can read what it wrote, at the head, in its stream, in the log and in the ledger.
pub async fn what_is_answered_can_be_read_at_once(fixture: impl Fixture) {
    let store = fixture.store();
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..15 {
                write_and_read(&*store, n).await;
            }
        });
    }
    writers.join_all().await;
}

async fn write_and_read(store: &dyn EventStore, writer: usize) {
    let (stream, key) = (thing(writer), new_command());
    let append = settling(&key, Verdict::Applied, [entry(&stream, Expected::Any, 2)]);
    let last = append.entries[0].events[1].id;
    let appended = append_one(store, append).await.unwrap();
    assert!(store.head() >= appended.position, "the head is behind the answer");
    assert!(*store.watermark().borrow() >= appended.position, "the watermark is behind the answer");
    let newest = Version::new(u64::MAX);
    let page = store.read_stream(&main_tenant(), &stream, newest, Direction::Backward, 1).await.unwrap();
    assert_eq!((page.events[0].id, page.events[0].version), (last, page.head));
    let page = store.read_all(appended.position.previous(), Filter::Everything, 1).await.unwrap();
    assert_eq!((page.events[0].id, page.events[0].position), (last, appended.position));
    assert_eq!(look_up(store, &key).await.unwrap().receipt, appended.receipt.unwrap());
}

/// Whoever has read up to the head, or up to where the watermark woke it, has seen everything up to there:
/// while many write, nothing is missing there and nothing appears there later.
pub async fn nothing_appears_behind_the_head(fixture: impl Fixture) {
    const WRITERS: usize = 4;
    const APPENDS: usize = 40;
    let store = fixture.store();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..APPENDS {
                let entries =
                    [entry(&thing(writer), Expected::Any, 1), entry(&thing(n), Expected::Any, n % 3)];
                let entries = if writer == n { &entries[..1] } else { &entries[..] };
                append_one(&*store, append(entries)).await.unwrap();
            }
        });
    }
    let (done, _) = watch::channel(());
    let mut readers = JoinSet::new();
    for n in 0..4 {
        let (store, done) = (store.clone(), done.subscribe());
        let ask = if n % 2 == 0 { Ask::Head } else { Ask::Watermark };
        readers.spawn(async move { look_until(store, done, ask).await });
    }
    writers.join_all().await;
    drop(done);
    let log = whole_log(&*store).await;
    for seen in readers.join_all().await {
        assert!(log.starts_with(&seen), "a reader has missed something");
    }
}

#[derive(Clone, Copy)]
enum Ask {
    Head,
    Watermark,
}

/// Reads the log again and again, each time up to the head, until there is nobody who writes. Asserts that
/// what was seen stays, and returns what was seen last.
async fn look_until(store: Arc<dyn EventStore>, done: watch::Receiver<()>, ask: Ask) -> Vec<Arc<Event>> {
    let mut watermark = store.watermark();
    let (mut seen, mut before) = (Vec::new(), Position::ZERO);
    while done.has_changed().is_ok() {
        let head = match ask {
            Ask::Head => store.head(),
            Ask::Watermark => *watermark.borrow_and_update(),
        };
        assert!(head >= before, "the head went back from {before} to {head}");
        let found = pages(&*store, Position::ZERO, head, &Filter::Everything, 100).await;
        assert_eq!(
            found.last().map_or(Position::ZERO, |event| event.position),
            head,
            "the head cannot be read"
        );
        if store.features().positions == Positions::Gapless {
            assert_eq!(found.len() as u64, head.get(), "something is missing before the head");
        }
        assert!(found.starts_with(&seen), "something has appeared behind the head");
        (seen, before) = (found, head);
        // An engine that answers at once would else leave no thread for those who write.
        tokio::task::yield_now().await;
    }
    seen
}

/// An append over two streams is seen whole or not at all: by whoever reads up to the head, and by whoever
/// reads the one stream and then the other.
pub async fn an_append_is_seen_whole(fixture: impl Fixture) {
    let store = fixture.store();
    let (left, right) = (thing("left"), thing("right"));
    let (done, running) = watch::channel(());
    let reader = tokio::spawn({
        let (store, left, right) = (store.clone(), left.clone(), right.clone());
        async move {
            while running.has_changed().is_ok() {
                let log = pages(&*store, Position::ZERO, store.head(), &Filter::Everything, 100).await;
                let on_the_left = log.iter().filter(|event| event.stream == left).count();
                assert_eq!(2 * on_the_left, log.len(), "half an append is seen in the log");
                let first = version_of(&*store, &left).await;
                assert!(version_of(&*store, &right).await >= first, "half an append is seen in its streams");
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..60 {
        let both = || append([entry(&left, Expected::Any, 3), entry(&right, Expected::Any, 3)]);
        let results = store.append(vec![both(), both()]).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    drop(done);
    reader.await.unwrap();
}

/// While a stream grows, whoever reads it sees its versions without gaps, and a page that has room ends at
/// the head that it tells.
pub async fn a_stream_is_read_whole_while_it_grows(fixture: impl Fixture) {
    let store = fixture.store();
    let stream = thing("a");
    let (done, running) = watch::channel(());
    let mut readers = JoinSet::new();
    for direction in [Direction::Forward, Direction::Backward] {
        let (store, stream, running) = (store.clone(), stream.clone(), running.clone());
        readers.spawn(async move {
            while running.has_changed().is_ok() {
                read_both_pages(&*store, &stream, direction).await;
                tokio::task::yield_now().await;
            }
        });
    }
    for n in 0..60 {
        add(&*store, &stream, 1 + n % 3).await;
        add(&*store, &thing(n), 1).await;
    }
    drop(done);
    readers.join_all().await;
}

async fn read_both_pages(store: &dyn EventStore, stream: &StreamName, direction: Direction) {
    let from = match direction {
        Direction::Forward => Version::ZERO,
        Direction::Backward => Version::new(u64::MAX),
    };
    for limit in [5, usize::MAX] {
        let page = store.read_stream(&main_tenant(), stream, from, direction, limit).await.unwrap();
        let versions: Vec<u64> = page.events.iter().map(|event| event.version.get()).collect();
        let head = page.head.get();
        let wanted: Vec<u64> = match direction {
            Direction::Forward => (1..=head).take(limit).collect(),
            Direction::Backward => (1..=head).rev().take(limit).collect(),
        };
        assert_eq!(versions, wanted, "{direction:?}");
    }
}

/// Whoever waits for the watermark is woken by an append, and finds what it was woken for.
pub async fn the_watermark_wakes_whoever_waits(fixture: impl Fixture) {
    let store = fixture.store();
    let mut last = Position::ZERO;
    for round in 0..20 {
        let mut watermark = store.watermark();
        assert_eq!(*watermark.borrow_and_update(), last);
        let waiting = tokio::spawn({
            let store = store.clone();
            async move {
                watermark.changed().await.unwrap();
                let woken = *watermark.borrow_and_update();
                (woken, pages(&*store, last, woken, &Filter::Everything, 10).await)
            }
        });
        let appended = add(&*store, &thing(round), 2).await;
        let (woken, found) = waiting.await.unwrap();
        assert_eq!(woken, appended.position);
        assert_eq!(found.len(), 2);
        last = woken;
    }
}
