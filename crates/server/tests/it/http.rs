//! HTTP, as `PROTOCOL.md` says.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};
use sillage_client::Timing;
use sillage_gateway::hub::MAX_FEEDS;
use sillage_gateway::limits::Rates;
use sillage_gateway::tokens::{Allowance, Grant, Keys};
use sillage_kernel::{EventId, Expected, Filter, Metadata, NewEvent, Position};
use sillage_store::event_store::ledger::LedgerLimits;
use sillage_store::{Append, Entry, clock};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Process, action, serve, start, start_in, until};

fn like(target: &str, command_id: Uuid) -> Value {
    json!({"type": "LikeAdd", "commandId": command_id, "likeId": "l-1", "targetId": target,
        "at": "2026-01-19T12:00:00Z"})
}

#[tokio::test]
async fn the_documents_route_and_the_general_one_build_the_same_command() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let id = Uuid::now_v7();
    let body = like("article-1", id).to_string();
    assert_eq!(running.client.post("/api/social/likes", &token, body).await, (202, json!("")));
    // The same content by the other door is a resend, and another content is an error.
    let mut same = action("LikeAdd", "article-1", id);
    assert_eq!(running.client.post("/api/commands", &token, same.to_string()).await, (202, json!("")));
    same["data"]["likeId"] = json!("l-2");
    let (status, problem) = running.client.post("/api/commands", &token, same.to_string()).await;
    assert_eq!((status, &problem["code"], &problem["advice"]), (409, &json!("conflict"), &json!("fix")));
    let (_, receipt) = running.client.get(&format!("/api/commands/{id}"), &token).await;
    let expected = json!({"type": "receipt", "feed": "like-article-1", "command_id": id, "outcome": "applied",
        "sequence_numbers": [1], "position": 1});
    assert_eq!(receipt, expected);
    let bob = running.client.token("bob", &[]);
    assert_eq!(running.client.get(&format!("/api/commands/{id}"), &bob).await.0, 404);
    assert_eq!(running.client.get(&format!("/api/commands/{}", Uuid::now_v7()), &token).await.0, 404);
}

/// The status does not tell what the rules have said, and what they refuse takes no number of its target.
#[tokio::test]
async fn whatever_the_rules_say_is_taken_and_told_by_the_receipt() {
    let running = start(|_| ()).await;
    let token = running.client.token("mo", &["moderate", "log:read"]);
    let commands = [
        ("LikeAdd", json!({"outcome": "applied", "code": null, "sequence_numbers": [1], "position": 1})),
        ("LikeAdd", json!({"outcome": "unchanged", "code": null, "sequence_numbers": [], "position": 2})),
        ("LikesClose", json!({"outcome": "applied", "code": null, "sequence_numbers": [2], "position": 3})),
        (
            "LikeRemove",
            json!({"outcome": "rejected", "code": "likes_closed", "sequence_numbers": [], "position": 4}),
        ),
    ];
    for (name, expected) in commands {
        let mut body = like("a", Uuid::now_v7());
        body["type"] = json!(name);
        if name == "LikesClose" {
            body = json!({"type": name, "commandId": body["commandId"], "targetId": "a"});
        }
        let path = format!("/api/commands/{}", body["commandId"].as_str().unwrap());
        // The second time the ledger answers.
        for _ in 0..2 {
            let answer = running.client.post("/api/social/likes", &token, body.to_string()).await;
            assert_eq!(answer, (202, json!("")), "{name}");
            let (_, receipt) = running.client.get(&path, &token).await;
            for (field, value) in expected.as_object().unwrap() {
                assert_eq!(&receipt[field], value, "{name}: {receipt}");
            }
        }
    }
    let (_, stream) = running.client.get("/api/streams/like-a", &token).await;
    assert_eq!(stream["current_sequence"], 2, "what had no events has taken a number");
    assert_eq!(running.node.gateway().store.head().get(), 4, "each outcome stands in the log once");
}

