//! A feed as its reader sees it: what comes, in order, without gaps and without doubles.

mod mailbox;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use serde_json::Value;
use sillage_kernel::wire::EventMessage;
use sillage_kernel::{Epoch, StreamName, Version};

pub(crate) use self::mailbox::{Mailbox, Taken};
use crate::error::Error;

/// Where a reader wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// With everything.
    Start,
    /// With what comes.
    Now,
    /// After what was read before. If that is of another log, everything follows after a
    /// [`FeedMessage::Resync`].
    After {
        /// The log that it was read from.
        epoch: Epoch,
        /// The number of the last event that was read.
        last_sequence: Version,
    },
}

/// What a reader of a feed gets.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedMessage {
    /// The feed is followed; again after each time that the connection was lost. Whoever has read up to
    /// `current_sequence` has all there was.
    Subscribed {
        /// The log.
        epoch: Epoch,
        /// The number of the feed's last event.
        current_sequence: Version,
    },
    /// A state that stands for all events up to a number: take it instead of what there was.
    Snapshot {
        /// The number of the last event in it.
        sequence_number: Version,
        /// The state.
        state: Value,
    },
    /// The next event.
    Event(EventMessage<Value>),
    /// What was read before is not of this log: forget it; everything follows.
    Resync {
        /// The log that it is of now.
        epoch: Epoch,
    },
    /// The server does not let this user follow this feed. Nothing more comes.
    Lost(Error),
}

/// A reader of a feed, which remembers where it is and goes on there after each lost connection. Dropping it
/// ends it.
///
/// It is a stream, which ends after [`FeedMessage::Lost`] and when the client is closed. A reader who is slower
/// than the feed holds nothing up and costs no memory: what does not fit is asked for again once there is room.
#[derive(Debug)]
pub struct Subscription {
    feed: StreamName,
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    pub(crate) fn new(feed: StreamName, mailbox: Arc<Mailbox>) -> Self {
        Self { feed, mailbox }
    }

    /// The feed.
    pub fn feed(&self) -> &StreamName {
        &self.feed
    }

    /// Waits for what comes next. Nothing means that nothing more will. May be dropped and called again.
    pub async fn next(&mut self) -> Option<FeedMessage> {
        std::future::poll_fn(|cx| self.mailbox.poll_take(cx)).await
    }
}

impl Stream for Subscription {
    type Item = FeedMessage;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FeedMessage>> {
        self.mailbox.poll_take(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.mailbox.leave();
    }
}
