//! What an event is in the log: the bytes that were given, and a link to all that came before.

use std::collections::BTreeMap;
use std::sync::Arc;

use sillage_kernel::{
    Checksum, CommandId, Digest, Event, EventId, Expected, Metadata, NewEvent, StreamName, Tenant, Timestamp,
};
use sillage_store::{Append, Entry, clock};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Fixture;
use super::things::{
    add, append, append_one, assert_is, entry, happened, stream_of, thing, user, whole_log, whole_stream,
};

/// Data and metadata come back to the byte: spaces, the order and repetition of keys, the spelling of numbers
/// and letters are all kept.
pub async fn what_is_stored_comes_back_to_the_byte(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("odd");
    let new = odd_events();
    let events = new.clone();
    append_one(store, append([Entry { stream: stream.clone(), expected: Expected::NoStream, events }]))
        .await
        .unwrap();
    for found in [whole_stream(store, &stream).await, whole_log(store).await] {
        assert_eq!(found.len(), new.len());
        found.iter().zip(&new).for_each(|(event, new)| assert_is(event, new));
    }
}

/// Events that an engine which reads what it keeps would change.
pub(super) fn odd_events() -> Vec<NewEvent> {
    let data = [
        "{ \"b\" : 1 ,\n\t\"a\":2,\"b\":3}",
        "[1.0,1e0,1E+00,0.1,-0,123456789012345678901234567890,4.9e-324]",
        "\"\\u00e9é\\/\\ud83d\\ude00😀\\u0000\"",
        "null",
        "{}",
        " [ ] ",
    ];
    let mut events: Vec<NewEvent> = data
        .into_iter()
        .map(|data| {
            NewEvent::new(EventId(Uuid::now_v7()), "Thing/Happened·é", data.to_owned(), full_metadata())
        })
        .collect();
    events.push(spaced_metadata());
    events.push(NewEvent::new(EventId(Uuid::nil()), "T", "0".to_owned(), Metadata::default()));
    events
}

fn full_metadata() -> Metadata {
    Metadata {
        command_id: Some(CommandId(Uuid::now_v7())),
        correlation_id: Some(Uuid::now_v7()),
        causation_id: Some(Uuid::max()),
        user_id: Some(user("anna@example.org")),
        schema: u16::MAX,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
    }
}

/// Metadata that nobody would write like that today.
fn spaced_metadata() -> NewEvent {
    let event = happened();
    let metadata_json = event.metadata_json.replace(':', " :  ").replace(',', "\n, ");
    let digest = Digest::of(&event.event_type, &event.data, &metadata_json);
    NewEvent { metadata_json: metadata_json.into(), digest, ..event }
}

/// Every name that is a name is kept as it is, however long and in whatever script, and none is taken for
/// another that looks like it.
pub async fn names_of_any_length_and_script_are_kept(fixture: impl Fixture) {
    let store = &*fixture.store();
    let long = "x".repeat(200);
    let widest = format!("thing-{}", "😀".repeat(200));
    let tenants = ["a", "A", "a.b", "a*", "a>", "a/b", "a-b", "..", "%00", "ä", "a\u{308}", "'; --", &long];
    let streams = [
        "thing-a",
        "thing-A",
        "thing-a-b",
        "thing--",
        "thing-a.b",
        "thing-*",
        "thing->",
        "thing-a/../b",
        "thing-ä",
        "thing-a\u{308}",
        "$thing-a",
        "THING-a",
        &widest,
    ];
    let tenants = tenants.map(|name| name.trim().replace(' ', "_").parse::<Tenant>().unwrap());
    let streams = streams.map(|name| name.parse::<StreamName>().unwrap());
    let mut written = BTreeMap::new();
    for tenant in &tenants {
        for stream in &streams {
            let append = Append { tenant: tenant.clone(), ..append([entry(stream, Expected::NoStream, 1)]) };
            let new = append.entries[0].events[0].clone();
            append_one(store, append).await.unwrap_or_else(|error| panic!("{tenant} {stream}: {error}"));
            written.insert((tenant.clone(), stream.clone()), new);
        }
    }
    for ((tenant, stream), new) in &written {
        let events = stream_of(store, tenant, stream).await;
        assert_eq!(events.len(), 1, "{tenant} {stream}");
        assert_eq!((&events[0].tenant, &events[0].stream), (tenant, stream));
        assert_is(&events[0], new);
    }
    for event in whole_log(store).await {
        assert_is(&event, &written[&(event.tenant.clone(), event.stream.clone())]);
    }
}

