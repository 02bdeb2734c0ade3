//! The handle: what a program holds, and what it asks of the task behind it.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use sillage_kernel::wire::ActionMessage;
use sillage_kernel::{CommandId, Position, StreamName, Timestamp, Version};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::error::Error;
use crate::options::{Limits, Options};
use crate::outbox::Entry;
use crate::raw::check_url;
use crate::subscription::{Mailbox, Since, Subscription};
use crate::task::{Ask, Task};

/// How many questions of handles wait for the task; whoever asks more waits.
const MAX_ASKS: usize = 256;

/// A connection to a server that comes back by itself, and what is to be sent over it. Clones share it; it ends
/// when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<Status>,
    settled: Arc<SettledSource>,
    wake: Arc<Notify>,
    limits: Limits,
}

/// How a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is connecting.
    Connecting,
    /// The server answers.
    Connected,
    /// The server cannot be reached, or wants to be left alone for a while. It will be tried again.
    Offline,
    /// There is no token that holds. Nothing is tried before [`Client::reconnect`].
    NeedsSignIn,
    /// Another connection has taken over. Nothing is tried before [`Client::reconnect`].
    Replaced,
    /// The server wants nothing of this client, which is a mistake of the program or of its settings. Nothing
    /// is tried before [`Client::reconnect`].
    Stopped,
    /// The client is closed.
    Closed,
}

/// A command that the outbox holds. It will be sent, and its outcome told, whether this is kept or not.
#[derive(Debug)]
#[must_use = "whether the command is confirmed or rejected is told here, and by `settled`"]
pub struct Sent {
    /// Its identity.
    pub command_id: CommandId,
    outcome: oneshot::Receiver<Result<Confirmed, Error>>,
}

impl Sent {
    /// Waits for what becomes of the command: as long as it takes, at most until it is too old. Dropping this
    /// changes nothing for the command.
    pub async fn confirmed(self) -> Result<Confirmed, Error> {
        self.outcome.await.unwrap_or(Err(Error::Closed))
    }
}

/// A command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Which.
    pub command_id: CommandId,
    /// The stream that decided it.
    pub feed: StreamName,
    /// What came of it.
    pub effect: Effect,
    /// The log reflects it from here on.
    pub position: Position,
}

/// What came of a command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Events of these numbers. When an event was heard before the receipt, only its number is here.
    Applied {
        /// The numbers in the stream.
        sequence_numbers: Vec<Version>,
    },
    /// Nothing: everything was already as it asked for.
    Unchanged,
}

/// A command that is settled, whoever sent it, and be it before the program was started anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Which.
    pub command_id: CommandId,
    /// The stream that it was for.
    pub feed: StreamName,
    /// What became of it.
    pub outcome: Result<Confirmed, Error>,
}

/// What becomes of all commands of a client.
#[derive(Debug)]
pub struct Settlements(broadcast::Receiver<Settled>);

impl Settlements {
    /// Waits for the next command to be settled. [`Error::Missed`] says that some are forgotten, and one can go
    /// on; [`Error::Closed`] that nothing more comes. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Settled, Error> {
        self.0.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(missed) => Error::Missed(missed),
            broadcast::error::RecvError::Closed => Error::Closed,
        })
    }
}

#[derive(Debug)]
struct SettledSource {
    sender: broadcast::WeakSender<Settled>,
    /// Has heard everything since the beginning.
    first: Mutex<Option<broadcast::Receiver<Settled>>>,
}

