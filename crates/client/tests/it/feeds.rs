//! Feeds: each event once and in order, whatever the connection and the server do.

use serde_json::{Value, json};
use sillage_client::{Client, Error, FeedMessage, Since, Subscription};
use sillage_kernel::{Epoch, Version};

use crate::peer::{Peer, Server};
use crate::{client, event, feed, options, soon};

const FEED: &str = "like-a";

fn epoch(text: &str) -> Epoch {
    Epoch::parse(text).unwrap()
}

fn after(epoch_text: &str, number: u64) -> Since {
    Since::After { epoch: epoch(epoch_text), last_sequence: Version::new(number) }
}

fn subscribed(epoch: &str, head: u64) -> Value {
    json!({"type": "subscribed", "feed": FEED, "epoch": epoch, "current_sequence": head})
}

fn resync(epoch: &str) -> Value {
    json!({"type": "resync", "feed": FEED, "epoch": epoch})
}

fn events(epoch: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<Value> {
    numbers.into_iter().map(|number| event(FEED, epoch, number)).collect()
}

/// What a question says beside its type and feed.
async fn asked(peer: &mut Peer) -> (Value, Value, Value) {
    let question = peer.expect("subscribe").await;
    assert_eq!(question["feed"], FEED);
    (question["epoch"].clone(), question["last_sequence"].clone(), question["from"].clone())
}

fn from_start() -> (Value, Value, Value) {
    (Value::Null, Value::Null, Value::Null)
}

fn from_after(epoch: &str, number: u64) -> (Value, Value, Value) {
    (json!(epoch), json!(number), Value::Null)
}

async fn expect_subscribed(subscription: &mut Subscription, head: u64) {
    match soon(subscription.next()).await {
        Some(FeedMessage::Subscribed { current_sequence, .. }) => assert_eq!(current_sequence.get(), head),
        other => panic!("{other:?}"),
    }
}

async fn expect_event(subscription: &mut Subscription, number: u64) {
    match soon(subscription.next()).await {
        Some(FeedMessage::Event(event)) => {
            assert_eq!(event.sequence_number.get(), number);
            assert_eq!(event.data["n"], number);
        }
        other => panic!("{number}: {other:?}"),
    }
}

async fn expect_resync(subscription: &mut Subscription, to: &str) {
    assert_eq!(soon(subscription.next()).await, Some(FeedMessage::Resync { epoch: epoch(to) }));
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_after_a_lost_connection() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut reader = client.subscribe(&feed(FEED), Since::Start).await.unwrap();
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, from_start());
    peer.say(&subscribed("e", 2)).await;
    peer.say_all(&events("e", 1..=3)).await;
    expect_subscribed(&mut reader, 2).await;
    for number in 1..=3 {
        expect_event(&mut reader, number).await;
    }
    drop(peer);
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, from_after("e", 3));
    peer.say(&subscribed("e", 4)).await;
    peer.say_all(&events("e", 4..=5)).await;
    expect_subscribed(&mut reader, 4).await;
    expect_event(&mut reader, 4).await;
    expect_event(&mut reader, 5).await;
}

#[tokio::test]
async fn a_gap_is_asked_for_and_doubles_are_dropped() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut reader = client.subscribe(&feed(FEED), after("e", 10)).await.unwrap();
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, from_after("e", 10));
    peer.say(&subscribed("e", 20)).await;
    peer.say_all(&events("e", [9, 11, 11, 10, 12, 14, 15])).await;
    assert_eq!(asked(&mut peer).await, from_after("e", 12));
    // What is still under way of the old answer is not taken.
    peer.say_all(&events("e", [16, 17])).await;
    peer.say(&subscribed("e", 20)).await;
    peer.say_all(&events("e", 13..=14)).await;
    expect_subscribed(&mut reader, 20).await;
    expect_event(&mut reader, 11).await;
    expect_event(&mut reader, 12).await;
    expect_subscribed(&mut reader, 20).await;
    expect_event(&mut reader, 13).await;
    expect_event(&mut reader, 14).await;
    assert!(peer.is_silent().await);
}

