//! Dropping: contents go up to a cut and never silently; all else stays, also while others write and follow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sillage_kernel::{Event, EventId, Expected, Filter, NewEvent, Position, StreamName, Tenant, Version};
use sillage_store::event_store::MAX_CUTS;
use sillage_store::{
    Append, Cut, Direction, Dropped, Entry, EventStore, StoreError, StreamPage, Subscription, Verdict,
};
use tokio::task::JoinSet;

use super::Fixture;
use super::things::{
    append, append_one, conflict, exactly, happened, look_up, main_tenant, new_command, pages, settling,
    stream_of, tenant, thing, version_of, whole_log,
};

/// How much data the events have, so that dropping them is worth an engine's while.
const BULK_BYTES: usize = 3_000;

fn bulky(stream: &StreamName, expected: Expected, events: usize) -> Entry {
    let bulk = || {
        let NewEvent { id, event_type, metadata, .. } = happened();
        NewEvent::new(id, &event_type, format!("\"{}\"", "x".repeat(BULK_BYTES)), metadata)
    };
    Entry { stream: stream.clone(), expected, events: std::iter::repeat_with(bulk).take(events).collect() }
}

async fn add_bulky(store: &dyn EventStore, stream: &StreamName, events: usize) {
    for _ in 0..events {
        append_one(store, append([bulky(stream, Expected::Any, 1)])).await.unwrap();
    }
}

/// Appends so much that whatever stands before it may be dropped at once by an engine that can.
async fn bury(store: &dyn EventStore) {
    add_bulky(store, &thing("burying"), 6).await;
}

fn cut(stream: &StreamName, through: u64) -> Cut {
    Cut { tenant: main_tenant(), stream: stream.clone(), through: Version::new(through) }
}

async fn drop_through(store: &dyn EventStore, stream: &StreamName, through: u64) -> Dropped {
    store.drop_events(vec![cut(stream, through)]).await.unwrap()
}

/// What one call reads of a stream: the events in the order that was asked for, or where the kept ones begin.
async fn read(
    store: &dyn EventStore,
    (tenant, stream): (&Tenant, &StreamName),
    (direction, from, limit): (Direction, u64, usize),
) -> Result<Vec<Arc<Event>>, u64> {
    match store.read_stream(tenant, stream, Version::new(from), direction, limit).await {
        Ok(StreamPage { events, .. }) => Ok(events),
        Err(StoreError::Dropped { kept_from }) => Err(kept_from.get()),
        Err(error) => panic!("{error}"),
    }
}

/// Asserts that each event of a stream is as it was, or is told to be dropped and not above the cut, whichever way it
/// is read. Answers which versions are dropped.
async fn check_dropped(
    store: &dyn EventStore,
    (tenant, stream): (&Tenant, &StreamName),
    before: &[Arc<Event>],
    through: u64,
) -> Vec<u64> {
    let name = (tenant, stream);
    let head = before.len() as u64;
    let mut kept = BTreeMap::new();
    let mut told = BTreeMap::new();
    for (version, event) in (1..).zip(before) {
        match read(store, name, (Direction::Forward, version, 1)).await {
            Ok(events) => {
                assert!(events.iter().eq([event]), "{stream} {version} was changed");
                kept.insert(version, event.clone());
            }
            Err(kept_from) => {
                assert!(version <= through && version < head, "{stream} {version} was dropped");
                told.insert(version, kept_from);
            }
        }
    }
    for (version, kept_from) in &told {
        assert!(version < kept_from, "{version} is told to be kept from {kept_from}");
        assert!(
            kept.contains_key(kept_from) && told.contains_key(&(kept_from - 1)),
            "{kept_from} begins nothing"
        );
    }
    for from in 0..=head + 1 {
        for limit in [0, 1, 2, usize::MAX] {
            for direction in [Direction::Forward, Direction::Backward] {
                let (first, asked): (u64, Vec<u64>) = match direction {
                    Direction::Forward => (from.max(1), (from.max(1)..=head).collect()),
                    Direction::Backward => (from.min(head), (1..=from.min(head)).rev().collect()),
                };
                let run = asked.iter().map_while(|version| kept.get(version)).take(limit).cloned();
                let right = match told.get(&first).filter(|_| limit > 0) {
                    Some(kept_from) => Err(*kept_from),
                    None => Ok(run.collect()),
                };
                let found = read(store, name, (direction, from, limit)).await;
                assert_eq!(found, right, "{stream} {direction:?} from {from}, {limit}");
            }
        }
    }
    told.into_keys().collect()
}

