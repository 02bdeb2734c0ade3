//! The connection: closing codes, tokens and silence are obeyed, and nonsense changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sillage_client::{Client, Error, Options, Status, TokenSource, Wanted};

use crate::peer::Server;
use crate::{client, feed, id_of, options, receipt, soon, status};

/// Gives `token 1`, and the next number whenever a new one is wanted, up to `last`.
fn counting(last: u32) -> TokenSource {
    let given = Arc::new(AtomicU32::new(1));
    TokenSource::new(move |wanted| {
        let number = match wanted {
            Wanted::Any => given.load(Ordering::SeqCst),
            Wanted::New => given.fetch_add(1, Ordering::SeqCst) + 1,
        };
        async move { (number <= last).then(|| format!("token {number}")) }
    })
}

fn with_tokens(server: &Server, last: u32) -> Options {
    Options { token: counting(last), ..options(server) }
}

#[tokio::test]
async fn after_4401_a_new_token_is_shown() {
    for code in [4401, 4403] {
        let server = Server::start().await;
        let client = Client::connect(with_tokens(&server, 2)).await.unwrap();
        let peer = server.welcome().await;
        assert_eq!(peer.token, "token 1");
        status(&client, Status::Connected).await;
        peer.close(code, "sign in again").await;
        let peer = server.welcome().await;
        assert_eq!(peer.token, "token 2");
        status(&client, Status::Connected).await;
        peer.close(code, "sign in again").await;
        status(&client, Status::NeedsSignIn).await;
        assert!(server.nobody_comes().await);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_at_the_door_is_not_shown_twice() {
    let server = Server::start().await;
    let client = client(&server).await;
    let mut peer = server.accept().await;
    let refusal =
        json!({"type": "error", "code": "unauthorized", "message": "No token.", "original_action": null});
    peer.say(&refusal).await;
    peer.close(4401, "sign in again").await;
    status(&client, Status::NeedsSignIn).await;
    assert!(server.nobody_comes().await);
}

#[tokio::test]
async fn a_new_token_is_shown_before_the_old_one_is_over() {
    let server = Server::start().await;
    let _client = Client::connect(with_tokens(&server, 2)).await.unwrap();
    let mut peer = server.welcome().await;
    let warning =
        json!({"type": "error", "code": "token_expired", "message": "Soon over.", "original_action": null});
    peer.say(&warning).await;
    assert_eq!(peer.expect("refresh_token").await["token"], "token 2");
    peer.say(&json!({"type": "token_refreshed"})).await;
    // There is no third; the connection stays until the server ends it.
    peer.say(&warning).await;
    assert!(peer.is_silent().await);
}

#[tokio::test]
async fn whoever_is_replaced_or_not_wanted_stays_away_until_it_is_told_to() {
    for (code, expected) in [(4409, Status::Replaced), (4400, Status::Stopped), (4404, Status::Stopped)] {
        let server = Server::start().await;
        let client = client(&server).await;
        let sent = client.send(&feed("like-a"), "LikeAdd", &json!({})).await.unwrap();
        let mut peer = server.welcome().await;
        peer.expect("action").await;
        peer.close(code, "").await;
        status(&client, expected).await;
        assert!(server.nobody_comes().await);
        client.reconnect().await.unwrap();
        let mut peer = server.welcome().await;
        let action = peer.expect("action").await;
        peer.say(&receipt(id_of(&action), "applied")).await;
        soon(sent.confirmed()).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_is_too_much_comes_back_when_it_is_told_to() {
    for (code, reason, announced) in [(4429, "", Some(1)), (4503, "retry_after=1", None)] {
        let server = Server::start().await;
        let client = client(&server).await;
        let mut peer = server.welcome().await;
        status(&client, Status::Connected).await;
        if let Some(seconds) = announced {
            peer.say(&json!({
                "type": "error", "code": "rate_limited", "message": "Too many.", "retry_after": seconds,
                "original_action": null
            }))
            .await;
        }
        let closed_at = Instant::now();
        peer.close(code, reason).await;
        status(&client, Status::Offline).await;
        server.welcome().await;
        assert!(closed_at.elapsed() >= Duration::from_secs(1));
    }
}

#[tokio::test]
async fn other_ends_are_come_back_from() {
    let server = Server::start().await;
    let client = client(&server).await;
    for code in [1000, 1001, 1011, 4408, 4999] {
        let peer = server.welcome().await;
        status(&client, Status::Connected).await;
        peer.close(code, "").await;
    }
    drop(server.accept().await);
    drop(server.welcome().await);
    let _peer = server.welcome().await;
    status(&client, Status::Connected).await;
}

#[tokio::test]
async fn a_server_that_always_leaves_is_come_back_to_less_and_less_often() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.timing.backoff = Duration::from_millis(30);
    options.timing.max_backoff = Duration::from_secs(10);
    let _client = Client::connect(options).await.unwrap();
    let began = Instant::now();
    for _ in 0..5 {
        server.welcome().await.close(1001, "going away").await;
    }
    assert!(began.elapsed() >= Duration::from_millis(30 + 60 + 120 + 240), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let server = Server::start().await;
    let url = server.url();
    drop(server);
    let mut options = Options::new(url.clone(), TokenSource::fixed("token"));
    options.timing.backoff = Duration::from_millis(5);
    let client = Client::connect(options).await.unwrap();
    status(&client, Status::Offline).await;
    let sent = client.send(&feed("like-a"), "LikeAdd", &json!({})).await.unwrap();
    let server = Server::start_at(&url).await;
    let mut peer = server.welcome().await;
    assert_eq!(id_of(&peer.expect("action").await), sent.command_id);
}

#[tokio::test]
async fn a_silent_server_is_asked_and_then_left() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.timing.ping = Duration::from_millis(20);
    options.timing.silence = Duration::from_millis(200);
    let client = Client::connect(options).await.unwrap();
    let mut peer = server.welcome().await;
    peer.expect("ping").await;
    peer.say(&json!({"type": "pong"})).await;
    peer.expect("ping").await;
    status(&client, Status::Connected).await;
    status(&client, Status::Offline).await;
    server.welcome().await;
}

#[tokio::test]
async fn a_server_that_never_lets_one_in_is_left() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.timing.connect = Duration::from_millis(50);
    let client = Client::connect(options).await.unwrap();
    let _guest = server.keep_waiting().await;
    status(&client, Status::Offline).await;
    server.welcome().await;
}

#[tokio::test]
async fn nonsense_is_passed_over() {
    let server = Server::start().await;
    let client = client(&server).await;
    let sent = client.send(&feed("like-a"), "LikeAdd", &json!({})).await.unwrap();
    let mut peer = server.welcome().await;
    peer.expect("action").await;
    let deep = "[".repeat(10_000);
    for text in [
        "",
        "\n\n",
        "null",
        "[]",
        "{}",
        "\"x\"",
        "{\"type\":7}",
        "{\"type\":\"tomorrow\",\"feed\":\"a-b\"}",
        "{\"type\":\"event\"}",
        "{\"type\":\"receipt\",\"feed\":\"x\"}",
        "{\"type\":\"subscribed\"}",
        "{\"type\":\"error\"}",
        "{\"type\":\"resync\",\"feed\":\"like-a\",\"epoch\":\"e\"}",
        "{\"type\":\"snapshot\",\"feed\":\"like-a\",\"sequence_number\":3,\"state\":null}",
        &deep,
        "{\"type\":\"receipt\",\"feed\":\"a-b\",\"command_id\":\"01931c1e-0000-7000-8000-000000000000\",\
         \"outcome\":\"applied\",\"position\":1}",
    ] {
        peer.say_text(text).await;
    }
    peer.say_bytes(b"\xff\x00").await;
    let mut strange = receipt(sent.command_id, "perhaps");
    peer.say(&strange).await;
    strange["outcome"] = json!("unchanged");
    peer.say_text(&format!("nonsense\n{strange}\nnonsense")).await;
    soon(sent.confirmed()).await.unwrap();
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_told_at_once() {
    for url in ["", "http://localhost/ws", "wss://localhost/ws", "/ws", "ws:///ws"] {
        let options = Options::new(url, TokenSource::fixed("token"));
        let refused = Client::connect(options).await;
        assert!(matches!(refused, Err(Error::Url(_))), "{url}");
    }
}
