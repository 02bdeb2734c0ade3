//! Each message of `protocol/golden` means what its name says: what a client sends is read so, what the server
//! sends is written so and read back, and both fit the schemas that are published.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sillage_conformance::schema::assert_fits;
use sillage_gateway::codes::{Code, Refusal};
use sillage_gateway::description::schemas;
use sillage_gateway::receive::{action, read_message};
use sillage_kernel::wire::{
    ActionMessage, ClientMessage, ErrorMessage, EventMessage, ReceiptMessage, ServerMessage, SnapshotMessage,
    SyncBatchMessage,
};
use sillage_kernel::{CommandId, Epoch, Outcome, Position, Receipt, Rejection, Version};
use sillage_store::StoreError;

const FEED: &str = "like-article-1";
const EPOCH: &str = "9f1c2e7ab0d34c55a6e8107f3b2d4c91";
const AT: &str = "2026-01-19T12:00:00Z";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/golden")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap()
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&text(name)).unwrap()
}

fn document() -> Value {
    json!({"components": {"schemas": schemas::wire()}})
}

fn command_id(number: u8) -> CommandId {
    CommandId(format!("019bd64a-0800-4000-8000-00000000000{number}").parse().unwrap())
}

fn epoch() -> Epoch {
    Epoch::parse(EPOCH).unwrap()
}

/// What a message of a client says beside the data of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Meant<'a> {
    kind: &'a str,
    feed: Option<&'a str>,
    epoch: Option<&'a str>,
    last_sequence: Option<u64>,
    from: Option<&'a str>,
    token: Option<&'a str>,
}

#[test]
fn what_a_client_sends_is_read_as_it_is_meant() {
    let feed = Some(FEED);
    let token = Some("eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl");
    let none = Meant::default();
    let rows = [
        ("client-action", "Action", Meant { kind: "action", feed, ..none }),
        ("client-subscribe", "Subscribe", Meant { kind: "subscribe", feed, ..none }),
        (
            "client-subscribe-resume",
            "Subscribe",
            Meant { kind: "subscribe", feed, epoch: Some(EPOCH), last_sequence: Some(42), ..none },
        ),
        ("client-subscribe-now", "Subscribe", Meant { kind: "subscribe", feed, from: Some("now"), ..none }),
        ("client-unsubscribe", "Unsubscribe", Meant { kind: "unsubscribe", feed, ..none }),
        ("client-sync", "Sync", Meant { kind: "sync", feed, last_sequence: Some(42), ..none }),
        ("client-refresh-token", "RefreshToken", Meant { kind: "refresh_token", token, ..none }),
        ("client-ping", "Ping", Meant { kind: "ping", ..none }),
    ];
    let mut types = BTreeSet::new();
    for (name, schema, meant) in rows {
        let text = text(name);
        let message = read_message(&text).unwrap();
        let read = Meant {
            kind: &message.kind,
            feed: message.feed.as_deref(),
            epoch: message.epoch.as_ref().map(Epoch::as_str),
            last_sequence: message.last_sequence.map(Version::get),
            from: message.from.as_deref(),
            token: message.token.as_deref(),
        };
        assert_eq!(read, meant, "{name}");
        assert_fits(&document(), schema, &golden(name));
        types.insert(meant.kind);
    }
    assert_eq!(types, ClientMessage::TYPES.iter().copied().collect(), "each type has a golden message");
}

#[test]
fn an_action_is_a_command() {
    let text = text("client-action");
    let message = read_message(&text).unwrap();
    let incoming = action(&message).unwrap();
    assert_eq!(incoming.feed.unwrap().as_str(), FEED);
    assert_eq!((incoming.name, incoming.command_id), ("LikeAdd", command_id(1)));
    let data = json!({"likeId": "l-1", "at": AT});
    assert_eq!(serde_json::from_str::<Value>(incoming.data).unwrap(), data);
    let sent = ActionMessage {
        feed: FEED.parse().unwrap(),
        event_type: "LikeAdd".to_owned(),
        command_id: command_id(1),
        data,
    };
    assert_written_and_read(&sent, "client-action", "Action");
}

/// Serialising the message produces the golden text, field for field; reading the text gives the message.
#[track_caller]
fn assert_written_and_read<T>(message: &T, name: &str, schema: &str)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let golden = golden(name);
    assert_eq!(serde_json::to_value(message).unwrap(), golden, "{name} is written");
    assert_eq!(&serde_json::from_str::<T>(&text(name)).unwrap(), message, "{name} is read");
    assert_fits(&document(), schema, &golden);
}

fn like_set() -> EventMessage<Value> {
    EventMessage {
        feed: FEED.parse().unwrap(),
        epoch: epoch(),
        sequence_number: Version::new(43),
        position: Position::new(1207),
        event_type: "LikeSetEvent".into(),
        data: json!({"commandId": command_id(1), "likeId": "l-1", "targetId": "article-1", "userId": "alice",
            "active": true, "count": 12, "version": 43, "at": AT}),
        user_id: Some("alice".parse().unwrap()),
        username: Some("Alice".to_owned()),
        timestamp: "2026-01-19T12:00:00.123456Z".parse().unwrap(),
        command_id: Some(command_id(1)),
    }
}