#[tokio::test]
async fn a_server_that_always_leaves_a_gap_is_asked_at_a_measured_pace() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.timing.backoff = std::time::Duration::from_millis(100);
    let client = Client::connect(options).await.unwrap();
    let _reader = client.subscribe(&feed(FEED), Since::Start).await.unwrap();
    let mut peer = server.welcome().await;
    let began = std::time::Instant::now();
    for _ in 0..4 {
        asked(&mut peer).await;
        peer.say(&subscribed("e", 0)).await;
        peer.say_all(&events("e", [5])).await;
    }
    assert!(began.elapsed() >= std::time::Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn another_log_means_forgetting() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut reader = client.subscribe(&feed(FEED), after("old", 10)).await.unwrap();
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, from_after("old", 10));
    peer.say_all(&[resync("new"), subscribed("new", 1)]).await;
    peer.say_all(&events("new", 1..=2)).await;
    expect_resync(&mut reader, "new").await;
    expect_subscribed(&mut reader, 1).await;
    expect_event(&mut reader, 1).await;
    expect_event(&mut reader, 2).await;
    // Restored while connected, and then told only by the epoch of the events.
    peer.say_all(&[resync("newer")]).await;
    peer.say_all(&events("newer", [1])).await;
    expect_resync(&mut reader, "newer").await;
    expect_event(&mut reader, 1).await;
    peer.say_all(&events("newest", [2])).await;
    assert_eq!(asked(&mut peer).await, from_after("newer", 1));
    peer.say(&subscribed("newest", 5)).await;
    expect_resync(&mut reader, "newest").await;
    expect_subscribed(&mut reader, 5).await;
    // Events of the old count that this server goes on with are not what is wanted.
    assert_eq!(asked(&mut peer).await, from_after("newest", 0));
    peer.say(&subscribed("newest", 5)).await;
    peer.say_all(&events("newest", [1])).await;
    expect_subscribed(&mut reader, 5).await;
    expect_event(&mut reader, 1).await;
}

#[tokio::test]
async fn whoever_wants_only_what_comes_gets_that_and_misses_nothing_later() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut reader = client.subscribe(&feed(FEED), Since::Now).await.unwrap();
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, (Value::Null, Value::Null, json!("now")));
    peer.say(&subscribed("e", 7)).await;
    expect_subscribed(&mut reader, 7).await;
    drop(peer);
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, from_after("e", 7));
    peer.say(&subscribed("e", 8)).await;
    peer.say_all(&events("e", [8])).await;
    expect_subscribed(&mut reader, 8).await;
    expect_event(&mut reader, 8).await;
}

#[tokio::test]
async fn two_readers_share_what_the_server_sends() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut first = client.subscribe(&feed(FEED), after("e", 5)).await.unwrap();
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, from_after("e", 5));
    peer.say(&subscribed("e", 6)).await;
    peer.say_all(&events("e", [6])).await;
    expect_subscribed(&mut first, 6).await;
    expect_event(&mut first, 6).await;
    let mut second = client.subscribe(&feed(FEED), after("e", 4)).await.unwrap();
    let mut third = client.subscribe(&feed(FEED), Since::Now).await.unwrap();
    assert_eq!(asked(&mut peer).await, from_after("e", 4));
    peer.say(&subscribed("e", 6)).await;
    let mut again = None;
    if !peer.is_silent().await {
        // The third came after the question, so the answer is not for it.
        again = Some(asked(&mut peer).await);
        peer.say(&subscribed("e", 6)).await;
    }
    peer.say_all(&events("e", 5..=7)).await;
    assert!(again.is_none_or(|again| again == from_after("e", 4)));
    let mut numbers = Vec::new();
    while numbers.last() != Some(&7) {
        if let Some(FeedMessage::Event(event)) = soon(first.next()).await {
            numbers.push(event.sequence_number.get());
        }
    }
    assert_eq!(numbers, [7]);
    numbers.clear();
    while numbers.last() != Some(&7) {
        if let Some(FeedMessage::Event(event)) = soon(second.next()).await {
            numbers.push(event.sequence_number.get());
        }
    }
    assert_eq!(numbers, [5, 6, 7]);
    expect_subscribed(&mut third, 6).await;
    expect_event(&mut third, 7).await;
    // The server is told once nobody reads any longer.
    drop((first, second));
    assert!(peer.is_silent().await);
    drop(third);
    assert_eq!(peer.expect("unsubscribe").await["feed"], FEED);
}

