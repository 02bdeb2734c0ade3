//! Commands: sent in order, again when they must be, and never twice in effect.

use std::time::Duration;

use serde_json::{Value, json};
use sillage_client::{Client, Effect, Error, Since};
use sillage_kernel::{Position, StreamName, Version};

use crate::peer::{Peer, Server};
use crate::{client, event, feed, id_of, options, receipt, soon};

async fn send(client: &Client, feed: &StreamName, n: u64) -> sillage_client::Sent {
    soon(client.send(feed, "LikeAdd", &json!({"n": n}))).await.unwrap()
}

async fn action(peer: &mut Peer, n: u64) -> Value {
    let action = peer.expect("action").await;
    assert_eq!(action["data"]["n"], n, "{action}");
    action
}

fn error_about(action: &Value, code: &str, retry_after: Option<u64>) -> Value {
    json!({
        "type": "error", "code": code, "message": "No.", "field": "n", "retry_after": retry_after,
        "original_action": action
    })
}

#[tokio::test]
async fn a_receipt_confirms_a_command() {
    let server = Server::start().await;
    let client = client(&server).await;
    let sent = send(&client, &feed("like-a"), 1).await;
    let mut peer = server.welcome().await;
    let action = action(&mut peer, 1).await;
    assert_eq!(action["feed"], "like-a");
    assert_eq!(action["event_type"], "LikeAdd");
    assert_eq!(id_of(&action), sent.command_id);
    assert!(sent.command_id.minted_at().is_some(), "a UUIDv7");
    assert_eq!(client.pending(&feed("like-a")).await.unwrap().len(), 1);
    peer.say(&receipt(sent.command_id, "applied")).await;
    let confirmed = soon(sent.confirmed()).await.unwrap();
    assert_eq!(confirmed.effect, Effect::Applied { sequence_numbers: vec![Version::new(7)] });
    assert_eq!(confirmed.position, Position::new(70));
    assert_eq!(client.pending(&feed("like-a")).await.unwrap(), []);
}

#[tokio::test]
async fn the_event_confirms_as_well_and_what_is_repeated_is_passed_over() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut settled = client.settled();
    let mut peer = server.welcome().await;
    let mut subscription = client.subscribe(&feed("like-a"), Since::Start).await.unwrap();
    peer.expect("subscribe").await;
    peer.say(&json!({"type": "subscribed", "feed": "like-a", "epoch": "e", "current_sequence": 0})).await;
    let sent = send(&client, &feed("like-a"), 1).await;
    action(&mut peer, 1).await;
    let mut own = event("like-a", "e", 1);
    own["command_id"] = json!(sent.command_id);
    peer.say_all(&[
        own.clone(),
        own,
        receipt(sent.command_id, "applied"),
        receipt(sent.command_id, "rejected"),
    ])
    .await;
    let id = sent.command_id;
    let confirmed = soon(sent.confirmed()).await.unwrap();
    assert_eq!(confirmed.effect, Effect::Applied { sequence_numbers: vec![Version::new(1)] });
    assert_eq!(confirmed.position, Position::new(10));
    // It was told once, and the next to be told is the next command.
    assert_eq!(soon(settled.next()).await.unwrap().command_id, id);
    let second = send(&client, &feed("like-a"), 2).await;
    action(&mut peer, 2).await;
    peer.say(&receipt(second.command_id, "unchanged")).await;
    let told = soon(settled.next()).await.unwrap();
    assert_eq!(told.command_id, second.command_id);
    assert_eq!(told.outcome.unwrap().effect, Effect::Unchanged);
    assert!(matches!(soon(subscription.next()).await, Some(sillage_client::FeedMessage::Subscribed { .. })));
    assert!(matches!(soon(subscription.next()).await, Some(sillage_client::FeedMessage::Event(_))));
}

#[tokio::test]
async fn a_rejection_is_told_with_its_reason() {
    let server = Server::start().await;
    let client = client(&server).await;
    let sent = send(&client, &feed("like-a"), 1).await;
    let mut peer = server.welcome().await;
    action(&mut peer, 1).await;
    let mut refusal = receipt(sent.command_id, "rejected");
    refusal["code"] = json!("likes_closed");
    refusal["message"] = json!("Closed.");
    refusal["details"] = json!({"since": 3});
    peer.say(&refusal).await;
    let Err(Error::Rejected(rejection)) = soon(sent.confirmed()).await else { panic!("it was rejected") };
    assert_eq!((rejection.code.as_ref(), rejection.message.as_str()), ("likes_closed", "Closed."));
    assert_eq!(rejection.details, json!({"since": 3}));
}