/// What a person is called stands in the token and on the wire, and nowhere in the data folder.
#[tokio::test]
async fn a_name_is_shown_and_not_kept() {
    let running = start(|_| ()).await;
    let grant = Grant {
        user_id: "u-1".parse().unwrap(),
        username: Some("Ada Lovelace".to_owned()),
        tenant: "main".parse().unwrap(),
        scopes: BTreeSet::new(),
        allowance: Allowance::Full,
        lifetime: Duration::from_secs(3_600),
    };
    let token = Keys::open(&running.folder.path().join("keys.json")).unwrap().issue(&grant, clock::now());
    let mut socket = running.client.socket(&token).await;
    socket.subscribe("like-a").await;
    socket.send(&action("LikeAdd", "a", Uuid::now_v7())).await;
    let event = socket.next_of("event").await;
    assert_eq!((&event["user_id"], &event["username"]), (&json!("u-1"), &json!("Ada Lovelace")));
    let page = running.node.gateway().store.read_all(Position::ZERO, Filter::Everything, 10).await.unwrap();
    assert_eq!(page.events[0].id.0.get_version_num(), 7, "the id of an event tells when it was decided");
    running.client.get("/api/social/likes/a?at_least=1", &token).await;
    running.node.stop().await;

    let mut folders = vec![running.folder.path().to_owned()];
    let (mut files, mut ids) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let has = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
            assert!(!has("Lovelace"), "the name stands in {}", path.display());
            (files, ids) = (files + 1, ids + usize::from(has("u-1")));
        }
    }
    assert!(ids >= 2, "of {files} files not even the log and the views have the id");
}

