//! The loop of one reactor: reads pages, lets it react part by part, tries again what failed, parks what will
//! not work, writes the cursor.
//!
//! Invariant: what was read and is not confirmed is in one place: among the fresh events, in a queue that
//! waits, or set aside with the cursor. A crash between two writes of the cursor repeats events, and loses none.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sillage_kernel::{Event, Failed, Failure, Filter, Position, Reach, Reactor};
use sillage_store::views::may_lack_events;
use sillage_store::{
    CursorError, CursorState, EventStore, Fence, LogPage, Mode, Parked, ParkedBecause, StoreError,
    Subscription, clock,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::pace::{PAGE, Pace};
use super::steps::steps;
use super::waiting::{Key, Origin, Queue, Waiting, key_of};
use super::{Control, ControlError, MAX_PARKED, MAX_RETRYING, Order, ReactorStatus, Retry, Runs};

/// A moved cursor is written at most this much later; a crash repeats what was confirmed meanwhile.
const CURSOR_DELAY: Duration = Duration::from_millis(200);
/// How much of what went wrong is kept with a parked event.
const MAX_ERROR_CHARS: usize = 1_000;
/// How long it waits after the log could not be reached.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

pub(super) struct Runner {
    store: Arc<dyn EventStore>,
    reactor: Arc<dyn Reactor>,
    retry: Retry,
    keeping: Keeping,
    subscription: Subscription,
    /// What was read and has not been handed over yet, in the order of the log.
    fresh: VecDeque<Arc<Event>>,
    pace: Pace,
    /// As it is written, but for its mode and what is in `unwritten`.
    cursor: CursorState,
    /// What was set aside, or no longer is, since the cursor was written.
    unwritten: BTreeSet<Position>,
    write_by: Option<Instant>,
    waiting: Waiting,
    last_error: Option<Arc<str>>,
    status: watch::Sender<ReactorStatus>,
}

/// Who keeps the cursor, and where.
pub(super) enum Keeping {
    /// This node alone, in the log.
    Alone,
    /// This node, in the log, as long as it holds the lease.
    Leased(Tenure),
    /// Another node, or nobody: the lease has passed on.
    Fenced,
    /// This node for itself, in memory, from that position on: it does not outlive the process. It has seen what is
    /// before it, or need not have.
    Memory(Position),
}

/// A lease that this node holds.
pub(super) struct Tenure {
    pub(super) fence: Fence,
    /// It may have run out then.
    pub(super) until: watch::Receiver<Instant>,
}

/// Why a runner has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody holds the reactor's handle any more.
    Abandoned,
    /// It was asked to let go, has finished what it acted on, and written its cursor.
    LetGo,
    /// The lease has passed on.
    Fenced,
    /// Events were dropped that it has not seen.
    Missed,
}

/// What became of events that were handed over.
struct Outcome {
    /// How many at the front are confirmed.
    confirmed: usize,
    /// What went wrong with the next one, if it is known to be that one.
    failure: Option<Failure>,
}

/// Carries out the first order, if there is one, and runs on until there is a reason to end.
pub(super) async fn run(
    runner: &mut Runner,
    first: Option<Order>,
    orders: &mut mpsc::Receiver<Order>,
    let_go: &Notify,
) -> Ended {
    while let Err(error) = runner.load().await {
        runner.trouble(&error);
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
    if let Some(order) = first {
        runner.obey(order).await;
    }
    while !matches!(runner.keeping, Keeping::Fenced) {
        let (may_act, all_given) = (runner.may_act(), runner.fresh.is_empty());
        let retry =
            runner.waiting.next_due().filter(|_| runner.cursor.mode == Mode::Running && runner.holds());
        let retry_at = retry.as_ref().map(|(_, due)| *due);
        let after = runner.subscription.cursor();
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return Ended::Abandoned };
                runner.obey(order).await;
            }
            () = let_go.notified() => {
                // What could not be written is done again by whoever comes next.
                drop(runner.write().await);
                return Ended::LetGo;
            }
            () = at(retry_at) => {
                if let Some((key, _)) = retry {
                    runner.try_again(key).await;
                }
            }
            () = at(runner.write_by) => {}
            () = std::future::ready(()), if may_act && !all_given => runner.react().await,
            page = runner.subscription.next(PAGE), if may_act && all_given => match page {
                Ok(page) => {
                    match runner.may_have_missed(after, &page).await {
                        Ok(false) => {}
                        Ok(true) => return Ended::Missed,
                        Err(error) => {
                            runner.trouble(&error);
                            runner.subscription.seek(after);
                            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                            continue;
                        }
                    }
                    runner.fresh = page.events.into();
                    runner.react().await;
                }
                Err(error) => {
                    runner.trouble(&error);
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            },
        }
        runner.settle().await;
    }
    Ended::Fenced
}

