//! The loop behind a client: the only one who touches the socket, and the only one who changes what is known.
//!
//! Each turn waits for one thing to happen (a handle asks, something is stored, something comes, a time is up),
//! changes [`Commands`] and [`Feeds`] accordingly, and then sends what they say is to be sent.

mod commands;
mod feeds;
mod link;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use sillage_kernel::wire::{ErrorMessage, EventMessage, ReceiptMessage, ServerMessage, SyncBatchMessage};
use sillage_kernel::{CommandId, Rejection, StreamName, Version};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use self::commands::{Commands, Now, Waiter};
use self::feeds::Feeds;
use self::link::{Link, LinkEvent, TooLarge};
use crate::client::{Confirmed, Effect, Settled, Status, wall_clock};
use crate::codes::{self, Advice, advice};
use crate::error::Error;
use crate::options::{Limits, Timing};
use crate::outbox::{Batch, Entry, Keeper, Safe};
use crate::raw::{Frame, Head, Kind};
use crate::subscription::{Mailbox, Since};
use crate::token::TokenSource;

/// How many questions of handles are taken in one turn, so that what they send goes out together.
const ASKS_A_TURN: usize = 64;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a handle asks for.
pub(crate) enum Ask {
    Send { entry: Entry, waiter: Waiter, reply: oneshot::Sender<Result<(), Error>> },
    Pending { feed: StreamName, reply: oneshot::Sender<Vec<Arc<str>>> },
    Subscribe { feed: StreamName, since: Since, mailbox: Arc<Mailbox> },
    Reconnect,
    Close { reply: oneshot::Sender<()> },
}

/// All that a client is, but for its handles.
pub(crate) struct Task {
    inbox: mpsc::Receiver<Ask>,
    wake: Arc<Notify>,
    settled: broadcast::Sender<Settled>,
    max_age: Duration,
    keeper: Keeper,
    storing: VecDeque<Storing>,
    commands: Commands,
    feeds: Feeds,
    link: Link,
}

/// A command that the outbox does not hold yet.
struct Storing {
    entry: Entry,
    waiter: Waiter,
    reply: oneshot::Sender<Result<(), Error>>,
}

/// One thing that happens.
enum Happening {
    Asked(Vec<Ask>),
    Stored(Batch),
    ReadersChanged,
    Link(LinkEvent),
    TimeIsUp,
}

/// What the task shares with its handles.
pub(crate) type Channels =
    (mpsc::Receiver<Ask>, Arc<Notify>, watch::Sender<Status>, broadcast::Sender<Settled>);

fn now() -> Now {
    Now { instant: Instant::now(), wall: wall_clock() }
}

impl Task {
    pub(crate) fn new(
        (url, token): (String, TokenSource),
        (timing, limits): (Timing, Limits),
        keeper: Keeper,
        (inbox, wake, status, settled): Channels,
    ) -> Self {
        Self {
            inbox,
            wake,
            settled,
            max_age: timing.max_age,
            keeper,
            storing: VecDeque::new(),
            commands: Commands::new(limits, timing.clone()),
            feeds: Feeds::new(timing.clone()),
            link: Link::new(url, token, timing, status),
        }
    }

