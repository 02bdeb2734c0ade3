//! The connection over time: open, lost, waited for, opened again, as the server's codes and the tokens allow.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::Status;
use crate::codes::{Verdict, verdict};
use crate::error::Error;
use crate::options::Timing;
use crate::raw::{Closed, Connection, Frame, Incoming};
use crate::token::{TokenSource, Wanted};

const PING: &str = r#"{"type":"ping"}"#;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The connection, or the way to it.
pub(super) struct Link {
    url: String,
    source: TokenSource,
    timing: Timing,
    status: watch::Sender<Status>,
    state: State,
    /// How often in a row there was no connection, or one that did not last.
    failures: u32,
    wanted: Wanted,
    /// A token that the server did not take; to be given it again helps nobody.
    refused: Option<String>,
}

enum State {
    /// Nothing is tried before somebody asks for it.
    Parked,
    /// To be tried at that time.
    Waiting(Instant),
    Opening(BoxFuture<Opening>),
    Open(Box<Open>),
}

/// How an attempt ended.
enum Opening {
    Open(Box<Connection>, String),
    NoToken,
    TokenRefused(String),
    Failed(Error),
}

struct Open {
    connection: Connection,
    token: String,
    since: Instant,
    /// When the server last said something.
    heard: Instant,
    asked: Asked,
    /// The `retry_after` of the last error.
    announced: Option<u64>,
    /// A new token is being waited for.
    refresh: Option<BoxFuture<Option<String>>>,
}

/// Whether a sign of life was asked for since the server last said something.
#[derive(PartialEq, Eq)]
enum Asked {
    No,
    Yes,
}

/// What the rest of the client must know.
pub(super) enum LinkEvent {
    Nothing,
    Opened,
    Text(Frame),
    Closed(TooLarge),
}

/// Whether a connection was closed because a message was too large.
pub(super) enum TooLarge {
    Yes,
    No,
}

impl Link {
    pub(super) fn new(
        url: String,
        source: TokenSource,
        timing: Timing,
        status: watch::Sender<Status>,
    ) -> Self {
        let state = State::Waiting(Instant::now());
        Self { url, source, timing, status, state, failures: 0, wanted: Wanted::Any, refused: None }
    }

    /// Waits for what happens to the connection next. May be dropped and called again.
    pub(super) async fn next(&mut self) -> LinkEvent {
        match &mut self.state {
            State::Parked => std::future::pending().await,
            State::Waiting(until) => {
                sleep_until(*until).await;
                self.open();
                LinkEvent::Nothing
            }
            State::Opening(opening) => {
                let opening = opening.await;
                self.opened(opening)
            }
            State::Open(open) => {
                let until = open.heard
                    + if open.asked == Asked::Yes { self.timing.silence } else { self.timing.ping };
                tokio::select! {
                    incoming = open.connection.next() => self.came(incoming),
                    token = refreshed(&mut open.refresh) => {
                        open.refresh = None;
                        open.present(token);
                        LinkEvent::Nothing
                    }
                    () = sleep_until(until) => self.silent(),
                }
            }
        }
    }