impl Client {
    /// Opens the outbox and begins to connect. That there is no connection yet is no error; see
    /// [`Self::status`].
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let Options { url, token, outbox, timing, limits } = options;
        check_url(&url)?;
        let max_commands = limits.commands;
        let opening = tokio::task::spawn_blocking(move || outbox.open(max_commands));
        let (keeper, entries) = opening.await.map_err(|error| Error::Outbox(error.to_string()))??;
        let (asks, inbox) = mpsc::channel(MAX_ASKS);
        let (status_sender, status) = watch::channel(Status::Connecting);
        let (settled, first) = broadcast::channel(limits.settled.max(1));
        let source = SettledSource { sender: settled.downgrade(), first: Mutex::new(Some(first)) };
        let wake = Arc::new(Notify::new());
        let task = Task::new(
            (url, token),
            (timing, limits.clone()),
            keeper,
            (inbox, Arc::clone(&wake), status_sender, settled),
        );
        tokio::spawn(task.run(entries));
        Ok(Self { asks, status, settled: Arc::new(source), wake, limits })
    }

    /// How the client stands, and each change of that.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// An id for a command, for whoever needs it before [`Self::send_as`]: a UUIDv7, whose time the server
    /// recognises commands by that it can't remember.
    pub fn mint() -> CommandId {
        CommandId(Uuid::now_v7())
    }

    /// Sends a command to a stream. Once this answers, the outbox holds it, and it will be sent until it is
    /// settled. Commands of one stream are decided in the order in which they were sent, each after the one
    /// before was answered here; calls that are made at once have no order. If this is dropped before it
    /// answers, the command may or may not be sent.
    pub async fn send<D: Serialize>(&self, feed: &StreamName, name: &str, data: &D) -> Result<Sent, Error> {
        self.send_as(Self::mint(), feed, name, data).await
    }

    /// Sends a command under an id that was minted before. An id that is waiting already is refused as a conflict.
    pub async fn send_as<D: Serialize>(
        &self,
        command_id: CommandId,
        feed: &StreamName,
        name: &str,
        data: &D,
    ) -> Result<Sent, Error> {
        let data = serde_json::to_value(data).map_err(|error| Error::Data(error.to_string()))?;
        let action = ActionMessage { feed: feed.clone(), event_type: name.to_owned(), command_id, data };
        let message = serde_json::to_string(&action).map_err(|error| Error::Data(error.to_string()))?;
        if message.len() > self.limits.message_bytes {
            return Err(Error::TooLarge { bytes: message.len() });
        }
        let entry = Entry { feed: feed.clone(), command_id, message: message.into() };
        let (waiter, outcome) = oneshot::channel();
        self.ask(|reply| Ask::Send { entry, waiter, reply }).await??;
        Ok(Sent { command_id, outcome })
    }

    /// The commands of a stream that are not settled, in order: what a program shows on top of what is certain.
    pub async fn pending(&self, feed: &StreamName) -> Result<Vec<ActionMessage>, Error> {
        let messages = self.ask(|reply| Ask::Pending { feed: feed.clone(), reply }).await?;
        let read = |message: &Arc<str>| serde_json::from_str(message).ok();
        Ok(messages.iter().filter_map(read).collect())
    }

    /// What becomes of all commands from now on; also of those that were sent before the program was started
    /// anew. The first one who asks hears of everything since the client began.
    pub fn settled(&self) -> Settlements {
        let first = self.settled.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        Settlements(first.unwrap_or_else(|| match self.settled.sender.upgrade() {
            Some(sender) => sender.subscribe(),
            // A channel whose sender is gone says that nothing more comes.
            None => broadcast::channel(1).1,
        }))
    }

    /// Follows a feed. How far it has been read need only be remembered by whoever wants to go on there when the
    /// program is started anew.
    pub async fn subscribe(&self, feed: &StreamName, since: Since) -> Result<Subscription, Error> {
        let Limits { feed_messages, feed_bytes, .. } = self.limits;
        let mailbox = Mailbox::new(feed_messages, feed_bytes, Arc::clone(&self.wake));
        let subscription = Subscription::new(feed.clone(), Arc::clone(&mailbox));
        let ask = Ask::Subscribe { feed: feed.clone(), since, mailbox };
        self.asks.send(ask).await.map_err(|_| Error::Closed)?;
        Ok(subscription)
    }

    /// Connects at once if there is no connection, whatever was waited for: after a sign-in, when a network is
    /// there again, or to take over from whoever has replaced this client.
    pub async fn reconnect(&self) -> Result<(), Error> {
        self.asks.send(Ask::Reconnect).await.map_err(|_| Error::Closed)
    }

    /// Says goodbye, writes the outbox and ends. Readers and senders who still wait are told that it is closed;
    /// what a file outbox holds is sent when it is opened again.
    pub async fn close(&self) {
        // It may be closed already, which is what was wanted.
        drop(self.ask(|reply| Ask::Close { reply }).await);
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)
    }
}

/// What time it is on the wall.
pub(crate) fn wall_clock() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}
