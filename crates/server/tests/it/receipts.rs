//! Receipts, where their sender is connected to another node than the one that the command was sent to.

use serde_json::{Value, json};
use sillage_conformance::postgres::Server;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::nodes::{folders, node};
use crate::support::{Process, Socket, action, moderation, until, within};

/// Asks for a sign of life; nothing else may come before it.
async fn hears_nothing(socket: &mut Socket) {
    socket.send(&json!({"type": "ping"})).await;
    assert_eq!(socket.next().await.unwrap()["type"], "pong");
}

/// Sends a command, and answers its receipt.
async fn settle(socket: &mut Socket, command: &Value) -> Value {
    socket.send(command).await;
    let receipt = socket.next_of("receipt").await;
    assert_eq!(receipt["command_id"], command["command_id"]);
    receipt
}

async fn head_of(node: &Process) -> u64 {
    node.client.get("/readyz", "").await.1["head"].as_u64().unwrap()
}

/// What became of a command is told to all connections of its sender, once on each, whichever node they are on; and to
/// nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_comes_once_to_each_connection_of_its_sender_on_all_nodes() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let (first, second) = (node(folders[0].path(), &database), node(folders[1].path(), &database));
    let [anna, bert] = ["anna", "bert"].map(|user| first.client.token(user, &[]));
    let mut sender = first.client.socket(&anna).await;
    let mut elsewhere = second.client.socket(&anna).await;
    let mut stream = second.client.stream("feed=commands-me", &anna, None).await;
    let mut other = second.client.socket(&bert).await;
    // Nothing tells when a node has begun to hear of others.
    within("a receipt of another node", async {
        loop {
            settle(&mut sender, &moderation("LikesClose", "article-1")).await;
            elsewhere.send(&json!({"type": "ping"})).await;
            if elsewhere.next().await.unwrap()["type"] == "receipt" {
                break;
            }
        }
    })
    .await;
    let marker = moderation("LikesClose", "article-1");
    settle(&mut sender, &marker).await;
    while elsewhere.next_of("receipt").await["command_id"] != marker["command_id"] {}
    while stream.next_of("receipt").await.1["command_id"] != marker["command_id"] {}

    for round in 0..3 {
        let unchanged = action("LikeRemove", "article-1", Uuid::now_v7());
        let rejected = moderation("LikesClose", "article-1");
        for (command, outcome) in [(unchanged, "unchanged"), (rejected, "rejected")] {
            let receipt = settle(&mut sender, &command).await;
            assert_eq!(receipt["outcome"], outcome, "in round {round}");
            assert_eq!(elsewhere.next_of("receipt").await, receipt);
            assert_eq!(stream.next_of("receipt").await.1, receipt);
        }
    }
    hears_nothing(&mut sender).await;
    hears_nothing(&mut other).await;

    // Whoever is connected to another node alone hears of what was applied, too.
    let like = action("LikeAdd", "article-1", Uuid::now_v7());
    assert_eq!(first.client.post("/api/commands", &bert, like.to_string()).await.0, 202);
    let receipt = other.next_of("receipt").await;
    assert_eq!((&receipt["command_id"], &receipt["outcome"]), (&like["command_id"], &"applied".into()));
}

/// A node that could not hear what was told gives the receipt when the command is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_was_not_heard_of_comes_when_the_command_is_sent_again() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let first = node(folders[0].path(), &database);
    let second = node(folders[1].path(), &format!("{database}?application_name=second"));
    let anna = first.client.token("anna", &[]);
    let (mut sender, mut elsewhere) = (first.client.socket(&anna).await, second.client.socket(&anna).await);
    let (database, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);

    // It is halted, so that it cannot be back before the receipt was told.
    second.signal("-STOP");
    let ended = "SELECT count(pg_terminate_backend(pid, 20000)) FROM pg_stat_activity WHERE application_name = 'second'";
    assert!(database.query_one(ended, &[]).await.unwrap().get::<_, i64>(0) > 0);
    let rejected = moderation("LikesClose", "article-1");
    let receipt = settle(&mut sender, &rejected).await;
    second.signal("-CONT");
    let head = head_of(&first).await;
    let has_read = || async { (head_of(&second).await >= head).then_some(()) };
    until("a node that has read on", has_read).await;
    hears_nothing(&mut elsewhere).await;

    assert_eq!(settle(&mut elsewhere, &rejected).await, receipt);
    assert_eq!(sender.next_of("receipt").await, receipt, "sent again, it is for all connections again");
    let next = settle(&mut sender, &moderation("LikesClose", "article-1")).await;
    while elsewhere.next_of("receipt").await != next {}
}
