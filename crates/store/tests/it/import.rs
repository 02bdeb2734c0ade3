//! Events of another log are taken whole batches at a time, once, and as they were.

use std::sync::Arc;

use sillage_kernel::wire::export::BroughtEvent;
use sillage_kernel::{
    Checksum, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, Timestamp, Version,
};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::import::{Import, ImportError, Taken};
use sillage_store::{Append, Entry, EventStore, clock};
use uuid::Uuid;

/// A log of two streams of two tenants, whose events have times of their own.
async fn source() -> Vec<Arc<Event>> {
    let store = MemoryStore::new(1);
    for n in 0..20_u8 {
        let (tenant, stream) =
            (["north", "south"][usize::from(n) % 2], ["thing-a", "thing-b"][usize::from(n) % 4 / 2]);
        let event = NewEvent::new(EventId(Uuid::now_v7()), "T", format!("[ {n}]"), Metadata::default());
        let entries =
            vec![Entry { stream: stream.parse().unwrap(), expected: Expected::Any, events: vec![event] }];
        let recorded_at = Some(Timestamp::from_micros(1_000 + i64::from(n) / 3));
        let append =
            Append { tenant: tenant.parse().unwrap(), entries, ledger: None, fence: None, recorded_at };
        store.append(vec![append]).await.remove(0).unwrap();
    }
    log(&store).await
}

async fn log(store: &dyn EventStore) -> Vec<Arc<Event>> {
    store.read_all(Position::ZERO, Filter::Everything, 1_000).await.unwrap().events
}

fn brought(event: &Arc<Event>) -> BroughtEvent {
    let Event { tenant, stream, version, id, event_type, data, metadata, recorded_at, checksum, .. } =
        event.as_ref().clone();
    let event = NewEvent::new(id, &event_type, data.as_ref().to_owned(), metadata);
    BroughtEvent { tenant, stream, version, event, recorded_at, checksum: Some(checksum) }
}

async fn bring(store: &MemoryStore, batches: &[&[BroughtEvent]]) -> Result<Taken, String> {
    let mut import = Import::begin(Arc::new(store.clone())).await.unwrap();
    for batch in batches {
        match import.take(batch.to_vec()).await {
            Ok(()) => {}
            Err(ImportError::Refused { index, reason }) => return Err(format!("{index}: {reason}")),
            Err(error) => panic!("{error}"),
        }
    }
    Ok(import.taken())
}

#[tokio::test]
async fn what_is_brought_is_as_it_was_and_is_known_again() {
    let source = source().await;
    let events: Vec<_> = source.iter().map(brought).collect();
    let store = MemoryStore::new(2);
    let taken = bring(&store, &[&events[..7]]).await.unwrap();
    assert_eq!(taken, Taken { new: 7, known: 0, moved: 0 });
    // Cut short, and then once more from the beginning, in other batches.
    let taken = bring(&store, &[&events[..5], &events[5..6], &events[6..]]).await.unwrap();
    assert_eq!(taken, Taken { new: 13, known: 7, moved: 0 });
    assert_eq!(log(&store).await, source);
    let again = [events.clone(), events.clone()].concat();
    assert_eq!(bring(&store, &[&again]).await.unwrap(), Taken { new: 0, known: 40, moved: 0 });
    assert_eq!(log(&store).await, source);
    let twice_in_one = MemoryStore::new(3);
    assert_eq!(bring(&twice_in_one, &[&again]).await.unwrap(), Taken { new: 20, known: 20, moved: 0 });
    assert_eq!(log(&twice_in_one).await, source);
}

#[tokio::test]
async fn a_batch_with_an_event_that_does_not_fit_leaves_nothing() {
    let events: Vec<_> = source().await.iter().map(brought).collect();
    let another = |change: fn(&mut BroughtEvent)| {
        let mut event = events[9].clone();
        change(&mut event);
        event
    };
    let hour = 3_600_000_000;
    let mut late = another(|event| event.checksum = None);
    late.recorded_at = Timestamp::from_micros(clock::now().as_micros() + hour);
    let rows = [
        (events[13].clone(), "thing-a ends at version 2, and this is version 4: what is between is missing"),
        (another(|event| event.version = Version::ZERO), "versions begin with 1"),
        (another(|event| event.checksum = Some(Checksum::START)), "its checksum does not follow"),
        (another(|event| event.event.digest.0[0] ^= 1), "its checksum does not follow"),
        (another(|event| event.event.id = EventId(Uuid::nil())), "its checksum does not follow"),
        (another(|event| event.version = Version::new(1)), "thing-a has another event at version 1"),
        (late, "has not come yet"),
        (
            another(|event| {
                let data = format!("\"{}\"", "x".repeat(4 << 20));
                event.event = NewEvent::new(event.event.id, "T", data, Metadata::default());
                event.checksum = None;
            }),
            "the append cannot be taken: it has more than 4 MiB of data",
        ),
    ];
    for (bad, why) in rows {
        let store = MemoryStore::new(2);
        let batch = [&events[4..9], &[bad], &events[10..]].concat();
        let refused = bring(&store, &[&events[..4], &batch]).await.unwrap_err();
        assert!(refused.starts_with("5: ") && refused.contains(why), "{refused} instead of {why}");
        assert_eq!(log(&store).await.len(), 4, "{why}");
        // Once it is mended, all goes on where it was.
        assert_eq!(bring(&store, &[&events]).await.unwrap(), Taken { new: 16, known: 4, moved: 0 });
    }
}

/// An import that goes on after a refusal has forgotten what it was about to take.
#[tokio::test]
async fn a_refused_batch_is_forgotten() {
    let source = source().await;
    let events: Vec<_> = source.iter().map(brought).collect();
    let store = MemoryStore::new(2);
    let mut import = Import::begin(Arc::new(store.clone())).await.unwrap();
    let bad = [&events[..5], &events[18..]].concat();
    assert!(matches!(import.take(bad).await, Err(ImportError::Refused { index: 5, .. })));
    import.take(events).await.unwrap();
    assert_eq!((import.taken(), log(&store).await), (Taken { new: 20, known: 0, moved: 0 }, source));
}

/// Into a log that has later events, what is brought takes the time of the last; that is told, and its checksums are
/// no longer compared, here and when it is brought again.
#[tokio::test]
async fn what_is_older_than_the_log_takes_its_time() {
    let events: Vec<_> = source().await.iter().map(brought).collect();
    let store = MemoryStore::new(2);
    let later = BroughtEvent {
        stream: "thing-later".parse().unwrap(),
        recorded_at: Timestamp::from_micros(1_003),
        version: Version::new(1),
        checksum: None,
        ..events[0].clone()
    };
    bring(&store, &[&[later]]).await.unwrap();
    assert_eq!(bring(&store, &[&events[..15]]).await.unwrap(), Taken { new: 15, known: 0, moved: 9 });
    assert_eq!(bring(&store, &[&events]).await.unwrap(), Taken { new: 5, known: 15, moved: 0 });
    let times: Vec<_> = log(&store).await.iter().map(|event| event.recorded_at.as_micros()).collect();
    assert_eq!(times[..10], [1_003; 10]);
    assert_eq!((times[20], times.is_sorted()), (1_006, true));
}
