//! Which node runs a reactor of a log that several nodes share: the one that holds its lease.
//!
//! Invariant: a node hands nothing over from the moment on when its lease may have run out by its own clock; and once the
//! lease has passed on, what the former holder writes is refused. So the reactor never runs on two nodes, but for what
//! one that hangs had begun. Only whoever holds the lease writes the cursor, an operator's command included.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;
use sillage_kernel::Reactor;
use sillage_store::event_store::BoxFuture;
use sillage_store::{CursorError, CursorState, CursorUpdate, EventStore, Fence, Lease, StoreError};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use super::runner::{self, Ended, Keeping, Runner, Tenure};
use super::{ControlError, LEASE_TTL, Order, ReactorStatus, Retry, Runs};

/// How often the lease is prolonged, and asked for by those who do not have it.
const PROLONG_EVERY: Duration = LEASE_TTL.checked_div(3).expect("three is not zero");
/// How often it is asked for while an operator waits, and how soon again after the log could not be reached.
const ASK_EAGERLY: Duration = Duration::from_millis(250);
/// How long a stop waits until the lease is given back; if it is not, it runs out.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);

/// What one node knows of a reactor that may run on it.
pub(super) struct Candidate {
    store: Arc<dyn EventStore>,
    reactor: Arc<dyn Reactor>,
    retry: Retry,
    status: watch::Sender<ReactorStatus>,
    lease: Box<str>,
    /// A cursor that others move to ask the holder of the lease to let go.
    calls: Box<str>,
    /// What this node is called, and which of its lives it is.
    owner: Box<str>,
}

/// A lease that was given.
struct Held {
    lease: Lease,
    /// It may have run out then.
    until: Instant,
}

impl Candidate {
    pub(super) fn new(
        node: &str,
        store: Arc<dyn EventStore>,
        reactor: Arc<dyn Reactor>,
        retry: Retry,
        status: watch::Sender<ReactorStatus>,
    ) -> Self {
        let name = reactor.name();
        let (lease, calls) = (format!("reactor-{name}").into(), format!("$calls-{name}").into());
        let owner = format!("{node} {}", Uuid::new_v4()).into();
        Self { store, reactor, retry, status, lease, calls, owner }
    }

    /// Runs the reactor whenever this node holds its lease, until the task is ended or nobody holds the handle any more.
    pub(super) async fn run(&self, mut orders: mpsc::Receiver<Order>) {
        let mut pause = Duration::ZERO;
        while let Some((held, order)) = self.until_held(&mut orders, pause).await {
            let (reactor, token) = (self.reactor.name(), held.lease.token);
            tracing::info!(reactor, token, "the reactor runs on this node");
            let ended = self.hold(held, order, &mut orders).await;
            tracing::info!(reactor, token, ?ended, "the reactor no longer runs on this node");
            self.show_elsewhere().await;
            pause = match ended {
                // What it has not seen is not dropped: its cursor is in the log.
                Ended::Abandoned | Ended::Missed => return,
                // Whoever has asked for it comes first.
                Ended::LetGo => PROLONG_EVERY,
                Ended::Fenced => Duration::ZERO,
            };
        }
    }

    /// Gives the lease back, so that another node need not wait until it runs out.
    pub(super) async fn release(&self) {
        let released = self.store.acquire_lease(&self.lease, &self.owner, Duration::ZERO);
        // If it cannot be given back, it runs out.
        drop(timeout(RELEASE_PATIENCE, released).await);
    }

