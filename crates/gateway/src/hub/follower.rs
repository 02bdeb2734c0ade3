//! The hand of a connection's own task on the hub: what it follows, and what it is to send next.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use sillage_kernel::wire::ServerMessage;
use sillage_kernel::{Epoch, StreamName, Tenant, Version};
use sillage_store::{Direction, StoreError, clock};

use super::connection::{Connection, Direct};
use super::feed::{Enough, Feed, Frame, Taken};
use super::{FeedKey, Hub};
use crate::codes::Refusal;
use crate::tokens::Identity;

/// How many feeds one connection follows at most.
pub const MAX_FEEDS: usize = 100;
/// About how many bytes go into one write.
const CHUNK_BYTES: usize = 64 << 10;
/// How many events are read from the log at once for a connection that is behind.
const CATCH_UP_PAGE: usize = 64;

/// A connection's side of the hub. Dropping it ends the connection for the hub.
pub struct Follower {
    hub: Arc<Hub>,
    connection: Arc<Connection>,
    tenant: Tenant,
    following: Vec<Following>,
}

struct Following {
    key: FeedKey,
    feed: Arc<Feed>,
    /// The number of the next event to send.
    next: Version,
    /// Whether the log may hold events that never came by while it was followed.
    behind: Behind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Maybe,
    No,
}

/// Where somebody who subscribes wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// With everything.
    Start,
    /// With what comes.
    Now,
    /// After an event of a log; if that log is another, or has no such event, with everything.
    After(Option<Epoch>, Version),
}

/// What a connection is to send next.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// What became of a command of its user.
    Receipt(Utf8Bytes),
    /// Another message for it alone.
    Answer(Utf8Bytes),
    /// An event of a feed that it follows, or a snapshot that stands for events up to its number.
    Event(StreamName, Frame),
}

impl Outgoing {
    /// The message.
    pub fn text(&self) -> &Utf8Bytes {
        match self {
            Self::Receipt(text) | Self::Answer(text) => text,
            Self::Event(_, frame) => &frame.text,
        }
    }
}

impl From<Direct> for Outgoing {
    fn from(direct: Direct) -> Self {
        match direct {
            Direct::Receipt(text) => Self::Receipt(text),
            Direct::Answer(text) => Self::Answer(text),
        }
    }
}

impl Follower {
    /// Opens a connection for whoever has signed in, if there is room for one more.
    pub fn open(hub: &Arc<Hub>, identity: &Identity) -> Result<Self, Refusal> {
        let connection = Connection::open(hub, identity, clock::now())?;
        Ok(Self { hub: Arc::clone(hub), connection, tenant: identity.tenant.clone(), following: Vec::new() })
    }

    /// What everybody else sees of it.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// How many feeds it follows.
    pub fn feeds(&self) -> usize {
        self.following.len()
    }

    /// Whether it follows a feed.
    pub fn follows(&self, stream: &StreamName) -> bool {
        self.following.iter().any(|following| following.key.1 == *stream)
    }

    /// Follows a feed, anew if it did already, and tells so.
    pub async fn subscribe(&mut self, stream: StreamName, since: Since) -> Result<(), StoreError> {
        let key = (self.tenant.clone(), stream.clone());
        self.unsubscribe(&stream);
        // Followed before the log is asked, so that nothing falls between the two.
        let feed = self.hub.follow(&key, &self.connection);
        let page = self.hub.store.read_stream(&key.0, &key.1, Version::ZERO, Direction::Backward, 0).await;
        let head = match page {
            Ok(page) => page.head,
            Err(error) => {
                self.hub.unfollow(&key, &self.connection);
                return Err(error);
            }
        };
        let epoch = self.hub.epoch.clone();
        let last = match since {
            Since::Start => Version::ZERO,
            Since::Now => head,
            Since::After(theirs, last)
                if theirs.as_ref().is_none_or(|theirs| *theirs == epoch) && last <= head =>
            {
                last
            }
            Since::After(..) => {
                self.say(&ServerMessage::Resync { feed: stream.clone(), epoch: epoch.clone() });
                Version::ZERO
            }
        };
        self.say(&ServerMessage::Subscribed { feed: stream, epoch, current_sequence: head });
        let behind = if last < head { Behind::Maybe } else { Behind::No };
        self.following.push(Following { key, feed, next: last.next(), behind });
        self.connection.wake();
        Ok(())
    }

    /// Follows a feed no longer. Answers whether it did.
    pub fn unsubscribe(&mut self, stream: &StreamName) -> bool {
        let Some(at) = self.following.iter().position(|following| following.key.1 == *stream) else {
            return false;
        };
        let gone = self.following.swap_remove(at);
        self.hub.unfollow(&gone.key, &self.connection);
        true
    }

    /// Sends a message to this connection alone.
    pub fn say(&self, message: &ServerMessage) {
        let text =
            serde_json::to_string(message).expect("a message has only string keys and no failing parts");
        self.connection.tell(text.into());
    }

    /// The numbers of the last events that were handed out, by feed.
    pub fn cursors(&self) -> impl Iterator<Item = (&StreamName, Version)> {
        self.following.iter().map(|following| (&following.key.1, following.next.previous()))
    }

