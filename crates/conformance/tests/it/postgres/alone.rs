//! A node that writes alone knows what its groups rest on without reading it. Whatever it does not know any more makes
//! no answer wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sillage_kernel::{Expected, Position, Receipt, StreamName, Version};
use sillage_store::{Append, AppendError, Appended, EventStore};

use super::answers::{add, append_one, assert_in_order, entry, follow, new_command, settling, stream};
use super::{OPTIONS, OnPostgres, eventually, foreigner, open};

/// How many groups a node writes until it knows that it is alone, and more.
const ALONE: u64 = 4;

/// Adds an event to the stream `a` as another node would have, at the end of the log and with a false checksum.
const ADD: &str = "
    INSERT INTO sillage.events
    SELECT position + 1, version + 1, recorded_at, gen_random_uuid(), tenant, stream, type, data, metadata,
        sha256('another')
    FROM sillage.events ORDER BY position DESC LIMIT 1";

/// What a node that was alone answers, if this happens while it waits for the lock of the log.
async fn answer_after(happens: &str, append: Append) -> (OnPostgres, Result<Appended, AppendError>) {
    let fixture = OnPostgres::new().await;
    for _ in 0..ALONE {
        add(&*fixture.store, "a").await.unwrap();
    }
    let (foreign, looker) = (foreigner(&fixture.address).await, foreigner(&fixture.address).await);
    foreign.batch_execute("BEGIN; SELECT FROM sillage.log FOR UPDATE").await.unwrap();
    let answer = fixture.store.append(vec![append]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND query = 'SELECT 1 FROM sillage.log FOR UPDATE'";
    eventually("it waits for the lock", async || {
        (looker.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    foreign.batch_execute(&format!("{happens}; COMMIT")).await.unwrap();
    let answer = answer.await.remove(0);
    (fixture, answer)
}

fn to_a(expected: Expected, events: usize) -> Append {
    settling(&new_command(), vec![entry(&stream("a"), expected, events)])
}

async fn count(fixture: &OnPostgres, table: &str) -> i64 {
    let client = foreigner(&fixture.address).await;
    client.query_one(&format!("SELECT count(*) FROM sillage.{table}"), &[]).await.unwrap().get(0)
}

/// A group that was sent just after another node had written is judged by what that has written, and kept once.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_behind_that_of_another_node_is_kept_once_where_it_belongs() {
    let (fixture, answer) = answer_after(ADD, to_a(Expected::Any, 2)).await;
    assert_eq!(answer.unwrap().position, Position::new(ALONE + 3));
    let log = follow(fixture.store.clone(), Position::new(ALONE + 3)).await;
    let versions: Vec<u64> = log.iter().map(|event| event.version.get()).collect();
    assert_eq!(versions, (1..=ALONE + 3).collect::<Vec<_>>());
    assert_eq!(count(&fixture, "ledger").await, ALONE as i64 + 1);
}

/// What is only expected, and adds no event that a key could refuse, is judged by what is true, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_is_held_against_what_another_node_has_written() {
    let (before, after) = (Version::new(ALONE), Version::new(ALONE + 1));
    let (fixture, answer) = answer_after(ADD, to_a(Expected::Exactly(before), 0)).await;
    let expected = Expected::Exactly(before);
    assert_eq!(answer, Err(AppendError::Conflict { stream: stream("a"), expected, actual: after }));
    assert_eq!(count(&fixture, "ledger").await, ALONE as i64);

    let (_fixture, answer) = answer_after(ADD, to_a(Expected::Exactly(after), 0)).await;
    assert_eq!(answer.unwrap().position, Position::new(ALONE + 1));
    // A conflict that is known here may be none any more.
    let (_fixture, answer) = answer_after(ADD, to_a(Expected::Exactly(after), 1)).await;
    assert_eq!(answer.unwrap().position, Position::new(ALONE + 2));
}

/// A log that was replaced by another is not written, whatever is left of it.
#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_not_written() {
    for (happens, left) in [
        ("UPDATE sillage.log SET log_id = gen_random_uuid()", ALONE),
        ("DELETE FROM sillage.log", ALONE),
        ("DELETE FROM sillage.events WHERE position > 2", 2),
        ("DELETE FROM sillage.events", 0),
    ] {
        let (fixture, answer) = answer_after(happens, to_a(Expected::Any, 1)).await;
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{happens}: {answer:?}");
        assert_eq!(count(&fixture, "events").await, left as i64, "{happens}");
        assert_eq!(count(&fixture, "ledger").await, ALONE as i64, "{happens}");
        tokio::time::timeout(sillage_conformance::DEADLINE, fixture.store.failed()).await.expect(happens);
    }
}

/// Another end of the log at the same position, as after a restore, is what the next event follows.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_follows_the_one_that_is_there() {
    let other_end = "UPDATE sillage.events SET checksum = sha256('another')
        WHERE position = (SELECT max(position) FROM sillage.events)";
    let (fixture, answer) = answer_after(other_end, to_a(Expected::Any, 1)).await;
    let position = answer.unwrap().position;
    // Nothing of it is kept in memory there.
    let other = open(&fixture.address, 9, OPTIONS()).await;
    let log = follow(other, position).await;
    let [.., before, last] = &log[..] else { panic!("it is shorter than that") };
    assert!(last.follows(&before.checksum));
}