#[test]
fn events_and_pages() {
    assert_written_and_read(&like_set(), "server-event", "Event");
    let closed = EventMessage {
        sequence_number: Version::new(44),
        position: Position::new(1208),
        event_type: "LikesClosedEvent".into(),
        data: json!({"commandId": command_id(4), "targetId": "article-1", "closed": true, "version": 44,
            "at": "2026-01-19T12:00:01Z"}),
        user_id: None,
        username: None,
        timestamp: "2026-01-19T12:00:01Z".parse().unwrap(),
        command_id: None,
        ..like_set()
    };
    assert_written_and_read(&closed, "server-event-of-the-system", "Event");
    let snapshot = SnapshotMessage {
        feed: FEED.parse().unwrap(),
        epoch: epoch(),
        sequence_number: Version::new(1_000),
        state: json!({"likedBy": ["alice", "bob"], "closed": false, "version": 1000}),
    };
    assert_written_and_read(&snapshot, "server-snapshot", "Snapshot");
    let batch = SyncBatchMessage {
        feed: FEED.parse().unwrap(),
        events: vec![like_set()],
        current_sequence: Version::new(44),
        has_more: true,
    };
    assert_written_and_read(&batch, "server-sync-batch", "SyncBatch");
}

#[test]
fn receipts() {
    let closed = Rejection::new("likes_closed", "A moderator has closed the likes of this target.");
    let taken = Rejection {
        details: json!({"free": [13, 14]}),
        ..Rejection::new("seat_taken", "Somebody else has this seat.")
    };
    let applied = Outcome::Applied { versions: vec![Version::new(43)] };
    for (name, feed, number, outcome, position) in [
        ("applied", FEED, 1, applied, 1207),
        ("unchanged", FEED, 2, Outcome::Unchanged, 1207),
        ("rejected", FEED, 3, Outcome::Rejected(closed), 1208),
        ("rejected-with-details", "seat-12", 5, Outcome::Rejected(taken), 1209),
    ] {
        let stream = feed.parse().unwrap();
        let command_id = command_id(number);
        let receipt = Receipt { stream, command_id, outcome, position: Position::new(position) };
        let message = ReceiptMessage::from(&receipt);
        assert_written_and_read(&message, &format!("server-receipt-{name}"), "Receipt");
    }
}

#[test]
fn all_other_messages_of_the_server() {
    let feed = || FEED.parse().unwrap();
    let incomplete = json!({"type": "action", "feed": FEED, "event_type": "LikeAdd",
        "command_id": command_id(1), "data": {"at": AT}});
    let missing: ErrorMessage = Refusal::field("likeId", "is missing").on_socket(Some(incomplete));
    let rows = [
        (
            ServerMessage::Subscribed { feed: feed(), epoch: epoch(), current_sequence: Version::new(43) },
            "server-subscribed",
        ),
        (ServerMessage::Unsubscribed { feed: feed() }, "server-unsubscribed"),
        (ServerMessage::Resync { feed: feed(), epoch: epoch() }, "server-resync"),
        (ServerMessage::TokenRefreshed {}, "server-token-refreshed"),
        (ServerMessage::Pong {}, "server-pong"),
        (ServerMessage::Error(missing), "server-error"),
        (ServerMessage::Error(Refusal::too_many(1).on_socket(None)), "server-error-rate-limited"),
    ];
    for (message, name) in rows {
        // Written without a wildcard, so that a new message needs a golden one.
        let schema = match &message {
            ServerMessage::Subscribed { .. } => "Subscribed",
            ServerMessage::Unsubscribed { .. } => "Unsubscribed",
            ServerMessage::Resync { .. } => "Resync",
            ServerMessage::TokenRefreshed {} => "TokenRefreshed",
            ServerMessage::Pong {} => "Pong",
            ServerMessage::Error(_) => "Error",
        };
        assert_written_and_read(&message, name, schema);
    }
}

#[tokio::test]
async fn problems() {
    let behind = Refusal {
        detail: Some(("position", 1207.into())),
        ..Refusal::new(Code::ViewBehind, "the view has only come to position 1207")
    };
    let compacted = StoreError::Dropped { kept_from: Version::new(1_001) }.into();
    for (refusal, name) in [
        (Refusal::field("commandId", "must be a UUID"), "http-problem"),
        (behind, "http-problem-view-behind"),
        (compacted, "http-problem-compacted"),
    ] {
        let response = axum::response::IntoResponse::into_response(refusal);
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
        let golden = golden(name);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), golden);
        assert_eq!(golden["status"], status);
        assert_fits(&document(), "Problem", &golden);
    }
    for code in Code::ALL {
        let message = ServerMessage::Error(Refusal::new(*code, "").on_socket(None));
        assert_fits(&document(), "Error", &serde_json::to_value(message).unwrap());
        assert!(code.about().ends_with('.'), "{} is explained", code.word());
    }
}

#[test]
fn what_waits_for_an_operator() {
    use sillage_store::{Mode, Parked, ParkedBecause};
    let failed = ParkedBecause::Failed { error: "refused".to_owned(), attempts: 8 };
    for because in [failed, ParkedBecause::Behind] {
        let parked = Parked {
            position: Position::new(7),
            tenant: "main".parse().unwrap(),
            key: FEED.into(),
            because,
            since: AT.parse().unwrap(),
        };
        assert_fits(&document(), "ParkedEvents", &serde_json::to_value([parked]).unwrap());
    }
    for mode in [Mode::Running, Mode::Paused] {
        assert_fits(&document(), "Mode", &serde_json::to_value(mode).unwrap());
    }
}

#[test]
fn every_golden_message_is_an_example() {
    let all = document();
    let schemas = all["components"]["schemas"].as_object().unwrap();
    let examples: Vec<&Value> =
        schemas.values().filter_map(|schema| schema["examples"].as_array()).flatten().collect();
    for file in std::fs::read_dir(folder()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".json").expect("only JSON stands here");
        // Those of a system are the examples of its own descriptions.
        if ["client-", "server-", "http-"].iter().any(|start| name.starts_with(start)) {
            assert!(examples.contains(&&golden(name)), "{name} is no example in description/schemas.rs");
        }
    }
    for (name, schema) in schemas {
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_fits(&all, name, example);
        }
    }
}
