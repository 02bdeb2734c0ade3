//! The server's side of a connection, as a test plays it.

use std::collections::VecDeque;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::soon;

/// A server that accepts connections.
pub(crate) struct Server {
    listener: TcpListener,
}

/// One connection of a client.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    waiting: VecDeque<Value>,
    /// The token that the client came with.
    pub(crate) token: String,
    /// How many frames it has sent.
    pub(crate) frames: usize,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// At the address of a server that is gone.
    pub(crate) async fn start_at(url: &str) -> Self {
        let address = url.strip_prefix("ws://").unwrap().strip_suffix("/ws").unwrap();
        Self { listener: TcpListener::bind(address).await.unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.listener.local_addr().unwrap())
    }

    /// The next connection of a client.
    pub(crate) async fn accept(&self) -> Peer {
        soon(async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut token = String::new();
            // The type of the callback is the library's.
            #[allow(clippy::result_large_err)]
            let read_token = |request: &Request, response: Response| {
                let bearer = request.headers().get("authorization").unwrap().to_str().unwrap();
                token = bearer.strip_prefix("Bearer ").unwrap().to_owned();
                Ok(response)
            };
            let socket = accept_hdr_async(stream, read_token).await.unwrap();
            Peer { socket, waiting: VecDeque::new(), token, frames: 0 }
        })
        .await
    }

    /// The next connection, which is not answered.
    pub(crate) async fn keep_waiting(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    /// The next connection, whose token is found good.
    pub(crate) async fn welcome(&self) -> Peer {
        let mut peer = self.accept().await;
        assert_eq!(peer.any().await["type"], "ping");
        peer.say(&json!({"type": "pong"})).await;
        peer
    }

    /// Whether no client is at the door.
    pub(crate) async fn nobody_comes(&self) -> bool {
        // Asked in a turn of the loop of its own, so that whoever is there has been noticed.
        tokio::task::yield_now().await;
        self.listener.accept().now_or_never().is_none()
    }
}

impl Peer {
    /// The next message of the client, whatever it is.
    pub(crate) async fn any(&mut self) -> Value {
        while self.waiting.is_empty() {
            if let Message::Text(text) = soon(self.socket.next()).await.expect("the client is gone").unwrap()
            {
                self.frames += 1;
                self.waiting.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            }
        }
        self.waiting.pop_front().unwrap()
    }

    /// The next message of the client that is of that type. No other may come before.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.any().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Whether the client has said nothing by the time it answers a question.
    pub(crate) async fn is_silent(&mut self) -> bool {
        self.socket.send(Message::Ping("anything?".into())).await.unwrap();
        loop {
            match soon(self.socket.next()).await.expect("the client is gone").unwrap() {
                Message::Pong(_) => return self.waiting.is_empty(),
                Message::Text(text) => {
                    self.waiting
                        .extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string()).await;
    }

    /// Several messages in one frame.
    pub(crate) async fn say_all(&mut self, messages: &[Value]) {
        let lines: Vec<String> = messages.iter().map(ToString::to_string).collect();
        self.say_text(&lines.join("\n")).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        soon(self.socket.send(Message::text(text))).await.unwrap();
    }

    pub(crate) async fn say_bytes(&mut self, bytes: &'static [u8]) {
        soon(self.socket.send(Message::binary(bytes))).await.unwrap();
    }

    /// Closes with a code.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        soon(self.socket.send(Message::Close(Some(frame)))).await.unwrap();
    }

    /// Waits until the client has closed, and answers with which code.
    pub(crate) async fn closed(mut self) -> Option<u16> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}
