//! One socket among many does not read.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sillage_gateway::hub::{MAX_DIRECT_BYTES, MAX_FRAME_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Client, Running, Socket, action, start, until, within};

const SOCKETS: usize = 1_000;
/// Enough that what one socket misses fits neither its buffers nor those of the kernel nor its feed.
const EVENTS: u64 = 8_000;

/// A socket that subscribes and then reads nothing, with buffers that are soon full.
async fn stalled(client: &Client, token: &str) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(client.address.parse().unwrap()).await.unwrap();
    let request = format!(
        "GET /ws?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(stream.read_u8().await.unwrap());
    }
    let message = json!({"type": "subscribe", "feed": "like-a"}).to_string();
    let length = u8::try_from(message.len()).unwrap();
    assert!(length < 126);
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend(message.as_bytes());
    stream.write_all(&frame).await.unwrap();
    stream
}

/// Likes and unlikes until there are so many events, several at a time.
async fn like_until(client: &Client, token: &str, events: u64) {
    let mut socket = client.socket(token).await;
    let (mut sent, mut heard) = (0, 0);
    while heard < events {
        while sent < events && sent - heard < 64 {
            let name = if sent % 2 == 0 { "LikeAdd" } else { "LikeRemove" };
            socket.send(&action(name, "a", Uuid::now_v7())).await;
            sent += 1;
        }
        socket.next_of("receipt").await;
        heard += 1;
    }
}

/// Reads events until the last.
async fn follow(mut socket: Socket) {
    for number in 1..=EVENTS {
        assert_eq!(socket.next_of("event").await["sequence_number"], number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_one_that_does_not_read_slows_nobody_and_loses_nothing() {
    let Running { node, client, folder: _folder } = start(|_| ()).await;
    let token = client.token("reader", &[]);
    let mut asleep = within("the stalled socket", stalled(&client, &token)).await;
    let mut idle = Vec::new();
    for _ in 0..SOCKETS - 2 {
        let mut socket = client.socket(&token).await;
        socket.subscribe("like-b").await;
        idle.push(socket);
    }
    let mut reader = client.socket(&token).await;
    reader.subscribe("like-a").await;
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(reader));
    let (liker, writer) = (client.clone(), client.token("writer", &[]));
    tasks.spawn(async move { like_until(&liker, &writer, EVENTS).await });
    // Both end although one socket takes nothing.
    while let Some(done) = tokio::time::timeout(Duration::from_secs(60), tasks.join_next()).await.unwrap() {
        done.unwrap();
    }
    let hub = Arc::clone(&node.gateway().hub);
    assert!(hub.frame_bytes() <= 1 << 20, "a feed holds {} bytes", hub.frame_bytes());
    const { assert!(MAX_FRAME_BYTES >= 1 << 20 && MAX_DIRECT_BYTES <= 1 << 20) };
    // The reader has gone; the stalled one is still there.
    until("the reader's end", || async { (hub.connections() == SOCKETS - 1).then_some(()) }).await;

    // Now it reads, and has everything, in order, though its feed holds only the newest.
    let mut bytes = Vec::new();
    let mut next = 1;
    while next <= EVENTS {
        let mut chunk = vec![0; 64 << 10];
        let read = within("what it missed", asleep.read(&mut chunk)).await.unwrap();
        assert!(read > 0, "it was closed");
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut parsed_to = 0;
        while let Some(at) = text[parsed_to..].find(&format!("\"sequence_number\":{next},")) {
            parsed_to += at + 1;
            next += 1;
        }
        let keep = bytes.len().min(128);
        bytes.drain(..bytes.len() - keep);
    }
    // The others were never disturbed.
    let other = idle.last_mut().unwrap();
    like_until_once(&client).await;
    assert_eq!(other.next_of("event").await["feed"], "like-b");
    assert_eq!(hub.connections(), SOCKETS - 1);
}

async fn like_until_once(client: &Client) {
    let body = action("LikeAdd", "b", Uuid::now_v7()).to_string();
    assert_eq!(client.post("/api/commands", &client.token("writer", &[]), body).await.0, 202);
}