/// What the ledger knows is told as it is there, before anything else is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_another_node_has_settled_is_known() {
    for (expected, events) in [(Expected::Any, 1), (Expected::Exactly(Version::ZERO), 1), (Expected::Any, 0)]
    {
        let key = new_command();
        let settled = format!(
            "INSERT INTO sillage.ledger
            SELECT position, at, '{}', tenant, principal, stream, content, outcome FROM sillage.ledger LIMIT 1",
            key.command_id.0
        );
        let append = settling(&key, vec![entry(&stream("a"), expected, events)]);
        let (fixture, answer) = answer_after(&settled, append).await;
        assert!(matches!(answer, Err(AppendError::Known(_))), "{answer:?}");
        assert_eq!(count(&fixture, "events").await, ALONE as i64);
    }
}

/// A stream that this node has never seen is not taken for a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_there_before_is_no_new_one() {
    let fixture = OnPostgres::new().await;
    let old = stream("old");
    add(&*fixture.store, "old").await.unwrap();
    let node = open(&fixture.address, 9, OPTIONS()).await;
    for _ in 0..ALONE {
        add(&*node, "a").await.unwrap();
    }
    for (expected, events) in
        [(Expected::NoStream, 0), (Expected::NoStream, 1), (Expected::Exactly(Version::ZERO), 2)]
    {
        let beside = || settling(&new_command(), vec![entry(&stream("a"), Expected::Any, 1)]);
        let wrong = settling(&new_command(), vec![entry(&old, expected, events)]);
        let before = node.head();
        let answers = node.append(vec![beside(), wrong, beside()]).await;
        let conflict = AppendError::Conflict { stream: old.clone(), expected, actual: Version::new(1) };
        assert!(matches!(&answers[..], [Ok(_), Err(error), Ok(_)] if *error == conflict), "{answers:?}");
        assert_eq!(node.head(), before.next().next());
    }
    // What is right is taken, with events and without.
    let right = node.append(vec![
        settling(&new_command(), vec![entry(&old, Expected::Exists, 1)]),
        settling(&new_command(), vec![entry(&stream("none"), Expected::NoStream, 0)]),
        settling(&new_command(), vec![entry(&stream("none"), Expected::NoStream, 1)]),
    ]);
    assert!(right.await.iter().all(Result::is_ok));
    let other: Arc<dyn EventStore> = fixture.store.clone();
    other.watermark().wait_for(|head| *head >= node.head()).await.unwrap();
    assert_in_order(&follow(other, node.head()).await);
}

/// Two nodes that write in turn, now and then several times running: nothing is skipped or doubled, and exactly what has
/// to be refused is.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_write_in_turn_answer_as_one() {
    const TURNS: usize = 120;
    let fixture = OnPostgres::new().await;
    let nodes: [Arc<dyn EventStore>; 2] = [fixture.store.clone(), open(&fixture.address, 9, OPTIONS()).await];
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut below = |bound: usize| random.next_u32() as usize % bound;
    let mut position = Position::ZERO;
    let mut ends: BTreeMap<StreamName, u64> = BTreeMap::new();
    let mut settled: Vec<(Append, Option<Receipt>)> = Vec::new();
    for turn in 0..TURNS {
        let node = &nodes[below(2)];
        for _ in 0..1 + below(7) {
            let name = if below(8) == 0 { format!("new-{turn}") } else { below(4).to_string() };
            let (thing, events) = (stream(&name), below(3));
            let end = ends.entry(thing.clone()).or_default();
            let expected = match below(12) {
                0 => Expected::NoStream,
                1 => Expected::Exactly(Version::new(*end + 1)),
                2 => Expected::Exactly(Version::new(end.saturating_sub(1))),
                3 => Expected::Exists,
                4 => Expected::Any,
                _ => Expected::Exactly(Version::new(*end)),
            };
            if below(8) == 0 && !settled.is_empty() {
                let (append, receipt) = &settled[below(settled.len())];
                match append_one(&**node, append.clone()).await {
                    Err(AppendError::Known(known)) => assert_eq!(Some(&known.receipt), receipt.as_ref()),
                    other => panic!("it was settled before: {other:?}"),
                }
            }
            let append = settling(&new_command(), vec![entry(&thing, expected, events)]);
            let answer = append_one(&**node, append.clone()).await;
            let actual = Version::new(*end);
            if expected.holds_at(actual) {
                position = Position::new(position.get() + events as u64);
                *end += events as u64;
                let appended = answer.expect("it is as expected");
                assert_eq!(appended.position, position);
                settled.push((append, appended.receipt));
            } else {
                assert_eq!(answer, Err(AppendError::Conflict { stream: thing, expected, actual }));
            }
        }
    }
    for node in nodes {
        node.watermark().wait_for(|head| *head >= position).await.unwrap();
        assert_eq!(node.head(), position);
        assert_in_order(&follow(node, position).await);
    }
}
