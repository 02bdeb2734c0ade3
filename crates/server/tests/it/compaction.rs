//! Compaction as people meet it: the likes stay what they are, whoever asks for them and however.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::{Value, json};
use sillage_client::{Client as Sdk, FeedMessage, Options, Since, TokenSource};
use sillage_runtime::Keep;
use sillage_server::{Config, Log, Node};
use sillage_store::event_store::memory::MemoryStore;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Running, action, serve, start, start_in, until, within};

/// How many events a baseline stands for.
const LIKES: u64 = 3_000;
/// How many come after it: more than are read from the log at once.
const LATER: u64 = 251;
const HEAD: u64 = LIKES + LATER;
const FEED: &str = "like-article-1";

fn from_baseline(config: &mut Config) {
    config.keep = vec![("like".to_owned(), Keep::FromBaseline)];
}

/// Has a user like the target and not like it by turns, so often. Answers with the first command.
async fn by_turns(running: &Running, user: &str, times: u64) -> Value {
    let mut socket = running.client.socket(&running.client.token(user, &[])).await;
    let name = |number: u64| if number.is_multiple_of(2) { "LikeAdd" } else { "LikeRemove" };
    let commands: Vec<_> =
        (0..times).map(|number| action(name(number), "article-1", Uuid::now_v7())).collect();
    for some in commands.chunks(100) {
        for command in some {
            socket.send(command).await;
        }
        for _ in some {
            assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
        }
    }
    commands[0].clone()
}

/// Has `dave` like the target, and then `alice` like and not like it by turns; so many likes together. Answers with
/// the first command of `alice`.
async fn like(running: &Running, times: u64) -> Value {
    by_turns(running, "dave", 1).await;
    by_turns(running, "alice", times - 1).await
}

/// Has the log compacted until so many events of the feed are gone.
async fn compact(running: &Running, gone: u64) -> u64 {
    let operator = running.client.token("olga", &["operate"]);
    let done = Mutex::new((0, 0));
    until("what is dropped", || async {
        let (status, answer) = running.client.post("/api/compaction", &operator, "").await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["dropped_events"] == 0, answer["dropped_bytes"] == 0, "{answer}");
        let (baselines, dropped) = &mut *done.lock().unwrap();
        *baselines += answer["baselines"].as_u64().unwrap();
        *dropped += answer["dropped_events"].as_u64().unwrap();
        (*dropped >= gone).then_some(*baselines)
    })
    .await
}

async fn likes(running: &Running, query: &str) -> (u16, Value) {
    let dave = running.client.token("dave", &[]);
    running.client.get(&format!("/api/social/likes/article-1{query}"), &dave).await
}

/// What a query tells: the count, whether `dave` is one of them, and the version.
async fn told(running: &Running, query: &str) -> (u64, bool, u64) {
    let (status, likes) = likes(running, query).await;
    assert_eq!(status, 200, "{likes}");
    (likes["count"].as_u64().unwrap(), likes["me"].as_bool().unwrap(), likes["version"].as_u64().unwrap())
}

/// Starts the node again, without what it had beside the log.
async fn start_anew(running: Running, change: impl FnOnce(&mut Config)) -> Running {
    let Running { node, folder, .. } = running;
    node.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(folder.path().join(format!("views.sqlite{suffix}"))));
    }
    std::fs::remove_file(folder.path().join("snapshots.sqlite")).unwrap();
    let running = start_in(folder, change).await;
    until("the views", async || (running.client.get("/readyz", "").await.0 == 200).then_some(())).await;
    running
}

/// A follower has had one snapshot, first, and then every later event once.
#[track_caller]
fn assert_snapshot_and_rest(told: &[Value], head: u64) {
    let [snapshot, events @ ..] = told else { panic!("nothing was told") };
    assert_eq!((&snapshot["type"], &snapshot["feed"]), (&json!("snapshot"), &json!(FEED)));
    assert_eq!(snapshot["sequence_number"], LIKES);
    assert_eq!(snapshot["state"], json!({"likedBy": ["alice", "dave"], "closed": false, "version": LIKES}));
    assert_events(events, LIKES + 1, head);
}

