//! Several nodes on one database of which some drop what is old: nobody misses what was dropped.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;
use sillage_conformance::postgres::Server;
use sillage_runtime::compaction::{EVENTS_FOR_A_BASELINE, PLACE_TTL};
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::nodes::{folders, node};
use crate::support::{Client, Process, action, serve};

/// Several leases run out one after the other, on a machine that has other things to do.
const PATIENCE: Duration = PLACE_TTL.saturating_mul(5);
const MANY: u64 = EVENTS_FOR_A_BASELINE;

/// A node that drops whatever it may.
fn dropping(folder: &Path, database: &str) -> Process {
    let mut command = serve(folder);
    Process::listening(command.env("SILLAGE_STORE", database).args(["--keep", "like=baseline"]), folder)
}

/// Has a user like the target and not like it by turns, until it has these versions.
async fn by_turns(client: &Client, versions: RangeInclusive<u64>) {
    let mut socket = client.socket(&client.token("alice", &[])).await;
    let commands: Vec<_> = versions
        .map(|version| if version.is_multiple_of(2) { "LikeRemove" } else { "LikeAdd" })
        .map(|name| action(name, "article-1", Uuid::now_v7()))
        .collect();
    for some in commands.chunks(100) {
        for command in some {
            socket.send(command).await;
        }
        for _ in some {
            assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
        }
    }
}

/// What a round of compaction on a node has dropped; nothing, if it could not be done.
async fn compact(client: &Client) -> u64 {
    let (_, done) = client.post("/api/compaction", &client.token("olga", &["operate"]), "").await;
    done["dropped_events"].as_u64().unwrap_or_default()
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} never came");
        // tidy: sleep because nothing tells when it is there; bounded by the deadline.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the node shows the likes as they are at that version.
async fn shows(client: &Client, version: u64) {
    let (anna, count) = (client.token("anna", &[]), version % 2);
    let shown = async || {
        let (status, likes) = client.get("/api/social/likes/article-1", &anna).await;
        (status == 200 && likes["count"] == count && likes["version"] == version).then_some(())
    };
    eventually(&format!("{count} likes at version {version}"), shown).await;
}

/// Where the views of a node stand.
async fn views(client: &Client) -> Option<u64> {
    let (_, ready) = client.get("/readyz", "").await;
    ready["views"].as_array()?.iter().map(|view: &Value| view["position"].as_u64()).min()?
}

/// A node whose views cannot move, and one that hangs, keep the others from dropping what they have not seen: the first
/// for as long as it lives, the second until its time is over. When that one wakes up it ends, rather than show what
/// it has missed a part of; started again, it shows what is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dropped_that_a_living_node_has_not_seen() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let first = dropping(folders[0].path(), &database);
    let second = node(folders[1].path(), &database);
    by_turns(&first.client, 1..=1).await;
    shows(&second.client, 1).await;

    // Nobody else can write the file of its views.
    let file = Connection::open(folders[1].path().join("views.sqlite")).unwrap();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    by_turns(&first.client, 2..=MANY).await;
    shows(&first.client, MANY).await;
    let slow = Instant::now();
    while slow.elapsed() < PLACE_TTL + PLACE_TTL / 3 {
        assert_eq!(compact(&first.client).await, 0, "a node has not seen it");
        // tidy: sleep because it is looked again and again whether something happens that must not.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(views(&second.client).await, Some(1));
    file.execute_batch("ROLLBACK").unwrap();
    let dropped = async || Some(compact(&first.client).await).filter(|dropped| *dropped > 0);
    assert_eq!(eventually("what all have seen", dropped).await, MANY - 1);
    shows(&second.client, MANY).await;

    second.signal("-STOP");
    by_turns(&first.client, MANY + 1..=2 * MANY).await;
    shows(&first.client, 2 * MANY).await;
    assert_eq!(compact(&first.client).await, 0, "a node may only be slow");
    eventually("what a hanging node has not seen", dropped).await;
    second.signal("-CONT");
    assert!(!second.ended().await, "it has missed what was dropped, and goes on");
    let second = node(folders[1].path(), &database);
    shows(&second.client, 2 * MANY).await;
    by_turns(&second.client, 2 * MANY + 1..=2 * MANY + 1).await;
    for client in [&first.client, &second.client] {
        shows(client, 2 * MANY + 1).await;
    }
}

/// The node that drops is killed in the middle of it: another goes on, and both show what is, also with views that are
/// built from nothing.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_when_the_one_that_drops_is_killed() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let first = dropping(folders[0].path(), &database);
    let second = dropping(folders[1].path(), &database);
    by_turns(&second.client, 1..=MANY + 1).await;
    for client in [&first.client, &second.client] {
        shows(client, MANY + 1).await;
    }
    // Somebody else holds one of the events that are to go.
    let (holder, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    let held =
        "BEGIN; SELECT FROM sillage.events WHERE stream = 'like-article-1' AND version = 500 FOR UPDATE";
    holder.batch_execute(held).await.unwrap();
    let client = first.client.clone();
    let orders = tokio::spawn(async move {
        loop {
            compact(&client).await;
        }
    });
    // Who has a transaction open sees at any moment of it who waited at the first.
    let (looker, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    let waits = async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%UPDATE sillage.events%'";
        (looker.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    };
    eventually("a node that drops", waits).await;
    orders.abort();
    first.kill();
    // Else it would be the server that does the rest, once it can.
    let ended =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%UPDATE sillage.events%'
        AND datname = current_database() AND pid <> pg_backend_pid()";
    looker.execute(ended, &[]).await.unwrap();
    assert_eq!(compact(&second.client).await, 0, "the other has just died, and had its turn");
    holder.batch_execute("ROLLBACK").await.unwrap();
    let dropped = async || Some(compact(&second.client).await).filter(|dropped| *dropped > 0);
    assert_eq!(eventually("the other node's turn", dropped).await, MANY);
    shows(&second.client, MANY + 1).await;

    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(folders[0].path().join(format!("views.sqlite{suffix}"))));
    }
    let first = dropping(folders[0].path(), &database);
    shows(&first.client, MANY + 1).await;
    by_turns(&first.client, MANY + 2..=MANY + 3).await;
    for client in [&first.client, &second.client] {
        shows(client, MANY + 3).await;
    }
}
