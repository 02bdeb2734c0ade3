//! Several nodes on one log: which of them runs a reactor, and how it moves.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sillage_kernel::{
    Event, EventId, Expected, Filter, Metadata, NewEvent, Position, Reach, Reaction, Reactor,
};
use sillage_runtime::reactors::{Control, LEASE_TTL};
use sillage_runtime::{ReactorHandle, ReactorStatus, Reactors, Retry, Runs, Supervisor};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::{Append, CursorState, Entry, EventStore, Mode};
use uuid::Uuid;

use crate::faulty::FaultyStore;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Remembers what it has seen.
struct Witness {
    seen: Mutex<Vec<u64>>,
    reach: Reach,
}

impl Witness {
    fn seen(&self) -> Vec<u64> {
        self.seen.lock().unwrap().clone()
    }
}

impl Reactor for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn filter(&self) -> Filter {
        Filter::People
    }

    fn reach(&self) -> Reach {
        self.reach
    }

    fn react<'a>(&'a self, events: &'a [Arc<Event>]) -> Reaction<'a> {
        self.seen.lock().unwrap().extend(events.iter().map(|event| event.position.get()));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// One of the nodes that share a log.
struct Node {
    store: FaultyStore,
    witness: Arc<Witness>,
    reactors: Reactors,
    handle: ReactorHandle,
}

impl Node {
    fn on(log: &MemoryStore, reach: Reach) -> Self {
        Self::named("", log, reach)
    }

    fn named(name: &str, log: &MemoryStore, reach: Reach) -> Self {
        let store = FaultyStore::over(log.clone());
        store.is_shared();
        let witness = Arc::new(Witness { seen: Mutex::default(), reach });
        let mut reactors = Reactors::new(Supervisor::default(), name);
        let handle = reactors.start(Arc::new(store.clone()), Arc::clone(&witness) as _, Retry::default());
        Self { store, witness, reactors, handle }
    }

    async fn until(&self, what: &str, holds: impl Fn(&ReactorStatus) -> bool) -> ReactorStatus {
        let mut watch = self.handle.watch();
        let status = tokio::time::timeout(PATIENCE, watch.wait_for(|status| holds(status))).await;
        status.unwrap_or_else(|_| panic!("{what} never came: {:?}", self.handle.status())).unwrap().clone()
    }

    async fn runs(&self, runs: Runs) -> ReactorStatus {
        self.until(&format!("{runs:?}"), |status| status.runs == runs).await
    }

    /// Waits until it has handed over everything up to a position.
    async fn reaches(&self, position: u64) {
        let reached =
            |status: &ReactorStatus| status.runs == Runs::Here && status.position == Position::new(position);
        self.until(&format!("position {position}"), reached).await;
    }
}

async fn append(log: &MemoryStore) {
    let event = NewEvent::new(EventId(Uuid::new_v4()), "Happened", "{}", Metadata::default());
    let entry = Entry { stream: "thing-a".parse().unwrap(), expected: Expected::Any, events: vec![event] };
    let (tenant, entries) = ("main".parse().unwrap(), vec![entry]);
    let append = Append { tenant, entries, ledger: None, fence: None, recorded_at: None };
    log.append(vec![append]).await.pop().unwrap().unwrap();
}

/// The cursor, once it stands at a position.
async fn cursor_at(log: &MemoryStore, position: u64) -> CursorState {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cursor = log.read_cursor("witness").await.unwrap();
        if cursor.position == Position::new(position) {
            return cursor;
        }
        assert!(Instant::now() < deadline, "{cursor:?}");
        // tidy: sleep because nothing tells when a cursor is written; bounded by the deadline.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_node_runs_a_reactor_and_hands_it_over_when_it_stops() {
    let log = MemoryStore::new(1);
    let first = Node::named("the first", &log, Reach::Outside);
    first.runs(Runs::Here).await;
    let second = Node::named("the second", &log, Reach::Outside);
    append(&log).await;
    append(&log).await;
    first.reaches(2).await;
    cursor_at(&log, 2).await;
    let told = second.until("the cursor", |status| status.position == Position::new(2)).await;
    assert_eq!((told.runs, second.witness.seen()), (Runs::Elsewhere, vec![]));
    assert_eq!((told.node.as_deref(), first.handle.status().node), (Some("the first"), None));
    let stopped = Instant::now();
    first.reactors.stop().await;
    append(&log).await;
    second.reaches(3).await;
    assert!(stopped.elapsed() < LEASE_TTL / 2, "the lease was not given back");
    assert_eq!((first.witness.seen(), second.witness.seen()), (vec![1, 2], vec![3]));
}

/// A node that takes itself for the holder although its lease has passed on is refused when it writes, and stops.
#[tokio::test]
async fn whoever_does_not_know_that_the_lease_has_passed_on_is_refused_and_stops() {
    let log = MemoryStore::new(1);
    let first = Node::on(&log, Reach::Outside);
    append(&log).await;
    first.reaches(1).await;
    cursor_at(&log, 1).await;
    // It hears that its lease is prolonged, and it is not.
    first.store.deludes();
    let second = Node::on(&log, Reach::Outside);
    second.runs(Runs::Here).await;
    append(&log).await;
    second.reaches(2).await;
    cursor_at(&log, 2).await;
    first.runs(Runs::Elsewhere).await;
    assert!(first.store.fenced() > 0, "what it wrote was taken");
    append(&log).await;
    second.reaches(3).await;
    assert_eq!(second.witness.seen(), [2, 3]);
    assert!(!first.witness.seen().contains(&3), "it runs on two nodes");
}

/// A node that cannot have its lease prolonged stops before another may begin.
#[tokio::test]
async fn whoever_cannot_prolong_the_lease_stops_by_its_own_clock() {
    let log = MemoryStore::new(1);
    let first = Node::on(&log, Reach::Outside);
    first.runs(Runs::Here).await;
    let begun = Instant::now();
    first.store.hangs();
    // Nobody else asks for it, so it is the clock alone.
    first.runs(Runs::Elsewhere).await;
    assert!(begun.elapsed() < LEASE_TTL + Duration::from_secs(1), "it went on without a lease");
    append(&log).await;
    let second = Node::on(&log, Reach::Outside);
    second.reaches(1).await;
    assert_eq!((first.witness.seen(), second.witness.seen()), (vec![], vec![1]));
}

#[tokio::test]
async fn an_order_is_carried_out_by_the_node_that_is_asked() {
    let log = MemoryStore::new(1);
    let (first, second) = (Node::on(&log, Reach::Outside), Node::on(&log, Reach::Outside));
    for _ in 0..2 {
        append(&log).await;
    }
    let reached = cursor_at(&log, 2).await;
    assert_eq!(reached.mode, Mode::Running);
    for node in [&first, &second, &first] {
        node.handle.control(Control::Pause).await.unwrap();
        assert_eq!(node.handle.status().runs, Runs::Here);
        assert_eq!(log.read_cursor("witness").await.unwrap().mode, Mode::Paused);
    }
    let before = (first.witness.seen(), second.witness.seen());
    append(&log).await;
    second.handle.control(Control::Rewind(Position::new(1))).await.unwrap();
    assert_eq!((first.witness.seen(), second.witness.seen()), before, "it is paused");
    first.handle.control(Control::Resume).await.unwrap();
    first.reaches(3).await;
    second.runs(Runs::Elsewhere).await;
    assert!(first.witness.seen().ends_with(&[2, 3]), "{:?}", first.witness.seen());
    assert_eq!(second.witness.seen(), before.1);
}

#[tokio::test]
async fn what_every_node_does_for_itself_is_done_on_each_and_leaves_no_cursor() {
    let log = MemoryStore::new(1);
    append(&log).await;
    let nodes = [Node::on(&log, Reach::Inside), Node::on(&log, Reach::Inside)];
    append(&log).await;
    for node in &nodes {
        node.reaches(2).await;
        assert_eq!(node.witness.seen(), [2]);
    }
    let [first, second] = nodes;
    first.handle.control(Control::Pause).await.unwrap();
    append(&log).await;
    second.reaches(3).await;
    assert_eq!(first.witness.seen(), [2]);
    assert_eq!(log.read_cursor("witness").await.unwrap(), CursorState::default());
}
