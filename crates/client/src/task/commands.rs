//! The commands that are not settled: which may be sent now, which again, which are too old.
//!
//! No I/O and no clock. Of one feed, commands are sent in the order in which they came, and none overtakes one
//! that is to be sent again.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::{CommandId, StreamName, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Error;
use crate::client::Confirmed;
use crate::options::{Limits, Timing};
use crate::outbox::Entry;

/// What time it is: by a clock that only goes forward, and by the one on the wall that ids are minted by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: Timestamp,
}

/// Whoever waits for a command to be settled.
pub(crate) type Waiter = oneshot::Sender<Result<Confirmed, Error>>;

/// All commands that are not settled.
pub(crate) struct Commands {
    limits: Limits,
    timing: Timing,
    pending: HashMap<CommandId, Pending>,
    feeds: HashMap<StreamName, VecDeque<CommandId>>,
    /// Feeds that may have something to send, each once, in the order in which they are served.
    ready: VecDeque<StreamName>,
    listed: BTreeSet<StreamName>,
    /// When something is to be sent again.
    wakes: BTreeSet<(Instant, CommandId)>,
    /// When something is too old.
    ends: BTreeSet<(Instant, CommandId)>,
    /// Room that is promised to commands that are being stored.
    reserved: Size,
    held: Size,
    in_flight: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    commands: usize,
    bytes: usize,
}

struct Pending {
    feed: StreamName,
    message: Arc<str>,
    state: State,
    attempts: u32,
    ends_at: Instant,
    waiter: Option<Waiter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be sent when its turn comes.
    Waiting,
    /// Sent; to be sent again at that time.
    InFlight(Instant),
    /// The server could not take it; to be sent again at that time.
    Resting(Instant),
}

/// A command that is settled.
pub(crate) struct Left {
    pub(crate) feed: StreamName,
    pub(crate) waiter: Option<Waiter>,
}

impl Commands {
    pub(crate) fn new(limits: Limits, timing: Timing) -> Self {
        Self {
            limits,
            timing,
            pending: HashMap::new(),
            feeds: HashMap::new(),
            ready: VecDeque::new(),
            listed: BTreeSet::new(),
            wakes: BTreeSet::new(),
            ends: BTreeSet::new(),
            reserved: Size::default(),
            held: Size::default(),
            in_flight: 0,
        }
    }

    /// How many wait, sent or not.
    pub(crate) fn len(&self) -> usize {
        self.held.commands + self.reserved.commands
    }

