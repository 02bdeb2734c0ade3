//! One connection that sends commands: so many under way at a time, or at a given pace.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sillage_client::raw::{Connection, Effect, Frame, Head, Incoming, Kind};
use sillage_kernel::wire::ErrorMessage;
use sillage_kernel::{CommandId, Position};
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Failure;
use crate::histogram::Histogram;

/// How the bytes of an id are used: the first ten are those of a UUIDv7 that was minted when the lane began.
const LANE_AT: std::ops::Range<usize> = 10..12;
const NUMBER_AT: std::ops::Range<usize> = 12..16;

/// What all lanes have in common.
#[derive(Debug)]
pub(crate) struct Course {
    /// What is liked.
    pub(crate) feeds: Vec<String>,
    /// When somebody clicked; the same for all, since writing a time costs more than sending it.
    pub(crate) at: String,
    /// What is sent before only warms up.
    pub(crate) counts_from: Instant,
    /// Nothing is sent after.
    pub(crate) until: Instant,
}

/// How a lane decides when to send.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// So many are under way at any time.
    InFlight(usize),
    /// One whenever its moment comes, whatever is under way.
    Moments(Rc<Moments>),
}

/// The moments at which one lane is to send.
#[derive(Debug)]
pub(crate) struct Moments {
    /// Told when the next has passed.
    pub(crate) wake: Notify,
    pub(crate) next: Cell<Instant>,
    pub(crate) apart: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// From when a command was sent, or was to be, to its receipt.
    pub(crate) latency: Histogram,
    /// Receipts that came while it counted.
    pub(crate) acknowledged: u64,
    pub(crate) unchanged: u64,
    pub(crate) rejected: u64,
    pub(crate) unanswered: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) highest: Position,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let (latency, errors) = (Histogram::new(), BTreeMap::new());
        Self {
            latency,
            acknowledged: 0,
            unchanged: 0,
            rejected: 0,
            unanswered: 0,
            errors,
            highest: Position::ZERO,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        let Self { latency, acknowledged, unchanged, rejected, unanswered, errors, highest } = other;
        self.latency.add(&latency);
        self.acknowledged += acknowledged;
        self.unchanged += unchanged;
        self.rejected += rejected;
        self.unanswered += unanswered;
        errors.into_iter().for_each(|(code, count)| *self.errors.entry(code).or_default() += count);
        self.highest = self.highest.max(highest);
    }
}

/// One connection that sends commands.
pub(crate) struct Lane {
    connection: Connection,
    course: Rc<Course>,
    pace: Pace,
    /// Whether the user of this lane likes each of the feeds.
    likes: Rc<RefCell<Vec<bool>>>,
    id: [u8; 16],
    /// The number of the next command of this lane.
    next: u32,
    /// Which feed the next command is for.
    feed: usize,
    /// When each command from `oldest` on was to be sent; nothing if it is answered.
    sent: VecDeque<Option<Instant>>,
    oldest: u32,
    text: String,
    tally: Tally,
}

impl Lane {
    pub(crate) fn new(
        connection: Connection,
        course: Rc<Course>,
        pace: Pace,
        likes: Rc<RefCell<Vec<bool>>>,
        number: u16,
    ) -> Self {
        let mut id = *Uuid::now_v7().as_bytes();
        if let Some(lane) = id.get_mut(LANE_AT) {
            lane.copy_from_slice(&number.to_be_bytes());
        }
        // Lanes begin far from each other, and walk through all feeds.
        let feed = usize::from(number) * 7_919 % course.feeds.len();
        let (text, tally) = (String::new(), Tally::new());
        let (next, oldest, sent) = (0, 0, VecDeque::new());
        Self { connection, course, pace, likes, id, next, feed, sent, oldest, text, tally }
    }

    /// Sends until the time is over, and waits until all is answered, but not for longer than `limit`. Whoever was
    /// not answered by then is counted; a lost connection spoils the measurement.
    pub(crate) async fn finish_within(mut self, limit: Duration) -> Result<Tally, Failure> {
        timeout(limit, self.run()).await.unwrap_or(Ok(()))?;
        self.tally.unanswered = self.under_way() as u64;
        Ok(self.tally)
    }

    async fn run(&mut self) -> Result<(), Failure> {
        self.send_what_is_due(Instant::now());
        while Instant::now() < self.course.until || self.under_way() > 0 {
            let pace = self.pace.clone();
            match &pace {
                Pace::InFlight(_) => {
                    let incoming = self.connection.next().await;
                    self.took(incoming)?;
                }
                Pace::Moments(moments) => tokio::select! {
                    incoming = self.connection.next() => self.took(incoming)?,
                    () = moments.wake.notified() => {}
                },
            }
            self.send_what_is_due(Instant::now());
        }
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.sent.iter().filter(|sent| sent.is_some()).count()
    }

