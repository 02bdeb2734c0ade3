//! A disk that refuses a write now and then, while many append: two groups are on their way most of the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sillage_journal::testing::{Dice, Fault, SimulatedDisk};
use sillage_kernel::{EventId, Expected, Filter, Metadata, NewEvent, Position, StreamName, Tenant, Version};
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use sillage_store::{Append, AppendError, Entry, EventStore};
use uuid::Uuid;

const WRITERS: usize = 200;
const APPENDS: usize = 20;
/// So many that it takes longer to show a group than to refuse the one behind it.
const EVENTS_OF_AN_APPEND: usize = 30;
/// After so many that were kept a write is refused, and so one group or two.
const FAULT_EVERY: usize = 150;

/// Long enough to stage the next group.
const FLUSH: Duration = Duration::from_millis(10);

/// Where the last event of each append stands.
type Told = Vec<(Position, EventId)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_refused_between_others_leaves_no_hole_and_nothing_twice() {
    let disk = SimulatedDisk::new(Dice::new(5));
    disk.slow_down(FLUSH);
    let opened = JournalStore::open_on("/log".as_ref(), 1, JournalOptions::default(), Arc::new(disk.clone()));
    let (store, kept) = (Arc::new(opened.unwrap().0), Arc::new(AtomicUsize::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, disk, kept) = (Arc::clone(&store), disk.clone(), Arc::clone(&kept));
            tokio::spawn(async move {
                let stream: StreamName = format!("thing-{writer}").parse().unwrap();
                let (mut told, mut refused) = (Told::new(), 0);
                while told.len() < APPENDS {
                    let seen = Version::new((told.len() * EVENTS_OF_AN_APPEND) as u64);
                    let ids: Vec<_> = (0..EVENTS_OF_AN_APPEND).map(|_| EventId(Uuid::now_v7())).collect();
                    match append(&store, &stream, seen, &ids).await {
                        Ok(position) => {
                            told.push((position, ids[EVENTS_OF_AN_APPEND - 1]));
                            if kept.fetch_add(1, Ordering::Relaxed) % FAULT_EVERY == 0 {
                                disk.fail(Fault::Write);
                            }
                        }
                        Err(AppendError::Unavailable(_)) => refused += 1,
                        Err(other) => panic!("{stream} after {}: {other}", told.len()),
                    }
                }
                (told, refused)
            })
        })
        .collect();
    let (mut told, mut refused) = (Told::new(), 0);
    for writer in writers {
        let (own, times) = writer.await.unwrap();
        told.extend(own);
        refused += times;
    }
    assert!(refused > 0, "no write was refused");
    told.sort_unstable();
    assert_eq!(told, log(&store).await);
}

async fn append(
    store: &JournalStore,
    stream: &StreamName,
    seen: Version,
    ids: &[EventId],
) -> Result<Position, AppendError> {
    let tenant: Tenant = "main".parse().unwrap();
    let events = ids.iter().map(|id| NewEvent::new(*id, "Happened", "{}", Metadata::default())).collect();
    let entry = Entry { stream: stream.clone(), expected: Expected::Exactly(seen), events };
    let append = Append { tenant, entries: vec![entry], ledger: None, fence: None, recorded_at: None };
    store.append(vec![append]).await.remove(0).map(|appended| appended.position)
}

/// The last event of each append in the log, whose positions have no gaps.
async fn log(store: &JournalStore) -> Told {
    let (mut found, mut after, mut expected) = (Told::new(), Position::ZERO, Position::ZERO);
    while after < store.head() {
        let page = store.read_all(after, Filter::Everything, 1_000).await.unwrap();
        for event in &page.events {
            expected = expected.next();
            assert_eq!(event.position, expected);
            if event.version.get() % EVENTS_OF_AN_APPEND as u64 == 0 {
                found.push((event.position, event.id));
            }
        }
        after = page.through;
    }
    found
}
