//! Several nodes on one database: they append, race and follow, and there is one order that all of them see.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sillage_kernel::{Event, Expected, Position, Timestamp, Version};
use sillage_store::event_store::postgres::PostgresOptions;
use sillage_store::{
    Append, AppendError, CursorError, CursorState, CursorUpdate, EventStore, Fence, LedgerEntry, LedgerKey,
    Mode, Parked, ParkedBecause,
};
use tokio::task::JoinSet;

use super::answers::{
    Load, add, append_one, assert_agrees, assert_in_order, entry, follow, new_command, settling, stream,
    tenant,
};
use super::{OPTIONS, OnPostgres, eventually, foreigner, open};

const NODES: usize = 3;
/// How long something that is hung up is left hanging at least, in appends of others.
const MEANWHILE: usize = 60;
const LONG: Duration = Duration::from_secs(3_600);

async fn three_nodes(fixture: &OnPostgres) -> Vec<Arc<dyn EventStore>> {
    let mut nodes: Vec<Arc<dyn EventStore>> = vec![fixture.store.clone()];
    while nodes.len() < NODES {
        nodes.push(open(&fixture.address, 9, OPTIONS()).await);
    }
    nodes
}

/// All nodes write, on each of them some follow from the beginning and some begin later, and everybody has seen the
/// same log.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_see_one_order_without_gaps() {
    let fixture = OnPostgres::new().await;
    let nodes = three_nodes(&fixture).await;
    let load = Load::start(&nodes, 9);
    let mut followers = JoinSet::new();
    for round in 0..3 {
        load.goes_on(40).await;
        let end = Position::new(nodes[0].head().get() + 200);
        for node in &nodes {
            assert!(node.head() > Position::ZERO || round == 0);
            followers.spawn(follow(Arc::clone(node), end));
        }
    }
    load.goes_on(300).await;
    let attempts = load.stop().await;
    for node in &nodes {
        assert_agrees(node, &attempts).await;
    }
    let log = follow(Arc::clone(&nodes[0]), nodes[0].head()).await;
    for seen in followers.join_all().await {
        assert!(log.starts_with(&seen), "a follower has not seen the log");
    }
}

/// One command sent to all nodes at once is settled once; one version wanted by all is given once.
#[tokio::test(flavor = "multi_thread")]
async fn racing_nodes_settle_each_command_and_version_once() {
    let fixture = OnPostgres::new().await;
    let nodes = three_nodes(&fixture).await;
    for round in 0..20 {
        let (key, raced) = (new_command(), stream("raced"));
        let same = nodes.iter().enumerate().map(|(n, node)| {
            let append = settling(&key, vec![entry(&stream(&format!("{round}-{n}")), Expected::NoStream, 1)]);
            append_one(&**node, append)
        });
        let answers = futures_util::future::join_all(same).await;
        let receipts: BTreeSet<Position> = answers
            .iter()
            .map(|answer| match answer {
                Ok(appended) => appended.receipt.as_ref().unwrap().position,
                Err(AppendError::Known(known)) => known.receipt.position,
                Err(other) => panic!("nobody expected {other:?}"),
            })
            .collect();
        assert_eq!((answers.iter().filter(|answer| answer.is_ok()).count(), receipts.len()), (1, 1));

        let expected = Expected::Exactly(Version::new(round));
        let wanted = nodes
            .iter()
            .map(|node| append_one(&**node, settling(&new_command(), vec![entry(&raced, expected, 1)])));
        let answers = futures_util::future::join_all(wanted).await;
        let actual = Version::new(round + 1);
        let lost = AppendError::Conflict { stream: raced.clone(), expected, actual };
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!(answers.iter().filter(|answer| **answer == Err(lost.clone())).count(), NODES - 1);
    }
    assert_in_order(&follow(Arc::clone(&nodes[1]), nodes[1].head()).await);
}