/// However much is logged, and whether the token holds or not.
#[tokio::test]
async fn a_token_is_never_logged() {
    let (folder, logged) = (TempDir::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let mut command = serve(folder.path());
    let command = command.env("SILLAGE_LOG", "trace").stderr(logged.reopen().unwrap());
    let server = Process::listening(command, folder.path());
    let client = &server.client;
    let (token, wrong) = (client.token("alice", &[]), format!("{}x", client.token("bob", &[])));
    let mut socket = client.socket(&token).await;
    socket.send(&action("LikeAdd", "a", Uuid::now_v7())).await;
    socket.next_of("receipt").await;
    socket.send(&json!({"type": "refresh_token", "token": client.token("alice", &["moderate"])})).await;
    socket.next_of("token_refreshed").await;
    socket.send(&json!({"type": "refresh_token", "token": wrong})).await;
    let refused = socket.next_of("error").await;
    assert_eq!(refused["original_action"], json!({"type": "refresh_token"}), "nor is it sent back");
    for (token, status) in [(&token, 200), (&wrong, 401)] {
        let answer = reqwest::get(client.url(&format!("/api/social/likes/a?token={token}"))).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(client.get("/api/social/likes/a", token).await.0, status);
    }
    server.kill();
    let lines = std::fs::read_to_string(logged.path()).unwrap();
    assert!(lines.contains("TRACE") || lines.contains("DEBUG"), "nothing was logged:\n{lines}");
    // How every token of ours begins, in base64: `{"alg"` or `{"typ"`.
    let told: Vec<_> = lines.lines().filter(|line| line.contains("eyJ")).collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[tokio::test]
async fn a_view_that_has_stopped_says_that_it_is_stale_and_harms_nobody() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let post = async |target: &str| {
        let body = like(target, Uuid::now_v7()).to_string();
        assert_eq!(running.client.post("/api/social/likes", &token, body).await.0, 202);
    };
    let query =
        reqwest::Client::new().get(running.client.url("/api/social/likes/a?at_least=1")).bearer_auth(&token);
    post("a").await;
    let fresh = query.try_clone().unwrap().send().await.unwrap();
    assert_eq!((fresh.status().as_u16(), fresh.headers().get("sillage-stale")), (200, None));

    let broken = NewEvent::new(EventId(Uuid::now_v7()), "LikeSetEvent", "{}", Metadata::default());
    let stream = "like-broken".parse().unwrap();
    let entries = vec![Entry { stream, expected: Expected::NoStream, events: vec![broken] }];
    let tenant = "main".parse().unwrap();
    let append = Append { tenant, entries, ledger: None, fence: None, recorded_at: None };
    running.node.gateway().store.append(vec![append]).await.pop().unwrap().unwrap();
    let stopped = async || {
        let (status, ready) = running.client.get("/readyz", "").await;
        assert_eq!(status, 200, "all others are served");
        (!ready["views"][0]["stopped"].is_null()).then_some(())
    };
    until("the end of the view", stopped).await;

    let stale = query.send().await.unwrap();
    assert_eq!((stale.status().as_u16(), &stale.headers()["sillage-stale"]), (200, &"true".parse().unwrap()));
    let likes: Value = stale.json().await.unwrap();
    assert_eq!((&likes["count"], &likes["position"]), (&json!(1), &json!(1)));
    post("b").await;
    let mut socket = running.client.socket(&token).await;
    socket.subscribe("like-b").await;
    assert_eq!(socket.next_of("event").await["sequence_number"], 1);
}

#[tokio::test]
async fn a_query_waits_for_the_position_that_it_asks_for() {
    let running = start(|_| ()).await;
    let (alice, bob) = (running.client.token("alice", &[]), running.client.token("bob", &[]));
    let path = "/api/social/likes/a";
    let nothing = json!({"targetId": "a", "count": 0, "me": false, "version": 0, "position": 0});
    assert_eq!(running.client.get(path, &alice).await, (200, nothing));
    running.client.post("/api/social/likes", &alice, like("a", Uuid::now_v7()).to_string()).await;
    let (_, ready) = running.client.get("/readyz", "").await;
    let epoch = ready["epoch"].as_str().unwrap();
    for at_least in ["1".to_owned(), format!("{epoch}:1")] {
        for (token, me) in [(&alice, true), (&bob, false)] {
            let (status, likes) = running.client.get(&format!("{path}?at_least={at_least}"), token).await;
            let expected = json!({"targetId": "a", "count": 1, "me": me, "version": 1, "position": 1});
            assert_eq!((status, likes), (200, expected));
        }
    }
    let (status, problem) = running.client.get(&format!("{path}?at_least=another:1"), &alice).await;
    assert_eq!((status, &problem["code"], &problem["epoch"]), (409, &json!("epoch_changed"), &json!(epoch)));
    let (status, problem) = running.client.get(&format!("{path}?at_least=2"), &alice).await;
    assert_eq!((status, &problem["code"], &problem["position"]), (504, &json!("view_behind"), &json!(1)));
    let (status, problem) = running.client.get(&format!("{path}?at_least=1&at_least=2"), &alice).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_field")));
    let (status, problem) = running.client.get("/api/social/likes/%FF", &alice).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    let (status, problem) = running.client.get(&format!("{path}?at_least=x"), &alice).await;
    assert_eq!((status, &problem["field"]), (422, &json!("at_least")));
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_is_stored() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let good = like("a", Uuid::now_v7());
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body.to_string()
    };
    let long = "x".repeat(201);
    let rows = [
        ("{".to_owned(), 400, "malformed", Value::Null),
        ("[]".to_owned(), 400, "malformed", Value::Null),
        (with("type", json!("LikeMaybe")), 422, "unknown_command", Value::Null),
        (without("type"), 422, "invalid_field", json!("type")),
        (without("commandId"), 422, "invalid_field", json!("commandId")),
        (with("commandId", json!("7")), 422, "invalid_field", json!("commandId")),
        (without("likeId"), 422, "invalid_field", json!("likeId")),
        (without("targetId"), 422, "invalid_field", json!("targetId")),
        (with("targetId", json!("a b")), 422, "invalid_field", json!("targetId")),
        (with("targetId", json!(long)), 422, "invalid_field", json!("targetId")),
        (with("at", json!("today")), 422, "invalid_field", json!("at")),
        (with("userId", json!("bob")), 422, "invalid_field", json!("userId")),
        (with("count", json!(7)), 422, "invalid_field", json!("count")),
        (with("likeId", json!("x".repeat(300_000))), 413, "too_large", Value::Null),
    ];
    for (body, expected, code, field) in rows {
        let (status, problem) = running.client.post("/api/social/likes", &token, body.clone()).await;
        let said = (status, &problem["code"], &problem["field"], &problem["status"]);
        assert_eq!(said, (expected, &json!(code), &field, &json!(expected)), "{:.200}", body);
    }
    let elsewhere = json!({"type": "action", "feed": "secret-1", "event_type": "LikeAdd",
        "command_id": Uuid::now_v7(), "data": {"likeId": "l", "at": "2026-01-19T12:00:00Z"}});
    let (status, problem) = running.client.post("/api/commands", &token, elsewhere.to_string()).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    assert_eq!(running.client.get("/api/stream?feed=secret-1", &token).await.0, 404);
    assert_eq!(running.client.get("/api/stream", &token).await.0, 422);
    assert_eq!(running.client.get("/api/nothing", &token).await.0, 404);
    assert_eq!(running.client.get("/api/commands", &token).await.0, 405);
    for path in ["/api/social/likes/a", "/api/stream?feed=like-a", "/api/outbox", "/api/reactors"] {
        assert_eq!(running.client.get(path, "nonsense").await.0, 401, "{path}");
    }
    for path in ["/api/outbox", "/api/reactors"] {
        assert_eq!(running.client.get(path, &token).await.0, 403, "{path}");
    }
    assert_eq!(running.node.gateway().store.head().get(), 0);
}