/// A follower has had these events, each once.
#[track_caller]
fn assert_events(told: &[Value], first: u64, head: u64) {
    let numbers = told.iter().map(|event| (event["type"].as_str(), event["sequence_number"].as_u64()));
    let wanted = (first..=head).map(|number| (Some("event"), Some(number)));
    assert_eq!(numbers.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}

#[tokio::test]
async fn the_likes_are_what_they_are_with_fewer_events_in_memory() {
    let log = Arc::new(MemoryStore::new(1));
    check_likes(|config| {
        from_baseline(config);
        config.log = Log::Open(Arc::clone(&log) as _);
    })
    .await;
}

#[tokio::test]
async fn the_likes_are_what_they_are_with_fewer_events_in_the_journal() {
    check_likes(|config| {
        from_baseline(config);
        // A file for each group, only the last one is not full, and whatever is dropped is worth it.
        config.journal.segment_bytes = 1;
        config.journal.least_saved = u64::MAX;
    })
    .await;
}

async fn check_likes(change: impl Fn(&mut Config)) {
    let running = start(&change).await;
    let first = like(&running, LIKES).await;
    // The newest event is never dropped.
    assert_eq!(compact(&running, LIKES - 1).await, 1);
    let metrics = running.client.get("/metrics", "").await.1;
    let metrics = metrics.as_str().unwrap();
    for (name, value) in
        [("baselines_taken", Some(1)), ("dropped_events", Some(LIKES - 1)), ("dropped_bytes", None)]
    {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("sillage_{name}_total ")));
        let counted: u64 = line.unwrap_or_else(|| panic!("{name}")).parse().unwrap();
        assert!(counted > 0 && value.is_none_or(|value| counted == value), "{name}: {counted}");
    }
    let running = start_anew(running, &change).await;
    assert_eq!(told(&running, "").await, (2, true, LIKES), "rebuilt from a baseline");

    // What comes is decided on the state that the baseline holds.
    by_turns(&running, "bob", LATER).await;
    let mut alice = running.client.socket(&running.client.token("alice", &[])).await;
    alice.send(&first).await;
    let receipt = alice.next_of("receipt").await;
    assert_eq!((&receipt["outcome"], &receipt["sequence_numbers"]), (&json!("applied"), &json!([2])));
    let at_least = format!("?at_least={}", running.node.gateway().store.head());
    assert_eq!(told(&running, &at_least).await, (3, true, HEAD));

    sockets_get_a_snapshot_and_the_rest(&running).await;
    streams_get_a_snapshot_and_the_rest(&running).await;
    the_sdk_gets_a_snapshot_and_the_rest(&running).await;
    programs_are_told_what_is_left(&running).await;
}

async fn sockets_get_a_snapshot_and_the_rest(running: &Running) {
    let token = running.client.token("carol", &[]);
    let epoch = running.node.gateway().store.epoch();
    for (epoch, last, answers) in [
        (None, None, &["subscribed", "snapshot"][..]),
        (None, Some(1), &["subscribed", "snapshot"]),
        (Some(epoch.as_str()), Some(LIKES - 2), &["subscribed", "snapshot"]),
        (Some("another"), Some(LIKES + 5), &["resync", "subscribed", "snapshot"]),
        (Some(epoch.as_str()), Some(HEAD + 1), &["resync", "subscribed", "snapshot"]),
        (Some(epoch.as_str()), Some(LIKES - 1), &["subscribed"]),
        (None, Some(LIKES), &["subscribed"]),
        (None, Some(LIKES + 7), &["subscribed"]),
    ] {
        let mut socket = running.client.socket(&token).await;
        socket.send(&json!({"type": "subscribe", "feed": FEED, "epoch": epoch, "last_sequence": last})).await;
        let mut told = Vec::new();
        while told.last().is_none_or(|message: &Value| message["sequence_number"] != HEAD) {
            told.push(socket.next().await.unwrap());
        }
        let (begun, rest) = told.split_at(answers.iter().filter(|answer| **answer != "snapshot").count());
        let begun: Vec<_> = begun.iter().map(|message| message["type"].as_str().unwrap()).collect();
        assert!(answers.starts_with(&begun), "{begun:?} after {last:?}");
        if answers.ends_with(&["snapshot"]) {
            assert_snapshot_and_rest(rest, HEAD);
        } else {
            assert_events(rest, last.unwrap() + 1, HEAD);
        }
        // And nothing else.
        socket.send(&json!({"type": "ping"})).await;
        assert_eq!(socket.next().await.unwrap()["type"], "pong");
    }

    for (last, snapshots) in [(None, 1), (Some(17), 1), (Some(LIKES - 1), 0), (Some(LIKES), 0)] {
        let mut socket = running.client.socket(&token).await;
        let (mut told, mut last) = (Vec::new(), last);
        loop {
            socket.send(&json!({"type": "sync", "feed": FEED, "last_sequence": last})).await;
            let mut message = socket.next().await.unwrap();
            if message["type"] == "snapshot" {
                told.push(message);
                message = socket.next().await.unwrap();
            }
            assert_eq!(
                (&message["type"], &message["current_sequence"]),
                (&json!("sync_batch"), &json!(HEAD))
            );
            told.extend(message["events"].as_array().unwrap().iter().cloned());
            last = told.last().unwrap()["sequence_number"].as_u64();
            if message["has_more"] == false {
                break;
            }
        }
        match snapshots {
            0 => assert_events(&told, told[0]["sequence_number"].as_u64().unwrap(), HEAD),
            _ => assert_snapshot_and_rest(&told, HEAD),
        }
    }
}

