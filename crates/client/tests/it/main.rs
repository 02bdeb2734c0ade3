//! The client against a server that each test plays itself, and that need not be kind.

#![cfg(test)]

mod commands;
mod feeds;
mod files;
mod links;
mod peer;
mod raw;

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use sillage_client::{Client, Options, Status, TokenSource};
use sillage_kernel::{CommandId, StreamName};

use self::peer::Server;

/// So long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen in time")
}

fn feed(name: &str) -> StreamName {
    name.parse().unwrap()
}

/// Options with pauses that a test can wait for.
fn options(server: &Server) -> Options {
    let mut options = Options::new(server.url(), TokenSource::fixed("token"));
    options.timing.backoff = Duration::from_millis(5);
    options.timing.max_backoff = Duration::from_millis(20);
    options
}

async fn client(server: &Server) -> Client {
    Client::connect(options(server)).await.unwrap()
}

async fn status(client: &Client, wanted: Status) {
    let mut status = client.status();
    soon(status.wait_for(|status| *status == wanted)).await.unwrap();
}

fn id_of(message: &Value) -> CommandId {
    serde_json::from_value(message["command_id"].clone()).unwrap()
}

fn receipt(command_id: CommandId, outcome: &str) -> Value {
    json!({
        "type": "receipt", "feed": "like-a", "command_id": command_id, "outcome": outcome,
        "sequence_numbers": [7], "position": 70
    })
}

fn event(feed: &str, epoch: &str, number: u64) -> Value {
    json!({
        "type": "event", "feed": feed, "epoch": epoch, "sequence_number": number, "position": number * 10,
        "event_type": "LikeSetEvent", "data": {"n": number}, "user_id": "u1", "username": "Ada",
        "timestamp": "2026-11-20T12:00:00Z", "command_id": null
    })
}
