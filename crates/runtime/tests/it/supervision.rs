//! What dies in the background is noticed.

use std::sync::Arc;
use std::time::Duration;

use sillage_runtime::{BusOptions, CommandBus, DispatchError, ReceiptSink, Settled, Supervisor};
use sillage_store::event_store::memory::MemoryStore;

use crate::panics::command;

/// Takes its shard with it.
struct Panics;

impl ReceiptSink for Panics {
    fn deliver(&self, _: &[Settled]) {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn a_shard_that_dies_is_the_failure_of_the_node() {
    let supervisor = Supervisor::default();
    let options = BusOptions { shards: 1, supervisor: supervisor.clone(), ..BusOptions::default() };
    let bus = CommandBus::start(Arc::new(MemoryStore::new(1)), Arc::new(Panics), options);
    assert_eq!(supervisor.failure(), None);
    // It is settled, and answered, before the shard tells of it and dies.
    assert!(bus.dispatch(command(1, "Step")).await.is_ok());
    let failure = tokio::time::timeout(Duration::from_secs(10), supervisor.failed()).await.unwrap();
    assert!(failure.contains("command bus") && failure.contains("on purpose"), "{failure}");
    assert!(matches!(bus.dispatch(command(2, "Step")).await, Err(DispatchError::Unavailable(_))));
}

#[tokio::test]
async fn a_task_that_ends_or_is_ended_is_no_failure() {
    let supervisor = Supervisor::default();
    supervisor.spawn("short task", async {}).await.unwrap();
    let long = supervisor.spawn("long task", std::future::pending());
    long.abort();
    assert!(long.await.unwrap_err().is_cancelled());
    assert_eq!(supervisor.failure(), None);
}
