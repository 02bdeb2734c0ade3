//! `/ws` and SSE, as `PROTOCOL.md` says.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use sillage_gateway::hub::SILENCE_LIMIT;
use sillage_kernel::Timestamp;
use sillage_store::clock;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use uuid::Uuid;

use crate::support::{action, moderation, start, start_in, until, within};

fn like(target: &str) -> Value {
    action("LikeAdd", target, Uuid::now_v7())
}

#[tokio::test]
async fn a_like_reaches_every_screen_and_its_sender_hears_a_receipt() {
    let running = start(|_| ()).await;
    let (mut alice, mut bob) = (
        running.client.socket(&running.client.token("alice", &[])).await,
        running.client.socket(&running.client.token("bob", &[])).await,
    );
    let subscribed = bob.subscribe("like-article-1").await;
    assert_eq!(subscribed["current_sequence"], 0);
    let command = like("article-1");
    alice.send(&command).await;
    let receipt = alice.next_of("receipt").await;
    let expected = json!({"type": "receipt", "feed": "like-article-1", "command_id": command["command_id"],
        "outcome": "applied", "sequence_numbers": [1], "position": 1});
    assert_eq!(receipt, expected);
    let event = bob.next_of("event").await;
    let data = json!({"commandId": command["command_id"], "likeId": "l-1", "targetId": "article-1",
        "userId": "alice", "active": true, "count": 1, "version": 1, "at": "2026-01-19T12:00:00Z"});
    let expected = json!({"type": "event", "feed": "like-article-1", "epoch": subscribed["epoch"],
        "sequence_number": 1, "position": 1, "event_type": "LikeSetEvent", "data": data, "user_id": "alice",
        "username": "alice", "timestamp": event["timestamp"], "command_id": command["command_id"]});
    assert_eq!(event, expected);
}

#[tokio::test]
async fn every_connection_of_the_sender_hears_and_again_on_a_resend() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let (mut one, mut two) = (running.client.socket(&token).await, running.client.socket(&token).await);
    let command = like("a");
    one.send(&command).await;
    let first = one.next_of("receipt").await;
    assert_eq!(two.next_of("receipt").await, first);
    two.send(&command).await;
    assert_eq!((one.next_of("receipt").await, two.next_of("receipt").await), (first.clone(), first));
    // Liking again, and being refused, are receipts too.
    one.send(&like("a")).await;
    assert_eq!(one.next_of("receipt").await["outcome"], "unchanged");
    let mut moderator = running.client.socket(&running.client.token("mo", &["moderate"])).await;
    moderator.send(&moderation("LikesClose", "a")).await;
    assert_eq!(moderator.next_of("receipt").await["outcome"], "applied");
    one.send(&action("LikeRemove", "a", Uuid::now_v7())).await;
    let refused = one.next_of("receipt").await;
    assert_eq!((&refused["outcome"], &refused["code"]), (&json!("rejected"), &json!("likes_closed")));
}

#[tokio::test]
async fn nobody_but_the_sender_hears_a_receipt() {
    let running = start(|_| ()).await;
    let hour = Duration::from_secs(3_600);
    let mut alice = running.client.socket(&running.client.token("alice", &[])).await;
    let others = [
        running.client.token("bob", &[]),
        running.client.token("mo", &["moderate", "operate", "log:read"]),
        running.client.token_of("other", "alice", &[], hour),
    ];
    let mut sockets = Vec::new();
    for token in &others {
        let mut socket = running.client.socket(token).await;
        socket.subscribe("like-a").await;
        sockets.push(socket);
    }
    // Receipts of one stream go out in order: with the second, the first is wherever it goes.
    for _ in 0..2 {
        alice.send(&like("a")).await;
        alice.next_of("receipt").await;
    }
    for mut socket in sockets {
        socket.send(&json!({"type": "ping"})).await;
        let mut message = socket.next().await.unwrap();
        while message["type"] == "event" {
            message = socket.next().await.unwrap();
        }
        assert_eq!(message["type"], "pong", "{message}");
    }
}

#[tokio::test]
async fn an_event_is_the_same_on_every_transport() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let mut socket = running.client.socket(&token).await;
    socket.subscribe("like-a").await;
    socket.send(&like("a")).await;
    let event = socket.next_of("event").await;
    socket.send(&json!({"type": "sync", "feed": "like-a"})).await;
    assert_eq!(socket.next_of("sync_batch").await["events"], json!([event]));

    let request =
        reqwest::Client::new().get(running.client.url(&format!("/api/stream?feed=like-a&token={token}")));
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.contains("sequence_number") || !text.ends_with("\n\n") {
        let chunk = within("an event", answer.chunk()).await.unwrap().expect("it has no end");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let names: Vec<_> = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["retry", "data", "id", "data"],
        "without an `event:`, which a browser would look for\n{text}"
    );
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    assert_eq!(serde_json::from_str::<Value>(data).unwrap(), event);
}