    /// Promises room for a command, or says that there is none.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Error> {
        let all_bytes = self.held.bytes + self.reserved.bytes + bytes;
        if self.len() >= self.limits.commands || all_bytes > self.limits.command_bytes {
            return Err(Error::OutboxFull { waiting: self.len() });
        }
        self.reserved.commands += 1;
        self.reserved.bytes += bytes;
        Ok(())
    }

    /// Takes the promise back: the command was added, or could not be stored.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.reserved.commands -= 1;
        self.reserved.bytes -= bytes;
    }

    /// Adds a command that the outbox holds.
    pub(crate) fn add(&mut self, entry: Entry, waiter: Option<Waiter>, now: Now) {
        let Entry { feed, command_id, message } = entry;
        let ends_at = now.instant + self.time_left(command_id, now.wall);
        self.held.commands += 1;
        self.held.bytes += message.len();
        self.ends.insert((ends_at, command_id));
        self.feeds.entry(feed.clone()).or_default().push_back(command_id);
        self.list(&feed);
        let pending = Pending { feed, message, state: State::Waiting, attempts: 0, ends_at, waiter };
        self.pending.insert(command_id, pending);
    }

    /// How long a command may still be sent. An id that does not say when it was minted counts as new.
    fn time_left(&self, command_id: CommandId, wall: Timestamp) -> Duration {
        let minted = command_id.minted_at().unwrap_or(wall);
        let age = u64::try_from(wall.as_micros().saturating_sub(minted.as_micros())).unwrap_or(0);
        self.timing.max_age.saturating_sub(Duration::from_micros(age))
    }

    /// Whether a command is not settled.
    pub(crate) fn holds(&self, command_id: CommandId) -> bool {
        self.pending.contains_key(&command_id)
    }

    /// The messages of a feed's commands that are not settled, in order.
    pub(crate) fn of_feed(&self, feed: &StreamName) -> Vec<Arc<str>> {
        let ids = self.feeds.get(feed).into_iter().flatten();
        ids.filter_map(|id| self.pending.get(id)).map(|pending| Arc::clone(&pending.message)).collect()
    }

    /// The next message to send. It counts as sent.
    pub(crate) fn next_to_send(&mut self, now: Now) -> Option<Arc<str>> {
        while self.in_flight < self.limits.in_flight {
            let feed = self.ready.pop_front()?;
            self.listed.remove(&feed);
            let Some(command_id) = self.first_waiting(&feed) else { continue };
            // The wall's clock goes on while the machine sleeps, the other does not.
            if self.time_left(command_id, now.wall).is_zero() {
                self.ends.insert((now.instant, command_id));
                continue;
            }
            self.list(&feed);
            return self.sent(command_id, now.instant);
        }
        None
    }

    fn sent(&mut self, command_id: CommandId, now: Instant) -> Option<Arc<str>> {
        let pending = self.pending.get_mut(&command_id)?;
        let again_at = now + self.timing.patience(pending.attempts);
        pending.attempts = pending.attempts.saturating_add(1);
        pending.state = State::InFlight(again_at);
        self.wakes.insert((again_at, command_id));
        self.in_flight += 1;
        Some(Arc::clone(&pending.message))
    }

    fn first_waiting(&self, feed: &StreamName) -> Option<CommandId> {
        let ids = self.feeds.get(feed)?.iter().take(self.limits.in_flight_per_feed.max(1));
        for id in ids {
            match self.pending.get(id)?.state {
                State::InFlight(_) => {}
                State::Resting(_) => return None,
                State::Waiting => return Some(*id),
            }
        }
        None
    }

    /// Notes that a feed may have something to send.
    fn list(&mut self, feed: &StreamName) {
        if self.listed.insert(feed.clone()) {
            self.ready.push_back(feed.clone());
        }
    }

    /// A command is settled, or given up. Nothing if it was before.
    pub(crate) fn settle(&mut self, command_id: CommandId) -> Option<Left> {
        self.rest(command_id, State::Waiting);
        let Pending { feed, message, ends_at, waiter, .. } = self.pending.remove(&command_id)?;
        self.ends.remove(&(ends_at, command_id));
        self.held.commands -= 1;
        self.held.bytes -= message.len();
        if let Some(ids) = self.feeds.get_mut(&feed) {
            if let Some(at) = ids.iter().position(|id| *id == command_id) {
                ids.remove(at);
            }
            if ids.is_empty() {
                self.feeds.remove(&feed);
            } else {
                self.list(&feed);
            }
        }
        Some(Left { feed, waiter })
    }

    /// The server could not take a command: it is sent again, but not before `after`.
    pub(crate) fn retry(&mut self, command_id: CommandId, after: Duration, now: Now) {
        if let Some(pending) = self.pending.get(&command_id) {
            let pause = self.timing.pause(pending.attempts.saturating_sub(1)).max(after);
            self.rest(command_id, State::Resting(now.instant + pause));
        }
    }

    /// Moves a command to a state in which it is not in flight.
    fn rest(&mut self, command_id: CommandId, state: State) {
        let Some(pending) = self.pending.get_mut(&command_id) else { return };
        match pending.state {
            State::InFlight(at) => {
                self.in_flight -= 1;
                self.wakes.remove(&(at, command_id));
            }
            State::Resting(at) => {
                self.wakes.remove(&(at, command_id));
            }
            State::Waiting => {}
        }
        pending.state = state;
        let feed = pending.feed.clone();
        match state {
            State::Resting(at) | State::InFlight(at) => {
                self.wakes.insert((at, command_id));
            }
            State::Waiting => self.list(&feed),
        }
    }

    /// The connection is gone: nothing is in flight any longer, and all of it is to be sent again, in order.
    pub(crate) fn disconnected(&mut self) {
        let sent = |pending: &Pending| matches!(pending.state, State::InFlight(_));
        let ids = self.pending.iter().filter(|(_, pending)| sent(pending)).map(|(id, _)| *id);
        for command_id in ids.collect::<Vec<_>>() {
            self.rest(command_id, State::Waiting);
        }
    }

    /// The largest command in flight: the one that the server means when it says that a message is too large.
    pub(crate) fn largest_in_flight(&self) -> Option<(CommandId, usize)> {
        let sent = self.pending.iter().filter(|(_, pending)| matches!(pending.state, State::InFlight(_)));
        sent.map(|(id, pending)| (*id, pending.message.len())).max_by_key(|(_, bytes)| *bytes)
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let wake = self.wakes.first().map(|(at, _)| *at);
        let end = self.ends.first().map(|(at, _)| *at);
        [wake, end].into_iter().flatten().min()
    }

    /// Lets what has waited long enough be sent again, and answers what is too old.
    pub(crate) fn tick(&mut self, now: Now) -> Vec<CommandId> {
        while let Some((_, command_id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now.instant) {
            self.wakes.pop_first();
            self.rest(command_id, State::Waiting);
        }
        let mut old = Vec::new();
        while let Some((_, command_id)) = self.ends.first().copied().filter(|(at, _)| *at <= now.instant) {
            self.ends.pop_first();
            old.push(command_id);
        }
        old
    }
}
