//! The raw store API: streams and the log as they are, for programs that have their own rules.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::exports::{prints, sillage};
use crate::support::{Running, start, start_in};

const HOUR: Duration = Duration::from_secs(3_600);
const BOTH: &[&str] = &["log:read", "log:append"];

/// An append, and what is answered.
async fn append(running: &Running, token: &str, stream: &str, body: &Value) -> (u16, Value) {
    running.client.post(&format!("/api/streams/{stream}"), token, body.to_string()).await
}

fn weighed(expected: impl Into<Value>, command_id: Uuid, grams: &[u64]) -> Value {
    let event = |grams: &u64| json!({"type": "ParcelWeighed", "data": {"grams": grams}});
    json!({"expected": expected.into(), "command_id": command_id,
        "events": grams.iter().map(event).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_program_appends_once_and_reads_what_it_has_written() {
    let running = start(|_| ()).await;
    let token = running.client.token("scale", BOTH);
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let receipt = |id: Uuid, numbers: &[u64], position: u64| {
        json!({"type": "receipt", "feed": "parcel-7", "command_id": id, "outcome": "applied",
            "sequence_numbers": numbers, "position": position})
    };
    // The second time the ledger answers.
    for _ in 0..2 {
        let answer = append(&running, &token, "parcel-7", &weighed("no_stream", first, &[420, 421])).await;
        assert_eq!(answer, (201, receipt(first, &[1, 2], 2)));
    }
    let (status, problem) = append(&running, &token, "parcel-7", &weighed(1, second, &[422])).await;
    assert_eq!((status, &problem["code"], &problem["actual"]), (409, &json!("conflict"), &json!(2)));
    let answer = append(&running, &token, "parcel-7", &weighed(2, second, &[422])).await;
    assert_eq!(answer, (201, receipt(second, &[3], 3)));
    let (status, problem) = append(&running, &token, "parcel-7", &weighed(2, second, &[999])).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "another content");

    let (_, all) = running.client.get("/api/streams/parcel-7", &token).await;
    let grams = |page: &Value| {
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["data"]["grams"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (grams(&all), &all["current_sequence"], &all["has_more"]),
        (vec![420, 421, 422], &json!(3), &json!(false))
    );
    assert_eq!((&all["events"][0]["type"], &all["events"][0]["user_id"]), (&json!("event"), &json!("scale")));
    let (_, some) = running.client.get("/api/streams/parcel-7?from=2&limit=1", &token).await;
    assert_eq!((grams(&some), &some["has_more"]), (vec![421], &json!(true)));
    let (_, none) = running.client.get("/api/streams/parcel-8", &token).await;
    assert_eq!(
        (grams(&none), &none["current_sequence"], &none["has_more"]),
        (vec![], &json!(0), &json!(false))
    );
}

#[tokio::test]
async fn what_cannot_be_appended_leaves_nothing() {
    let running = start(|_| ()).await;
    let token = running.client.token("scale", BOTH);
    let good = || weighed("any", Uuid::now_v7(), &[1]);
    let with = |key: &str, value: Value| {
        let mut body = good();
        body[key] = value;
        body
    };
    let too_many = weighed("any", Uuid::now_v7(), &[1; 1_001]);
    let typeless = json!([{"type": "", "data": {}}]);
    let future = "0fffffff-ffff-7000-8000-000000000001";
    let rows = [
        ("like-article-1", good(), 403, "forbidden"),
        ("$outcomes-scale", good(), 403, "forbidden"),
        ("nocategory", good(), 422, "invalid_field"),
        ("parcel-7", with("expected", json!("whatever")), 422, "invalid_field"),
        ("parcel-7", with("expected", json!(-1)), 422, "invalid_field"),
        ("parcel-7", with("expected", json!(1_u64 << 53)), 422, "invalid_field"),
        ("parcel-7", with("events", json!([])), 422, "invalid_field"),
        ("parcel-7", with("events", typeless), 422, "invalid_field"),
        ("parcel-7", with("events", json!([{"type": "X"}])), 422, "invalid_field"),
        ("parcel-7", with("command_id", json!("x")), 422, "invalid_field"),
        ("parcel-7", with("command_id", json!(future)), 422, "invalid_field"),
        ("parcel-7", json!([]), 400, "malformed"),
        ("parcel-7", too_many, 422, "invalid_field"),
        ("parcel-7", with("expected", json!("exists")), 409, "conflict"),
    ];
    for (row, (stream, body, expected, code)) in rows.into_iter().enumerate() {
        let (status, problem) = append(&running, &token, stream, &body).await;
        assert_eq!((status, &problem["code"]), (expected, &json!(code)), "row {row}: {problem}");
    }
    assert_eq!(running.node.gateway().store.head().get(), 0);
}

#[tokio::test]
async fn each_route_needs_its_scope_and_shows_its_own_tenant() {
    let running = start(|_| ()).await;
    let nobody = running.client.token("alice", &[]);
    let reader = running.client.token("reader", &["log:read"]);
    let writer = running.client.token("writer", &["log:append"]);
    let stranger = running.client.token_of("other", "writer", BOTH, HOUR);
    let body = weighed("any", Uuid::now_v7(), &[1]);
    assert_eq!(append(&running, &writer, "parcel-7", &body).await.0, 201);
    let own = weighed("no_stream", Uuid::now_v7(), &[2]);
    assert_eq!(
        append(&running, &stranger, "parcel-7", &own).await.0,
        201,
        "another tenant has its own stream"
    );
    for token in [&nobody, &reader] {
        assert_eq!(append(&running, token, "parcel-7", &body).await.0, 403);
    }
    for path in ["/api/streams/parcel-7", "/api/streams/like-a/state", "/api/log"] {
        for token in [&nobody, &writer] {
            assert_eq!(running.client.get(path, token).await.0, 403, "{path}");
        }
        assert_eq!(running.client.get(path, "").await.0, 401, "{path}");
        assert_eq!(running.client.get(path, &reader).await.0, 200, "{path}");
    }
    for (token, grams, position) in [(&reader, 1, 1), (&stranger, 2, 2)] {
        let (_, log) = running.client.get("/api/log", token).await;
        let events = log["events"].as_array().unwrap();
        assert_eq!(
            (events.len(), &events[0]["data"]["grams"], &events[0]["position"]),
            (1, &json!(grams), &json!(position))
        );
        assert_eq!((&log["next"], &log["head"]), (&json!(3), &json!(2)));
    }
}

#[tokio::test]
async fn the_log_is_paged_filtered_and_followed() {
    let running = start(|_| ()).await;
    let token = running.client.token("scale", BOTH);
    for number in 1..=5 {
        let stream = if number % 2 == 0 { "letter-1" } else { "parcel-1" };
        assert_eq!(append(&running, &token, stream, &weighed("any", Uuid::now_v7(), &[number])).await.0, 201);
    }
    let mut from = json!(1);
    for (limit, expected) in [(2, vec![1, 2]), (2, vec![3, 4]), (2, vec![5]), (2, vec![])] {
        let (_, page) = running.client.get(&format!("/api/log?from={from}&limit={limit}"), &token).await;
        let positions: Vec<_> = page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["position"].as_u64().unwrap())
            .collect();
        assert_eq!(positions, expected);
        from = page["next"].clone();
    }
    let (_, letters) = running.client.get("/api/log?category=letter", &token).await;
    assert_eq!(letters["events"].as_array().unwrap().len(), 2);
    assert_eq!(running.client.get("/api/log?category=$outcomes", &token).await.0, 422);
    assert_eq!(running.client.get("/api/log?limit=0", &token).await.0, 422);
    assert_eq!(running.client.get("/api/log?from=another:1", &token).await.0, 409);

    let mut stream = running.client.follow("/api/log?from=4", &token, None).await;
    let (id, fourth) = stream.next().await.unwrap();
    assert_eq!(fourth["position"], 4);
    assert_eq!(stream.next().await.unwrap().1["position"], 5);
    append(&running, &token, "parcel-1", &weighed("any", Uuid::now_v7(), &[6])).await;
    assert_eq!(stream.next().await.unwrap().1["position"], 6, "what comes is followed without a seam");
    let mut resumed = running.client.follow("/api/log", &token, id.as_deref()).await;
    assert_eq!(resumed.next().await.unwrap().1["position"], 5);
    let mut parcel = running.client.follow("/api/streams/parcel-1", &token, None).await;
    assert_eq!(parcel.next_of("event").await.1["sequence_number"], 1);
}

#[tokio::test]
async fn a_state_is_told_as_it_is_and_as_it_was() {
    let running = start(|_| ()).await;
    let token = running.client.token("reader", &["log:read"]);
    let mut times = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let like = json!({"type": "LikeAdd", "commandId": Uuid::now_v7(), "likeId": "l-1", "targetId": "a",
            "at": "2026-01-19T12:00:00Z"});
        let user = running.client.token(user, &[]);
        assert_eq!(running.client.post("/api/social/likes", &user, like.to_string()).await.0, 202);
        let (_, state) = running.client.get("/api/streams/like-a/state", &token).await;
        times.push(state["timestamp"].as_str().unwrap().to_owned());
    }
    let path = "/api/streams/like-a/state";
    let liked_by = |state: &Value| state["state"]["likedBy"].clone();
    let Running { node, folder, .. } = running;
    node.stop().await;
    let running = start_in(folder, |_| ()).await;
    for (version, expected) in [(0, json!([])), (1, json!(["alice"])), (2, json!(["alice", "bob"]))] {
        let (status, state) = running.client.get(&format!("{path}?version={version}"), &token).await;
        assert_eq!((status, liked_by(&state), &state["sequence_number"]), (200, expected, &json!(version)));
    }
    let (_, then) = running.client.get(&format!("{path}?at={}", times[1]), &token).await;
    assert_eq!((liked_by(&then), &then["timestamp"]), (json!(["alice", "bob"]), &json!(times[1])));
    let (_, before) = running.client.get(&format!("{path}?at=2026-01-19T12:00:00Z"), &token).await;
    assert_eq!((liked_by(&before), &before["timestamp"]), (json!([]), &Value::Null));
    // The same from the command line, beside the running server.
    let data = running.folder.path();
    let printed = |words: &[&str]| {
        serde_json::from_str::<Value>(&prints(&[&["state", "like-a"], words].concat(), data)).unwrap()
    };
    assert_eq!(liked_by(&printed(&[])), json!(["alice", "bob", "carol"]));
    let second = printed(&["--version", "2"]);
    assert_eq!((liked_by(&second), &second["recorded_at"]), (json!(["alice", "bob"]), &json!(times[1])));
    assert_eq!(printed(&["--at", &times[1]]), second);
    let other = printed(&["--tenant", "other"]);
    assert_eq!((liked_by(&other), &other["version"]), (json!([]), &json!(0)));
    for (words, expected) in
        [(["like-a", "--version=9"], "version 3"), (["parcel-7", "--version=1"], "parcel")]
    {
        let refused = sillage(&[&["state"], &words[..]].concat(), data).output().unwrap();
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && error.contains(expected), "{error}");
    }
    for (query, status) in [("version=4", 422), ("version=1&at=2026-01-19T12:00:00Z", 422), ("at=x", 422)] {
        assert_eq!(running.client.get(&format!("{path}?{query}"), &token).await.0, status, "{query}");
    }
    assert_eq!(
        running.client.get("/api/streams/parcel-7/state", &token).await.0,
        404,
        "no rules fold parcels"
    );
}