    /// Puts what is to be sent next into `out`, about a write's worth. Nothing means that there is nothing:
    /// wait for [`Connection::woken`].
    pub async fn next(&mut self, out: &mut Vec<Outgoing>) -> Result<(), StoreError> {
        self.connection.clean();
        let mut room = CHUNK_BYTES;
        while room > 0
            && let Some(direct) = self.connection.next_direct()
        {
            let outgoing = Outgoing::from(direct);
            room = room.saturating_sub(outgoing.text().len());
            out.push(outgoing);
        }
        let mut served = 0;
        for following in &mut self.following {
            if room == 0 {
                break;
            }
            following.take(&self.hub, &mut room, out).await?;
            served += 1;
        }
        if room == 0 {
            // The others come first the next time, so that a busy feed starves nobody.
            self.following.rotate_left(served);
        }
        Ok(())
    }
}

impl Following {
    async fn take(&mut self, hub: &Hub, room: &mut usize, out: &mut Vec<Outgoing>) -> Result<(), StoreError> {
        while *room > 0 {
            match self.take_live(room, out) {
                Taken::Frames => self.behind = Behind::No,
                Taken::Nothing if self.behind == Behind::No => return Ok(()),
                Taken::Nothing | Taken::Gone => {
                    if self.take_from_log(hub, room, out).await? == 0 {
                        self.behind = Behind::No;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn take_live(&mut self, room: &mut usize, out: &mut Vec<Outgoing>) -> Taken {
        let (stream, next) = (&self.key.1, &mut self.next);
        self.feed.take(*next, |frame| {
            *next = frame.version.next();
            *room = room.saturating_sub(frame.text.len());
            out.push(Outgoing::Event(stream.clone(), frame.clone()));
            if *room == 0 { Enough::Yes } else { Enough::No }
        })
    }

    async fn take_from_log(
        &mut self,
        hub: &Hub,
        room: &mut usize,
        out: &mut Vec<Outgoing>,
    ) -> Result<usize, StoreError> {
        let (tenant, stream) = &self.key;
        let page = hub.store.read_stream(tenant, stream, self.next, Direction::Forward, CATCH_UP_PAGE).await;
        let frames = match page {
            Ok(page) => page.events.iter().map(|event| hub.frame(event)).collect(),
            Err(StoreError::Dropped { .. }) => vec![hub.snapshot(&self.key, self.next).await?],
            Err(error) => return Err(error),
        };
        let taken = frames.len();
        for frame in frames {
            self.next = frame.version.next();
            *room = room.saturating_sub(frame.text.len());
            out.push(Outgoing::Event(stream.clone(), frame));
        }
        Ok(taken)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        for Following { key, .. } in &self.following {
            self.hub.unfollow(key, &self.connection);
        }
        self.connection.forget(&self.hub);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use futures_util::FutureExt;

    use super::super::sweep::tests::open;
    use super::*;

    const ROUNDS: usize = 8_000;
    /// At how many moments after a wake-up a message comes.
    const MOMENTS: usize = 512;
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Waits a moment, and lets another thread go on now and then, which may be the one that is waited for.
    fn pause(pauses: &mut u32) {
        *pauses = pauses.wrapping_add(1);
        if pauses.is_multiple_of(1_024) { std::thread::yield_now() } else { std::hint::spin_loop() }
    }

    /// A connection is woken for nothing, and a message comes a moment later, each time at another: sometimes just when
    /// it has found nothing and is about to wait.
    #[tokio::test]
    async fn no_wake_up_is_lost() {
        let (_hub, mut follower, _) = open(3_600);
        // To look through them takes a while, which is when the message is to come.
        for feed in 0..MAX_FEEDS {
            follower.subscribe(format!("like-{feed}").parse().unwrap(), Since::Start).await.unwrap();
        }
        let mut out = Vec::new();
        follower.next(&mut out).await.unwrap();
        assert_eq!(out.drain(..).count(), MAX_FEEDS);
        let connection = Arc::clone(follower.connection());
        let (taken, given_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let giving = std::thread::spawn({
            let (connection, taken, given_up) =
                (Arc::clone(&connection), Arc::clone(&taken), Arc::clone(&given_up));
            let message = Utf8Bytes::from("{}");
            move || {
                let mut pauses = 0;
                for round in 0..ROUNDS {
                    while taken.load(Ordering::Acquire) < round && !given_up.load(Ordering::Relaxed) {
                        pause(&mut pauses);
                    }
                    connection.wake();
                    (0..round % MOMENTS).for_each(|n| _ = std::hint::black_box(n));
                    connection.give_receipt(message.clone());
                }
            }
        });
        let mut pauses = 0;
        while taken.load(Ordering::Relaxed) < ROUNDS {
            follower.next(&mut out).await.unwrap();
            let waits_since = Instant::now();
            while out.is_empty() && connection.woken().now_or_never().is_none() {
                given_up.store(waits_since.elapsed() > PATIENCE, Ordering::Relaxed);
                assert!(!given_up.load(Ordering::Relaxed), "nobody was woken for message {taken:?}");
                pause(&mut pauses);
            }
            taken.fetch_add(out.drain(..).count(), Ordering::Release);
        }
        giving.join().unwrap();
    }
}
