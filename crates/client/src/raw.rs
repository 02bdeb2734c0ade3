//! One WebSocket connection to `/ws`, and nothing else: no memory of what was sent, no coming back.
//!
//! The client is built on it, and so is the load driver, which sends far more than a client does and for which
//! the client's bookkeeping (a map entry, a timer and a channel for each command) would cost as much as the
//! server that it measures. What is here costs little: messages that wait go out together in one frame, one a
//! line, and of a message that came [`Head`] reads only what says whom it is for.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use sillage_kernel::{CommandId, Position, Version};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::error::Error;

/// Messages that wait are joined into frames of at most so many bytes; a larger message has its own.
pub const FRAME_BYTES: usize = 32 << 10;
/// When so many bytes wait, [`Connection::is_full`].
pub const MAX_QUEUED_BYTES: usize = 256 << 10;
/// The largest frame that is taken from a server.
pub const MAX_INCOMING_BYTES: usize = 16 << 20;
/// A socket reads into a buffer of this size.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    frames: VecDeque<String>,
    queued_bytes: usize,
    room: Room,
    writing: Writing,
}

#[derive(Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// There was too little; tell when that is over.
    Wanted,
}

#[derive(Debug, PartialEq, Eq)]
enum Writing {
    Done,
    Unflushed,
    /// The other side takes nothing more. It may still have said why, so reading goes on.
    Broken,
}

/// What came.
#[derive(Debug)]
pub enum Incoming {
    /// One message, or several, one a line.
    Text(Frame),
    /// A sign of life without content; it is answered already.
    Life,
    /// What waited is written: there is room again after [`Connection::is_full`].
    Room,
    /// The connection is over.
    Closed(Closed),
}

/// A frame of text.
#[derive(Debug)]
pub struct Frame(Utf8Bytes);

impl Frame {
    /// The messages in it.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.as_str().lines().filter(|line| !line.trim().is_empty())
    }
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code of the closing frame, if one came.
    pub code: Option<u16>,
    /// What the closing frame says, or what broke.
    pub reason: String,
}

/// Refuses an address that can't be connected to.
pub(crate) fn check_url(url: &str) -> Result<(), Error> {
    let request = url.into_client_request().map_err(|error| Error::Url(error.to_string()))?;
    match (request.uri().scheme_str(), request.uri().host()) {
        (Some("ws"), Some(_)) => Ok(()),
        _ => Err(Error::Url(format!("{url} does not begin with ws:// and a host"))),
    }
}

fn request(url: &str, token: &str) -> Result<Request, Error> {
    let mut request = url.into_client_request().map_err(|error| Error::Url(error.to_string()))?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::SignIn)?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    Ok(request)
}

