//! Compaction as people meet it: the likes stay what they are, whoever asks for them and however.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::{Value, json};
use sillage_client::{Client as Sdk, FeedMessage, Options, Since, TokenSource};
use sillage_runtime::Keep;
use sillage_server::{Config, Node};
use sillage_store::event_store::memory::MemoryStore;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Running, Socket, action, serve, start, start_in, until, within};

const LIKES: u64 = 3_000;
const FEED: &str = "like-article-1";

fn from_baseline(config: &mut Config) {
    config.keep = vec![("like".to_owned(), Keep::FromBaseline)];
}

/// Has `dave` like the target, and then `alice` like and not like it by turns; so many likes together. Answers with
/// the first command of `alice`.
async fn like(running: &Running, times: u64) -> Value {
    let mut socket = running.client.socket(&running.client.token("dave", &[])).await;
    socket.send(&action("LikeAdd", "article-1", Uuid::now_v7())).await;
    socket.next_of("receipt").await;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    let name = |number: u64| if number.is_multiple_of(2) { "LikeAdd" } else { "LikeRemove" };
    let commands: Vec<_> =
        (2..=times).map(|number| action(name(number), "article-1", Uuid::now_v7())).collect();
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

/// What a follower is sent first, and then.
async fn snapshot_and_next(socket: &mut Socket) -> (Value, Value) {
    let snapshot = loop {
        let message = socket.next().await.unwrap();
        match message["type"].as_str().unwrap() {
            "snapshot" => break message,
            "event" => panic!("an event came before the snapshot: {message}"),
            _ => {}
        }
    };
    (snapshot, socket.next_of("event").await)
}

#[tokio::test]
async fn the_likes_are_what_they_are_with_fewer_events_in_memory() {
    let log = Arc::new(MemoryStore::new(1));
    check_likes(|config| {
        from_baseline(config);
        config.log = Some(Arc::clone(&log) as _);
    })
    .await;
}

#[tokio::test]
async fn the_likes_are_what_they_are_with_fewer_events_in_the_journal() {
    check_likes(|config| {
        from_baseline(config);
        // A file for each group, and only the last one is not full.
        config.journal.segment_bytes = 1;
    })
    .await;
}

async fn check_likes(change: impl Fn(&mut Config)) {
    let running = start(&change).await;
    let first = like(&running, LIKES).await;
    // The newest event is never dropped.
    assert_eq!(compact(&running, LIKES - 1).await, 1);
    let running = start_anew(running, &change).await;
    assert_eq!(told(&running, "").await, (2, true, LIKES), "rebuilt from a baseline");

    // What comes is decided on the state that the baseline holds.
    let bob = running.client.token("bob", &[]);
    let mut socket = running.client.socket(&bob).await;
    socket.send(&action("LikeAdd", "article-1", Uuid::now_v7())).await;
    assert_eq!(socket.next_of("receipt").await["sequence_numbers"], json!([LIKES + 1]));
    let mut alice = running.client.socket(&running.client.token("alice", &[])).await;
    alice.send(&first).await;
    let receipt = alice.next_of("receipt").await;
    assert_eq!((&receipt["outcome"], &receipt["sequence_numbers"]), (&json!("applied"), &json!([2])));
    let at_least = format!("?at_least={}", running.node.gateway().store.head());
    assert_eq!(told(&running, &at_least).await, (3, true, LIKES + 1));

    followers_get_a_snapshot_and_the_rest(&running).await;
    programs_are_told_what_is_left(&running).await;
}

async fn followers_get_a_snapshot_and_the_rest(running: &Running) {
    let token = running.client.token("carol", &[]);
    let mut socket = running.client.socket(&token).await;
    assert_eq!(socket.subscribe(FEED).await["current_sequence"], LIKES + 1);
    let (snapshot, next) = snapshot_and_next(&mut socket).await;
    assert_eq!((&snapshot["feed"], &snapshot["sequence_number"]), (&json!(FEED), &json!(LIKES)));
    assert_eq!(snapshot["state"], json!({"likedBy": ["alice", "dave"], "closed": false, "version": LIKES}));
    assert_eq!(snapshot["epoch"], running.node.gateway().store.epoch().as_str());
    assert_eq!((&next["sequence_number"], &next["data"]["count"]), (&json!(LIKES + 1), &json!(3)));

    // Somebody who was away, and missed events that are gone; and one who missed none of them.
    for (last, first) in [(17, "snapshot"), (LIKES, "event")] {
        let mut socket = running.client.socket(&token).await;
        socket.send(&json!({"type": "subscribe", "feed": FEED, "last_sequence": last})).await;
        socket.next_of("subscribed").await;
        assert_eq!(socket.next().await.unwrap()["type"], first, "after {last}");
    }
    socket.send(&json!({"type": "sync", "feed": FEED})).await;
    assert_eq!(socket.next_of("snapshot").await, snapshot);
    let batch = socket.next_of("sync_batch").await;
    assert_eq!(
        (&batch["events"][0]["sequence_number"], &batch["has_more"]),
        (&json!(LIKES + 1), &json!(false))
    );

    let mut stream = running.client.stream(&format!("feed={FEED}"), &token, None).await;
    let (id, same) = stream.next_of("snapshot").await;
    assert_eq!(same, snapshot);
    assert_eq!(stream.next_of("event").await.1, next);
    let id = id.unwrap();
    assert!(id.ends_with(&format!(":{LIKES}")), "{id}");
    let mut resumed = running.client.stream(&format!("feed={FEED}"), &token, Some(&id)).await;
    resumed.next_of("subscribed").await;
    assert_eq!(resumed.next().await.unwrap().1, next, "nothing is sent twice");

    let options = Options::new(format!("ws://{}/ws", running.client.address), TokenSource::fixed(token));
    let sdk = Sdk::connect(options).await.unwrap();
    let feed = sdk.subscribe(&FEED.parse().unwrap(), Since::Start).await.unwrap();
    let news: Vec<_> = within("the feed", feed.skip(1).take(2).collect()).await;
    let [FeedMessage::Snapshot { sequence_number, state }, FeedMessage::Event(event)] = news.as_slice()
    else {
        panic!("{news:?}")
    };
    assert_eq!((sequence_number.get(), state), (LIKES, &snapshot["state"]));
    assert_eq!(event.sequence_number.get(), LIKES + 1);
}

async fn programs_are_told_what_is_left(running: &Running) {
    let reader = running.client.token("reader", &["log:read"]);
    let get = async |path: &str| running.client.get(&format!("/api/streams/{FEED}{path}"), &reader).await;
    let (status, problem) = get("").await;
    assert_eq!((status, &problem["code"], &problem["kept_from"]), (410, &json!("compacted"), &json!(LIKES)));
    let (status, page) = get(&format!("?from={LIKES}")).await;
    assert_eq!((status, page["events"].as_array().unwrap().len()), (200, 2));
    let (status, problem) = get("/state?version=7").await;
    assert_eq!((status, &problem["code"], &problem["kept_from"]), (410, &json!("compacted"), &json!(LIKES)));
    for version in [LIKES, LIKES + 1] {
        let (status, state) = get(&format!("/state?version={version}")).await;
        assert_eq!((status, &state["state"]["version"]), (200, &json!(version)));
    }
    let (_, log) = running.client.get("/api/log", &reader).await;
    assert_eq!(log["events"].as_array().unwrap().len(), 2, "baselines are of the system");
    let mut stream = running.client.follow(&format!("/api/streams/{FEED}"), &reader, None).await;
    assert_eq!(stream.next_of("snapshot").await.1["sequence_number"], LIKES);

    let (status, problem) = likes(running, "?at=5").await;
    assert_eq!((status, &problem["code"]), (410, &json!("compacted")));
    let kept_from = problem["kept_from"].as_u64().unwrap();
    assert_eq!(told(running, &format!("?at={kept_from}")).await, (2, true, LIKES));
    assert_eq!(likes(running, &format!("?at={}", kept_from - 1)).await.0, 410);

    let metrics = running.client.get("/metrics", "").await.1;
    let metrics = metrics.as_str().unwrap();
    for name in
        ["sillage_baselines_taken_total", "sillage_dropped_events_total", "sillage_dropped_bytes_total"]
    {
        assert!(metrics.contains(name), "{name}");
    }
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