#[tokio::test]
async fn a_slow_reader_costs_no_memory_and_misses_nothing() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.limits.feed_messages = 10;
    let client = Client::connect(options).await.unwrap();
    let mut reader = client.subscribe(&feed(FEED), Since::Start).await.unwrap();
    let mut peer = server.welcome().await;
    assert_eq!(asked(&mut peer).await, from_start());
    peer.say(&subscribed("e", 100)).await;
    peer.say_all(&events("e", 1..=100)).await;
    // Nine fit beside the message that it is subscribed; nothing more is wanted.
    assert_eq!(peer.expect("unsubscribe").await["feed"], FEED);
    assert!(peer.is_silent().await);
    expect_subscribed(&mut reader, 100).await;
    for number in 1..=9 {
        expect_event(&mut reader, number).await;
    }
    // From here on the server sends all there is whenever it is asked, while the reader reads.
    let serve = async {
        loop {
            let request = peer.any().await;
            if request["type"] == "subscribe" {
                let last = request["last_sequence"].as_u64().unwrap();
                peer.say(&subscribed("e", 100)).await;
                peer.say_all(&events("e", last + 1..=100)).await;
            }
        }
    };
    let read = async {
        let mut number = 10;
        while number <= 100 {
            match soon(reader.next()).await {
                Some(FeedMessage::Event(event)) => {
                    assert_eq!(event.sequence_number.get(), number);
                    number += 1;
                }
                Some(FeedMessage::Subscribed { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = read => {}
    }
}

#[tokio::test]
async fn bytes_that_wait_for_a_reader_are_bounded_too() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.limits.feed_bytes = 1_000;
    let client = Client::connect(options).await.unwrap();
    let mut reader = client.subscribe(&feed(FEED), Since::Start).await.unwrap();
    let mut peer = server.welcome().await;
    asked(&mut peer).await;
    peer.say(&subscribed("e", 2)).await;
    expect_subscribed(&mut reader, 2).await;
    let mut large = events("e", 1..=2);
    large[0]["data"]["text"] = json!("x".repeat(2_000));
    peer.say_all(&large).await;
    // An event that alone is larger than all the room is let through alone.
    peer.expect("unsubscribe").await;
    expect_event(&mut reader, 1).await;
    assert_eq!(asked(&mut peer).await, from_after("e", 1));
}

#[tokio::test]
async fn a_feed_that_may_not_be_read_is_lost_and_one_that_can_not_for_now_is_asked_for_again() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut reader = client.subscribe(&feed(FEED), Since::Start).await.unwrap();
    let mut peer = server.welcome().await;
    let error = |code: &str, question: &Value| json!({"type": "error", "code": code, "message": "No.", "original_action": question});
    for code in ["unavailable", "rate_limited"] {
        let question = peer.expect("subscribe").await;
        peer.say(&error(code, &question)).await;
    }
    let question = peer.expect("subscribe").await;
    peer.say(&error("not_found", &question)).await;
    let expected = Error::Refused { code: "not_found".into(), message: "No.".into(), field: None };
    assert_eq!(soon(reader.next()).await, Some(FeedMessage::Lost(expected)));
    assert_eq!(soon(reader.next()).await, None);
    assert!(peer.is_silent().await);
}

#[tokio::test]
async fn a_snapshot_and_a_page_count_as_the_events_in_them() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut reader = client.subscribe(&feed(FEED), Since::Start).await.unwrap();
    let mut peer = server.welcome().await;
    asked(&mut peer).await;
    peer.say(&subscribed("e", 12)).await;
    peer.say(&json!({"type": "snapshot", "feed": FEED, "sequence_number": 9, "state": {"count": 3}})).await;
    let page = events("e", 8..=11);
    peer.say(&json!({
        "type": "sync_batch", "feed": FEED, "events": page, "current_sequence": 12, "has_more": true
    }))
    .await;
    peer.say_all(&events("e", [12])).await;
    expect_subscribed(&mut reader, 12).await;
    let snapshot = FeedMessage::Snapshot { sequence_number: Version::new(9), state: json!({"count": 3}) };
    assert_eq!(soon(reader.next()).await, Some(snapshot));
    for number in 10..=12 {
        expect_event(&mut reader, number).await;
    }
    assert!(peer.is_silent().await);
}
