//! One feed: where the server's account of it has come to, and where each of its readers is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sillage_kernel::wire::EventMessage;
use sillage_kernel::{Epoch, Version};
use tokio::time::Instant;

use crate::error::Error;
use crate::options::Timing;
use crate::subscription::{FeedMessage, Mailbox, Since, Taken};

/// One feed.
#[derive(Default)]
pub(super) struct Feed {
    account: Account,
    readers: Vec<Reader>,
    /// The last event or snapshot was not the next one, or some reader has less than the server will send.
    ask: Ask,
    /// How often in a row it had to be asked for again without anything new.
    failures: u32,
}

/// What the server sends of the feed, on this connection.
#[derive(Debug, Default, PartialEq, Eq)]
enum Account {
    /// Nothing.
    #[default]
    None,
    /// It was asked to, from `since`; if it does not answer, it is asked again.
    Asked { since: Since, until: Instant },
    /// All events after this one.
    After { epoch: Epoch, last: Version },
    /// Nothing, and it is not to be asked before this time.
    Resting(Instant),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ask {
    #[default]
    No,
    Again,
}

struct Reader {
    mailbox: Arc<Mailbox>,
    at: Since,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Came after the last question; the answer is not for it.
    New,
    /// Is given what comes.
    Served,
    /// Has no room, and is given nothing until it has.
    Full,
}

/// What is to be asked of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    Subscribe(Since),
    Unsubscribe,
    /// Nobody reads, and the server sends nothing.
    Forget,
}

impl Since {
    /// For comparing how much readers have.
    fn number(&self) -> Option<u64> {
        match self {
            Self::Start => Some(0),
            Self::After { last_sequence, .. } => Some(last_sequence.get()),
            Self::Now => None,
        }
    }
}

impl Reader {
    /// Gives it a message, after which it has everything up to `number`.
    fn give(&mut self, message: FeedMessage, bytes: usize, epoch: &Epoch, number: Version) {
        match self.mailbox.put(message, bytes) {
            Taken::Yes => self.at = Since::After { epoch: epoch.clone(), last_sequence: number },
            Taken::No => self.standing = Standing::Full,
        }
    }

    fn forget(&mut self, epoch: &Epoch) {
        self.mailbox.replace(FeedMessage::Resync { epoch: epoch.clone() });
        self.at = Since::After { epoch: epoch.clone(), last_sequence: Version::ZERO };
        self.standing = Standing::Served;
    }

    /// Whether an event of that number is the next one for it.
    fn wants(&self, number: Version) -> bool {
        let has = match &self.at {
            Since::Start => Version::ZERO,
            Since::After { last_sequence, .. } => *last_sequence,
            Since::Now => return false,
        };
        self.standing == Standing::Served && has.next() == number
    }
}

impl Feed {
    pub(super) fn add(&mut self, since: Since, mailbox: Arc<Mailbox>) {
        self.readers.push(Reader { mailbox, at: since, standing: Standing::New });
        self.ask = Ask::Again;
    }

    /// Lets go of those who have left, and serves those again who have room again. Answers whether there were any.
    pub(super) fn readers_changed(&mut self) -> bool {
        let before = self.readers.len();
        self.readers.retain(|reader| !reader.mailbox.is_left());
        let mut changed = before != self.readers.len();
        for reader in self.readers.iter_mut().filter(|reader| reader.standing == Standing::Full) {
            if reader.mailbox.make_room() == Taken::Yes {
                reader.standing = Standing::New;
                self.ask = Ask::Again;
                changed = true;
            }
        }
        changed
    }

    /// What is to be asked. Whoever asks for it sends it.
    pub(super) fn plan(&mut self, now: Instant, timing: &Timing) -> Plan {
        let wanting = self.readers.iter().filter(|reader| reader.standing != Standing::Full);
        let least = wanting.min_by_key(|reader| reader.at.number().unwrap_or(u64::MAX));
        let Some(since) = least.map(|reader| reader.at.clone()) else {
            return match &self.account {
                Account::None | Account::Resting(_) if self.readers.is_empty() => Plan::Forget,
                Account::After { .. } => {
                    self.account = Account::None;
                    Plan::Unsubscribe
                }
                _ => Plan::Nothing,
            };
        };
        match &self.account {
            Account::Asked { until, .. } | Account::Resting(until) if *until > now => return Plan::Nothing,
            Account::After { .. } if self.ask == Ask::No => return Plan::Nothing,
            _ => {}
        }
        for reader in self.readers.iter_mut().filter(|reader| reader.standing == Standing::New) {
            reader.standing = Standing::Served;
        }
        self.ask = Ask::No;
        self.account = Account::Asked { since: since.clone(), until: now + timing.patience(self.failures) };
        Plan::Subscribe(since)
    }

    /// Whether nobody reads it and the server sends nothing of it.
    pub(super) fn is_idle(&self) -> bool {
        self.readers.is_empty() && self.account == Account::None
    }

    /// Whether [`Self::plan`] may have something new to say.
    pub(super) fn wants_to_ask(&self) -> bool {
        match self.account {
            Account::None => true,
            Account::After { .. } => {
                self.ask == Ask::Again || self.readers.iter().all(|reader| reader.standing == Standing::Full)
            }
            Account::Asked { .. } | Account::Resting(_) => false,
        }
    }