#[tokio::test]
async fn whoever_was_away_resumes_where_they_were() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let mut socket = running.client.socket(&token).await;
    for name in ["LikeAdd", "LikeRemove", "LikeAdd"] {
        socket.send(&action(name, "a", Uuid::now_v7())).await;
        socket.next_of("receipt").await;
    }
    let epoch = socket.subscribe("like-a").await["epoch"].clone();
    for number in 1..=3 {
        assert_eq!(socket.next_of("event").await["sequence_number"], number);
    }
    let rows = [
        (json!({"epoch": epoch, "last_sequence": 2}), None, 3),
        (json!({"last_sequence": 1}), None, 2),
        (json!({}), None, 1),
        (json!({"epoch": "another", "last_sequence": 2}), Some("resync"), 1),
        (json!({"epoch": epoch, "last_sequence": 99}), Some("resync"), 1),
    ];
    for (extra, before, first) in rows {
        let mut socket = running.client.socket(&token).await;
        let mut message = json!({"type": "subscribe", "feed": "like-a"});
        message.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        socket.send(&message).await;
        if let Some(kind) = before {
            assert_eq!(socket.next().await.unwrap(), json!({"type": kind, "feed": "like-a", "epoch": epoch}));
        }
        let subscribed = socket.next().await.unwrap();
        assert_eq!((&subscribed["type"], &subscribed["current_sequence"]), (&json!("subscribed"), &json!(3)));
        for number in first..=3 {
            assert_eq!(socket.next().await.unwrap()["sequence_number"], number, "{message}");
        }
    }
    let mut now = running.client.socket(&token).await;
    now.send(&json!({"type": "subscribe", "feed": "like-a", "from": "now"})).await;
    now.next_of("subscribed").await;
    now.send(&action("LikeRemove", "a", Uuid::now_v7())).await;
    assert_eq!(now.next_of("event").await["sequence_number"], 4);
}

