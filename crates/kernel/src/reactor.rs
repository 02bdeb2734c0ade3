//! Whoever acts on events: handlers, sagas, relays, sockets. Each is a destination of the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::event::Event;
use crate::view::Filter;

/// The work on some events; see [`Reactor::react`].
pub type Reaction<'a> = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send + 'a>>;

/// Acts on events, at least once each, in order per key.
pub trait Reactor: Send + Sync + 'static {
    /// Its name, unique over all systems; its cursor is kept under it.
    fn name(&self) -> &'static str;

    /// The events that it acts on.
    fn filter(&self) -> Filter;

    /// Events with the same key are handled in their order, and wait for each other when one is parked.
    /// Within a tenant; by default one key a stream.
    fn key(&self, event: &Event) -> Arc<str> {
        event.stream.as_str().into()
    }

    /// How far it reaches; unless it says otherwise, outside.
    fn reach(&self) -> Reach {
        Reach::Outside
    }

    /// Acts on the events, which come in the order of the log. `Ok` confirms them all. When one fails, those
    /// before it are confirmed and those after it have not been touched.
    fn react<'a>(&'a self, events: &'a [Arc<Event>]) -> Reaction<'a>;
}

/// How far a reactor reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What it does is gone with the process, so doing it again harms nobody. Where several nodes share a log, each
    /// does it for itself.
    Inside,
    /// It acts on the world: where several nodes share a log, on one of them at a time. When the log begins a new epoch it waits until an operator has looked, since what it
    /// would do may have been done in the old one.
    Outside,
}

/// One of the events could not be handled.
#[derive(Debug)]
pub struct Failed {
    /// How many events before it are confirmed; also its index.
    pub confirmed: usize,
    /// What went wrong.
    pub failure: Failure,
}

/// How an event failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may work later: it is tried again, and parked when it has failed too often.
    #[error("{0}")]
    Retry(String),
    /// It will not work as it is: it is parked at once.
    #[error("{0}")]
    Park(String),
}
