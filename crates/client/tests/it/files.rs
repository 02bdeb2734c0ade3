//! The outbox as a file: what is in it is sent whatever happens to the program.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sillage_client::{Client, Error, Options, Outbox};
use sillage_kernel::CommandId;

use crate::peer::Server;
use crate::{feed, id_of, options, receipt, soon};

fn with_file(server: &Server, path: &Path) -> Options {
    Options { outbox: Outbox::file(path), ..options(server) }
}

/// The id of a command that was minted so long ago.
fn minted(ago: Duration) -> CommandId {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() - ago;
    let millis = u64::try_from(since_1970.as_millis()).unwrap();
    CommandId(uuid::Builder::from_unix_timestamp_millis(millis, &[7; 10]).into_uuid())
}

fn line(command_id: CommandId, n: u64) -> String {
    let data = json!({"n": n});
    let line = json!({
        "type": "action", "feed": "like-a", "event_type": "LikeAdd", "command_id": command_id, "data": data
    });
    format!("{line}\n")
}

#[tokio::test]
async fn what_was_not_settled_is_sent_by_the_next_program() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("outbox"), folder.path().join("copy"));
    let server = Server::start().await;
    let client = Client::connect(with_file(&server, &path)).await.unwrap();
    let mut sent = Vec::new();
    for n in 1..=3 {
        sent.push(client.send(&feed("like-a"), "LikeAdd", &json!({"n": n})).await.unwrap());
    }
    // What a power cut at this moment would leave: sent and not settled, and half a line of the next.
    let mut left_behind = fs::read(&path).unwrap();
    left_behind.extend_from_slice(b"{\"type\":\"action\",\"feed\":\"lik");
    fs::write(&copy, left_behind).unwrap();
    let mut peer = server.welcome().await;
    peer.expect("action").await;
    drop(client);

    let server = Server::start().await;
    let client = Client::connect(with_file(&server, &copy)).await.unwrap();
    let mut settled = client.settled();
    let mut peer = server.welcome().await;
    for sent in &sent {
        let action = peer.expect("action").await;
        assert_eq!(id_of(&action), sent.command_id);
        peer.say(&receipt(sent.command_id, "applied")).await;
        // Nobody waits for it, but it is told.
        let told = soon(settled.next()).await.unwrap();
        assert_eq!((told.command_id, told.outcome.is_ok()), (sent.command_id, true));
    }
    soon(client.close()).await;
    assert_eq!(fs::read_to_string(&copy).unwrap(), "");
}

#[tokio::test]
async fn a_closed_client_leaves_what_is_not_settled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let server = Server::start().await;
    let mut ids = Vec::new();
    for n in 1..=2 {
        let client = Client::connect(with_file(&server, &path)).await.unwrap();
        ids.push(client.send(&feed("like-a"), "LikeAdd", &json!({"n": n})).await.unwrap().command_id);
        soon(client.close()).await;
    }
    let read = |line: &str| id_of(&serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().map(read).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn what_is_too_old_is_given_up_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let day = Duration::from_secs(24 * 60 * 60);
    let (old, young) = (minted(8 * day), minted(6 * day));
    fs::write(&path, line(old, 1) + &line(young, 2)).unwrap();
    let server = Server::start().await;
    let client = Client::connect(with_file(&server, &path)).await.unwrap();
    let told = soon(client.settled().next()).await.unwrap();
    assert_eq!((told.command_id, told.outcome), (old, Err(Error::TooOld { max_age: 7 * day })));
    let mut peer = server.welcome().await;
    assert_eq!(id_of(&peer.expect("action").await), young);
    assert!(peer.is_silent().await);
}

#[tokio::test]
async fn a_file_cannot_be_sent_by_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let server = Server::start().await;
    let client = Client::connect(with_file(&server, &path)).await.unwrap();
    assert_eq!(Client::connect(with_file(&server, &path)).await.err(), Some(Error::OutboxInUse));
    soon(client.close()).await;
    assert!(Client::connect(with_file(&server, &path)).await.is_ok());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let path = folder.path().join("no such folder").join("outbox");
    let refused = Client::connect(with_file(&server, &path)).await;
    assert!(matches!(refused.err(), Some(Error::Outbox(_))));
}

#[tokio::test]
async fn many_commands_share_a_flush_and_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let server = Server::start().await;
    let client = Client::connect(with_file(&server, &path)).await.unwrap();
    let sends = (0..500).map(|n| {
        let client = client.clone();
        async move {
            let (name, data) = (feed(&format!("like-{n}")), json!({"n": n}));
            client.send(&name, "LikeAdd", &data).await.unwrap().confirmed().await.unwrap();
        }
    });
    let serve = async {
        let mut peer = server.welcome().await;
        for _ in 0..500 {
            let action = peer.expect("action").await;
            peer.say(&receipt(id_of(&action), "applied")).await;
        }
        peer
    };
    let (_, _peer) = soon(async { tokio::join!(futures_util::future::join_all(sends), serve) }).await;
    soon(client.close()).await;
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}
