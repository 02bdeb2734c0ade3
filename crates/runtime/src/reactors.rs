//! Lets everybody act who acts on events: handlers, sagas, relays, sockets. Each is a destination of the log
//! with a cursor of its own, so one that is broken or slow harms no other.
//!
//! Invariants: an event is handled at least once; events of one key are handled in their order; the cursor
//! passes an event only when it was confirmed, is parked or was skipped; what is parked or skipped outlives a
//! restart; only an event that failed alone, or that the reactor named, is blamed.
//!
//! Where several nodes share a log, a reactor that reaches outside runs on one of them at a time (`candidate`), and one
//! that does not runs on each, which remembers for itself how far it has come.

mod candidate;
mod pace;
mod runner;
mod steps;
mod waiting;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sillage_kernel::{Position, Reach, Reactor};
use sillage_store::{EventStore, Mode, Nodes, Parked};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::candidate::Candidate;
use self::runner::{Ended, Keeping, Runner};
use crate::Supervisor;

/// How many events may be parked for one reactor; at that number it stops reading until somebody decides.
pub const MAX_PARKED: usize = 10_000;
/// How many events may wait for a retry of one reactor; at that number it stops reading until they are done.
pub const MAX_RETRYING: usize = 1_000;
/// How long a node that shares its log holds a reactor without saying that it is alive.
pub const LEASE_TTL: Duration = Duration::from_secs(5);
/// What the failure of a node is whose log has lost events before it has seen them.
pub(crate) const MISSED: &str = "the node was away for so long that others have dropped what it has not seen";
/// How many operator's commands wait for one reactor.
const CONTROL_QUEUE: usize = 16;

/// How often and how long a failing event is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// After so many failures it is parked.
    pub attempts: NonZeroU32,
    /// The pause after the first failure; it doubles with each, with jitter.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long one reaction may take; longer counts as a failure. It is the time of a call, of one event as of
    /// several: a reactor is given only as many at once as it can handle in half of it, going by its speed so
    /// far. When several run out of time nonetheless, none of them is blamed, and each is handed over alone.
    pub timeout: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::new(8).expect("eight is not zero"),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Where a reactor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// On this node.
    Here,
    /// On another node that shares the log, or on none for a moment. What is known of it is what its cursor says, and
    /// a few seconds old.
    Elsewhere,
}

/// How a reactor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactorStatus {
    /// Its name.
    pub name: &'static str,
    /// Where it runs.
    pub runs: Runs,
    /// What the other node is called that runs it, if one does.
    pub node: Option<Arc<str>>,
    /// Everything up to here is confirmed, parked or skipped.
    pub position: Position,
    /// Whether it is to run.
    pub mode: Mode,
    /// How many events wait for a retry.
    pub retrying: usize,
    /// What is set aside, in the order of the log: what waits for an operator, and what one has skipped before
    /// the position has come to it, which is no longer told once it has.
    pub parked: Vec<Parked>,
    /// The last thing that went wrong.
    pub last_error: Option<Arc<str>>,
}

impl ReactorStatus {
    /// How many events are parked and wait for an operator.
    pub fn waiting(&self) -> usize {
        self.parked.iter().filter(|parked| parked.waits()).count()
    }
}

/// What an operator asks of a reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Wait until told to go on.
    Pause,
    /// Go on.
    Resume,
    /// Try what is parked again: one event and what waits behind it, or everything.
    Retry(Option<Position>),
    /// Give up a parked event, and try what waits behind it.
    Skip(Position),
    /// Go back to this position, and forget what is parked after it.
    Rewind(Position),
}

/// Why an operator's command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// That event is not parked: look at the list again.
    #[error("no event is parked at position {0}")]
    NotParked(Position),
    /// Another event with the same key comes first: retry or skip that one.
    #[error("the event at position {0} waits behind another")]
    Behind(Position),
    /// One can only go back: to this position or an earlier one.
    #[error("the reactor has only come to position {0}")]
    NotThereYet(Position),
    /// The log cannot be reached: come back later.
    #[error("the log cannot be reached: {0}")]
    Unavailable(Arc<str>),
}

