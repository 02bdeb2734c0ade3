//! The log seen as an outbox: PENDING, SENT, PARKED.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sillage_kernel::{Event, Failed, Failure, Filter, Reaction, Reactor};
use sillage_runtime::Retry;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::support::{Client, action, start, start_in, until};

const WELL: u8 = 0;
const STALLED: u8 = 1;
const FAILING: u8 = 2;

/// A destination that can be made to stall and to fail.
#[derive(Default)]
struct Webhook {
    mood: AtomicU8,
    go_on: Notify,
}

impl Reactor for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn filter(&self) -> Filter {
        Filter::People
    }

    fn react<'a>(&'a self, _: &'a [Arc<Event>]) -> Reaction<'a> {
        Box::pin(async move {
            while self.mood.load(Ordering::SeqCst) == STALLED {
                self.go_on.notified().await;
            }
            match self.mood.load(Ordering::SeqCst) {
                FAILING => {
                    Err(Failed { confirmed: 0, failure: Failure::Retry("the other side is down".into()) })
                }
                _ => Ok(()),
            }
        })
    }
}

impl Webhook {
    fn feel(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
        self.go_on.notify_one();
    }
}

const RETRY: Retry = Retry {
    attempts: NonZeroU32::new(2).unwrap(),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(2),
    timeout: Duration::from_secs(60),
};

async fn like(client: &Client, target: &str) {
    let body = action("LikeAdd", target, Uuid::now_v7()).to_string();
    assert_eq!(client.post("/api/commands", &client.token("alice", &[]), body).await.0, 202);
}

fn operator(client: &Client) -> String {
    client.token("olga", &["operate"])
}

/// Waits until the event at a position stands like that for the sockets and the webhook.
async fn until_event_is(client: &Client, position: u64, sockets: &str, webhook: &str) {
    let token = operator(client);
    let what = format!("{sockets} and {webhook} at {position}");
    let expected = json!({"sockets": sockets, "webhook": webhook, "log": "SENT"});
    let ask = || async {
        let (_, outbox) = client.get("/api/outbox", &token).await;
        let event =
            outbox["events"].as_array().unwrap().iter().find(|event| event["position"] == position)?;
        (event["status"] == expected).then_some(())
    };
    until(&what, ask).await;
}

async fn order(client: &Client, order: &str, body: Value) -> u16 {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.post(&format!("/api/reactors/webhook/{order}"), &operator(client), body).await.0
}

#[tokio::test]
async fn a_stalled_destination_is_pending_a_failing_one_parked_and_a_retry_sends() {
    let webhook = Arc::new(Webhook::default());
    let running = start(|config| {
        config.system.reactors.push(Arc::clone(&webhook) as _);
        config.retry = RETRY;
    })
    .await;
    let client = &running.client;

    webhook.feel(STALLED);
    like(client, "a").await;
    until_event_is(client, 1, "SENT", "PENDING").await;
    webhook.feel(WELL);
    until_event_is(client, 1, "SENT", "SENT").await;

    webhook.feel(FAILING);
    like(client, "b").await;
    until_event_is(client, 2, "SENT", "PARKED").await;
    let (_, parked) = client.get("/api/reactors/webhook/parked", &operator(client)).await;
    let because = json!({"because": "failed", "error": "the other side is down", "attempts": 2});
    assert_eq!((&parked[0]["position"], &parked[0]["because"]), (&json!(2), &because), "{parked}");
    assert_eq!(parked[0]["key"], "like-b");

    webhook.feel(WELL);
    assert_eq!(order(client, "retry", json!({"position": 2})).await, 204);
    until_event_is(client, 2, "SENT", "SENT").await;
    let (_, reactors) = client.get("/api/reactors", &operator(client)).await;
    let webhook = reactors.as_array().unwrap().iter().find(|reactor| reactor["name"] == "webhook").unwrap();
    let stands = (&webhook["position"], &webhook["parked"], &webhook["mode"], &webhook["last_error"]);
    assert_eq!(stands, (&json!(2), &json!(0), &json!("running"), &json!("the other side is down")));
}

#[tokio::test]
async fn an_operator_pauses_resumes_skips_and_rewinds() {
    let webhook = Arc::new(Webhook::default());
    let running = start(|config| {
        config.system.reactors.push(Arc::clone(&webhook) as _);
        config.retry = RETRY;
    })
    .await;
    let client = &running.client;
    assert_eq!(order(client, "pause", Value::Null).await, 204);
    like(client, "a").await;
    until_event_is(client, 1, "SENT", "PENDING").await;
    assert_eq!(order(client, "resume", Value::Null).await, 204);
    until_event_is(client, 1, "SENT", "SENT").await;

    webhook.feel(FAILING);
    like(client, "b").await;
    until_event_is(client, 2, "SENT", "PARKED").await;
    assert_eq!(order(client, "skip", json!({"position": 1})).await, 404);
    assert_eq!(order(client, "skip", Value::Null).await, 422);
    assert_eq!(order(client, "skip", json!({"position": 2})).await, 204);
    until_event_is(client, 2, "SENT", "SENT").await;

    assert_eq!(order(client, "rewind", json!({"position": 9})).await, 422);
    assert_eq!(order(client, "rewind", json!({"position": 1})).await, 204);
    until_event_is(client, 2, "SENT", "PARKED").await;
    assert_eq!(order(client, "dance", Value::Null).await, 404);
    assert_eq!(client.post("/api/reactors/nobody/pause", &operator(client), "").await.0, 404);
}

#[tokio::test]
async fn what_is_parked_is_still_parked_after_a_restart() {
    let webhook = Arc::new(Webhook::default());
    let change = |config: &mut sillage_server::Config| {
        config.system.reactors.push(Arc::clone(&webhook) as _);
        config.retry = RETRY;
    };
    let running = start(change).await;
    webhook.feel(FAILING);
    like(&running.client, "a").await;
    until_event_is(&running.client, 1, "SENT", "PARKED").await;
    running.node.stop().await;
    webhook.feel(WELL);
    let again = start_in(running.folder, change).await;
    until_event_is(&again.client, 1, "SENT", "PARKED").await;
    assert_eq!(order(&again.client, "retry", Value::Null).await, 204);
    until_event_is(&again.client, 1, "SENT", "SENT").await;
}