    /// The connection, while it is open.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Open(open) => Some(&mut open.connection),
            _ => None,
        }
    }

    /// Connects now, if there is no connection.
    pub(super) fn reconnect(&mut self) {
        if let State::Parked | State::Waiting(_) = self.state {
            self.failures = 0;
            self.open();
        }
    }

    /// The server has answered: the token holds.
    pub(super) fn is_signed_in(&mut self) {
        if *self.status.borrow() != Status::Connected {
            (self.wanted, self.refused) = (Wanted::Any, None);
            self.tell(Status::Connected);
        }
    }

    /// The server says when to come back, should it close the connection next.
    pub(super) fn announce(&mut self, retry_after: Option<u64>) {
        if let State::Open(open) = &mut self.state {
            open.announced = retry_after;
        }
    }

    /// Gets a new token for the open connection.
    pub(super) fn refresh_token(&mut self) {
        if let State::Open(open) = &mut self.state
            && open.refresh.is_none()
            && *self.status.borrow() == Status::Connected
        {
            open.refresh = Some(self.source.token(Wanted::New));
        }
    }

    /// Says goodbye, and gives back what tells the status.
    pub(super) async fn close(self) -> watch::Sender<Status> {
        if let State::Open(open) = self.state {
            open.connection.close().await;
        }
        self.status
    }

    fn tell(&self, status: Status) {
        self.status.send_if_modified(|old| std::mem::replace(old, status) != status);
    }

    fn open(&mut self) {
        let (url, source, wanted) = (self.url.clone(), self.source.clone(), self.wanted);
        let (refused, patience) = (self.refused.clone(), self.timing.connect);
        let opening = async move {
            let Some(token) = source.token(wanted).await.filter(|token| Some(token) != refused.as_ref())
            else {
                return Opening::NoToken;
            };
            match timeout(patience, Connection::open(&url, &token)).await {
                Ok(Ok(connection)) => Opening::Open(Box::new(connection), token),
                Ok(Err(Error::SignIn)) => Opening::TokenRefused(token),
                Ok(Err(error)) => Opening::Failed(error),
                Err(_) => Opening::Failed(Error::Unreachable("no answer in time".to_owned())),
            }
        };
        self.state = State::Opening(Box::pin(opening));
        self.tell(Status::Connecting);
    }

    fn opened(&mut self, opening: Opening) -> LinkEvent {
        match opening {
            Opening::Open(mut connection, token) => {
                // The answer says that the token holds.
                connection.push(PING);
                let (since, asked) = (Instant::now(), Asked::Yes);
                let connection = *connection;
                self.state = State::Open(Box::new(Open {
                    connection,
                    token,
                    since,
                    heard: since,
                    asked,
                    announced: None,
                    refresh: None,
                }));
                return LinkEvent::Opened;
            }
            Opening::NoToken => self.park(Status::NeedsSignIn),
            Opening::TokenRefused(token) => self.sign_in(token),
            Opening::Failed(error) => {
                tracing::debug!(%error, "there is no connection");
                self.wait(Duration::ZERO);
            }
        }
        LinkEvent::Nothing
    }

    fn came(&mut self, incoming: Incoming) -> LinkEvent {
        let State::Open(open) = &mut self.state else { return LinkEvent::Nothing };
        match incoming {
            Incoming::Room => LinkEvent::Nothing,
            Incoming::Life => {
                (open.heard, open.asked) = (Instant::now(), Asked::No);
                LinkEvent::Nothing
            }
            Incoming::Text(frame) => {
                (open.heard, open.asked) = (Instant::now(), Asked::No);
                LinkEvent::Text(frame)
            }
            Incoming::Closed(closed) => self.closed(&closed),
        }
    }

    fn silent(&mut self) -> LinkEvent {
        match &mut self.state {
            State::Open(open) if open.asked == Asked::No => {
                open.asked = Asked::Yes;
                open.connection.push(PING);
                LinkEvent::Nothing
            }
            _ => self.closed(&Closed { code: None, reason: "no life".to_owned() }),
        }
    }

    fn closed(&mut self, Closed { code, reason }: &Closed) -> LinkEvent {
        let before = std::mem::replace(&mut self.state, State::Parked);
        let State::Open(open) = before else { return LinkEvent::Nothing };
        tracing::debug!(code, reason, "the connection is closed");
        if open.since.elapsed() >= self.timing.ping {
            self.failures = 0;
        }
        match verdict(*code, reason, open.announced) {
            Verdict::Reconnect { after } => self.wait(after),
            Verdict::TooLarge => {
                self.wait(Duration::ZERO);
                return LinkEvent::Closed(TooLarge::Yes);
            }
            Verdict::SignIn => self.sign_in(open.token),
            Verdict::Replaced => self.park(Status::Replaced),
            Verdict::GiveUp => self.park(Status::Stopped),
        }
        LinkEvent::Closed(TooLarge::No)
    }

    fn park(&mut self, status: Status) {
        self.state = State::Parked;
        self.tell(status);
    }

    fn wait(&mut self, after: Duration) {
        self.state = State::Waiting(Instant::now() + after + self.timing.pause(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.tell(Status::Offline);
    }

    /// Tries with a new token: at once, if the last one has held before.
    fn sign_in(&mut self, refused: String) {
        (self.refused, self.wanted) = (Some(refused), Wanted::New);
        if self.failures == 0 {
            self.failures = 1;
            self.open();
        } else {
            self.wait(Duration::ZERO);
        }
    }
}

impl Open {
    /// Shows the server a new token. Without one the server closes the connection when the old one is over.
    fn present(&mut self, token: Option<String>) {
        if let Some(token) = token {
            self.connection.push(&json!({"type": "refresh_token", "token": token}).to_string());
            self.token = token;
        }
    }
}

async fn refreshed(refresh: &mut Option<BoxFuture<Option<String>>>) -> Option<String> {
    match refresh {
        Some(refresh) => refresh.await,
        None => std::future::pending().await,
    }
}