#[tokio::test]
async fn commands_of_one_feed_go_one_after_the_other_and_those_of_others_beside_them() {
    let server = Server::start().await;
    let client = client(&server).await;
    for (name, n) in [("like-a", 1), ("like-a", 2), ("like-b", 3), ("like-a", 4)] {
        drop(send(&client, &feed(name), n).await);
    }
    let mut peer = server.welcome().await;
    let first = action(&mut peer, 1).await;
    let other = action(&mut peer, 3).await;
    assert!(peer.is_silent().await);
    peer.say(&receipt(id_of(&other), "applied")).await;
    peer.say(&receipt(id_of(&first), "applied")).await;
    let second = action(&mut peer, 2).await;
    assert!(peer.is_silent().await);
    peer.say(&receipt(id_of(&second), "applied")).await;
    action(&mut peer, 4).await;
}

#[tokio::test]
async fn more_may_be_under_way_in_one_feed_but_none_overtakes_one_that_rests() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.limits.in_flight_per_feed = 3;
    let client = Client::connect(options).await.unwrap();
    for n in 1..=4 {
        drop(send(&client, &feed("like-a"), n).await);
    }
    let mut peer = server.welcome().await;
    let first = action(&mut peer, 1).await;
    action(&mut peer, 2).await;
    let third = action(&mut peer, 3).await;
    assert!(peer.is_silent().await);
    peer.say_all(&[error_about(&first, "overloaded", None), receipt(id_of(&third), "applied")]).await;
    assert_eq!(action(&mut peer, 1).await, first, "the same message with the same id");
    action(&mut peer, 4).await;
}

#[tokio::test]
async fn without_an_answer_the_same_is_sent_again() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.timing.answer = Duration::from_millis(20);
    let client = Client::connect(options).await.unwrap();
    let sent = send(&client, &feed("like-a"), 1).await;
    let mut peer = server.welcome().await;
    let first = action(&mut peer, 1).await;
    assert_eq!(action(&mut peer, 1).await, first);
    assert_eq!(action(&mut peer, 1).await, first);
    peer.say(&receipt(sent.command_id, "applied")).await;
    soon(sent.confirmed()).await.unwrap();
}

#[tokio::test]
async fn after_a_lost_connection_all_that_was_not_answered_is_sent_again_in_order() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.limits.in_flight_per_feed = 10;
    let client = Client::connect(options).await.unwrap();
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(send(&client, &feed("like-a"), n).await);
    }
    let mut peer = server.welcome().await;
    let mut first = Vec::new();
    for n in 0..5 {
        first.push(action(&mut peer, n).await);
    }
    peer.say(&receipt(id_of(&first[1]), "applied")).await;
    soon(sent.remove(1).confirmed()).await.unwrap();
    drop(peer);
    let mut peer = server.welcome().await;
    for n in [0, 2, 3, 4] {
        let again = action(&mut peer, u64::try_from(n).unwrap()).await;
        assert_eq!(again, first[n]);
        peer.say(&receipt(id_of(&again), "unchanged")).await;
    }
    for sent in sent {
        soon(sent.confirmed()).await.unwrap();
    }
}

#[tokio::test]
async fn an_error_is_obeyed_as_its_code_says() {
    let server = Server::start().await;
    let client = client(&server).await;
    let sent = send(&client, &feed("like-a"), 1).await;
    let behind = send(&client, &feed("like-a"), 2).await;
    let mut peer = server.welcome().await;
    for code in ["rate_limited", "overloaded", "unavailable", "internal"] {
        let action = action(&mut peer, 1).await;
        peer.say(&error_about(&action, code, None)).await;
    }
    let refused = action(&mut peer, 1).await;
    peer.say(&error_about(&refused, "invalid_field", None)).await;
    let expected =
        Error::Refused { code: "invalid_field".into(), message: "No.".into(), field: Some("n".into()) };
    assert_eq!(soon(sent.confirmed()).await, Err(expected));
    action(&mut peer, 2).await;
    // An error that nobody can be named for changes nothing.
    peer.say(&error_about(&Value::Null, "malformed", None)).await;
    peer.say(&error_about(&json!({"type": "action", "command_id": "?"}), "conflict", None)).await;
    peer.say(&receipt(behind.command_id, "applied")).await;
    soon(behind.confirmed()).await.unwrap();
}

