//! Streams that have to be read first: who waits for them, and who does not.

use std::time::Duration;

use futures_util::FutureExt;
use sillage_kernel::{Outcome, Receipt};
use sillage_runtime::bus::{MAX_WAITERS, SHARD_QUEUE, TURN_COMMANDS};
use sillage_runtime::{Command, CommandBus, DispatchError};
use tokio::sync::mpsc;
use tokio::task::unconstrained;

use crate::bus::{Click, Wish, command, number, runtime, settled, start};
use crate::faulty::{FaultyStore, Reading};

const SLOW: &str = "like-t0";

/// The answers to commands that were sent with it, in the order in which they come.
struct Inbox {
    answers: mpsc::UnboundedReceiver<(usize, Result<Receipt, DispatchError>)>,
    sender: mpsc::UnboundedSender<(usize, Result<Receipt, DispatchError>)>,
}

impl Inbox {
    fn new() -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self { answers, sender }
    }

    async fn submit(&self, bus: &CommandBus, command: Command) {
        let (sender, id) = (self.sender.clone(), number(command.envelope.command_id));
        let reply = move |result| sender.send((id, result)).unwrap();
        // It yields only when the shard has no room.
        unconstrained(bus.submit(command, Box::new(reply))).await;
    }

    async fn next(&mut self) -> (usize, Result<Receipt, DispatchError>) {
        soon(self.answers.recv()).await.unwrap()
    }
}

async fn soon<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), answer).await.expect("it takes too long")
}

/// A like, or its opposite: commands with consecutive numbers take turns, so that each changes something.
fn toggle(id: usize, target: u16) -> Command {
    let wish = if id.is_multiple_of(2) { Wish::Like } else { Wish::Unlike };
    command(id, Click { user: 0, target, wish })
}

fn slow(id: usize) -> Command {
    toggle(id, 0)
}

fn is_applied(answer: &Result<Receipt, DispatchError>) -> bool {
    matches!(answer, Ok(Receipt { outcome: Outcome::Applied { .. }, .. }))
}

#[test]
fn a_stream_that_takes_long_to_read_holds_up_no_other() {
    runtime().block_on(async {
        let store = FaultyStore::new([]);
        store.reading(SLOW, Reading::Waits);
        let (bus, _) = start(&store, 1, 16);
        let mut inbox = Inbox::new();
        for id in 0..6 {
            inbox.submit(&bus, slow(id)).await;
            assert!(is_applied(&soon(bus.dispatch(toggle(100 + id, 1))).await), "{id}");
        }
        assert!(inbox.answers.is_empty());
        store.reading_goes_on();
        for id in 6..9 {
            inbox.submit(&bus, slow(id)).await;
        }
        for expected in 0..9 {
            let (id, answer) = inbox.next().await;
            assert!(id == expected && is_applied(&answer), "{id} instead of {expected}: {answer:?}");
        }
        let log = settled(&store).await.into_iter().filter(|(_, event)| event.stream.as_str() == SLOW);
        assert_eq!(log.map(|(id, _)| number(id)).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    });
}

#[test]
fn those_who_wait_for_a_stream_that_cannot_be_read_are_refused_and_may_come_again() {
    runtime().block_on(async {
        let store = FaultyStore::new([]);
        store.reading(SLOW, Reading::Waits);
        let (bus, _) = start(&store, 1, 16);
        let mut inbox = Inbox::new();
        for id in 0..3 {
            inbox.submit(&bus, slow(id)).await;
        }
        assert!(is_applied(&soon(bus.dispatch(toggle(100, 1))).await));
        store.reading(SLOW, Reading::Fails);
        for expected in 0..3 {
            let (id, answer) = inbox.next().await;
            assert!(
                id == expected && matches!(answer, Err(DispatchError::Unavailable(_))),
                "{id}: {answer:?}"
            );
        }
        assert!(matches!(soon(bus.dispatch(slow(0))).await, Err(DispatchError::Unavailable(_))));
        store.reading_goes_on();
        for id in 0..3 {
            assert!(is_applied(&soon(bus.dispatch(slow(id))).await), "{id}");
        }
    });
}

#[test]
fn a_bus_that_nobody_holds_any_more_settles_what_waits_for_a_stream() {
    runtime().block_on(async {
        let store = FaultyStore::new([]);
        store.reading(SLOW, Reading::Waits);
        let (bus, _) = start(&store, 1, 16);
        let mut inbox = Inbox::new();
        inbox.submit(&bus, slow(0)).await;
        assert!(is_applied(&soon(bus.dispatch(toggle(100, 1))).await));
        drop(bus);
        // Now the shard sees that nothing more will come.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        store.reading_goes_on();
        assert!(is_applied(&inbox.next().await.1));
    });
}

#[test]
fn streams_that_are_read_quickly_are_decided_as_one_turn() {
    runtime().block_on(async {
        let store = FaultyStore::new([]);
        let (bus, _) = start(&store, 1, 16);
        let mut inbox = Inbox::new();
        for target in 0..1_000 {
            inbox.submit(&bus, toggle(usize::from(target) * 2, target)).await;
        }
        for _ in 0..1_000 {
            assert!(is_applied(&inbox.next().await.1));
        }
        assert_eq!(store.calls(), 1);
    });
}

#[test]
fn what_waits_for_a_stream_is_bounded_and_nothing_of_it_is_lost() {
    runtime().block_on(async {
        let store = FaultyStore::new([]);
        store.reading(SLOW, Reading::Waits);
        let (bus, _) = start(&store, 1, 16);
        let mut inbox = Inbox::new();
        let mut taken = 0;
        let mut refused_in_a_row = 0;
        // Whoever is not taken at once, although the shard had its turn again and again, has to wait.
        while refused_in_a_row < 100 {
            match inbox.submit(&bus, slow(taken)).now_or_never() {
                Some(()) => (taken, refused_in_a_row) = (taken + 1, 0),
                None => refused_in_a_row += 1,
            }
            assert!(taken < 4 * SHARD_QUEUE, "it takes everything");
            tokio::task::yield_now().await;
        }
        assert!(inbox.answers.is_empty());
        store.reading_goes_on();
        for expected in 0..taken {
            let (id, answer) = inbox.next().await;
            assert!(id == expected && is_applied(&answer), "{id} instead of {expected}: {answer:?}");
        }
        assert!(store.calls() >= taken / TURN_COMMANDS, "a turn was too large");
    });
}

#[test]
fn whoever_resends_too_often_is_told_to_come_back() {
    runtime().block_on(async {
        let store = FaultyStore::new([]);
        store.reading(SLOW, Reading::Waits);
        let (bus, _) = start(&store, 1, 16);
        let mut inbox = Inbox::new();
        for _ in 0..MAX_WAITERS + 3 {
            inbox.submit(&bus, slow(0)).await;
        }
        for _ in 0..3 {
            assert_eq!(inbox.next().await.1, Err(DispatchError::Overloaded));
        }
        store.reading_goes_on();
        let (_, first) = inbox.next().await;
        assert!(is_applied(&first));
        for _ in 1..MAX_WAITERS {
            assert_eq!(inbox.next().await.1, first);
        }
        assert_eq!(soon(bus.dispatch(slow(0))).await, first);
    });
}