#[tokio::test]
async fn a_guest_may_like_a_little() {
    let running = start(|config| {
        let three = NonZeroU32::new(3).unwrap();
        config.rates = Rates { guest_commands: three, ..Rates::default() };
    })
    .await;
    let (status, guest) = running.client.post("/api/auth/guest", "", "").await;
    assert_eq!(status, 200);
    let token = guest["token"].as_str().unwrap();
    let mut statuses = Vec::new();
    for number in 0..10 {
        let body = like(&format!("a{number}"), Uuid::now_v7()).to_string();
        let (status, problem) = running.client.post("/api/social/likes", token, body).await;
        if status == 429 {
            assert_eq!((&problem["code"], &problem["advice"]), (&json!("rate_limited"), &json!("retry")));
        }
        statuses.push(status);
    }
    let taken = statuses.iter().filter(|status| **status == 202).count();
    assert!((3..=6).contains(&taken) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(
        running.node.gateway().store.head().get(),
        taken as u64,
        "what was too much has left something"
    );
    let mut socket = running.client.socket(token).await;
    for number in 0..10 {
        socket.send(&action("LikeAdd", &format!("b{number}"), Uuid::now_v7())).await;
    }
    let error = socket.next_of("error").await;
    assert_eq!((&error["code"], &error["retry_after"]), (&json!("rate_limited"), &json!(1)));
}

#[tokio::test]
async fn a_guest_may_ask_follow_and_connect_a_little() {
    let running = start(|config| {
        let one = NonZeroU32::MIN;
        config.rates =
            Rates { guest_queries: one, guest_subscriptions: one, guest_connections: one, ..config.rates };
    })
    .await;
    let client = &running.client;
    let (_, guest) = client.post("/api/auth/guest", "", "").await;
    let token = guest["token"].as_str().unwrap();
    let receipt = format!("/api/commands/{}", Uuid::now_v7());
    for path in ["/api/social/likes/a", &receipt] {
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(client.get(path, token).await.0);
        }
        assert!(statuses.contains(&429), "{path}: {statuses:?}");
    }
    let mut socket = client.socket(token).await;
    for number in 0..=2 * MAX_FEEDS {
        let feed = format!("like-{number}");
        socket.send(&json!({"type": "subscribe", "feed": feed})).await;
        socket.send(&json!({"type": "unsubscribe", "feed": feed})).await;
    }
    let mut followed = 0;
    let error = loop {
        let message = socket.next().await.unwrap();
        match message["type"].as_str().unwrap() {
            "subscribed" => followed += 1,
            "error" => break message,
            _ => {}
        }
    };
    assert!(followed >= MAX_FEEDS, "a whole connection may come back at once: {followed}");
    assert_eq!((&error["code"], &error["retry_after"]), (&json!("rate_limited"), &json!(1)));

    for tries in 1.. {
        let mut another = client.socket(token).await;
        another.send(&json!({"type": "ping"})).await;
        if another.next().await.unwrap()["code"] == "rate_limited" {
            assert_eq!(another.next().await, Err(4429));
            break;
        }
        assert!(tries < 20, "all were opened");
    }
}