    /// When it must be looked at again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.account {
            Account::Asked { until, .. } | Account::Resting(until) => Some(*until),
            Account::None | Account::After { .. } => None,
        }
    }

    /// The answer, or the pause, has been waited for long enough.
    pub(super) fn look_again(&mut self) {
        if let Account::Asked { .. } = self.account {
            self.failures = self.failures.saturating_add(1);
        }
        self.account = Account::None;
    }

    pub(super) fn subscribed(&mut self, epoch: &Epoch, head: Version) {
        match &self.account {
            Account::None | Account::Resting(_) => return,
            Account::Asked { since, .. } => {
                let last = match since {
                    Since::Start => Version::ZERO,
                    Since::Now => head,
                    Since::After { last_sequence, .. } => *last_sequence,
                };
                self.account = Account::After { epoch: epoch.clone(), last };
            }
            // An answer that is not waited for any longer, or the one that came before was not: what follows may
            // not be what is next.
            Account::After { .. } => self.ask = Ask::Again,
        }
        let Account::After { last, .. } = self.account else { return };
        let message = FeedMessage::Subscribed { epoch: epoch.clone(), current_sequence: head };
        for reader in self.readers.iter_mut().filter(|reader| reader.standing == Standing::Served) {
            let number = match &reader.at {
                Since::Start => Version::ZERO,
                Since::Now => head,
                Since::After { epoch: theirs, last_sequence }
                    if theirs == epoch && *last_sequence <= head =>
                {
                    *last_sequence
                }
                Since::After { .. } => {
                    reader.forget(epoch);
                    Version::ZERO
                }
            };
            reader.give(message.clone(), 0, epoch, number);
            if number < last {
                self.ask = Ask::Again;
            }
        }
    }

    pub(super) fn resync(&mut self, epoch: &Epoch) {
        if matches!(self.account, Account::None | Account::Resting(_)) {
            return;
        }
        // Whoever is in this log already need not forget it, unless it is they whom the server means.
        let means_all = match &self.account {
            Account::Asked { since: Since::After { epoch: asked, .. }, .. } => asked == epoch,
            _ => true,
        };
        for reader in self.readers.iter_mut().filter(|reader| reader.standing != Standing::New) {
            if let Since::After { epoch: theirs, .. } = &reader.at
                && (means_all || theirs != epoch)
            {
                reader.forget(epoch);
            }
        }
        // Asked, the server goes on to answer; unasked, it only goes on.
        match &mut self.account {
            Account::Asked { since, .. } => *since = Since::Start,
            account => *account = Account::After { epoch: epoch.clone(), last: Version::ZERO },
        }
    }

    pub(super) fn snapshot(&mut self, number: Version, state: &Value, bytes: usize) {
        let Account::After { epoch, last } = &mut self.account else { return };
        if number <= *last {
            return;
        }
        *last = number;
        for reader in self.readers.iter_mut().filter(|reader| reader.standing == Standing::Served) {
            if reader.at.number().is_some_and(|has| has < number.get()) {
                let message = FeedMessage::Snapshot { sequence_number: number, state: state.clone() };
                reader.give(message, bytes, epoch, number);
            }
        }
    }

    pub(super) fn event(&mut self, event: EventMessage<Value>, bytes: usize, now: Instant, timing: &Timing) {
        let Account::After { epoch, last } = &mut self.account else { return };
        let number = event.sequence_number;
        if event.epoch == *epoch && number <= *last {
            return;
        }
        if event.epoch != *epoch || number != last.next() {
            tracing::warn!(feed = %event.feed, %number, last = %last, "events are missing; they are asked for");
            return self.again(Duration::ZERO, now, timing);
        }
        *last = number;
        self.failures = 0;
        let mut takers = self.readers.iter_mut().filter(|reader| reader.wants(number)).peekable();
        while let Some(reader) = takers.next() {
            // Mostly one reads, and then nothing need be copied.
            if takers.peek().is_none() {
                return reader.give(FeedMessage::Event(event), bytes, epoch, number);
            }
            reader.give(FeedMessage::Event(event.clone()), bytes, epoch, number);
        }
    }

    /// Asks again: at once the first time, and then after longer and longer pauses, until something new comes.
    fn again(&mut self, after: Duration, now: Instant, timing: &Timing) {
        let pause = match self.failures {
            0 => after,
            failures => timing.pause(failures - 1).max(after),
        };
        self.failures = self.failures.saturating_add(1);
        self.account = if pause.is_zero() { Account::None } else { Account::Resting(now + pause) };
    }

    pub(super) fn retry(&mut self, after: Duration, now: Instant, timing: &Timing) {
        if let Account::Asked { .. } = self.account {
            self.again(after.max(timing.pause(self.failures)), now, timing);
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.account = Account::None;
        self.ask = Ask::No;
    }

    pub(super) fn end(self, why: Option<&Error>) {
        self.readers.iter().for_each(|reader| reader.mailbox.end(why.cloned()));
    }
}