/// Of a stream what is dropped is told, both ways and on every page; the rest is what it was, to its newest event, and
/// so is a stream of that name of another tenant.
pub async fn what_was_dropped_is_told_and_the_rest_is_whole(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (stream, south) = (thing("a"), tenant("south"));
    for _ in 0..10 {
        add_bulky(store, &stream, 1).await;
        let other = Append { tenant: south.clone(), ..append([bulky(&stream, Expected::Any, 1)]) };
        append_one(store, other).await.unwrap();
    }
    bury(store).await;
    let (own, others) =
        (stream_of(store, &main_tenant(), &stream).await, stream_of(store, &south, &stream).await);
    let mut sum = Dropped::default();
    for through in [0, 1, 6, 4, 9] {
        sum += drop_through(store, &stream, through).await;
        let highest = if through == 4 { 6 } else { through };
        let dropped = check_dropped(store, (&main_tenant(), &stream), &own, highest).await;
        if fixture.drops_at_once() {
            assert_eq!(dropped, Vec::from_iter(1..=highest), "cut through {through}");
        }
        let bytes = |version: &u64| {
            let event = &own[usize::try_from(*version).unwrap() - 1];
            (event.data.len() + event.metadata_json.len()) as u64
        };
        let right = Dropped { events: dropped.len() as u64, bytes: dropped.iter().map(bytes).sum() };
        assert_eq!(sum, right, "cut through {through}");
    }
    assert!(check_dropped(store, (&south, &stream), &others, 0).await.is_empty());
}

/// Head, positions, versions and the ledger stay as they are; whoever reads the log meets all that is kept, in order;
/// and what is appended next follows the kept checksum.
pub async fn dropping_touches_nothing_but_contents(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (stream, other) = (thing("a"), thing("b"));
    let mut commands = Vec::new();
    for version in 0..6 {
        let key = new_command();
        let entries = [bulky(&stream, exactly(version), 1)];
        append_one(store, settling(&key, Verdict::Applied, entries)).await.unwrap();
        commands.push((key.clone(), look_up(store, &key).await.unwrap()));
        add_bulky(store, &other, 1).await;
    }
    bury(store).await;
    let (before, head) = (whole_log(store).await, store.head());
    store.drop_events(vec![cut(&stream, 4), cut(&thing("absent"), 9), cut(&other, 0)]).await.unwrap();
    assert_eq!((store.head(), *store.watermark().borrow()), (head, head));
    let own: Vec<_> = before.iter().filter(|event| event.stream == stream).cloned().collect();
    let dropped = check_dropped(store, (&main_tenant(), &stream), &own, 4).await;
    let is_kept = |event: &Arc<Event>| event.stream != stream || !dropped.contains(&event.version.get());
    let kept: Vec<_> = before.iter().filter(|event| is_kept(event)).cloned().collect();
    for filter in [Filter::Everything, Filter::People, Filter::Category("thing".into())] {
        for limit in [1, 3, 1_000] {
            let found = pages(store, Position::ZERO, head, &filter, limit).await;
            assert!(found == kept, "{filter:?} in pages of {limit}");
        }
    }
    for event in &before {
        let rest = kept.iter().filter(|kept| kept.position > event.position).cloned();
        let found = pages(store, event.position, head, &Filter::Everything, 2).await;
        assert!(found == Vec::from_iter(rest), "after {}", event.position);
    }
    for (key, entry) in commands {
        assert_eq!(look_up(store, &key).await, Some(entry));
    }
    let late = append_one(store, append([bulky(&stream, exactly(5), 1)])).await;
    assert_eq!(late, Err(conflict(&stream, exactly(5), 6)));
    append_one(store, append([bulky(&stream, exactly(6), 2)])).await.unwrap();
    let Ok(new) = read(store, (&main_tenant(), &stream), (Direction::Forward, 7, 9)).await else {
        panic!("what is new was dropped")
    };
    assert_eq!(new.len(), 2);
    assert!(new[0].follows(&own[5].checksum) && new[1].follows(&new[0].checksum));
}