/// A reactor that is running, seen from outside. Cloning shares it.
#[derive(Clone)]
pub struct ReactorHandle {
    control: mpsc::Sender<Order>,
    status: watch::Receiver<ReactorStatus>,
    kept: Kept,
}

/// Where it is kept how far a reactor has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    InTheLog,
    /// By each node for itself.
    InMemory,
}

/// An operator's command and whoever waits for it.
struct Order {
    control: Control,
    reply: oneshot::Sender<Result<(), ControlError>>,
}

impl ReactorHandle {
    /// How it stands.
    pub fn status(&self) -> ReactorStatus {
        self.status.borrow().clone()
    }

    /// Whether its cursor is in the log; else this node keeps it for itself, and so does each of the others.
    pub fn is_kept_in_the_log(&self) -> bool {
        self.kept == Kept::InTheLog
    }

    /// Wakes whenever it stands elsewhere.
    pub fn watch(&self) -> watch::Receiver<ReactorStatus> {
        self.status.clone()
    }

    /// Carries out what an operator asks, durably; while the reactor acts on something, that is finished first. If it
    /// runs on another node, that one is asked to let go, and it runs on this one from then on.
    pub async fn control(&self, control: Control) -> Result<(), ControlError> {
        let stopped = || ControlError::Unavailable("the reactor has stopped".into());
        let (reply, answer) = oneshot::channel();
        self.control.send(Order { control, reply }).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// The reactors of a node.
#[derive(Default)]
pub struct Reactors {
    supervisor: Supervisor,
    /// What this node is called.
    node: Arc<str>,
    handles: Vec<ReactorHandle>,
    tasks: Vec<JoinHandle<()>>,
    candidates: Vec<Arc<Candidate>>,
}

impl Reactors {
    /// None yet; `supervisor` watches over those that come, and other nodes see that they run on `node`.
    pub fn new(supervisor: Supervisor, node: &str) -> Self {
        Self { supervisor, node: node.into(), ..Self::default() }
    }

    /// Starts a reactor on the current runtime.
    pub fn start(
        &mut self,
        store: Arc<dyn EventStore>,
        reactor: Arc<dyn Reactor>,
        retry: Retry,
    ) -> ReactorHandle {
        let nodes = store.features().nodes;
        let takes_turns = nodes == Nodes::Several && reactor.reach() == Reach::Outside;
        let (control, mut orders) = mpsc::channel(CONTROL_QUEUE);
        let status = watch::Sender::new(ReactorStatus {
            name: reactor.name(),
            runs: if takes_turns { Runs::Elsewhere } else { Runs::Here },
            node: None,
            position: Position::ZERO,
            mode: Mode::Running,
            retrying: 0,
            parked: Vec::new(),
            last_error: None,
        });
        let is_own = nodes == Nodes::Several && !takes_turns;
        let kept = if is_own { Kept::InMemory } else { Kept::InTheLog };
        let handle = ReactorHandle { control, status: status.subscribe(), kept };
        let name = "runner of a reactor";
        let task = if takes_turns {
            let candidate = Arc::new(Candidate::new(&self.node, store, reactor, retry, status));
            self.candidates.push(Arc::clone(&candidate));
            self.supervisor.spawn(name, async move { candidate.run(orders).await })
        } else {
            let keeping = match nodes {
                Nodes::One => Keeping::Alone,
                Nodes::Several => Keeping::Memory(store.head()),
            };
            let mut runner = Runner::new(store, reactor, retry, keeping, status);
            let supervisor = self.supervisor.clone();
            self.supervisor.spawn(name, async move {
                let ended = runner::run(&mut runner, None, &mut orders, &Notify::new()).await;
                if ended == Ended::Missed {
                    supervisor.report(MISSED);
                }
            })
        };
        self.tasks.push(task);
        self.handles.push(handle.clone());
        handle
    }

    /// All that were started.
    pub fn handles(&self) -> &[ReactorHandle] {
        &self.handles
    }

    /// Ends them. What they were acting on is acted on again after the next start, or by the node that goes on.
    pub async fn stop(self) {
        for task in self.tasks {
            task.abort();
            // The only error is that it was aborted.
            drop(task.await);
        }
        join_all(self.candidates.iter().map(|candidate| candidate.release())).await;
    }
}
