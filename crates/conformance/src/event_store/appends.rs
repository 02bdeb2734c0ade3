//! Appending: whole or not at all, in order, within limits.

use sillage_kernel::{EventId, Expected, Metadata, NewEvent, Position, Rejection};
use sillage_store::event_store::{MAX_APPEND_BYTES, MAX_APPEND_RECORDS};
use sillage_store::{Append, AppendError, Entry, Verdict};
use uuid::Uuid;

use super::Fixture;
use super::contents::assert_linked;
use super::things::{
    add, append, append_one, assert_follows, assert_is, assert_kept, conflict, entry, exactly, heavy, kept,
    look_up, new_command, settling, thing, version_of, whole_log, whole_stream,
};

/// A conflict in any entry keeps nothing of all the others, and afterwards all is as if it had never come.
pub async fn an_append_is_atomic_over_its_streams(fixture: impl Fixture) {
    let store = &*fixture.store();
    let streams = ["a", "b", "c"].map(thing);
    let all_at =
        |expected: [u64; 3]| append([0, 1, 2].map(|at| entry(&streams[at], exactly(expected[at]), 2)));
    let first = append_one(store, all_at([0, 0, 0])).await.unwrap();
    let before = kept(store).await;
    for wrong in 0..3 {
        let mut expected = [2; 3];
        expected[wrong] = 1;
        let refused = conflict(&streams[wrong], exactly(1), 2);
        assert_eq!(append_one(store, all_at(expected)).await, Err(refused));
        assert_kept(store, &before, wrong).await;
    }
    let second = append_one(store, all_at([2, 2, 2])).await.unwrap();
    assert_follows(store, first.position, second.position, 6);
    for stream in &streams {
        assert_eq!(version_of(store, stream).await, 4);
    }
}

/// The versions of each stream are 1, 2, 3, …; positions grow, without gaps where that is promised; and the
/// answer tells the position of the append's last event.
pub async fn versions_have_no_gaps_and_positions_grow(fixture: impl Fixture) {
    let store = &*fixture.store();
    let mut last = Position::ZERO;
    for round in 0..8 {
        let (often, rarely) = (thing("often"), thing(round % 3));
        let entries = [entry(&often, Expected::Any, 1 + round % 2), entry(&rarely, Expected::Any, 2)];
        let new: Vec<NewEvent> = entries.iter().flat_map(|entry| entry.events.clone()).collect();
        let appended = append_one(store, append(entries)).await.unwrap();
        assert_follows(store, last, appended.position, new.len());
        assert_eq!(appended.receipt, None, "no command was settled");
        let log = whole_log(store).await;
        let added = &log[log.len() - new.len()..];
        added.iter().zip(&new).for_each(|(event, new)| assert_is(event, new));
        assert_eq!(added.last().unwrap().position, appended.position);
        assert_eq!(store.head(), appended.position);
        last = appended.position;
    }
    let log = whole_log(store).await;
    for pair in log.windows(2) {
        assert_follows(store, pair[0].position, pair[1].position, 1);
    }
    for stream in [thing("often"), thing(0), thing(1), thing(2)] {
        let events = whole_stream(store, &stream).await;
        let versions: Vec<u64> = events.iter().map(|event| event.version.get()).collect();
        assert_eq!(versions, Vec::from_iter(1..=events.len() as u64), "{stream}");
    }
}

/// Many appends in one call are taken, and answered, in the order in which they stand there.
pub async fn appends_of_one_call_keep_their_order(fixture: impl Fixture) {
    let store = &*fixture.store();
    assert!(store.append(Vec::new()).await.is_empty(), "no append, no answer");
    let appends: Vec<Append> =
        (0..50).map(|n| append([entry(&thing(n % 7), Expected::Any, 1 + n % 3)])).collect();
    let new: Vec<NewEvent> = appends.iter().flat_map(|append| append.entries[0].events.clone()).collect();
    let sizes: Vec<usize> = appends.iter().map(|append| append.entries[0].events.len()).collect();
    let results = store.append(appends).await;
    assert_eq!(results.len(), sizes.len());
    let mut last = Position::ZERO;
    for (result, size) in results.into_iter().zip(sizes) {
        let position = result.unwrap().position;
        assert_follows(store, last, position, size);
        last = position;
    }
    let log = whole_log(store).await;
    assert_eq!(log.len(), new.len());
    log.iter().zip(&new).for_each(|(event, new)| assert_is(event, new));
}

