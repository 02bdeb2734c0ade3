//! Following the log as closely as can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sillage_kernel::{EventId, Expected, Filter, Metadata, NewEvent, Position};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::{Append, Entry, EventStore, Subscription};
use uuid::Uuid;

const ROUNDS: usize = 20_000;
/// They take turns on one thread, so that at any moment one of them is about to wait.
const FOLLOWERS: usize = 32;
/// After how many moments the second event comes at most.
const MOMENTS: usize = 10_000;
/// How many moments later in each round.
const STEP: usize = 37;
const PATIENCE: Duration = Duration::from_secs(10);

fn happened() -> Append {
    let event = NewEvent::new(EventId(Uuid::new_v4()), "Happened", "{}", Metadata::default());
    let entry = Entry { stream: "thing-a".parse().unwrap(), expected: Expected::Any, events: vec![event] };
    let (tenant, entries) = ("main".parse().unwrap(), vec![entry]);
    Append { tenant, entries, ledger: None, fence: None, recorded_at: None }
}

/// In each round two events come, the second while those who follow have seen the first one after the other, and begin
/// to wait again; and nothing else would wake them.
#[tokio::test]
async fn no_wake_up_is_lost() {
    let store = MemoryStore::new(1);
    let seen = Arc::new(AtomicUsize::new(0));
    for _ in 0..FOLLOWERS {
        let seen = Arc::clone(&seen);
        let mut subscription = Subscription::new(Arc::new(store.clone()), Position::ZERO, Filter::Everything);
        tokio::spawn(async move {
            loop {
                let page = subscription.next(10).await.unwrap();
                seen.fetch_add(page.events.len(), Ordering::Release);
            }
        });
    }
    let writing = tokio::task::spawn_blocking(move || {
        for round in 1..=ROUNDS {
            let (first, second) = (vec![happened()], vec![happened()]);
            drop(store.append(first));
            (0..round * STEP % MOMENTS).for_each(|n| _ = std::hint::black_box(n));
            drop(store.append(second));
            let written = Instant::now();
            while seen.load(Ordering::Acquire) < 2 * round * FOLLOWERS {
                assert!(written.elapsed() < PATIENCE, "in round {round} somebody was not woken");
                std::thread::yield_now();
            }
        }
    });
    writing.await.unwrap();
}