#[tokio::test]
async fn sync_pages_and_unsubscribe_ends() {
    let running = start(|_| ()).await;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    for number in 0..103 {
        let name = if number % 2 == 0 { "LikeAdd" } else { "LikeRemove" };
        socket.send(&action(name, "a", Uuid::now_v7())).await;
    }
    for _ in 0..103 {
        socket.next_of("receipt").await;
    }
    socket.send(&json!({"type": "sync", "feed": "like-a"})).await;
    let batch = socket.next_of("sync_batch").await;
    let numbers = |batch: &Value| -> Vec<_> {
        batch["events"].as_array().unwrap().iter().map(|e| e["sequence_number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&batch), (1..=100).collect::<Vec<_>>());
    assert_eq!((&batch["current_sequence"], &batch["has_more"]), (&json!(103), &json!(true)));
    socket.send(&json!({"type": "sync", "feed": "like-a", "last_sequence": 100})).await;
    let batch = socket.next_of("sync_batch").await;
    assert_eq!((numbers(&batch), &batch["has_more"]), (vec![101, 102, 103], &json!(false)));

    socket.send(&json!({"type": "subscribe", "feed": "like-a", "from": "now"})).await;
    socket.send(&json!({"type": "unsubscribe", "feed": "like-a"})).await;
    socket.next_of("unsubscribed").await;
    socket.send(&like("a")).await;
    socket.next_of("receipt").await;
    socket.send(&json!({"type": "ping"})).await;
    assert_eq!(socket.next().await.unwrap()["type"], "pong", "no event came in between");
}

#[tokio::test]
async fn feeds_stay_within_their_tenant() {
    let running = start(|_| ()).await;
    let hour = Duration::from_secs(3_600);
    let mut ours = running.client.socket(&running.client.token("alice", &[])).await;
    let mut theirs = running.client.socket(&running.client.token_of("other", "alice", &[], hour)).await;
    assert_eq!(theirs.subscribe("like-a").await["current_sequence"], 0);
    ours.send(&like("a")).await;
    ours.next_of("receipt").await;
    theirs.send(&like("a")).await;
    // Their first message is of their own like: nothing of ours came before it.
    let (first, second) = (theirs.next().await.unwrap(), theirs.next().await.unwrap());
    for message in [first, second] {
        assert_eq!(message["position"], 2, "{message}");
    }
}

#[tokio::test]
async fn a_socket_that_may_not_or_misbehaves_is_closed_with_its_code() {
    let running = start(|_| ()).await;
    let short = running.client.token_of("main", "alice", &[], Duration::ZERO);
    for token in ["", "nonsense", &short.replace('.', "x")] {
        let mut socket = running.client.socket(token).await;
        let error = socket.next().await.unwrap();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("unauthorized")));
        assert_eq!(socket.next().await, Err(4401));
    }
    let token = running.client.token("alice", &[]);
    let mut binary = running.client.socket(&token).await;
    binary.stream.send(Message::Binary(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(binary.next().await, Err(4400));
    let mut broken = running.client.socket(&token).await;
    let text = Frame::message(Bytes::from_static(b"{\xff}"), OpCode::Data(Data::Text), true);
    broken.stream.send(Message::Frame(text)).await.unwrap();
    assert_eq!(broken.next().await, Err(4400));
    let mut large = running.client.socket(&token).await;
    large.send_text(&"x".repeat(300_000)).await;
    assert_eq!(large.next().await, Err(1009));
}

#[tokio::test]
async fn whatever_is_sent_is_a_sign_of_life_and_silence_ends_a_socket() {
    let running = start(|_| ()).await;
    let hub = &running.node.gateway().hub;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    for message in [r#"{"type":"ping"}"#, "nonsense", r#"{"type":"sync","feed":"like-a"}"#] {
        let sent = clock::now();
        socket.send_text(message).await;
        socket.next().await.unwrap();
        let just_in_time = clock::later(sent, SILENCE_LIMIT).as_micros() - 1;
        hub.sweep_once(Timestamp::from_micros(just_in_time));
    }
    socket.send(&json!({"type": "ping"})).await;
    assert_eq!(socket.next().await.unwrap()["type"], "pong", "it was heard all the time");
    hub.sweep_once(clock::later(clock::now(), SILENCE_LIMIT));
    assert_eq!(socket.next().await, Err(4408));
}

#[tokio::test]
async fn a_frame_holds_several_messages_one_a_line() {
    let running = start(|_| ()).await;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    let ping = json!({"type": "ping"});
    socket.send_text(&format!("{ping}\n\n{ping}\r\n{}\n", like("a"))).await;
    for kind in ["pong", "pong", "receipt"] {
        assert_eq!(socket.next().await.unwrap()["type"], kind);
    }
}

#[tokio::test]
async fn what_is_refused_on_a_socket_is_an_error_with_what_was_sent() {
    let running = start(|_| ()).await;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    let taken = like("a");
    socket.send(&taken).await;
    assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
    let with = |field: &str, value: Value| {
        let mut action = taken.clone();
        action[field] = value;
        action
    };
    let rows = [
        (with("event_type", json!("LikeRemove")), "conflict"),
        (with("feed", json!("like-b")), "conflict"),
        (with("feed", json!("secret-1")), "not_found"),
        (with("event_type", json!("LikeMaybe")), "unknown_command"),
        (json!({"type": "subscribe", "feed": "secret-1"}), "not_found"),
        (json!({"type": "sync", "feed": "secret-1"}), "not_found"),
    ];
    for (message, code) in rows {
        socket.send(&message).await;
        let error = socket.next().await.unwrap();
        let said = (&error["type"], &error["code"], &error["original_action"]);
        assert_eq!(said, (&json!("error"), &json!(code), &message));
    }
    assert_eq!(running.node.gateway().store.head().get(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_on_the_open_socket() {
    let running = start(|_| ()).await;
    let minute = running.client.token_of("main", "alice", &[], Duration::from_secs(61));
    let mut socket = running.client.socket(&minute).await;
    let warning = socket.next_of("error").await;
    assert_eq!(warning["code"], "token_expired");
    socket.send(&json!({"type": "refresh_token", "token": running.client.token("bob", &[])})).await;
    let refused = socket.next_of("error").await;
    assert_eq!(
        (&refused["field"], &refused["original_action"]),
        (&json!("token"), &json!({"type": "refresh_token"}))
    );
    socket.send(&json!({"type": "refresh_token", "token": running.client.token("alice", &[])})).await;
    socket.next_of("token_refreshed").await;
}

#[tokio::test]
async fn sse_follows_resumes_and_hears_receipts() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let mut stream = running.client.stream("feed=like-a&feed=commands-me", &token, None).await;
    let (id, subscribed) = stream.next().await.unwrap();
    assert_eq!((id, &subscribed["type"]), (None, &json!("subscribed")));
    let epoch = subscribed["epoch"].as_str().unwrap().to_owned();
    for name in ["LikeAdd", "LikeRemove"] {
        let body = action(name, "a", Uuid::now_v7()).to_string();
        assert_eq!(running.client.post("/api/commands", &token, body).await.0, 202);
    }
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let (id, message) = stream.next().await.unwrap();
        match message["type"].as_str().unwrap() {
            "receipt" => assert_eq!(id, None),
            kind => {
                assert_eq!((kind, id.unwrap()), ("event", format!("{epoch}:{}", message["sequence_number"])))
            }
        }
        kinds.push(message["type"].clone());
    }
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(kinds, ["event", "event", "receipt", "receipt"]);

    let mut resumed = running.client.stream("feed=like-a", &token, Some(&format!("{epoch}:1"))).await;
    assert_eq!(resumed.next_of("event").await.1["sequence_number"], 2);
    let mut foreign = running.client.stream("feed=like-a", &token, Some("another:1")).await;
    assert_eq!(foreign.next().await.unwrap().1["type"], "resync");
    assert_eq!(foreign.next_of("event").await.1["sequence_number"], 1);
}

#[tokio::test]
async fn sse_of_several_feeds_has_an_id_for_all_of_them() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    for target in ["a", "b", "a-b"] {
        let body = like(target).to_string();
        assert_eq!(running.client.post("/api/commands", &token, body).await.0, 202);
    }
    let query = "feed=like-a&feed=like-b&feed=like-a-b";
    let mut stream = running.client.stream(query, &token, None).await;
    let mut last = String::new();
    for _ in 0..3 {
        last = stream.next_of("event").await.0.unwrap();
    }
    let (epoch, sequences) = last.split_once(':').unwrap();
    assert_eq!(sequences, "like-a=1,like-b=1,like-a-b=1");
    let at_b = format!("{epoch}:like-a=1,like-b=0,like-a-b=1");
    let mut resumed = running.client.stream(query, &token, Some(&at_b)).await;
    assert_eq!(resumed.next_of("event").await.1["feed"], "like-b");
}

#[tokio::test]
async fn sse_brings_receipts_only_to_whoever_asked_and_resumes_feeds_of_any_name() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let query = "feed=like-x,like-c&feed=like-c&feed=like-%C3%A9";
    let mut stream = running.client.stream(query, &token, None).await;
    let targets = ["x,like-c", "x,like-c", "c", "é"];
    for (number, target) in targets.into_iter().enumerate() {
        let name = if number == 1 { "LikeRemove" } else { "LikeAdd" };
        let body = action(name, target, Uuid::now_v7()).to_string();
        assert_eq!(running.client.post("/api/commands", &token, body).await.0, 202);
    }
    let mut last = String::new();
    let mut events = 0;
    while events < targets.len() {
        let (id, message) = stream.next().await.unwrap();
        assert_ne!(message["type"], "receipt", "nobody asked for it");
        if message["type"] == "event" {
            (events, last) = (events + 1, id.unwrap());
        }
    }
    assert!(last.is_ascii(), "{last}");
    // Resumed with one event less of the feed whose name is part of another's.
    let behind = last.replace("like-c=1", "like-c=0");
    let mut resumed = running.client.stream(query, &token, Some(&behind)).await;
    let (_, event) = resumed.next_of("event").await;
    assert_eq!((&event["feed"], &event["sequence_number"]), (&json!("like-c"), &json!(1)));
}

#[tokio::test]
async fn a_stop_closes_sockets_and_a_start_goes_on() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let mut socket = running.client.socket(&token).await;
    socket.send(&like("a")).await;
    let receipt = socket.next_of("receipt").await;
    let stopped = tokio::spawn(running.node.stop());
    assert_eq!(socket.next().await, Err(1001));
    assert_eq!(within("the stop", stopped).await.unwrap(), 1);
    let again = start_in(running.folder, |_| ()).await;
    let id = receipt["command_id"].as_str().unwrap();
    assert_eq!(again.client.get(&format!("/api/commands/{id}"), &token).await, (200, receipt.clone()));
    let ready = || async { (again.client.get("/readyz", "").await.0 == 200).then_some(()) };
    until("readiness", ready).await;
}