async fn streams_get_a_snapshot_and_the_rest(running: &Running) {
    let epoch = running.node.gateway().store.epoch();
    let one = format!("feed={FEED}");
    let two = format!("feed={FEED}&feed=like-article-2");
    for (query, id, begun) in [
        (&one, None, &["subscribed"][..]),
        (&one, Some(format!("{epoch}:17")), &["subscribed"]),
        (&one, Some(format!("another:{}", LIKES + 5)), &["resync", "subscribed"]),
        (&two, Some(format!("{epoch}:{FEED}=17,like-article-2=0")), &["subscribed", "subscribed"]),
    ] {
        let told = streamed(running, query, id.as_deref(), begun).await;
        let (ids, messages): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        assert_snapshot_and_rest(&messages, HEAD);
        for (id, message) in ids.iter().zip(&messages) {
            let number = message["sequence_number"].to_string();
            assert!(id.split([':', '=', ',']).any(|part| part == number), "{id}");
        }
        // Nothing is sent twice.
        let subscribed = vec!["subscribed"; query.matches("feed=").count()];
        let resumed = streamed(running, query, Some(&ids[0]), &subscribed).await;
        assert_events(&resumed.into_iter().map(|(_, message)| message).collect::<Vec<_>>(), LIKES + 1, HEAD);
    }
}

/// What a stream tells after it has begun, with the ids, until the last event of the feed.
async fn streamed(running: &Running, query: &str, id: Option<&str>, begun: &[&str]) -> Vec<(String, Value)> {
    let token = running.client.token("carol", &[]);
    let mut stream = running.client.stream(query, &token, id).await;
    for kind in begun {
        assert_eq!(stream.next().await.unwrap().1["type"], *kind, "after {id:?}");
    }
    let mut told: Vec<(String, Value)> = Vec::new();
    while told.last().is_none_or(|(_, message)| message["sequence_number"] != HEAD) {
        let (id, message) = stream.next().await.unwrap();
        told.push((id.expect("what has a number has an id"), message));
    }
    told
}

async fn the_sdk_gets_a_snapshot_and_the_rest(running: &Running) {
    let token = running.client.token("carol", &[]);
    let options = Options::new(format!("ws://{}/ws", running.client.address), TokenSource::fixed(token));
    let sdk = Sdk::connect(options).await.unwrap();
    let feed = sdk.subscribe(&FEED.parse().unwrap(), Since::Start).await.unwrap();
    let later = usize::try_from(LATER).unwrap();
    let news: Vec<_> = within("the feed", feed.skip(1).take(1 + later).collect()).await;
    let [FeedMessage::Snapshot { sequence_number, state }, events @ ..] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!((sequence_number.get(), &state["version"]), (LIKES, &json!(LIKES)));
    for (message, number) in events.iter().zip(LIKES + 1..) {
        let FeedMessage::Event(event) = message else { panic!("{message:?}") };
        assert_eq!(event.sequence_number.get(), number);
    }
}

