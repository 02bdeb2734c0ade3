//! What waits for one reader, between the task that follows the feed and whoever reads: bounded by count and by
//! bytes. What does not fit is refused, and the task is woken once half of the room is free again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::FeedMessage;
use crate::error::Error;

/// What waits for one reader.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    max_messages: usize,
    max_bytes: usize,
    /// Wakes the task.
    task: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(FeedMessage, usize)>,
    bytes: usize,
    reader: Option<Waker>,
    room: Room,
    reading: Reading,
    end: Option<End>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Room {
    #[default]
    Enough,
    /// Something was refused.
    Wanted,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Yes,
    No,
}

#[derive(Debug)]
enum End {
    /// To be told after what waits.
    Lost(Error),
    Told,
}

/// Whether a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    No,
}

impl Mailbox {
    pub(crate) fn new(max_messages: usize, max_bytes: usize, task: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), max_messages: max_messages.max(1), max_bytes, task })
    }

    /// A panic leaves the queue whole, since nothing in it is changed in steps.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message of so many bytes, if there is room. A first one is always taken, however large.
    pub(crate) fn put(&self, message: FeedMessage, bytes: usize) -> Taken {
        let mut state = self.lock();
        let fits = state.queue.len() < self.max_messages && state.bytes + bytes <= self.max_bytes;
        if state.room == Room::Wanted || !(fits || state.queue.is_empty()) {
            state.room = Room::Wanted;
            return Taken::No;
        }
        state.bytes += bytes;
        state.queue.push_back((message, bytes));
        wake(state);
        Taken::Yes
    }

    /// Drops what waits, and adds a message that makes it worthless.
    pub(crate) fn replace(&self, message: FeedMessage) {
        let mut state = self.lock();
        state.queue = VecDeque::from([(message, 0)]);
        state.bytes = 0;
        state.room = Room::Enough;
        wake(state);
    }

    /// Nothing more comes, and this is why.
    pub(crate) fn end(&self, why: Option<Error>) {
        let mut state = self.lock();
        state.end.get_or_insert(why.map_or(End::Told, End::Lost));
        wake(state);
    }

    /// Whether there is room again after something was refused; if so, messages are taken from here on.
    pub(crate) fn make_room(&self) -> Taken {
        let mut state = self.lock();
        if state.room == Room::Wanted && self.is_half_empty(&state) {
            state.room = Room::Enough;
        }
        if state.room == Room::Enough { Taken::Yes } else { Taken::No }
    }

    fn is_half_empty(&self, state: &State) -> bool {
        state.queue.len() <= self.max_messages / 2 && state.bytes <= self.max_bytes / 2
    }

    /// Whether nobody reads any longer.
    pub(crate) fn is_left(&self) -> bool {
        self.lock().reading == Reading::No
    }

    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.reading = Reading::No;
        state.queue = VecDeque::new();
        drop(state);
        self.task.notify_one();
    }

    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<FeedMessage>> {
        let mut state = self.lock();
        if let Some((message, bytes)) = state.queue.pop_front() {
            state.bytes -= bytes;
            if state.room == Room::Wanted && self.is_half_empty(&state) {
                self.task.notify_one();
            }
            return Poll::Ready(Some(message));
        }
        match state.end.replace(End::Told) {
            Some(End::Lost(why)) => Poll::Ready(Some(FeedMessage::Lost(why))),
            Some(End::Told) => Poll::Ready(None),
            None => {
                state.end = None;
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}