#[tokio::test]
async fn the_log_outlives_the_process_and_has_one_owner() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    running.client.post("/api/social/likes", &token, like("a", Uuid::now_v7()).to_string()).await;
    let second = sillage_server::Node::start(sillage_server::Config::new(
        ([127, 0, 0, 1], 0).into(),
        running.folder.path().into(),
    ));
    let error = second.await.err().expect("a folder has one owner").to_string();
    assert!(error.contains("locked"), "{error}");
    running.node.stop().await;
    let again = start_in(running.folder, |_| ()).await;
    let (_, likes) = again.client.get("/api/social/likes/a?at_least=1", &token).await;
    assert_eq!((&likes["count"], &likes["me"]), (&json!(1), &json!(true)));
}

#[tokio::test]
async fn those_who_look_after_it_need_no_token() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    running.client.post("/api/social/likes", &token, like("a", Uuid::now_v7()).to_string()).await;
    assert_eq!(running.client.get("/healthz", "").await, (200, json!("ok\n")));
    running.client.get("/api/social/likes/a?at_least=1", &token).await;
    let (status, metrics) = running.client.get("/metrics", "").await;
    let metrics = metrics.as_str().unwrap();
    assert_eq!(status, 200);
    for line in [
        "sillage_log_head 1",
        "sillage_view_position{view=\"likes\"} 1",
        "sillage_connections 0",
        "sillage_receipts_total{outcome=\"applied\"} 1",
        "sillage_http_requests_total{method=\"POST\",route=\"/api/social/likes\",status=\"202\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("alice"), "no user is a label");
}

#[test]
fn a_client_gives_up_before_the_ledger_forgets() {
    let memory = LedgerLimits::default().memory;
    assert_eq!(memory, Duration::from_secs(30 * 24 * 3_600));
    assert!(Timing::default().max_age < memory);
}

#[tokio::test]
async fn an_old_command_is_never_taken_for_new() {
    let running = start(|config| config.journal.ledger.memory = Duration::from_secs(3_600)).await;
    let token = running.client.token("alice", &[]);
    let two_hours_ago = std::time::SystemTime::now() - Duration::from_secs(7_200);
    let millis = two_hours_ago.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let old = uuid::Builder::from_unix_timestamp_millis(millis.try_into().unwrap(), &[7; 10]).into_uuid();
    let mut socket = running.client.socket(&token).await;
    socket.send(&action("LikeAdd", "a", old)).await;
    let receipt = socket.next_of("receipt").await;
    assert_eq!((&receipt["outcome"], &receipt["code"]), (&json!("rejected"), &json!("expired")));
    assert_eq!(running.node.gateway().store.head().get(), 0);
}
