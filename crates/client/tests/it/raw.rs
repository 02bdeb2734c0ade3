//! The bare connection: what waits goes out together, and neither side holds the other up.

use serde_json::json;
use sillage_client::Error;
use sillage_client::raw::{Connection, FRAME_BYTES, Incoming, MAX_QUEUED_BYTES};

use crate::peer::Server;
use crate::soon;

#[tokio::test]
async fn what_waits_goes_out_in_few_frames() {
    let server = Server::start().await;
    let url = server.url();
    let (mut peer, connection) = tokio::join!(server.accept(), Connection::open(&url, "token"));
    let mut connection = connection.unwrap();
    assert_eq!(peer.token, "token");
    let text = "x".repeat(FRAME_BYTES / 4);
    let message = |n: usize| json!({"type": "action", "n": n, "text": text}).to_string();
    for n in 0..9 {
        connection.push(&message(n));
    }
    connection.push(&format!("\"{}\"", "y".repeat(2 * FRAME_BYTES)));
    let received = async {
        for n in 0..9 {
            assert_eq!(peer.expect("action").await["n"], n);
        }
        peer.any().await;
        peer
    };
    let peer = soon(async {
        tokio::select! {
            peer = received => peer,
            incoming = connection.next() => panic!("{incoming:?}"),
        }
    })
    .await;
    assert_eq!(peer.frames, 4, "three in each, and one that alone is larger");
}

#[tokio::test]
async fn two_who_have_much_to_say_do_not_hold_each_other_up() {
    const MANY: usize = 200;
    let server = Server::start().await;
    let url = server.url();
    let (mut peer, connection) = tokio::join!(server.accept(), Connection::open(&url, "token"));
    let mut connection = connection.unwrap();
    let large = json!({"type": "action", "text": "x".repeat(100_000)});
    let text = large.to_string();
    for n in 0..MANY {
        assert_eq!(connection.is_full(), n * (text.len() + 1) >= MAX_QUEUED_BYTES, "{n}");
        connection.push(&text);
    }
    let says_first = async {
        for _ in 0..MANY {
            peer.say(&large).await;
        }
        for _ in 0..MANY {
            peer.expect("action").await;
        }
        // The connection outlives what it was tested for.
        std::future::pending::<()>().await;
    };
    let listens = async {
        let (mut frames, mut room) = (0, 0);
        while frames < MANY || room < 1 {
            match connection.next().await {
                Incoming::Text(frame) => frames += frame.lines().count(),
                Incoming::Room => room += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((frames, room), (MANY, 1));
        assert!(!connection.is_full());
    };
    soon(async {
        tokio::select! {
            () = says_first => {}
            () = listens => {}
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_is_not_there_or_not_signed_in_cannot_be_connected_to() {
    let server = Server::start().await;
    let url = server.url();
    drop(server);
    assert!(matches!(Connection::open(&url, "token").await.err(), Some(Error::Unreachable(_))));
    assert_eq!(Connection::open(&url, "not\na token").await.err(), Some(Error::SignIn));
    assert!(matches!(Connection::open("nonsense", "token").await.err(), Some(Error::Url(_))));
}