/// Of many appends in one call, each is for itself: whatever one is refused for, the others are taken.
pub async fn an_append_that_fails_does_not_touch_the_others(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (a, b, c) = (thing("a"), thing("b"), thing("c"));
    let twice = [entry(&b, Expected::Any, 1), entry(&b, Expected::Any, 1)];
    let results = store.append(vec![
        append([entry(&a, Expected::NoStream, 1)]),
        append([entry(&b, Expected::NoStream, 2), entry(&a, Expected::NoStream, 1)]),
        append([entry(&b, Expected::NoStream, 1)]),
        append(twice),
        append([entry(&c, Expected::Exists, 1)]),
        append([entry(&a, exactly(1), 1), entry(&c, exactly(0), 1)]),
    ]);
    let results = results.await;
    assert!(results[0].is_ok());
    assert_eq!(results[1], Err(conflict(&a, Expected::NoStream, 1)));
    assert!(results[2].is_ok(), "what was refused has left no trace: {:?}", results[2]);
    assert!(matches!(results[3], Err(AppendError::Invalid(_))), "{:?}", results[3]);
    assert_eq!(results[4], Err(conflict(&c, Expected::Exists, 0)));
    assert!(results[5].is_ok());
    let log = whole_log(store).await;
    let order: Vec<_> = log.iter().map(|event| (event.stream.id(), event.version.get())).collect();
    assert_eq!(order, [("a", 1), ("b", 1), ("a", 2), ("c", 1)]);
    for pair in log.windows(2) {
        assert_follows(store, pair[0].position, pair[1].position, 1);
    }
}

/// Each append of a call sees those before it, so a chain of exact versions holds; after a link that fails,
/// the rest of the chain fails, and each link is told where the stream really is.
pub async fn a_chain_in_one_call_holds_until_a_link_fails(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (whole, broken, other) = (thing("whole"), thing("broken"), thing("other"));
    let links = (0..20).map(|version| append([entry(&whole, exactly(version), 1)])).collect();
    let results = store.append(links).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(version_of(store, &whole).await, 20);

    let links = (0..6).map(|version| {
        let mut link = append([entry(&broken, exactly(version), 1)]);
        if version == 3 {
            link.entries.push(entry(&other, Expected::Exists, 0));
        }
        link
    });
    let results = store.append(links.collect()).await;
    assert!(results[..3].iter().all(Result::is_ok), "{results:?}");
    assert_eq!(results[3], Err(conflict(&other, Expected::Exists, 0)));
    assert_eq!(results[4], Err(conflict(&broken, exactly(4), 3)));
    assert_eq!(results[5], Err(conflict(&broken, exactly(5), 3)));
    assert_eq!(version_of(store, &broken).await, 3);
}

/// Calls made one after the other are taken in that order, even if the answers are awaited in another.
pub async fn calls_are_taken_in_the_order_in_which_they_were_made(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    let link = |version| store.append(vec![append([entry(&stream, exactly(version), 1)])]);
    let answers: Vec<_> = (0..30).map(link).collect();
    for (version, answer) in answers.into_iter().enumerate().rev() {
        assert!(answer.await[0].is_ok(), "the link {version}");
    }
    assert_eq!(version_of(store, &stream).await, 30);
}

/// An append is taken when it is called for. Whoever walks away before the answer has still appended.
pub async fn an_answer_that_nobody_awaits_undoes_nothing(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    drop(store.append(vec![append([entry(&stream, Expected::NoStream, 1)])]));
    append_one(store, append([entry(&stream, exactly(1), 1)])).await.unwrap();
    assert_eq!(whole_stream(store, &stream).await.len(), 2);
}