    /// Asks for the lease until this node has it, or nobody holds the reactor's handle any more. An operator's command
    /// is not kept waiting until somebody dies: whoever holds the lease is asked to let go.
    async fn until_held(
        &self,
        orders: &mut mpsc::Receiver<Order>,
        mut pause: Duration,
    ) -> Option<(Held, Option<Order>)> {
        let mut waiting: Option<(Order, Instant)> = None;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                order = orders.recv(), if waiting.is_none() => {
                    // What the holder is acting on is finished first; and it may be dead.
                    waiting = Some((order?, Instant::now() + self.retry.timeout + 2 * LEASE_TTL));
                }
            }
            let asked = Instant::now();
            match self.ask().await {
                Ok(Some(lease)) => {
                    let held = Held { lease, until: asked + LEASE_TTL };
                    return Some((held, waiting.map(|(order, _)| order)));
                }
                Ok(None) => self.show_elsewhere().await,
                Err(error) => self.trouble(&error),
            }
            pause = PROLONG_EVERY;
            waiting = match waiting {
                Some((order, give_up)) if give_up <= Instant::now() => {
                    let why = "the node that runs the reactor does not let go of it";
                    // An operator who no longer waits is not missed.
                    drop(order.reply.send(Err(ControlError::Unavailable(why.into()))));
                    None
                }
                Some(waiting) => {
                    pause = ASK_EAGERLY;
                    if let Err(error) = self.call().await {
                        self.trouble(&error);
                    }
                    Some(waiting)
                }
                None => None,
            };
        }
    }

    fn ask(&self) -> BoxFuture<Result<Option<Lease>, StoreError>> {
        self.store.acquire_lease(&self.lease, &self.owner, LEASE_TTL)
    }

    /// Asks whoever holds the lease to let go of it.
    async fn call(&self) -> Result<(), CursorError> {
        let calls = self.store.read_cursor(&self.calls).await;
        let calls = calls.map_err(|error| CursorError::Unavailable(error.to_string().into()))?;
        let (reactor, position) = (self.calls.clone(), Some(calls.position.next()));
        self.store.write_cursor(CursorUpdate { reactor, position, ..CursorUpdate::default() }).await
    }

    /// Runs the reactor for as long as the lease is held and nobody asks for it.
    async fn hold(&self, held: Held, order: Option<Order>, orders: &mut mpsc::Receiver<Order>) -> Ended {
        let until = watch::Sender::new(held.until);
        let fence = Fence { lease: self.lease.clone(), held: held.lease };
        let keeping = Keeping::Leased(Tenure { fence, until: until.subscribe() });
        let (store, reactor) = (Arc::clone(&self.store), Arc::clone(&self.reactor));
        let mut runner = Runner::new(store, reactor, self.retry, keeping, self.status.clone());
        let let_go = Notify::new();
        let ended = tokio::select! {
            biased;
            // What is being acted on then is given up.
            () = self.keep(held.lease, &until, &let_go) => Ended::Fenced,
            ended = runner::run(&mut runner, order, orders, &let_go) => ended,
        };
        if ended == Ended::LetGo {
            self.release().await;
        }
        ended
    }

    /// Prolongs the lease until that fails for as long as it holds, and tells when somebody asks for it.
    async fn keep(&self, held: Lease, until: &watch::Sender<Instant>, let_go: &Notify) {
        let mut seen = None;
        loop {
            // Where this takes too long or fails, it is asked again after the next time.
            let calls = timeout(PROLONG_EVERY, self.store.read_cursor(&self.calls)).await;
            if let Ok(Ok(CursorState { position, .. })) = calls
                && *seen.get_or_insert(position) != position
            {
                let_go.notify_one();
            }
            let end = *until.borrow();
            sleep_until(end - LEASE_TTL + PROLONG_EVERY).await;
            let Some(prolonged) = self.prolong(held, end).await else { return };
            until.send_replace(prolonged);
        }
    }

    /// Until when the lease holds now; `None` if it has passed on, or may have.
    async fn prolong(&self, held: Lease, end: Instant) -> Option<Instant> {
        loop {
            let asked = Instant::now();
            if asked >= end {
                return None;
            }
            match timeout_at(end, self.ask()).await {
                Ok(Ok(Some(lease))) if lease == held => return Some(asked + LEASE_TTL),
                Ok(Ok(_)) | Err(_) => return None,
                Ok(Err(error)) => self.trouble(&error),
            }
            sleep(ASK_EAGERLY).await;
        }
    }

    /// Shows what the cursor says, which another node writes, and what that one is called.
    async fn show_elsewhere(&self) {
        let read =
            try_join(self.store.read_cursor(self.reactor.name()), self.store.lease_holder(&self.lease));
        let (CursorState { position, mode, parked }, holder) = match read.await {
            Ok(read) => read,
            Err(error) => {
                self.status.send_modify(|status| (status.runs, status.node) = (Runs::Elsewhere, None));
                return self.trouble(&error);
            }
        };
        // What follows the last space is which of its lives it is.
        let node = holder.and_then(|holder| Some(holder.rsplit_once(' ')?.0.into()));
        let parked = parked.into_values().collect();
        let (name, runs) = (self.reactor.name(), Runs::Elsewhere);
        let (retrying, last_error) = (0, None);
        self.status.send_replace(ReactorStatus {
            name,
            runs,
            node,
            position,
            mode,
            retrying,
            parked,
            last_error,
        });
    }

    fn trouble(&self, error: &dyn std::error::Error) {
        tracing::warn!(reactor = self.reactor.name(), %error, "the lease of the reactor cannot be asked for");
    }
}
