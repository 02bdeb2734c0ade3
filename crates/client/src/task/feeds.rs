//! The feeds that somebody reads: what is asked of the server, and who gets what of what comes.
//!
//! No I/O and no clock. However many read a feed, it is followed once, from where the reader is who has least.
//! Each reader has a number of its own, and is given only the event that comes next after it: an event that is
//! repeated is nobody's next, and after one that is missing, or did not fit, the feed is asked for again from
//! where the readers are. While a question is out, no other is asked of the same feed.

mod feed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sillage_kernel::wire::EventMessage;
use sillage_kernel::{Epoch, StreamName, Version};
use tokio::time::Instant;

use self::feed::{Feed, Plan};
use crate::error::Error;
use crate::options::Timing;
use crate::subscription::{Mailbox, Since};

/// All feeds that somebody reads.
pub(crate) struct Feeds {
    timing: Timing,
    feeds: HashMap<StreamName, Feed>,
    /// Feeds of which something may have to be asked.
    changed: BTreeSet<StreamName>,
    wakes: BTreeSet<(Instant, StreamName)>,
}

/// What is asked of the server.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Request<'a> {
    Subscribe {
        feed: &'a StreamName,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<&'a Epoch>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_sequence: Option<Version>,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'static str>,
    },
    Unsubscribe {
        feed: &'a StreamName,
    },
}

impl Feeds {
    pub(crate) fn new(timing: Timing) -> Self {
        Self { timing, feeds: HashMap::new(), changed: BTreeSet::new(), wakes: BTreeSet::new() }
    }

    /// Somebody wants to read.
    pub(crate) fn add(&mut self, feed: StreamName, since: Since, mailbox: Arc<Mailbox>) {
        self.feeds.entry(feed.clone()).or_default().add(since, mailbox);
        self.changed.insert(feed);
    }

    /// Some reader has room again, or has left.
    pub(crate) fn readers_changed(&mut self) {
        for (name, feed) in &mut self.feeds {
            if feed.readers_changed() {
                self.changed.insert(name.clone());
            }
        }
        self.feeds.retain(|_, feed| !feed.is_idle());
    }

    /// The next message to send, if there is something to ask.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<String> {
        while let Some(name) = self.changed.pop_first() {
            let Some(feed) = self.feeds.get_mut(&name) else { continue };
            let deadline = feed.deadline();
            let plan = feed.plan(now, &self.timing);
            self.note_deadline(&name, deadline);
            let request = match &plan {
                Plan::Nothing => continue,
                Plan::Forget => {
                    self.feeds.remove(&name);
                    continue;
                }
                Plan::Unsubscribe => Request::Unsubscribe { feed: &name },
                Plan::Subscribe(since) => match since {
                    Since::Start => {
                        Request::Subscribe { feed: &name, epoch: None, last_sequence: None, from: None }
                    }
                    Since::Now => {
                        let from = Some("now");
                        Request::Subscribe { feed: &name, epoch: None, last_sequence: None, from }
                    }
                    Since::After { epoch, last_sequence } => {
                        let (epoch, last_sequence) = (Some(epoch), Some(*last_sequence));
                        Request::Subscribe { feed: &name, epoch, last_sequence, from: None }
                    }
                },
            };
            let text = serde_json::to_string(&request);
            return Some(text.expect("a request has only string keys and no failing parts"));
        }
        None
    }

    /// Lets a feed take what is for it, and notes what follows from that.
    fn with(&mut self, name: &StreamName, change: impl FnOnce(&mut Feed, &Timing)) {
        let Some(feed) = self.feeds.get_mut(name) else { return };
        let deadline = feed.deadline();
        change(feed, &self.timing);
        if feed.wants_to_ask() {
            self.changed.insert(name.clone());
        }
        self.note_deadline(name, deadline);
    }

    fn note_deadline(&mut self, name: &StreamName, before: Option<Instant>) {
        let after = self.feeds.get(name).and_then(Feed::deadline);
        if before != after {
            if let Some(before) = before {
                self.wakes.remove(&(before, name.clone()));
            }
            if let Some(after) = after {
                self.wakes.insert((after, name.clone()));
            }
        }
    }

    /// The server follows the feed.
    pub(crate) fn subscribed(&mut self, name: &StreamName, epoch: &Epoch, head: Version) {
        self.with(name, |feed, _| feed.subscribed(epoch, head));
    }

    /// The server says that what was read is not of this log.
    pub(crate) fn resync(&mut self, name: &StreamName, epoch: &Epoch) {
        self.with(name, |feed, _| feed.resync(epoch));
    }

    /// A state that stands for the events up to a number came, in so many bytes.
    pub(crate) fn snapshot(&mut self, name: &StreamName, number: Version, state: &Value, bytes: usize) {
        self.with(name, |feed, _| feed.snapshot(number, state, bytes));
    }

    /// An event came, in so many bytes.
    pub(crate) fn event(&mut self, event: EventMessage<Value>, bytes: usize, now: Instant) {
        let name = event.feed.clone();
        self.with(&name, |feed, timing| feed.event(event, bytes, now, timing));
    }

    /// The server could not take a question: it is asked again, but not before `after`.
    pub(crate) fn retry(&mut self, name: &StreamName, after: Duration, now: Instant) {
        self.with(name, |feed, timing| feed.retry(after, now, timing));
    }

    /// The server will not take a question: nobody can read this feed.
    pub(crate) fn lost(&mut self, name: &StreamName, why: &Error) {
        let Some(feed) = self.feeds.remove(name) else { return };
        if let Some(deadline) = feed.deadline() {
            self.wakes.remove(&(deadline, name.clone()));
        }
        feed.end(Some(why));
    }

    /// There is a new connection, on which nothing is asked yet.
    pub(crate) fn connected(&mut self) {
        self.disconnected();
        self.changed.extend(self.feeds.keys().cloned());
    }

    /// The connection is gone, and all that was asked on it.
    pub(crate) fn disconnected(&mut self) {
        self.feeds.values_mut().for_each(Feed::disconnected);
        self.wakes.clear();
        self.changed.clear();
    }

    /// Nothing comes any longer.
    pub(crate) fn end(&mut self) {
        self.feeds.drain().for_each(|(_, feed)| feed.end(None));
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Looks again at what has waited long enough.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some((_, name)) = self.wakes.first().filter(|(at, _)| *at <= now).cloned() {
            self.wakes.pop_first();
            self.with(&name, |feed, _| feed.look_again());
        }
    }
}

/// Whoever reads is told that nothing more comes, even if the task ends by a panic.
impl Drop for Feeds {
    fn drop(&mut self) {
        self.end();
    }
}