/// Each event is linked to all that came before it in its stream, from the first on, however they came.
pub async fn checksums_link_each_stream(fixture: impl Fixture) {
    let store = &*fixture.store();
    for round in 0..5 {
        let entries = [0, 1, 2].map(|n| entry(&thing(n), Expected::Any, 1 + (round + n) % 3));
        let one_more = || append([entry(&thing(1), Expected::Any, 1)]);
        let results = store.append(vec![append(entries), one_more(), one_more()]).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    assert_linked(&whole_log(store).await);
}

/// Asserts that all checksums are right, in a log that has every stream from its start.
pub(crate) fn assert_linked(log: &[Arc<Event>]) {
    let mut ends: BTreeMap<(Tenant, StreamName), Checksum> = BTreeMap::new();
    for event in log {
        let end = ends.entry((event.tenant.clone(), event.stream.clone())).or_insert(Checksum::START);
        assert!(event.follows(end), "{} {} does not follow", event.stream, event.version);
        *end = event.checksum;
    }
}

/// An event tells when the log took it, and in the order of the log no event is older than the one before it,
/// even when many write at once.
pub async fn recorded_times_never_go_backwards(fixture: impl Fixture) {
    let store = fixture.store();
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..10 {
                add(&*store, &thing(n), 2).await;
            }
        });
    }
    writers.join_all().await;
    let log = whole_log(&*store).await;
    assert_eq!(log.len(), 160);
    let hour = 3_600_000_000;
    let age = clock::now().as_micros() - log[0].recorded_at.as_micros();
    assert!((-hour..hour).contains(&age), "it was recorded {age} microseconds ago");
    for pair in log.windows(2) {
        assert!(pair[0].recorded_at <= pair[1].recorded_at, "at {}", pair[1].position);
    }
}

/// What is brought from another log keeps the time at which it happened, as long as no event becomes older than the
/// one before it; what is refused changes nothing of that.
pub async fn what_is_brought_keeps_its_time(fixture: impl Fixture) {
    let store = &*fixture.store();
    let begun = clock::now();
    let before = |micros: i64| Timestamp::from_micros(begun.as_micros() - micros);
    let brought = |expected, recorded_at| Append {
        recorded_at: Some(recorded_at),
        ..append([entry(&thing("a"), expected, 2), entry(&thing("b"), Expected::Any, 1)])
    };
    let refused = append_one(store, brought(Expected::Exists, before(1))).await;
    assert!(refused.is_err(), "there was nothing yet");
    for (given, kept) in [(90, 90), (90, 90), (70, 70), (80, 70), (60, 60)] {
        append_one(store, brought(Expected::Any, before(given))).await.unwrap();
        let log = whole_log(store).await;
        for event in log.iter().rev().take(3) {
            assert_eq!(event.recorded_at, before(kept), "given {given}");
        }
    }
    add(store, &thing("a"), 1).await;
    append_one(store, brought(Expected::Any, before(50))).await.unwrap();
    let log = whole_log(store).await;
    let now = log.iter().rev().nth(3).expect("there are four more").recorded_at;
    assert!(now >= begun, "the clock did not tell");
    assert!(log.iter().rev().take(3).all(|event| event.recorded_at == now), "time ran backwards");
    assert_linked(&log);
}
