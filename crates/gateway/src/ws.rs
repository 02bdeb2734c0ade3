//! `GET /ws`: one socket, many feeds. Its task waits for whichever comes first, a message from the client or
//! news from the hub, and writes all that waits in one frame.

mod messages;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::FutureExt;
use sillage_kernel::wire::ServerMessage;
use sillage_store::clock;

use crate::Gateway;
use crate::codes::{Close, Code, Refusal};
use crate::extract::Checked;
use crate::hub::Outgoing;
use crate::receive::MAX_MESSAGE_BYTES;
use crate::session::MaybeSession;
use crate::tokens::Identity;

/// How long a closing frame may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// A socket reads into a buffer of this size; the default would cost 128 KiB a connection.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Opens a socket.
///
/// Commands go up; events, receipts and answers come down. `/asyncapi.json` describes its
/// messages. Whoever has no good token is told so on the socket, and it is closed with 4401; with 4429 or 4503, if
/// the user or the node has no room for another connection.
#[utoipa::path(get, path = "/ws", tag = "feeds", operation_id = "socket",
    responses(
        (status = 101, description = "The socket is open."),
        (status = 400, description = "This is not the opening of a WebSocket.",
            content_type = "application/problem+json", body = ref("#/components/schemas/Problem")),
    ))]
pub(crate) async fn open(
    State(gateway): State<Arc<Gateway>>,
    MaybeSession(identity): MaybeSession,
    Checked(upgrade): Checked<WebSocketUpgrade>,
) -> Response {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(|socket| async move {
            match identity {
                Ok(identity) => run(gateway, socket, identity).await,
                Err(refusal) => refuse(socket, refusal).await,
            }
        })
}

async fn refuse(mut socket: WebSocket, refusal: Refusal) {
    let why = match refusal.code {
        Code::RateLimited => Close::TooMany,
        Code::Overloaded => Close::Overloaded,
        _ => Close::SignIn,
    };
    let message = ServerMessage::Error(refusal.on_socket(None));
    let text = serde_json::to_string(&message).expect("a message has only string keys and no failing parts");
    if socket.send(Message::Text(text.into())).await.is_ok() {
        close(&mut socket, why).await;
    }
}

async fn close(socket: &mut WebSocket, why: Close) {
    let (code, reason) = why.frame();
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    // The other side may be gone already, or not be reading.
    drop(tokio::time::timeout(CLOSE_PATIENCE, socket.send(Message::Close(Some(frame)))).await);
}

/// Why a socket is to end.
enum End {
    /// The other side has closed it, or is gone.
    Gone,
    /// This side closes it.
    Close(Close),
}

async fn run(gateway: Arc<Gateway>, mut socket: WebSocket, identity: Identity) {
    let follower = match gateway.connect(&identity) {
        Ok(follower) => follower,
        Err(refusal) => return refuse(socket, refusal).await,
    };
    let mut session = messages::Session::new(gateway, follower, identity);
    let mut more = More::No;
    let end = loop {
        let connection = session.follower.connection();
        let arrived = match more {
            // The other side is heard between two writes, however much there is to write.
            More::Maybe => socket.recv().now_or_never(),
            More::No => tokio::select! {
                message = socket.recv() => Some(message),
                () = connection.woken() => None,
            },
        };
        // Both are boxed, since they are larger than all the rest, and an idle socket does not need them.
        if let Some(message) = arrived {
            connection.heard(clock::now());
            if let Err(end) = Box::pin(take(&mut session, &mut socket, message)).await {
                break end;
            }
        }
        match Box::pin(write(&mut session, &mut socket)).await {
            Ok(written) => more = written,
            Err(end) => break end,
        }
    };
    match end {
        End::Gone => {}
        End::Close(Close::SignIn) => {
            refuse(socket, Refusal::new(Code::Unauthorized, "The token has run out.")).await
        }
        End::Close(why) => close(&mut socket, why).await,
    }
}

/// Takes one frame of the client.
async fn take(
    session: &mut messages::Session,
    socket: &mut WebSocket,
    message: Option<Result<Message, axum::Error>>,
) -> Result<(), End> {
    match message {
        None | Some(Ok(Message::Close(_))) => Err(End::Gone),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
        Some(Ok(Message::Binary(_))) => Err(End::Close(Close::NotText)),
        Some(Ok(Message::Text(text))) => {
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                session.take(line).await;
                while session.follower.connection().is_crowded() {
                    write(session, socket).await?;
                }
            }
            Ok(())
        }
        Some(Err(error)) => Err(broken(&error)),
    }
}

/// What to do about a frame that could not be read.
fn broken(error: &axum::Error) -> End {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    if text.contains("too long") || text.contains("too big") {
        End::Close(Close::TooLarge)
    } else if text.contains("UTF-8") || text.contains("utf-8") {
        End::Close(Close::NotText)
    } else {
        End::Gone
    }
}

/// Whether something may be left to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    Maybe,
    No,
}

/// Writes what waits, as much as goes into one frame.
async fn write(session: &mut messages::Session, socket: &mut WebSocket) -> Result<More, End> {
    let connection = Arc::clone(session.follower.connection());
    if let Some(closing) = connection.closing() {
        return Err(End::Close(closing));
    }
    if connection.ping_is_due() {
        send(&connection, socket, Message::Ping(Default::default())).await?;
    }
    let mut out = Vec::new();
    session.follower.next(&mut out).await.map_err(|error| {
        tracing::error!(%error, "a connection cannot read the log");
        End::Close(Close::Overloaded)
    })?;
    if out.is_empty() {
        return Ok(More::No);
    }
    let _spans: Vec<_> = out.iter().filter_map(deliver_span).collect();
    send(&connection, socket, Message::Text(joined(&out))).await?;
    Ok(More::Maybe)
}

/// Sends a message, unless the connection is to close while the other side does not read.
async fn send(
    connection: &crate::hub::Connection,
    socket: &mut WebSocket,
    message: Message,
) -> Result<(), End> {
    let mut sending = std::pin::pin!(socket.send(message));
    loop {
        tokio::select! {
            sent = &mut sending => return sent.map_err(|_| End::Gone),
            () = connection.woken() => {
                // A closing frame could not be written either, so it is only dropped.
                if connection.closing().is_some() {
                    return Err(End::Gone);
                }
            }
        }
    }
}

fn deliver_span(outgoing: &Outgoing) -> Option<tracing::Span> {
    match outgoing {
        Outgoing::Event(_, frame) => Some(frame.deliver()).filter(|span| !span.is_disabled()),
        Outgoing::Receipt(_) | Outgoing::Answer(_) => None,
    }
}

/// The messages as one frame, one a line.
fn joined(out: &[Outgoing]) -> Utf8Bytes {
    if let [only] = out {
        return only.text().clone();
    }
    let mut text = String::with_capacity(out.iter().map(|outgoing| outgoing.text().len() + 1).sum());
    for outgoing in out {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(outgoing.text());
    }
    text.into()
}