/// Never, if there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Runner {
    pub(super) fn new(
        store: Arc<dyn EventStore>,
        reactor: Arc<dyn Reactor>,
        retry: Retry,
        keeping: Keeping,
        status: watch::Sender<ReactorStatus>,
    ) -> Self {
        let subscription = Subscription::new(Arc::clone(&store), Position::ZERO, reactor.filter());
        Self {
            store,
            retry,
            keeping,
            subscription,
            fresh: VecDeque::new(),
            pace: Pace::default(),
            cursor: CursorState::default(),
            unwritten: BTreeSet::new(),
            reactor,
            write_by: None,
            waiting: Waiting::default(),
            last_error: None,
            status,
        }
    }

    async fn load(&mut self) -> Result<(), StoreError> {
        let name = self.reactor.name();
        self.cursor = match self.keeping {
            Keeping::Memory(position) => CursorState { position, ..CursorState::default() },
            Keeping::Alone | Keeping::Leased(_) | Keeping::Fenced => self.store.read_cursor(name).await?,
        };
        if self.cursor.mode == Mode::Held {
            self.cursor.mode = match self.reactor.reach() {
                Reach::Inside => Mode::Running,
                Reach::Outside => Mode::Paused,
            };
            tracing::warn!(reactor = name, mode = ?self.cursor.mode, "the log has begun a new epoch");
        }
        self.subscription.seek(self.cursor.position);
        self.show();
        Ok(())
    }

    /// Whether others may have dropped what is not on the page. A cursor that is in the log holds that up.
    async fn may_have_missed(&self, after: Position, page: &LogPage) -> Result<bool, StoreError> {
        match self.keeping {
            Keeping::Memory(seen_to) => may_lack_events(self.store.as_ref(), after, seen_to, page).await,
            Keeping::Alone | Keeping::Leased(_) | Keeping::Fenced => Ok(false),
        }
    }

    /// Whether it is this node that acts. One that has hung finds out by its clock that another may be acting.
    fn holds(&self) -> bool {
        match &self.keeping {
            Keeping::Alone | Keeping::Memory(_) => true,
            Keeping::Leased(Tenure { until, .. }) => Instant::now() < *until.borrow(),
            Keeping::Fenced => false,
        }
    }

    fn may_act(&self) -> bool {
        self.holds()
            && self.cursor.mode == Mode::Running
            && self.cursor.parked.len() < MAX_PARKED
            && self.waiting.len() < MAX_RETRYING
    }

    /// Lets the reactor act on the next of the new events. Those whose key waits already wait too.
    async fn react(&mut self) {
        let mut part = Vec::new();
        while part.len() < self.pace.part()
            && let Some(event) = self.fresh.pop_front()
        {
            part.extend(self.wait_behind(event));
        }
        let mut pace = self.pace;
        let Outcome { confirmed, failure } = self.call(&part, &mut pace).await;
        self.pace = pace;
        let mut rest = part.into_iter().skip(confirmed);
        if let Some(failure) = failure
            && let Some(event) = rest.next()
        {
            let key = key_of(self.reactor.as_ref(), &event);
            let queue = Queue::new(VecDeque::from([event]), Origin::Log, &self.retry);
            self.waiting.0.insert(key.clone(), queue);
            self.fail(&key, failure);
        }
        rest.rev().for_each(|event| self.fresh.push_front(event));
    }

    /// The event, unless another with its key waits; then it waits too.
    fn wait_behind(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        if self.waiting.0.is_empty() && self.cursor.parked.is_empty() {
            return Some(event);
        }
        // A cursor that was held back comes to what was set aside before a restart.
        if self.cursor.parked.contains_key(&event.position) {
            return None;
        }
        let key = key_of(self.reactor.as_ref(), &event);
        let queue = self.waiting.0.get_mut(&key);
        let is_later =
            |queue: &&mut Queue| queue.events.front().is_some_and(|first| first.position < event.position);
        if let Some(queue) = queue.filter(is_later) {
            queue.events.push_back(Arc::clone(&event));
            if queue.origin == Origin::Parked {
                self.park(&event, &key, ParkedBecause::Behind);
            }
        } else if self.waiting_parked(&key).next().is_some() {
            // Where a cursor was held back, what was confirmed before a restart is read again, and may come
            // before what is parked and tried again now: then all of it waits, so as to be tried in order.
            self.waiting.0.remove(&key);
            self.park(&event, &key, ParkedBecause::Behind);
        } else {
            return Some(event);
        }
        None
    }

    /// The events of a key that are parked and wait.
    fn waiting_parked(&self, (tenant, key): &Key) -> impl Iterator<Item = &Parked> {
        let of_key = |parked: &&Parked| parked.tenant == *tenant && parked.key == *key && parked.waits();
        self.cursor.parked.values().filter(of_key)
    }

    /// Lets the reactor act. What it panics at or takes too long for has failed; among several it is not known
    /// which, so none counts as confirmed and none is blamed.
    async fn call(&self, events: &[Arc<Event>], pace: &mut Pace) -> Outcome {
        let untouched = Outcome { confirmed: 0, failure: None };
        let Some(last) = events.len().checked_sub(1).filter(|_| self.holds()) else { return untouched };
        let (timeout, begun) = (self.retry.timeout, Instant::now());
        let reaction = AssertUnwindSafe(async { self.reactor.react(events).await }).catch_unwind();
        let why = match tokio::time::timeout(timeout, reaction).await {
            Ok(Ok(Ok(()))) => {
                pace.confirmed(events.len(), begun.elapsed(), timeout);
                return Outcome { confirmed: events.len(), failure: None };
            }
            Ok(Ok(Err(Failed { confirmed, failure }))) => {
                pace.failed();
                return Outcome { confirmed: confirmed.min(last), failure: Some(failure) };
            }
            Ok(Err(_)) => "the reactor has panicked",
            Err(_) => "the reactor took too long",
        };
        if last > 0 {
            tracing::warn!(reactor = self.reactor.name(), events = events.len(), why, "each is tried alone");
            pace.failed_among(events.len());
            return Outcome { confirmed: 0, failure: None };
        }
        pace.failed();
        Outcome { confirmed: 0, failure: Some(Failure::Retry(why.to_owned())) }
    }

    /// Tries the next events of a key again.
    async fn try_again(&mut self, key: Key) {
        let Some(queue) = self.waiting.0.get(&key) else { return };
        let mut pace = queue.pace;
        let events: Vec<_> = queue.events.iter().take(pace.part()).cloned().collect();
        let Outcome { confirmed, failure } = self.call(&events, &mut pace).await;
        let Some(queue) = self.waiting.0.get_mut(&key) else { return };
        queue.pace = pace;
        queue.confirm(confirmed, &self.retry);
        let done = queue.events.is_empty();
        if queue.origin == Origin::Parked {
            events.iter().take(confirmed).for_each(|event| self.unpark(event.position));
        }
        match failure {
            Some(failure) => self.fail(&key, failure),
            None if done => drop(self.waiting.0.remove(&key)),
            None => {}
        }
        self.touch();
    }

    /// The first event of a key has failed: it is tried later, or parked with all that waits behind it.
    fn fail(&mut self, key: &Key, failure: Failure) {
        let error: String = failure.to_string().chars().take(MAX_ERROR_CHARS).collect();
        tracing::warn!(reactor = self.reactor.name(), %error, "an event could not be handled");
        self.last_error = Some(error.as_str().into());
        let Some(queue) = self.waiting.0.get_mut(key) else { return };
        queue.failed();
        let attempts = queue.attempts;
        if matches!(failure, Failure::Retry(_)) && attempts < self.retry.attempts.get() {
            return;
        }
        let events = self.waiting.0.remove(key).map_or_else(VecDeque::new, |queue| queue.events);
        for (index, event) in events.iter().enumerate() {
            let failed = || ParkedBecause::Failed { error: error.clone(), attempts };
            let because = if index == 0 { failed() } else { ParkedBecause::Behind };
            self.park(event, key, because);
        }
    }

    fn park(&mut self, event: &Event, (tenant, key): &Key, because: ParkedBecause) {
        let (position, tenant, key) = (event.position, tenant.clone(), Arc::clone(key));
        let parked = Parked { position, tenant, key, because, since: clock::now() };
        self.cursor.parked.insert(position, parked);
        self.unwritten.insert(position);
    }

    fn unpark(&mut self, position: Position) {
        self.cursor.parked.remove(&position);
        self.unwritten.insert(position);
    }

    async fn obey(&mut self, Order { control, reply }: Order) {
        let result = self.control(control).await;
        // An operator who no longer waits is not missed.
        drop(reply.send(result));
    }

    /// Carries out an operator's command.
    async fn control(&mut self, control: Control) -> Result<(), ControlError> {
        match control {
            Control::Pause => self.cursor.mode = Mode::Paused,
            Control::Resume => self.cursor.mode = Mode::Running,
            Control::Rewind(position) => {
                let reached = self.position();
                if position > reached {
                    return Err(ControlError::NotThereYet(reached));
                }
                if let Keeping::Memory(seen_to) = &mut self.keeping {
                    // What was seen once may have been dropped since.
                    *seen_to = reached.max(*seen_to);
                }
                let later: Vec<_> = self.cursor.parked.keys().copied().filter(|at| *at > position).collect();
                later.into_iter().for_each(|position| self.unpark(position));
                self.waiting = Waiting::default();
                self.fresh.clear();
                self.subscription.seek(position);
            }
            Control::Retry(Some(position)) => {
                let key = self.first_of_key(position)?;
                self.release(key, position).await?;
            }
            Control::Retry(None) => {
                let waiting = self.cursor.parked.values().filter(|parked| parked.waits());
                let keys: BTreeSet<_> = waiting.map(key_of_parked).collect();
                for key in keys {
                    self.release(key, Position::ZERO).await?;
                }
            }
            Control::Skip(position) => {
                let key = self.first_of_key(position)?;
                self.release(key, position.next()).await?;
                if let Some(parked) = self.cursor.parked.get_mut(&position) {
                    (parked.because, parked.since) = (ParkedBecause::Skipped, clock::now());
                    self.unwritten.insert(position);
                }
            }
        }
        self.write().await
    }

    /// The key of a parked event that no other comes before.
    fn first_of_key(&self, position: Position) -> Result<Key, ControlError> {
        let key = self.cursor.parked.get(&position).map(key_of_parked);
        let key = key.ok_or(ControlError::NotParked(position))?;
        let first = self.waiting_parked(&key).next().map(|first| first.position);
        match first.map(|first| first.cmp(&position)) {
            Some(Ordering::Equal) => Ok(key),
            Some(Ordering::Less) => Err(ControlError::Behind(position)),
            Some(Ordering::Greater) | None => Err(ControlError::NotParked(position)),
        }
    }

    /// Has the parked events of a key tried again at once, those at `from` and later. They stay parked until
    /// they are confirmed.
    async fn release(&mut self, key: Key, from: Position) -> Result<(), ControlError> {
        let parked = self.waiting_parked(&key).map(|parked| parked.position);
        let positions: Vec<_> = parked.filter(|position| *position >= from).collect();
        let mut events = VecDeque::new();
        for position in positions {
            let page = self.store.read_all(position.previous(), Filter::Everything, 1).await;
            events.extend(page.map_err(|error| ControlError::Unavailable(error.to_string().into()))?.events);
        }
        if events.is_empty() {
            self.waiting.0.remove(&key);
        } else {
            self.waiting.0.insert(key, Queue::new(events, Origin::Parked, &self.retry));
        }
        Ok(())
    }

    /// Writes the cursor when it is time, and shows how the reactor stands.
    async fn settle(&mut self) {
        let position = self.position();
        let urgent = !self.unwritten.is_empty();
        if position != self.cursor.position || urgent {
            self.touch();
        }
        if urgent || self.write_by.is_some_and(|by| by <= Instant::now()) {
            // What went wrong is shown by the status, and it is tried again after the delay.
            drop(self.write().await);
        }
        self.show();
    }

    /// Everything up to here is confirmed or set aside.
    fn position(&self) -> Position {
        let fresh = self.fresh.front().map(|event| event.position);
        let oldest = self.waiting.oldest_unwritten().into_iter().chain(fresh).min();
        oldest.map_or(self.subscription.cursor(), Position::previous)
    }

    fn touch(&mut self) {
        self.write_by.get_or_insert_with(|| Instant::now() + CURSOR_DELAY);
    }

    async fn write(&mut self) -> Result<(), ControlError> {
        let fence = match &self.keeping {
            Keeping::Leased(Tenure { fence, .. }) => Some(fence),
            Keeping::Alone | Keeping::Fenced | Keeping::Memory(_) => None,
        };
        for step in steps(self.reactor.name(), fence, &self.cursor, &self.unwritten, self.position()) {
            let written = match self.keeping {
                Keeping::Alone | Keeping::Leased(_) => self.store.write_cursor(step.clone()).await,
                Keeping::Fenced => Err(CursorError::Fenced),
                Keeping::Memory(_) => Ok(()),
            };
            if let Err(error) = written {
                if error == CursorError::Fenced {
                    tracing::warn!(reactor = self.reactor.name(), "the lease has passed on: this node stops");
                    self.keeping = Keeping::Fenced;
                } else {
                    self.trouble(&error);
                }
                self.write_by = Some(Instant::now() + PAUSE_AFTER_ERROR);
                return Err(ControlError::Unavailable(error.to_string().into()));
            }
            let written = step.park.iter().map(|parked| &parked.position).chain(&step.unpark);
            for position in written {
                self.unwritten.remove(position);
            }
            self.cursor.apply(&step);
        }
        self.write_by = None;
        self.show();
        Ok(())
    }

    fn trouble(&mut self, error: &dyn std::error::Error) {
        tracing::error!(reactor = self.reactor.name(), %error, "the reactor cannot reach the log");
        self.last_error = Some(error.to_string().into());
        self.show();
    }

    fn show(&self) {
        self.status.send_replace(ReactorStatus {
            name: self.reactor.name(),
            runs: Runs::Here,
            node: None,
            position: self.position(),
            mode: self.cursor.mode,
            retrying: self.waiting.len(),
            parked: self.cursor.parked.values().cloned().collect(),
            last_error: self.last_error.clone(),
        });
    }
}

fn key_of_parked(parked: &Parked) -> Key {
    (parked.tenant.clone(), Arc::clone(&parked.key))
}
