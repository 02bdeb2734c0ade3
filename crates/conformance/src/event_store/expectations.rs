//! What an append expects of its streams: right it is taken, wrong it is told how things are.

use sillage_kernel::{Checksum, Expected, StreamName, Version};
use sillage_store::{Append, AppendError, EventStore};
use tokio::task::JoinSet;

use super::Fixture;
use super::things::{
    add, append, append_one, assert_follows, assert_kept, conflict, entry, exactly, kept, stream_of, tenant,
    thing, version_of, whole_stream,
};

/// Each kind of expectation is taken where it is right; where it is wrong, the conflict carries the stream,
/// what was expected and what is there.
pub async fn each_expectation_holds_or_conflicts(fixture: impl Fixture) {
    let store = &*fixture.store();
    for (row, (expected, at, holds)) in [
        (Expected::Any, 0, Holds::Yes),
        (Expected::Any, 2, Holds::Yes),
        (Expected::NoStream, 0, Holds::Yes),
        (Expected::NoStream, 1, Holds::No),
        (Expected::Exists, 0, Holds::No),
        (Expected::Exists, 1, Holds::Yes),
        (exactly(0), 0, Holds::Yes),
        (exactly(0), 1, Holds::No),
        (exactly(2), 0, Holds::No),
        (exactly(2), 1, Holds::No),
        (exactly(2), 2, Holds::Yes),
        (exactly(2), 3, Holds::No),
        (exactly(u64::MAX), 2, Holds::No),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = thing(row);
        if at > 0 {
            add(store, &stream, at).await;
        }
        let before = kept(store).await;
        let result = append_one(store, append([entry(&stream, expected, 1)])).await;
        if holds == Holds::Yes {
            assert!(result.is_ok(), "{expected:?} at {at}: {result:?}");
            assert_eq!(version_of(store, &stream).await, at as u64 + 1, "{expected:?} at {at}");
        } else {
            assert_eq!(result, Err(conflict(&stream, expected, at as u64)));
            assert_kept(store, &before, format_args!("{expected:?} at {at}")).await;
        }
    }
}

#[derive(PartialEq)]
enum Holds {
    Yes,
    No,
}

/// An entry without events is checked like any other, and adds nothing to its stream.
pub async fn an_entry_without_events_only_checks(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (checked, written, absent) = (thing("checked"), thing("written"), thing("absent"));
    add(store, &checked, 2).await;
    for (row, (expected, stream)) in [
        (exactly(2), &checked),
        (Expected::Exists, &checked),
        (Expected::NoStream, &absent),
        (exactly(0), &absent),
    ]
    .into_iter()
    .enumerate()
    {
        let check_first = [entry(stream, expected, 0), entry(&written, exactly(2 * row as u64), 1)];
        append_one(store, append(check_first)).await.unwrap();
        let check_last = [entry(&written, exactly(2 * row as u64 + 1), 1), entry(stream, expected, 0)];
        append_one(store, append(check_last)).await.unwrap();
    }
    assert_eq!(version_of(store, &checked).await, 2);
    assert_eq!(version_of(store, &absent).await, 0);

    let before = kept(store).await;
    for (stream, expected, actual) in [
        (&checked, exactly(1), 2),
        (&checked, Expected::NoStream, 2),
        (&absent, Expected::Exists, 0),
        (&absent, exactly(1), 0),
    ] {
        let refused = Err(conflict(stream, expected, actual));
        let check_first = [entry(stream, expected, 0), entry(&written, Expected::Any, 1)];
        assert_eq!(append_one(store, append(check_first)).await, refused);
        let check_last = [entry(&written, Expected::Any, 1), entry(stream, expected, 0)];
        assert_eq!(append_one(store, append(check_last)).await, refused);
        assert_kept(store, &before, format_args!("{stream} {expected:?}")).await;
    }
}

/// An append that only checks adds nothing: its position is that of the log before it.
pub async fn an_append_may_only_check(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    let nothing = append_one(store, append([entry(&stream, Expected::NoStream, 0)])).await.unwrap();
    assert_follows(store, store.head(), nothing.position, 0);
    let last = add(store, &stream, 3).await.position;
    let before = kept(store).await;
    let checked = append_one(store, append([entry(&stream, exactly(3), 0)])).await.unwrap();
    assert_eq!((checked.position, checked.receipt), (last, None));
    let refused = append_one(store, append([entry(&stream, exactly(2), 0)])).await;
    assert_eq!(refused, Err(conflict(&stream, exactly(2), 3)));
    assert_kept(store, &before, "only checks").await;
    let next = add(store, &stream, 1).await.position;
    assert_follows(store, last, next, 1);
}

/// When many expect the same version at the same time, one is taken and every other is told of a conflict;
/// whoever tries again with what it was told gets through in the end.
pub async fn one_writer_of_many_gets_the_version(fixture: impl Fixture) {
    const WRITERS: usize = 16;
    let store = fixture.store();
    let stream = thing("contended");
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (store, stream) = (store.clone(), stream.clone());
        writers.spawn(async move {
            let mut version = Version::ZERO;
            loop {
                let attempt = append([entry(&stream, Expected::Exactly(version), 1)]);
                match append_one(&*store, attempt).await {
                    Ok(_) => return version.next(),
                    Err(AppendError::Conflict { actual, .. }) => {
                        assert!(actual > version, "refused at {version}, which is what is there");
                        version = actual;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let mut got: Vec<u64> = writers.join_all().await.into_iter().map(Version::get).collect();
    got.sort_unstable();
    assert_eq!(got, Vec::from_iter(1..=WRITERS as u64));
    assert_eq!(whole_stream(&*store, &stream).await.len(), WRITERS);
}

/// A stream of one tenant has nothing to do with the stream of that name of another.
pub async fn tenants_are_walls(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    let of = |name, expected, events| Append {
        tenant: tenant(name),
        ..append([entry(&stream, expected, events)])
    };
    append_one(store, of("north", Expected::NoStream, 2)).await.unwrap();
    append_one(store, of("south", Expected::NoStream, 1)).await.unwrap();
    append_one(store, of("north", exactly(2), 1)).await.unwrap();
    let refused = append_one(store, of("south", exactly(3), 1)).await;
    assert_eq!(refused, Err(conflict(&stream, exactly(3), 1)));
    let results = store.append(vec![of("north", exactly(3), 1), of("south", exactly(1), 1)]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");

    assert_stream(store, "north", &stream, 4).await;
    assert_stream(store, "south", &stream, 2).await;
    assert_stream(store, "west", &stream, 0).await;
}

async fn assert_stream(store: &dyn EventStore, name: &str, stream: &StreamName, length: usize) {
    let events = stream_of(store, &tenant(name), stream).await;
    assert_eq!(events.len(), length, "{name}");
    let mut previous = Checksum::START;
    for (event, version) in events.iter().zip(1..) {
        assert_eq!((event.tenant.as_str(), event.version.get()), (name, version));
        assert!(event.follows(&previous), "{name} {version}");
        previous = event.checksum;
    }
}