async fn programs_are_told_what_is_left(running: &Running) {
    let reader = running.client.token("reader", &["log:read"]);
    let get = async |path: &str| running.client.get(&format!("/api/streams/{FEED}{path}"), &reader).await;
    let (status, problem) = get("").await;
    assert_eq!((status, &problem["code"], &problem["kept_from"]), (410, &json!("compacted"), &json!(LIKES)));
    let (status, page) = get(&format!("?from={LIKES}&limit=1000")).await;
    assert_eq!(status, 200);
    assert_events(page["events"].as_array().unwrap(), LIKES, HEAD);
    let (status, problem) = get("/state?version=7").await;
    assert_eq!((status, &problem["code"], &problem["kept_from"]), (410, &json!("compacted"), &json!(LIKES)));
    for version in [LIKES, LIKES + 1, HEAD] {
        let (status, state) = get(&format!("/state?version={version}")).await;
        assert_eq!((status, &state["state"]["version"]), (200, &json!(version)));
    }
    let (status, problem) = get("/state?at=2020-01-01T00:00:00Z").await;
    assert_eq!((status, &problem["code"], &problem["kept_from"]), (410, &json!("compacted"), &json!(LIKES)));
    // Baselines are of the system, and passed over.
    let (_, log) = running.client.get("/api/log?limit=1000", &reader).await;
    assert_events(log["events"].as_array().unwrap(), LIKES, HEAD);
    let mut stream = running.client.follow(&format!("/api/streams/{FEED}"), &reader, None).await;
    assert_eq!(stream.next_of("snapshot").await.1["sequence_number"], LIKES);

    let (status, problem) = likes(running, "?at=5").await;
    assert_eq!((status, &problem["code"]), (410, &json!("compacted")));
    let kept_from = problem["kept_from"].as_u64().unwrap();
    assert_eq!(told(running, &format!("?at={kept_from}")).await, (2, true, LIKES));
    assert_eq!(likes(running, &format!("?at={}", kept_from - 1)).await.0, 410);
}

#[tokio::test]
async fn at_any_position_the_likes_are_as_they_were() {
    let running = start(|_| ()).await;
    like(&running, 20).await;
    let epoch = running.node.gateway().store.epoch();
    for position in 0..=20 {
        let count = if position == 0 { 0 } else { 2 - position % 2 };
        let expected = (count, position > 0, position);
        assert_eq!(told(&running, &format!("?at={epoch}:{position}")).await, expected);
        let (_, answer) = likes(&running, &format!("?at={position}")).await;
        assert_eq!(answer["position"], position);
    }
    for (query, status) in
        [("?at=21", 422), ("?at=x", 422), ("?at=another:1", 409), ("?at=1&at_least=1", 422)]
    {
        assert_eq!(likes(&running, query).await.0, status, "{query}");
    }
    let guest = running.client.post("/api/auth/guest", "", "").await.1;
    let refused =
        running.client.get("/api/social/likes/article-1?at=1", guest["token"].as_str().unwrap()).await;
    assert_eq!((refused.0, &refused.1["code"]), (403, &json!("forbidden")));
    let kept = std::fs::read_dir(running.folder.path().join("views-of-the-past")).unwrap();
    let files =
        kept.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "sqlite"));
    assert_eq!(files.count(), 2, "few are kept");
}

#[tokio::test]
async fn only_operators_compact_and_without_a_policy_nothing_is_lost() {
    let running = start(|_| ()).await;
    like(&running, 1_100).await;
    assert_eq!(running.client.post("/api/compaction", &running.client.token("alice", &[]), "").await.0, 403);
    assert_eq!(running.client.post("/api/compaction", "", "").await.0, 401);
    let operator = running.client.token("olga", &["operate"]);
    let done = running.client.post("/api/compaction", &operator, "").await;
    assert_eq!(done, (200, json!({"baselines": 0, "dropped_events": 0, "dropped_bytes": 0})));
}

#[tokio::test]
async fn a_policy_that_cannot_be_kept_is_no_start() {
    let folder = TempDir::new().unwrap();
    let mut config = Config::new(([127, 0, 0, 1], 0).into(), folder.path().into());
    config.keep = vec![("parcel".to_owned(), Keep::Days(7))];
    let error = Node::start(config).await.err().unwrap().to_string();
    assert!(error.contains("\"parcel\"") && error.contains("like"), "{error}");

    let refused = |keep: &str| {
        let output = serve(folder.path()).args(["--keep", keep]).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for (keep, why) in [
        ("parcel=7d", "there is no category \"parcel\""),
        ("like=7d,like=all", "twice"),
        ("like=seven", "neither `all`"),
        ("like", "an equals sign"),
    ] {
        let said = refused(keep);
        assert!(said.contains(why), "{keep}: {said}");
    }
}