/// However high the cut, the newest event of a stream stays, and with it what the stream expects; it may go once there
/// is a newer one.
pub async fn the_newest_event_of_a_stream_is_never_dropped(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    let mut own = Vec::new();
    for head in [1, 2, 5] {
        add_bulky(store, &stream, head - own.len()).await;
        let last = read(store, (&main_tenant(), &stream), (Direction::Backward, u64::MAX, 1)).await;
        let known = own.len();
        let new = read(store, (&main_tenant(), &stream), (Direction::Forward, known as u64 + 1, 9)).await;
        own.extend(new.unwrap());
        assert_eq!(last, Ok(vec![own[head - 1].clone()]));
        bury(store).await;
        drop_through(store, &stream, u64::MAX).await;
        let dropped = check_dropped(store, (&main_tenant(), &stream), &own, head as u64 - 1).await;
        assert!(!fixture.drops_at_once() || dropped.len() == head - 1, "{dropped:?} of {head}");
        assert_eq!(version_of(store, &stream).await, head as u64);
        let fresh = append_one(store, append([bulky(&stream, Expected::NoStream, 1)])).await;
        assert_eq!(fresh, Err(conflict(&stream, Expected::NoStream, head as u64)));
    }
}

/// Asking again for what is done does nothing, nor does a lower cut; of several cuts of a stream the highest counts.
pub async fn dropping_again_does_nothing(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    add_bulky(store, &stream, 8).await;
    bury(store).await;
    let own = stream_of(store, &main_tenant(), &stream).await;
    let cuts = vec![cut(&stream, 2), cut(&stream, 6), cut(&stream, 3)];
    let first = store.drop_events(cuts.clone()).await.unwrap();
    let dropped = check_dropped(store, (&main_tenant(), &stream), &own, 6).await;
    assert_eq!(first.events, dropped.len() as u64);
    assert!(!fixture.drops_at_once() || dropped.len() == 6, "{dropped:?}");
    for again in [cuts, vec![cut(&stream, 6)], vec![cut(&stream, 1)], vec![]] {
        let log = whole_log(store).await;
        let more = store.drop_events(again).await.unwrap();
        assert!(!fixture.drops_at_once() || more == Dropped::default(), "{more:?} more");
        assert!(!fixture.drops_at_once() || whole_log(store).await == log);
    }
}

/// A call that cuts more streams than agreed is refused, and cuts none.
pub async fn a_drop_beyond_the_limits_is_invalid(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    add_bulky(store, &stream, 3).await;
    bury(store).await;
    let log = whole_log(store).await;
    let refused = store.drop_events(vec![cut(&stream, 2); MAX_CUTS + 1]).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    assert!(whole_log(store).await == log);
    let taken = store.drop_events(vec![cut(&stream, 2); MAX_CUTS]).await.unwrap();
    assert!(!fixture.drops_at_once() || taken.events == 2, "{taken:?}");
}

/// What was dropped stays so when the log is opened again, and the rest is what it was.
pub async fn what_was_dropped_stays_dropped(fixture: impl Fixture) {
    if !super::durability::is_durable(&fixture) {
        return;
    }
    let stream = thing("a");
    add_bulky(&*fixture.store(), &stream, 8).await;
    bury(&*fixture.store()).await;
    let own = stream_of(&*fixture.store(), &main_tenant(), &stream).await;
    drop_through(&*fixture.store(), &stream, 5).await;
    let dropped = check_dropped(&*fixture.store(), (&main_tenant(), &stream), &own, 5).await;
    let log = whole_log(&*fixture.store()).await;
    let fixture = fixture.reopen().await;
    let store = &*fixture.store();
    assert_eq!(check_dropped(store, (&main_tenant(), &stream), &own, 5).await, dropped);
    assert!(whole_log(store).await == log);
    append_one(store, append([bulky(&stream, exactly(8), 1)])).await.unwrap();
    let Ok(new) = read(store, (&main_tenant(), &stream), (Direction::Forward, 9, 1)).await else {
        panic!("what is new was dropped")
    };
    assert!(new[0].follows(&own[7].checksum));
}