/// Whoever has the log open in a transaction of their own, with a snapshot or with a lock on its rows, makes nobody
/// skip anything, and does not even hold anybody up.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_skips_anything_while_a_foreign_transaction_hangs_open() {
    let fixture = OnPostgres::new().await;
    let nodes = three_nodes(&fixture).await;
    for node in &nodes {
        add(&**node, "before").await.unwrap();
    }
    let load = Load::start(&nodes, 6);
    for hangs in [
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sillage.events",
        "BEGIN; SELECT FROM sillage.events FOR UPDATE",
        "BEGIN; INSERT INTO sillage.cursors VALUES ('foreign', 0, 'running')",
        "BEGIN; SELECT pg_current_xact_id()",
    ] {
        let foreign = foreigner(&fixture.address).await;
        foreign.batch_execute(hangs).await.unwrap();
        let start = nodes[0].head();
        load.goes_on(MEANWHILE).await;
        for node in &nodes {
            let end = Position::new(start.get() + MEANWHILE as u64);
            let seen = follow(Arc::clone(node), end).await;
            assert_in_order(&seen);
        }
        foreign.batch_execute("ROLLBACK").await.unwrap();
    }
    drop(load.stop().await);
}

/// Whoever holds the lock of the log holds up everybody: they are refused after a while, nothing of theirs is kept, and
/// everybody goes on once it lets go.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_log_holds_everybody_up_and_loses_nothing() {
    let fixture = OnPostgres::new().await;
    let hasty = PostgresOptions { lock_timeout: Duration::from_millis(50), ..OPTIONS() };
    let node: Arc<dyn EventStore> = open(&fixture.address, 9, hasty).await;
    let before = add(&*node, "a").await.unwrap().position;
    let foreign = foreigner(&fixture.address).await;
    foreign.batch_execute("BEGIN; SELECT FROM sillage.log FOR UPDATE").await.unwrap();
    for _ in 0..3 {
        assert_eq!(add(&*node, "a").await, Err(AppendError::Overloaded));
        let step = CursorUpdate { reactor: "r".into(), position: Some(before), ..CursorUpdate::default() };
        assert!(matches!(node.write_cursor(step).await, Err(CursorError::Unavailable(_))));
        assert_eq!(node.head(), before);
    }
    let waiting = add(&*fixture.store, "a");
    foreign.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(waiting.await.unwrap().position, before.next());
    assert_eq!(add(&*node, "a").await.unwrap().position, before.next().next());
    assert_eq!(follow(Arc::clone(&node), node.head()).await.len(), 3);
}

/// What one node writes the others see without asking: events, receipts and cursors; soon, and even if nobody tells
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_all_others_see() {
    let fixture = OnPostgres::new().await;
    let nodes = three_nodes(&fixture).await;
    for (n, node) in nodes.iter().enumerate() {
        let (key, thing) = (new_command(), stream(&n.to_string()));
        let appended =
            append_one(&**node, settling(&key, vec![entry(&thing, Expected::Any, 2)])).await.unwrap();
        for other in &nodes {
            other.watermark().wait_for(|head| *head >= appended.position).await.unwrap();
            let known: Vec<Option<LedgerEntry>> = other.look_up(vec![LedgerKey::clone(&key)]).await.unwrap();
            assert_eq!(known[0].as_ref().map(|entry| &entry.receipt), appended.receipt.as_ref());
        }
        let step = CursorUpdate {
            reactor: "r".into(),
            position: Some(appended.position),
            ..CursorUpdate::default()
        };
        node.write_cursor(step).await.unwrap();
        for other in &nodes {
            assert_eq!(other.read_cursor("r").await.unwrap().position, appended.position);
        }
    }
    // Somebody writes who tells nobody.
    let foreign = foreigner(&fixture.address).await;
    let copied = "INSERT INTO sillage.events
        SELECT position + 1, version + 1, recorded_at, gen_random_uuid(), tenant, stream, type, data, metadata, checksum
        FROM sillage.events ORDER BY position DESC LIMIT 1";
    foreign.execute(copied, &[]).await.unwrap();
    for node in &nodes {
        node.watermark().wait_for(|head| *head == Position::new(2 * NODES as u64 + 1)).await.unwrap();
    }
}