/// What is just within a limit is taken; what is just beyond, or names a stream twice, is invalid and keeps
/// nothing, not even its command.
pub async fn an_append_beyond_the_limits_is_invalid(fixture: impl Fixture) {
    let store = &*fixture.store();
    for fits in [
        vec![entry(&thing("events"), Expected::Any, MAX_APPEND_RECORDS)],
        checks(MAX_APPEND_RECORDS),
        [checks(1), vec![entry(&thing("both"), Expected::Any, MAX_APPEND_RECORDS - 1)]].concat(),
        // Names and types count too, and have room in the rest.
        vec![heavy(MAX_APPEND_BYTES - 256)],
    ] {
        let (before, events) = (store.head(), fits.iter().map(|entry| entry.events.len()).sum());
        let appended = append_one(store, append(fits)).await.unwrap();
        assert_follows(store, before, appended.position, events);
    }
    let before = kept(store).await;
    for (row, exceeds) in [
        vec![entry(&thing("events"), Expected::Any, MAX_APPEND_RECORDS + 1)],
        checks(MAX_APPEND_RECORDS + 1),
        [checks(1), vec![entry(&thing("both"), Expected::Any, MAX_APPEND_RECORDS)]].concat(),
        vec![heavy(MAX_APPEND_BYTES + 1)],
        vec![entry(&thing("a"), Expected::Any, 1), entry(&thing("a"), Expected::Any, 1)],
        vec![
            entry(&thing("a"), Expected::Any, 1),
            entry(&thing("b"), Expected::Any, 1),
            entry(&thing("a"), Expected::Any, 0),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let command = new_command();
        let result = append_one(store, settling(&command, Verdict::Applied, exceeds)).await;
        assert!(matches!(result, Err(AppendError::Invalid(_))), "row {row}: {result:?}");
        assert_kept(store, &before, row).await;
        assert_eq!(look_up(store, &command).await, None, "row {row}");
    }
    add(store, &thing("a"), 1).await;
}

/// What no limit names may still be more than an engine can take. Then it is refused and nothing of it is
/// kept, neither by itself nor through what stands beside it; or else all of it is kept.
pub async fn an_append_of_any_size_is_kept_whole_or_not_at_all(fixture: impl Fixture) {
    const HUGE: usize = 17 << 20;
    let store = &*fixture.store();
    let (before, huge, after) = (thing("before"), thing("huge"), thing("after"));
    let id = EventId(Uuid::now_v7());
    let event = NewEvent::new(id, &"T".repeat(HUGE), "0".to_owned(), Metadata::default());
    let mut long_type = entry(&huge, Expected::Any, 1);
    long_type.events.push(event);
    let rejection = Rejection::new("no", "x".repeat(HUGE));
    for (row, (verdict, entry_of_huge)) in
        [(Verdict::Applied, long_type), (Verdict::Rejected(rejection), entry(&huge, Expected::Any, 1))]
            .into_iter()
            .enumerate()
    {
        let key = new_command();
        let (version, log) = (version_of(store, &huge).await, whole_log(store).await);
        let events = entry_of_huge.events.len() as u64;
        let link = |stream| append([entry(stream, exactly(row as u64), 1)]);
        let results =
            store.append(vec![link(&before), settling(&key, verdict, [entry_of_huge]), link(&after)]).await;
        assert!(results[0].is_ok() && results[2].is_ok(), "row {row}: a neighbour was touched");
        let kept = if results[1].is_ok() { events } else { 0 };
        assert_eq!(version_of(store, &huge).await, version + kept, "row {row}");
        assert_eq!(whole_log(store).await.len() as u64, log.len() as u64 + 2 + kept, "row {row}");
        assert_eq!(look_up(store, &key).await.is_some(), results[1].is_ok(), "row {row}");
    }
    let last = store.head();
    let appended =
        append_one(store, append([before, huge, after].map(|stream| entry(&stream, Expected::Any, 1)))).await;
    assert_follows(store, last, appended.unwrap().position, 3);
    assert_linked(&whole_log(store).await);
}

/// So many streams that are only checked.
fn checks(count: usize) -> Vec<Entry> {
    (0..count).map(|n| entry(&thing(format_args!("checked-{n}")), Expected::Any, 0)).collect()
}