impl Connection {
    /// Connects. Whether the token holds is only told once the connection is open.
    pub async fn open(url: &str, token: &str) -> Result<Self, Error> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(MAX_INCOMING_BYTES))
            .max_frame_size(Some(MAX_INCOMING_BYTES));
        let connected = connect_async_with_config(request(url, token)?, Some(config), true).await;
        let (socket, _) = connected.map_err(|error| match &error {
            tungstenite::Error::Url(_) => Error::Url(error.to_string()),
            tungstenite::Error::Http(response) if [401, 403].contains(&response.status().as_u16()) => {
                Error::SignIn
            }
            _ => Error::Unreachable(error.to_string()),
        })?;
        let (frames, room, writing) = (VecDeque::new(), Room::Enough, Writing::Done);
        Ok(Self { socket, frames, queued_bytes: 0, room, writing })
    }

    /// Queues a message, which must be one line. It goes out while [`Self::next`] is awaited.
    pub fn push(&mut self, message: &str) {
        self.queued_bytes += message.len() + 1;
        match self.frames.back_mut() {
            Some(last) if last.len() + 1 + message.len() <= FRAME_BYTES => {
                last.push('\n');
                last.push_str(message);
            }
            _ => self.frames.push_back(message.to_owned()),
        }
    }

    /// Whether so much waits to be written that nothing should be added until there is [`Incoming::Room`].
    pub fn is_full(&mut self) -> bool {
        let full = self.queued_bytes >= MAX_QUEUED_BYTES;
        if full {
            self.room = Room::Wanted;
        }
        full
    }

    /// Waits for what comes, and writes what is queued meanwhile: neither waits for the other, so that two
    /// sides with much to say can't hold each other up. May be dropped and called again.
    pub async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        match self.poll_write(cx) {
            Poll::Ready(Ok(())) if self.room == Room::Wanted => {
                self.room = Room::Enough;
                return Poll::Ready(Incoming::Room);
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a socket takes nothing more");
                self.writing = Writing::Broken;
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            let incoming = match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Text(text))) => Incoming::Text(Frame(text)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Incoming::Life,
                Some(Ok(Message::Close(frame))) => {
                    // The other side's close is answered so far as it can be without waiting.
                    drop(self.socket.poll_flush_unpin(cx));
                    let (code, reason) =
                        frame.map(|frame| (frame.code.into(), frame.reason.to_string())).unzip();
                    Incoming::Closed(Closed { code, reason: reason.unwrap_or_default() })
                }
                // Nothing here is binary, so it is not for us.
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => Incoming::Closed(Closed { code: None, reason: error.to_string() }),
                None => Incoming::Closed(Closed { code: None, reason: "the other side is gone".to_owned() }),
            };
            return Poll::Ready(incoming);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        if self.writing == Writing::Broken {
            self.frames.clear();
            self.queued_bytes = 0;
            return Poll::Ready(Ok(()));
        }
        while !self.frames.is_empty() {
            ready!(self.socket.poll_ready_unpin(cx))?;
            let Some(frame) = self.frames.pop_front() else { break };
            self.socket.start_send_unpin(Message::text(frame))?;
            self.writing = Writing::Unflushed;
        }
        if self.writing == Writing::Unflushed {
            ready!(self.socket.poll_flush_unpin(cx))?;
            self.writing = Writing::Done;
        }
        self.queued_bytes = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes what is queued, and says goodbye.
    pub async fn close(mut self) {
        if poll_fn(|cx| self.poll_write(cx)).await.is_ok() {
            let goodbye = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
            // The other side may be gone already.
            drop(self.socket.send(Message::Close(Some(goodbye))).await);
        }
    }
}

/// What says whom a message of the server is for: read without keeping anything of it.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// What the message is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The command that an event came of, or that a receipt is for.
    #[serde(default)]
    pub command_id: Option<CommandId>,
    /// `event`: its number in its feed.
    #[serde(default)]
    pub sequence_number: Option<Version>,
    /// `event`, `receipt`: its number in the log.
    #[serde(default)]
    pub position: Option<Position>,
    /// `receipt`: what became of the command.
    #[serde(default)]
    pub outcome: Option<Effect>,
}

impl Head {
    /// Reads a message so far. Nothing if it is not a message.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// What a message of the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A fact.
    Event,
    /// What became of a command.
    Receipt,
    /// Something was wrong with a message.
    Error,
    /// A feed is followed.
    Subscribed,
    /// A feed is no longer followed.
    Unsubscribed,
    /// What the client has of a feed is not of this log.
    Resync,
    /// A state that stands for the events before it.
    Snapshot,
    /// A page of events.
    SyncBatch,
    /// The new token holds.
    TokenRefreshed,
    /// The answer to a ping.
    Pong,
    /// Of a later protocol: passed over.
    #[serde(other)]
    Other,
}

/// What became of a command, without the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It was decided into events.
    Applied,
    /// Everything was already as it asked for.
    Unchanged,
    /// The rules refused it.
    Rejected,
    /// Of a later protocol.
    #[serde(other)]
    Other,
}