/// A node hears at once that another has written, and does not wait for its next look.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_at_once_what_another_has_written() {
    const ROUNDS: u32 = 30;
    let fixture = OnPostgres::new().await;
    let nodes = three_nodes(&fixture).await;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let position = add(&*nodes[0], "a").await.unwrap().position;
        nodes[1].watermark().wait_for(|head| *head >= position).await.unwrap();
    }
    // Without hearing anything, each round would take until the next look, a second after the one before.
    assert!(begun.elapsed() < Duration::from_secs(1) * ROUNDS / 3, "{:?}", begun.elapsed());
}

/// Whatever steps of cursors come to be written together, they come to what they come to one by one.
#[tokio::test(flavor = "multi_thread")]
async fn steps_that_are_written_together_are_taken_one_by_one() {
    let fixture = OnPostgres::new().await;
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut below = |bound: u32| random.next_u32() % bound;
    let mut states = [CursorState::default(), CursorState::default()];
    for _ in 0..60 {
        let foreign = foreigner(&fixture.address).await;
        foreign.batch_execute("BEGIN; SELECT FROM sillage.log FOR UPDATE").await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..1 + below(6) {
            let which = below(2);
            let step = random_step(&format!("r{which}"), &mut below);
            states[which as usize].apply(&step);
            waiting.push(fixture.store.write_cursor(step));
        }
        foreign.batch_execute("ROLLBACK").await.unwrap();
        for answer in waiting {
            answer.await.unwrap();
        }
        for (n, state) in states.iter().enumerate() {
            assert_eq!(fixture.store.read_cursor(&format!("r{n}")).await.unwrap(), *state);
        }
    }
}

fn random_step(reactor: &str, below: &mut impl FnMut(u32) -> u32) -> CursorUpdate {
    let because = |kind| match kind {
        0 => ParkedBecause::Behind,
        1 => ParkedBecause::Failed { error: "a \0 b".to_owned(), attempts: 3 },
        _ => ParkedBecause::Skipped,
    };
    let mut park = Vec::new();
    for _ in 0..below(3) {
        let (position, because) = (Position::new(below(8).into()), because(below(3)));
        park.push(Parked {
            position,
            tenant: tenant(),
            key: "k".into(),
            because,
            since: Timestamp::default(),
        });
    }
    CursorUpdate {
        reactor: reactor.into(),
        fence: None,
        position: (below(2) == 0).then(|| Position::new(below(8).into())),
        mode: (below(3) == 0).then_some([Mode::Running, Mode::Paused][below(2) as usize]),
        park,
        unpark: (0..below(3)).map(|_| Position::new(below(8).into())).collect(),
    }
}

/// A lease is held on one node at a time; when it passes on, whatever its former holder writes is refused, on any node.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_held_on_one_node_and_its_former_holder_is_fenced_off() {
    let fixture = OnPostgres::new().await;
    let nodes = three_nodes(&fixture).await;
    let brief = Duration::from_millis(20);
    let held = nodes[0].acquire_lease("r", "node-0", brief).await.unwrap().unwrap();
    let next =
        eventually("the lease is free", async || nodes[1].acquire_lease("r", "node-1", LONG).await.unwrap())
            .await;
    assert!(next.token > held.token);
    assert_eq!(nodes[2].acquire_lease("r", "node-2", LONG).await.unwrap(), None);
    let fenced = |held| {
        let append = settling(&new_command(), vec![entry(&stream("a"), Expected::Any, 1)]);
        Append { fence: Some(Fence { lease: "r".into(), held }), ..append }
    };
    for node in &nodes {
        assert_eq!(append_one(&**node, fenced(held)).await, Err(AppendError::Fenced));
        let fence = Some(Fence { lease: "r".into(), held });
        let position = Some(Position::new(1));
        let step = CursorUpdate { reactor: "r".into(), fence, position, ..CursorUpdate::default() };
        assert_eq!(node.write_cursor(step).await, Err(CursorError::Fenced));
        append_one(&**node, fenced(next)).await.unwrap();
    }
    let log: Vec<Arc<Event>> = follow(Arc::clone(&nodes[0]), Position::new(NODES as u64)).await;
    assert_eq!((log.len(), nodes[0].head()), (NODES, Position::new(NODES as u64)));
}
