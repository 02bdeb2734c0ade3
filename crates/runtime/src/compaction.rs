//! Drops the events that a baseline stands for, of the categories that do not keep all of theirs.
//!
//! Invariants: nothing is dropped before a baseline that is the state of its stream at its own position is durable, and
//! was passed by every view and every reactor, with nothing parked before it; and the cursor that says up to where
//! something may be missing is written before anything is. Where several nodes share a log, that cursor is written
//! with the fence of a lease, which one of them has for a round.
//!
//! A stream gets a baseline whenever its version passes a multiple of [`EVENTS_FOR_A_BASELINE`]. So an event tells by
//! its number alone that one is due, and nothing has to be counted. What may be dropped is found by following the
//! baselines, in the order of the log.

mod nodes;
mod policy;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use sillage_store::{Dropped, EventStore, Snapshots};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::nodes::{MAX_NODES, Neighbour, NoPlace, PLACE_TTL, SeenHere};
pub use self::policy::{Keep, Policies, PolicyError};
use self::worker::Worker;
use crate::supervisor::Supervisor;

/// After so many events a stream gets a baseline.
pub const EVENTS_FOR_A_BASELINE: u64 = 1_000;
/// How long it rests between two rounds.
pub const ROUND_EVERY: Duration = Duration::from_secs(60);
/// How many operators wait for a round.
const ORDERS: usize = 16;

/// What a round has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// How many baselines were taken.
    pub baselines: u64,
    /// What was dropped.
    pub dropped: Dropped,
}

/// Why a round was not finished. What it has done stays done, and the next one goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compaction cannot go on: {0}")]
pub struct CompactionError(Arc<str>);

/// What the compactor looks at.
pub struct Compaction {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// Saved states, so that long streams are not read from their beginning.
    pub snapshots: Option<Arc<Snapshots>>,
    /// What each category keeps.
    pub policies: Policies,
    /// Whoever must have seen what is dropped.
    pub seen: SeenHere,
    /// The others who share the log and must have seen it, too, if there may be others.
    pub neighbour: Option<Arc<Neighbour>>,
}

/// The task that compacts, seen from outside. Cloning shares it; it ends with the last of them, or is ended.
#[derive(Clone)]
pub struct Compactor {
    orders: mpsc::Sender<oneshot::Sender<Result<Compacted, CompactionError>>>,
}

impl Compactor {
    /// Starts on the current runtime. Beside its rounds it tells other nodes how far this one has come.
    pub fn start(compaction: Compaction, supervisor: &Supervisor) -> (Self, JoinHandle<()>) {
        let (orders, waiting) = mpsc::channel(ORDERS);
        let (neighbour, seen) = (compaction.neighbour.clone(), compaction.seen.clone());
        let rounds = run(Worker::new(compaction), waiting);
        let task = async move {
            match neighbour {
                Some(neighbour) => tokio::select! {
                    () = rounds => {}
                    () = neighbour.tell(seen) => {}
                },
                None => rounds.await,
            }
        };
        (Self { orders }, supervisor.spawn("compactor", task))
    }

    /// Does a round now, and tells what it has done.
    pub async fn compact(&self) -> Result<Compacted, CompactionError> {
        let stopped = || CompactionError("it has been stopped".into());
        let (reply, answer) = oneshot::channel();
        self.orders.send(reply).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

async fn run(
    mut worker: Worker,
    mut orders: mpsc::Receiver<oneshot::Sender<Result<Compacted, CompactionError>>>,
) {
    loop {
        let order = match tokio::time::timeout(ROUND_EVERY, orders.recv()).await {
            Ok(None) => return,
            Ok(order) => order,
            Err(_) => None,
        };
        let done = worker.round().await;
        match &done {
            Ok(Compacted { baselines: 0, dropped: Dropped { events: 0, .. } }) => {}
            Ok(Compacted { baselines, dropped: Dropped { events, bytes } }) => {
                tracing::info!(baselines, events, bytes, "compacted");
            }
            Err(error) => tracing::error!(%error, "a round of compaction has failed"),
        }
        if let Some(order) = order {
            // An operator who no longer waits is not missed.
            drop(order.send(done));
        }
    }
}