    fn send_what_is_due(&mut self, now: Instant) {
        match self.pace.clone() {
            Pace::InFlight(most) => {
                let mut room =
                    if now < self.course.until { most.saturating_sub(self.under_way()) } else { 0 };
                while room > 0 {
                    self.send(now);
                    room -= 1;
                }
            }
            Pace::Moments(moments) => {
                while moments.next.get() <= now && moments.next.get() < self.course.until {
                    self.send(moments.next.get());
                    moments.next.set(moments.next.get() + moments.apart);
                }
            }
        }
    }

    fn send(&mut self, intended: Instant) {
        let mut likes = self.likes.borrow_mut();
        let (Some(liked), Some(feed)) = (likes.get_mut(self.feed), self.course.feeds.get(self.feed)) else {
            return;
        };
        let name = if *liked { "LikeRemove" } else { "LikeAdd" };
        *liked = !*liked;
        if let Some(number) = self.id.get_mut(NUMBER_AT) {
            number.copy_from_slice(&self.next.to_be_bytes());
        }
        let (id, at) = (Uuid::from_bytes(self.id), &self.course.at);
        self.text.clear();
        let written = write!(
            self.text,
            r#"{{"type":"action","feed":"{feed}","event_type":"{name}","command_id":"{id}","data":{{"likeId":"load","at":"{at}"}}}}"#,
        );
        written.expect("a string takes whatever is written to it");
        self.connection.push(&self.text);
        self.sent.push_back(Some(intended));
        self.next += 1;
        self.feed = (self.feed + 1) % self.course.feeds.len();
    }

    fn took(&mut self, incoming: Incoming) -> Result<(), Failure> {
        match incoming {
            Incoming::Text(frame) => self.read(&frame),
            Incoming::Life | Incoming::Room => Ok(()),
            Incoming::Closed(closed) => {
                Err(format!("the server closed a connection: {:?} {}", closed.code, closed.reason).into())
            }
        }
    }

    fn read(&mut self, frame: &Frame) -> Result<(), Failure> {
        let now = Instant::now();
        for line in frame.lines() {
            let head = Head::read(line).ok_or_else(|| format!("the server sent {line:?}"))?;
            match (head.kind, head.command_id) {
                (Kind::Receipt, Some(command_id)) => {
                    let Some(sent) = self.answered(command_id) else { continue };
                    self.count(&head, sent, now);
                }
                (Kind::Error, _) => self.refused(line)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&mut self, head: &Head, sent: Instant, now: Instant) {
        let tally = &mut self.tally;
        tally.highest = tally.highest.max(head.position.unwrap_or_default());
        match head.outcome {
            Some(Effect::Unchanged) => tally.unchanged += 1,
            Some(Effect::Rejected) => tally.rejected += 1,
            _ => {}
        }
        if sent >= self.course.counts_from {
            tally.latency.record(now - sent);
        }
        if (self.course.counts_from..self.course.until).contains(&now) {
            tally.acknowledged += 1;
        }
    }

    fn refused(&mut self, line: &str) -> Result<(), Failure> {
        let error: ErrorMessage = serde_json::from_str(line)?;
        *self.tally.errors.entry(error.code.into_owned()).or_default() += 1;
        let id = error.original_action.as_ref().and_then(|original| original.get("command_id"));
        if let Some(id) = id.and_then(Value::as_str).and_then(|id| id.parse().ok()) {
            self.answered(CommandId(id));
        }
        Ok(())
    }

    /// When a command of this lane was to be sent, if it was not answered before. Receipts of other connections of
    /// the same user come here too.
    fn answered(&mut self, command_id: CommandId) -> Option<Instant> {
        let (theirs, own) = (command_id.0.as_bytes(), &self.id);
        if theirs.get(..NUMBER_AT.start) != own.get(..NUMBER_AT.start) {
            return None;
        }
        let number = u32::from_be_bytes(theirs.get(NUMBER_AT)?.try_into().ok()?);
        let place = usize::try_from(number.checked_sub(self.oldest)?).ok()?;
        let sent = self.sent.get_mut(place)?.take();
        while self.sent.front().is_some_and(Option::is_none) {
            self.sent.pop_front();
            self.oldest += 1;
        }
        sent
    }
}
