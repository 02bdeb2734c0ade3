//! A thousand frames and bodies that are wrong, made from good ones by a seed, and the seeds of the fuzzer.

use std::fs;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Random, action, start};

const CASES: u64 = 1_000;

fn good() -> Value {
    action("LikeAdd", "a", Uuid::from_u128(7))
}

/// A good action with something done to it that makes it wrong, whatever else the text may mean.
fn spoil(random: &mut Random) -> Vec<u8> {
    let mut message = good();
    match random.below(8) {
        // Cut short: no proper beginning of an object is JSON.
        0 => {
            let text = message.to_string();
            return text.as_bytes()[..random.below(text.len())].to_vec();
        }
        1 => {
            let mut text = message.to_string().into_bytes();
            let at = random.below(text.len());
            text.insert(at, b"\x00\x01\x07\x1f"[random.below(4)]);
            return text;
        }
        2 => {
            let field = ["feed", "event_type", "command_id"][random.below(3)];
            message[field] =
                [json!(7), json!([]), json!({}), json!(true), json!("")][random.below(5)].clone();
        }
        3 => {
            let field = ["feed", "event_type", "command_id"][random.below(3)];
            message.as_object_mut().unwrap().remove(field);
        }
        4 => {
            let field = ["likeId", "at"][random.below(2)];
            let wrong = [json!(7), json!(null), json!(""), json!([1, 2]), json!("\u{202e} \u{0}")];
            message["data"][field] = wrong[random.below(5)].clone();
        }
        5 => message["data"][format!("x{}", random.next())] = json!(random.next()),
        6 => message["type"] = json!(format!("{:x}", random.next())),
        _ => message["data"] = [json!(7), json!("x"), json!([]), json!([[[[{}]]]])][random.below(4)].clone(),
    }
    message.to_string().into_bytes()
}

/// What may be said about a spoiled message.
const FITTING: [&str; 4] = ["malformed", "unknown_type", "unknown_command", "invalid_field"];

#[tokio::test]
async fn a_thousand_wrong_bodies_are_refused() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    for seed in 0..CASES {
        let body = spoil(&mut Random(seed));
        let (status, problem) = running.client.post("/api/commands", &token, body.clone()).await;
        let text = String::from_utf8_lossy(&body);
        assert!(matches!(status, 400 | 422), "seed {seed}: {status} for {text}");
        assert!(FITTING.contains(&problem["code"].as_str().unwrap()), "seed {seed}: {problem} for {text}");
    }
    assert_eq!(running.node.gateway().store.head().get(), 0, "something was stored");
    assert_eq!(running.client.post("/api/commands", &token, good().to_string()).await.0, 202);
}

#[tokio::test]
async fn a_number_that_others_would_read_as_another_is_refused() {
    let running = start(|_| ()).await;
    let (alice, operator) = (running.client.token("alice", &[]), running.client.token("olga", &["operate"]));
    let too_large = 1_u64 << 53;
    let mut socket = running.client.socket(&alice).await;
    for kind in ["subscribe", "sync"] {
        socket.send(&json!({"type": kind, "feed": "like-a", "last_sequence": too_large})).await;
        let error = socket.next().await.unwrap();
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_field"), &json!("last_sequence")));
    }
    let path = format!("/api/social/likes/a?at_least={too_large}");
    let (status, problem) = running.client.get(&path, &alice).await;
    assert_eq!(
        (status, &problem["code"], &problem["field"]),
        (422, &json!("invalid_field"), &json!("at_least"))
    );
    let body = json!({"position": too_large}).to_string();
    let (status, problem) = running.client.post("/api/reactors/log/rewind", &operator, body).await;
    assert_eq!(
        (status, &problem["code"], &problem["field"]),
        (422, &json!("invalid_field"), &json!("position"))
    );
}

#[tokio::test]
async fn a_thousand_wrong_frames_are_refused_on_one_socket() {
    let running = start(|_| ()).await;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    for seed in 0..CASES {
        let text = String::from_utf8(spoil(&mut Random(seed))).unwrap();
        // A line break ends a message, and an empty line is none.
        if text.is_empty() || text.contains('\n') {
            continue;
        }
        socket.send_text(&text).await;
        let error =
            socket.next().await.unwrap_or_else(|code| panic!("seed {seed}: closed with {code} for {text}"));
        assert_eq!(error["type"], "error", "seed {seed}: {error} for {text}");
        assert!(FITTING.contains(&error["code"].as_str().unwrap()), "seed {seed}: {error} for {text}");
        let original = serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
        assert_eq!(error["original_action"], original, "seed {seed}");
    }
    assert_eq!(running.node.gateway().store.head().get(), 0, "something was stored");
    socket.send(&good()).await;
    assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
}

/// The seeds of a target of the fuzzer. The name of each begins with the word of its answer.
fn seeds(target: &str) -> Vec<(String, String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/").to_owned() + target;
    let seeds = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let answer = name.split('-').next().unwrap().to_owned();
        (name, answer, fs::read(entry.path()).unwrap())
    });
    let seeds: Vec<_> = seeds.collect();
    assert_ne!(seeds, []);
    seeds
}

#[tokio::test]
async fn the_bodies_of_the_fuzzer_are_answered() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let store = &running.node.gateway().store;
    for (name, expected, body) in seeds("body") {
        let before = store.head();
        let (status, problem) = running.client.post("/api/social/likes", &token, body).await;
        let answer = if status == 202 { "taken" } else { problem["code"].as_str().unwrap() };
        assert_eq!(answer, expected, "{name}: {status} {problem}");
        assert!(status == 202 || store.head() == before, "{name} was stored");
    }
    assert_eq!(running.client.post("/api/commands", &token, good().to_string()).await.0, 202);
}

#[tokio::test]
async fn the_frames_of_the_fuzzer_are_answered() {
    let running = start(|_| ()).await;
    let token = running.client.token("alice", &[]);
    let store = &running.node.gateway().store;
    for (name, expected, text) in seeds("frame") {
        let before = store.head();
        let mut socket = running.client.socket(&token).await;
        socket.send_text(std::str::from_utf8(&text).unwrap()).await;
        let answer = socket.next().await.unwrap_or_else(|code| panic!("{name}: closed with {code}"));
        let word = if answer["type"] == "error" { &answer["code"] } else { &answer["type"] };
        assert_eq!(word, &expected, "{name}: {answer}");
        assert!(expected == "receipt" || store.head() == before, "{name} was stored");
    }
    let mut socket = running.client.socket(&token).await;
    socket.send(&good()).await;
    assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
}