    /// Runs until the client is closed, or nobody holds it any longer.
    pub(crate) async fn run(mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.commands.add(entry, None, now());
        }
        let closed_by = loop {
            self.send_what_is_due();
            match self.next().await {
                Happening::Asked(asks) if asks.is_empty() => break None,
                Happening::Asked(asks) => {
                    if let Some(reply) = self.asked(asks) {
                        break Some(reply);
                    }
                }
                Happening::Stored(batch) => self.stored(batch),
                Happening::ReadersChanged => self.feeds.readers_changed(),
                Happening::Link(event) => self.linked(event),
                Happening::TimeIsUp => self.time_is_up(),
            }
        };
        self.shut_down(closed_by).await;
    }

    async fn next(&mut self) -> Happening {
        let deadline = [self.commands.deadline(), self.feeds.deadline()].into_iter().flatten().min();
        let mut asks = Vec::new();
        tokio::select! {
            _ = self.inbox.recv_many(&mut asks, ASKS_A_TURN) => Happening::Asked(asks),
            batch = self.keeper.stored() => Happening::Stored(batch),
            () = self.wake.notified() => Happening::ReadersChanged,
            event = self.link.next() => Happening::Link(event),
            () = at(deadline) => Happening::TimeIsUp,
        }
    }

    async fn shut_down(self, closed_by: Option<oneshot::Sender<()>>) {
        let Self { mut feeds, link, keeper, commands, storing, .. } = self;
        feeds.end();
        let status = tokio::time::timeout(GOODBYE, link.close()).await;
        keeper.close().await;
        // Whoever waits for a command is told by this that the client is closed.
        drop((commands, storing));
        if let Ok(status) = status {
            status.send_replace(Status::Closed);
        }
        if let Some(reply) = closed_by {
            // Whoever wanted to know may be gone.
            let _ = reply.send(());
        }
    }

    fn send_what_is_due(&mut self) {
        let now = now();
        let Some(connection) = self.link.connection() else { return };
        while !connection.is_full() {
            if let Some(request) = self.feeds.next_request(now.instant) {
                connection.push(&request);
            } else if let Some(message) = self.commands.next_to_send(now) {
                connection.push(&message);
            } else {
                return;
            }
        }
    }

    /// Does what handles ask for. Answers who asks for the end.
    fn asked(&mut self, asks: Vec<Ask>) -> Option<oneshot::Sender<()>> {
        for ask in asks {
            match ask {
                Ask::Send { entry, waiter, reply } => self.store(Storing { entry, waiter, reply }),
                // Whoever asked may be gone.
                Ask::Pending { feed, reply } => drop(reply.send(self.commands.of_feed(&feed))),
                Ask::Subscribe { feed, since, mailbox } => self.feeds.add(feed, since, mailbox),
                Ask::Reconnect => self.link.reconnect(),
                Ask::Close { reply } => return Some(reply),
            }
        }
        None
    }

    fn store(&mut self, storing: Storing) {
        let id = storing.entry.command_id;
        if self.commands.holds(id) || self.storing.iter().any(|other| other.entry.command_id == id) {
            let (code, message) = ("conflict".to_owned(), "This command_id is waiting already.".to_owned());
            drop(storing.reply.send(Err(Error::Refused { code, message, field: None })));
            return;
        }
        let bytes = storing.entry.message.len();
        let stored = self
            .commands
            .reserve(bytes)
            .and_then(|()| self.keeper.store(&storing.entry).inspect_err(|_| self.commands.release(bytes)));
        match stored {
            Ok(Safe::Now) => self.is_stored(storing, Ok(())),
            Ok(Safe::Later) => self.storing.push_back(storing),
            // Whoever asked may be gone.
            Err(error) => drop(storing.reply.send(Err(error))),
        }
    }

    fn stored(&mut self, Batch { commands, result }: Batch) {
        for storing in self.storing.drain(..commands.min(self.storing.len())).collect::<Vec<_>>() {
            self.is_stored(storing, result.clone());
        }
    }

    fn is_stored(&mut self, storing: Storing, result: Result<(), Error>) {
        let Storing { entry, waiter, reply } = storing;
        self.commands.release(entry.message.len());
        if result.is_ok() {
            self.commands.add(entry, Some(waiter), now());
        }
        // Whoever asked may be gone; the command is sent all the same.
        drop(reply.send(result));
    }

    fn time_is_up(&mut self) {
        let now = now();
        self.feeds.tick(now.instant);
        for command_id in self.commands.tick(now) {
            self.settle(command_id, Err(Error::TooOld { max_age: self.max_age }));
        }
    }

    fn linked(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Nothing => {}
            LinkEvent::Opened => self.feeds.connected(),
            LinkEvent::Text(frame) => self.take(&frame),
            LinkEvent::Closed(too_large) => {
                let culprit = match too_large {
                    TooLarge::Yes => self.commands.largest_in_flight(),
                    TooLarge::No => None,
                };
                self.commands.disconnected();
                self.feeds.disconnected();
                if let Some((command_id, bytes)) = culprit {
                    self.settle(command_id, Err(Error::TooLarge { bytes }));
                }
            }
        }
    }

    fn take(&mut self, frame: &Frame) {
        for line in frame.lines() {
            let Some(head) = Head::read(line) else {
                tracing::warn!("the server sent what is not a message");
                continue;
            };
            if head.kind != Kind::Error {
                self.link.is_signed_in();
            }
            if let Err(error) = self.take_message(head.kind, line) {
                tracing::warn!(%error, kind = ?head.kind, "the server sent a message of another shape");
            }
        }
    }

    fn take_message(&mut self, kind: Kind, line: &str) -> serde_json::Result<()> {
        match kind {
            Kind::Event => self.event(serde_json::from_str(line)?, line.len()),
            Kind::SyncBatch => {
                let batch: SyncBatchMessage<EventMessage<Value>> = serde_json::from_str(line)?;
                let bytes = line.len() / batch.events.len().max(1);
                batch.events.into_iter().for_each(|event| self.event(event, bytes));
            }
            Kind::Receipt => self.receipt(serde_json::from_str(line)?),
            Kind::Error => self.error(serde_json::from_str(line)?),
            Kind::Snapshot => {
                let Snapshot { feed, sequence_number, state } = serde_json::from_str(line)?;
                self.feeds.snapshot(&feed, sequence_number, &state, line.len());
            }
            Kind::Subscribed | Kind::Resync => match serde_json::from_str(line)? {
                ServerMessage::Subscribed { feed, epoch, current_sequence } => {
                    self.feeds.subscribed(&feed, &epoch, current_sequence);
                }
                ServerMessage::Resync { feed, epoch } => self.feeds.resync(&feed, &epoch),
                _ => {}
            },
            Kind::Unsubscribed | Kind::TokenRefreshed | Kind::Pong | Kind::Other => {}
        }
        Ok(())
    }

    /// Readers get the event before its sender hears of the confirmation, so that the effect is never later than
    /// the news of it.
    fn event(&mut self, event: EventMessage<Value>, bytes: usize) {
        let confirmed = event.command_id.filter(|id| self.commands.holds(*id)).map(|command_id| Confirmed {
            command_id,
            feed: event.feed.clone(),
            effect: Effect::Applied { sequence_numbers: vec![event.sequence_number] },
            position: event.position,
        });
        self.feeds.event(event, bytes, Instant::now());
        if let Some(confirmed) = confirmed {
            self.settle(confirmed.command_id, Ok(confirmed));
        }
    }

    fn receipt(&mut self, receipt: ReceiptMessage) {
        let ReceiptMessage { feed, command_id, outcome, code, message, details, sequence_numbers, position } =
            receipt;
        let effect = match outcome.as_ref() {
            "applied" => Effect::Applied { sequence_numbers },
            "unchanged" => Effect::Unchanged,
            "rejected" => {
                let (code, message) = (code.unwrap_or("rejected".into()), message.unwrap_or_default());
                let rejection = Rejection { code, message, details: details.unwrap_or_default() };
                return self.settle(command_id, Err(Error::Rejected(rejection)));
            }
            other => return tracing::warn!(other, "the server sent an outcome that is not known"),
        };
        self.settle(command_id, Ok(Confirmed { command_id, feed, effect, position }));
    }

    fn error(&mut self, error: ErrorMessage) {
        let ErrorMessage { code, message, field, retry_after, original_action } = error;
        let advice = advice(&code);
        self.link.announce(retry_after);
        if advice == Advice::SignIn {
            self.link.refresh_token();
        }
        let after = retry_after.map(codes::retry_after).unwrap_or_default();
        let refused = Error::Refused { code: code.into_owned(), message, field };
        let original = original_action.and_then(|original| serde_json::from_value(original).ok());
        match (original, advice) {
            (Some(Original::Action { command_id }), Advice::Retry | Advice::SignIn) => {
                self.commands.retry(command_id, after, now());
            }
            (Some(Original::Action { command_id }), Advice::GiveUp) => {
                self.settle(command_id, Err(refused));
            }
            (Some(Original::Subscribe { feed }), Advice::Retry | Advice::SignIn) => {
                self.feeds.retry(&feed, after, Instant::now());
            }
            (Some(Original::Subscribe { feed }), Advice::GiveUp) => self.feeds.lost(&feed, &refused),
            (Some(Original::Other) | None, Advice::Retry | Advice::GiveUp) => {
                tracing::warn!(error = %refused, "the server did not take a message");
            }
            (Some(Original::Other) | None, Advice::SignIn) => {}
        }
    }

    /// A command has come to its end. What is not known, or has come to it before, is passed over.
    fn settle(&mut self, command_id: CommandId, outcome: Result<Confirmed, Error>) {
        let Some(left) = self.commands.settle(command_id) else { return };
        self.keeper.settle(command_id);
        // Whoever waited may be gone, and nobody need listen.
        if let Some(waiter) = left.waiter {
            drop(waiter.send(outcome.clone()));
        }
        drop(self.settled.send(Settled { command_id, feed: left.feed, outcome }));
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A state that stands for the events before it.
#[derive(Deserialize)]
struct Snapshot {
    feed: StreamName,
    sequence_number: Version,
    state: Value,
}

/// What an error is about.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Original {
    Action {
        command_id: CommandId,
    },
    Subscribe {
        feed: StreamName,
    },
    #[serde(other)]
    Other,
}
