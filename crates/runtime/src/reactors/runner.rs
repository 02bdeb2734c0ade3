//! The loop of one reactor: reads pages, lets it react, tries again what failed, parks what will not work,
//! writes the cursor.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sillage_kernel::{Event, Failed, Failure, Filter, Position, Reactor};
use sillage_store::{
    CursorState, CursorUpdate, EventStore, Mode, Parked, ParkedBecause, StoreError, Subscription, clock,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::waiting::{Key, Origin, Queue, Waiting, key_of};
use super::{Control, ControlError, MAX_PARKED, MAX_RETRYING, Order, ReactorStatus, Retry};

/// How many events a reactor is given at once at most.
const PAGE: usize = 1_024;
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
    subscription: Subscription,
    /// As it is written, but for what `unwritten` and the position are ahead.
    cursor: CursorState,
    unwritten: CursorUpdate,
    write_by: Option<Instant>,
    waiting: Waiting,
    last_error: Option<Arc<str>>,
    status: watch::Sender<ReactorStatus>,
}

/// Runs until the task is ended or nobody holds the reactor's handle any more.
pub(super) async fn run(mut runner: Runner, mut orders: mpsc::Receiver<Order>) {
    while let Err(error) = runner.load().await {
        runner.trouble(&error);
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
    loop {
        let may_read = runner.may_read();
        let retry = runner.waiting.next_due().filter(|_| runner.cursor.mode == Mode::Running);
        let retry_at = retry.as_ref().map(|(_, due)| *due);
        tokio::select! {
            order = orders.recv() => {
                let Some(Order { control, reply }) = order else { return };
                let result = runner.control(control).await;
                // An operator who no longer waits is not missed.
                drop(reply.send(result));
            }
            () = at(retry_at) => {
                if let Some((key, _)) = retry {
                    runner.try_again(key).await;
                }
            }
            () = at(runner.write_by) => {}
            page = runner.subscription.next(PAGE), if may_read => match page {
                Ok(page) => runner.react(page.events).await,
                Err(error) => {
                    runner.trouble(&error);
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            },
        }
        runner.settle().await;
    }
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
        status: watch::Sender<ReactorStatus>,
    ) -> Self {
        let subscription = Subscription::new(Arc::clone(&store), Position::ZERO, reactor.filter());
        Self {
            store,
            retry,
            subscription,
            cursor: CursorState::default(),
            unwritten: CursorUpdate { reactor: reactor.name().into(), ..CursorUpdate::default() },
            reactor,
            write_by: None,
            waiting: Waiting::default(),
            last_error: None,
            status,
        }
    }

    async fn load(&mut self) -> Result<(), StoreError> {
        self.cursor = self.store.read_cursor(self.reactor.name()).await?;
        self.subscription.seek(self.cursor.position);
        self.show();
        Ok(())
    }

    fn may_read(&self) -> bool {
        self.cursor.mode == Mode::Running
            && self.cursor.parked.len() < MAX_PARKED
            && self.waiting.len() < MAX_RETRYING
    }

    /// Lets the reactor act on new events. Those whose key waits already wait too; the rest goes on.
    async fn react(&mut self, events: Vec<Arc<Event>>) {
        let mut rest: VecDeque<_> = events.into();
        while !rest.is_empty() {
            let ready: Vec<_> = rest.drain(..).filter_map(|event| self.wait_behind(event)).collect();
            let Err(Failed { confirmed, failure }) = self.call(&ready).await else { return };
            let mut failed = ready.into_iter().skip(confirmed);
            if let Some(event) = failed.next() {
                let key = key_of(self.reactor.as_ref(), &event);
                let queue = Queue::new(VecDeque::from([event]), Origin::Log, &self.retry);
                self.waiting.0.insert(key.clone(), queue);
                self.fail(&key, failure);
            }
            rest.extend(failed);
        }
    }

    /// The event, unless another with its key waits; then it waits too.
    fn wait_behind(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        if self.waiting.0.is_empty() && self.cursor.parked.is_empty() {
            return Some(event);
        }
        let key = key_of(self.reactor.as_ref(), &event);
        let retried = self.waiting.0.get_mut(&key);
        let parked = || self.cursor.parked.values().any(|parked| same_key(parked, &key));
        match retried {
            Some(Queue { events, origin: Origin::Log, .. }) => events.push_back(event),
            Some(Queue { events, origin: Origin::Parked, .. }) => {
                events.push_back(Arc::clone(&event));
                self.park(&event, &key, ParkedBecause::Behind);
            }
            None if parked() => self.park(&event, &key, ParkedBecause::Behind),
            None => return Some(event),
        }
        None
    }

    /// Lets the reactor act; what it panics at or takes too long for has failed.
    async fn call(&self, events: &[Arc<Event>]) -> Result<(), Failed> {
        if events.is_empty() {
            return Ok(());
        }
        let reaction = AssertUnwindSafe(async { self.reactor.react(events).await }).catch_unwind();
        let failed = |why: &str| Err(Failed { confirmed: 0, failure: Failure::Retry(why.to_owned()) });
        match tokio::time::timeout(self.retry.timeout, reaction).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => failed("the reactor has panicked"),
            Err(_) => failed("the reactor took too long"),
        }
    }

    /// Tries the events of a key again.
    async fn try_again(&mut self, key: Key) {
        let Some(queue) = self.waiting.0.get(&key) else { return };
        let events: Vec<_> = queue.events.iter().cloned().collect();
        let result = self.call(&events).await;
        let confirmed = result.as_ref().map_or_else(|failed| failed.confirmed, |()| events.len());
        let Some(queue) = self.waiting.0.get_mut(&key) else { return };
        queue.confirm(confirmed, &self.retry);
        if queue.origin == Origin::Parked {
            let confirmed: Vec<_> = events.iter().take(confirmed).map(|event| event.position).collect();
            self.unpark(&confirmed);
        }
        match result {
            Ok(()) => drop(self.waiting.0.remove(&key)),
            Err(Failed { failure, .. }) => self.fail(&key, failure),
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
        self.cursor.parked.insert(position, parked.clone());
        self.unwritten.park.push(parked);
    }

    fn unpark(&mut self, positions: &[Position]) {
        for position in positions {
            self.cursor.parked.remove(position);
            self.unwritten.park.retain(|parked| parked.position != *position);
        }
        self.unwritten.unpark.extend(positions);
    }

    /// Carries out an operator's command.
    async fn control(&mut self, control: Control) -> Result<(), ControlError> {
        match control {
            Control::Pause => self.unwritten.mode = Some(Mode::Paused),
            Control::Resume => self.unwritten.mode = Some(Mode::Running),
            Control::Rewind(position) => {
                let reached = self.position();
                if position > reached {
                    return Err(ControlError::NotThereYet(reached));
                }
                let later: Vec<_> = self.cursor.parked.keys().copied().filter(|at| *at > position).collect();
                self.unpark(&later);
                self.waiting = Waiting::default();
                self.subscription.seek(position);
            }
            Control::Retry(Some(position)) => {
                let key = self.first_of_key(position)?;
                self.release(key).await?;
            }
            Control::Retry(None) => {
                let mut keys: Vec<_> = self.cursor.parked.values().map(key_of_parked).collect();
                keys.sort_unstable();
                keys.dedup();
                for key in keys {
                    self.release(key).await?;
                }
            }
            Control::Skip(position) => {
                let key = self.first_of_key(position)?;
                self.unpark(&[position]);
                self.release(key).await?;
            }
        }
        self.cursor.mode = self.unwritten.mode.unwrap_or(self.cursor.mode);
        self.write().await
    }

    /// The key of a parked event that no other comes before.
    fn first_of_key(&self, position: Position) -> Result<Key, ControlError> {
        let parked = self.cursor.parked.get(&position).ok_or(ControlError::NotParked(position))?;
        let key = key_of_parked(parked);
        let first = self.cursor.parked.values().find(|parked| same_key(parked, &key));
        if first.is_some_and(|first| first.position < position) {
            return Err(ControlError::Behind(position));
        }
        Ok(key)
    }

    /// Has the parked events of a key tried again, at once. They stay parked until they are confirmed.
    async fn release(&mut self, key: Key) -> Result<(), ControlError> {
        let positions = self.cursor.parked.values().filter(|parked| same_key(parked, &key));
        let mut events = VecDeque::new();
        for position in positions.map(|parked| parked.position).collect::<Vec<_>>() {
            let page = self.store.read_all(position.previous(), Filter::Everything, 1).await;
            events.extend(page.map_err(|error| ControlError::Unavailable(error.to_string().into()))?.events);
        }
        if !events.is_empty() {
            self.waiting.0.insert(key, Queue::new(events, Origin::Parked, &self.retry));
        }
        Ok(())
    }

    /// Writes the cursor when it is time, and shows how the reactor stands.
    async fn settle(&mut self) {
        let position = self.position();
        let urgent = !(self.unwritten.park.is_empty() && self.unwritten.unpark.is_empty());
        if position != self.cursor.position || urgent {
            self.touch();
        }
        if urgent || self.write_by.is_some_and(|by| by <= Instant::now()) {
            // What went wrong is shown by the status, and it is tried again after the delay.
            drop(self.write().await);
        }
        self.show();
    }

    /// Everything up to here is confirmed or parked.
    fn position(&self) -> Position {
        self.waiting.oldest_unwritten().map_or(self.subscription.cursor(), Position::previous)
    }

    fn touch(&mut self) {
        self.write_by.get_or_insert_with(|| Instant::now() + CURSOR_DELAY);
    }

    async fn write(&mut self) -> Result<(), ControlError> {
        let position = self.position();
        let update = CursorUpdate { position: Some(position), ..self.unwritten.clone() };
        match self.store.write_cursor(update).await {
            Ok(()) => {
                self.cursor.position = position;
                let reactor = self.reactor.name().into();
                self.unwritten = CursorUpdate { reactor, ..CursorUpdate::default() };
                self.write_by = None;
                self.show();
                Ok(())
            }
            Err(error) => {
                self.trouble(&error);
                self.write_by = Some(Instant::now() + PAUSE_AFTER_ERROR);
                Err(ControlError::Unavailable(error.to_string().into()))
            }
        }
    }

    fn trouble(&mut self, error: &dyn std::error::Error) {
        tracing::error!(reactor = self.reactor.name(), %error, "the reactor cannot reach the log");
        self.last_error = Some(error.to_string().into());
        self.show();
    }

    fn show(&self) {
        self.status.send_replace(ReactorStatus {
            name: self.reactor.name(),
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

fn same_key(parked: &Parked, (tenant, key): &Key) -> bool {
    parked.tenant == *tenant && parked.key == *key
}