#[tokio::test]
async fn what_is_rate_limited_rests_as_long_as_the_server_says() {
    let server = Server::start().await;
    let client = client(&server).await;
    drop(send(&client, &feed("like-a"), 1).await);
    let mut peer = server.welcome().await;
    let first = action(&mut peer, 1).await;
    let refused_at = std::time::Instant::now();
    peer.say(&error_about(&first, "rate_limited", Some(1))).await;
    assert_eq!(action(&mut peer, 1).await, first);
    assert!(refused_at.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_given_up_and_the_rest_goes_on() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.limits.message_bytes = 2_000;
    let client = Client::connect(options).await.unwrap();
    let small = send(&client, &feed("like-a"), 1).await;
    let large = json!({"n": 2, "text": "x".repeat(1_000)});
    let large = client.send(&feed("like-b"), "LikeAdd", &large).await.unwrap();
    let mut peer = server.welcome().await;
    action(&mut peer, 1).await;
    action(&mut peer, 2).await;
    peer.close(1009, "too large").await;
    assert!(matches!(soon(large.confirmed()).await, Err(Error::TooLarge { bytes: 1_000.. })));
    let mut peer = server.welcome().await;
    action(&mut peer, 1).await;
    peer.say(&receipt(small.command_id, "applied")).await;
    soon(small.confirmed()).await.unwrap();
    assert!(peer.is_silent().await);
    let too_large = json!({"text": "x".repeat(2_000)});
    let refused = client.send(&feed("like-b"), "LikeAdd", &too_large).await;
    assert!(matches!(refused, Err(Error::TooLarge { bytes: 2_000.. })));
}

#[tokio::test]
async fn no_more_wait_than_fit() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.limits.commands = 3;
    options.limits.in_flight = 2;
    let client = Client::connect(options).await.unwrap();
    for n in 0..3 {
        drop(send(&client, &feed(&format!("like-{n}")), n).await);
    }
    let refused = client.send(&feed("like-a"), "LikeAdd", &json!({})).await;
    assert_eq!(refused.err(), Some(Error::OutboxFull { waiting: 3 }));
    let mut peer = server.welcome().await;
    let first = action(&mut peer, 0).await;
    action(&mut peer, 1).await;
    assert!(peer.is_silent().await, "no more is under way than may be");
    peer.say(&receipt(id_of(&first), "applied")).await;
    action(&mut peer, 2).await;
    drop(send(&client, &feed("like-a"), 3).await);
}

#[tokio::test]
async fn the_bytes_that_wait_are_bounded_too() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.limits.command_bytes = 3_000;
    let client = Client::connect(options).await.unwrap();
    let data = json!({"text": "x".repeat(1_000)});
    for _ in 0..2 {
        drop(client.send(&feed("like-a"), "LikeAdd", &data).await.unwrap());
    }
    let refused = client.send(&feed("like-a"), "LikeAdd", &data).await;
    assert_eq!(refused.err(), Some(Error::OutboxFull { waiting: 2 }));
}

#[tokio::test]
async fn an_id_waits_once() {
    let server = Server::start().await;
    let client = client(&server).await;
    let (id, data) = (Client::mint(), json!({"n": 1}));
    let sent = client.send_as(id, &feed("like-a"), "LikeAdd", &data).await.unwrap();
    assert_eq!(sent.command_id, id);
    let again = client.send_as(id, &feed("like-a"), "LikeAdd", &data).await;
    assert!(matches!(again, Err(Error::Refused { code, .. }) if code == "conflict"));
}

#[tokio::test]
async fn whoever_waits_when_the_client_is_closed_is_told() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut settled = client.settled();
    let sent = send(&client, &feed("like-a"), 1).await;
    let mut subscription = client.subscribe(&feed("like-a"), Since::Start).await.unwrap();
    let peer = server.welcome().await;
    let (closed, ()) = tokio::join!(peer.closed(), soon(client.close()));
    assert_eq!(closed, Some(1000));
    assert_eq!(soon(sent.confirmed()).await, Err(Error::Closed));
    assert_eq!(soon(subscription.next()).await, None);
    assert_eq!(soon(settled.next()).await, Err(Error::Closed));
    assert_eq!(soon(client.settled().next()).await, Err(Error::Closed));
    assert!(client.send(&feed("like-a"), "LikeAdd", &json!({})).await.is_err());
    soon(client.close()).await;
}