const STREAMS: usize = 3;
const APPENDS: usize = 60;
/// How many of the newest events the cuts leave.
const LEFT: u64 = 4;

/// While many write, somebody drops what is old again and again, and many follow: nobody who follows misses an event
/// that is kept, or sees one twice, out of order or changed, and every chain goes on.
pub async fn followers_miss_nothing_that_is_kept(fixture: impl Fixture) {
    let store = fixture.store();
    let (mut writers, mut others) = (JoinSet::new(), JoinSet::new());
    let done = Arc::new(AtomicBool::new(false));
    for writer in 0..STREAMS {
        let store = store.clone();
        writers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..APPENDS {
                let entry = bulky(&thing(writer), Expected::Any, 1);
                ids.push(entry.events[0].id);
                append_one(&*store, append([entry])).await.unwrap();
            }
            (thing(writer), ids)
        });
    }
    for n in 0..4 {
        others.spawn(follow(store.clone(), [1, 2, 7, 1_000][n], Arc::clone(&done)));
    }
    let dropping = tokio::spawn(drop_old(store.clone(), Arc::clone(&done)));
    let written: BTreeMap<StreamName, Vec<EventId>> = writers.join_all().await.into_iter().collect();
    done.store(true, Ordering::SeqCst);
    dropping.await.unwrap();
    // Whoever waits for more is woken once.
    append_one(&*store, append([bulky(&thing("last"), Expected::Any, 1)])).await.unwrap();
    let log = whole_log(&*store).await;
    assert_chains_go_on(&log);
    for events in others.join_all().await {
        assert!(events.is_sorted_by(|one, next| one.position < next.position), "out of order or twice");
        assert_chains_go_on(&events);
        let seen: BTreeMap<EventId, &Arc<Event>> = events.iter().map(|event| (event.id, event)).collect();
        for kept in &log {
            assert_eq!(seen.get(&kept.id), Some(&kept), "{} {} was missed", kept.stream, kept.version);
        }
        let all: Vec<&EventId> = written.values().flatten().collect();
        let foreign =
            events.iter().filter(|event| event.stream != thing("last") && !all.contains(&&event.id));
        assert_eq!(foreign.count(), 0);
    }
    for (stream, ids) in &written {
        let kept: Vec<EventId> =
            log.iter().filter(|event| event.stream == *stream).map(|event| event.id).collect();
        let left = usize::try_from(LEFT).unwrap();
        assert!(kept.len() >= left && kept.ends_with(&ids[ids.len() - left..]), "the newest are not there");
    }
}

/// Where nothing was dropped between two events of a stream, the later follows the earlier.
fn assert_chains_go_on(log: &[Arc<Event>]) {
    let mut ends: BTreeMap<&StreamName, &Arc<Event>> = BTreeMap::new();
    for event in log {
        if let Some(last) = ends.insert(&event.stream, event) {
            assert!(last.version < event.version, "{} {} comes late", event.stream, event.version);
            let adjacent = last.version.next() == event.version;
            assert!(!adjacent || event.follows(&last.checksum), "{} {}", event.stream, event.version);
        }
    }
}

async fn drop_old(store: Arc<dyn EventStore>, done: Arc<AtomicBool>) {
    while !done.load(Ordering::SeqCst) {
        let mut cuts = Vec::new();
        for n in 0..STREAMS {
            cuts.push(cut(&thing(n), version_of(&*store, &thing(n)).await.saturating_sub(LEFT)));
        }
        store.drop_events(cuts).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// Follows the log from its beginning until it is done.
async fn follow(store: Arc<dyn EventStore>, limit: usize, done: Arc<AtomicBool>) -> Vec<Arc<Event>> {
    let mut subscription = Subscription::new(store.clone(), Position::ZERO, Filter::Everything);
    let mut events: Vec<Arc<Event>> = Vec::new();
    loop {
        let page = subscription.next(limit).await.unwrap();
        events.extend(page.events);
        let is_last = events.last().is_some_and(|event| event.stream == thing("last"));
        if is_last && done.load(Ordering::SeqCst) {
            return events;
        }
    }
}
