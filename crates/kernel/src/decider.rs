//! The rules of one stream.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::command::{Actor, CommandId, Envelope, InvalidField, Rejection};
use crate::event::DomainEvent;
use crate::ids::{StreamName, Version};
use crate::time::Timestamp;

/// What a decision may know beside the state and the command. Its `now` is the only clock.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// When the command is decided.
    pub now: Timestamp,
    /// Whoever sent it.
    pub actor: &'a Actor,
    /// Its identity; ids that a decision needs are derived from it.
    pub command_id: CommandId,
}

/// The rules of one kind of stream. Both functions are pure: no clock, no randomness, no I/O, no map without
/// an order, no float. So every machine reaches the same state, to the byte.
pub trait Decider: Send + Sync + 'static {
    /// The category of the streams that these rules own.
    const CATEGORY: &'static str;
    /// The number of the shape of the state. Another number than that of a snapshot makes it useless: count it up
    /// whenever the state, or how events are folded into it, changes. A baseline outlives that by
    /// [`Decider::upcast_state`].
    const REVISION: u32;
    /// After so many events a snapshot of the state is worth keeping.
    const SNAPSHOT_EVERY: u64 = 100;
    /// What the decisions rest on. As JSON it is what people see of the stream at some time.
    type State: Default + Serialize + DeserializeOwned + Send + 'static;
    /// What may be asked for.
    type Command: DomainCommand;
    /// What can happen.
    type Event: DomainEvent;

    /// What follows from a command in a state.
    fn decide(
        state: &Self::State,
        command: &Self::Command,
        context: &Context<'_>,
    ) -> Result<Decision<Self::Event>, Rejection>;

    /// The state after an event. It cannot refuse: the event has happened.
    fn evolve(state: &mut Self::State, event: &Self::Event);

    /// The state of another revision in the newest shape. The events that a baseline stands for are gone, so each
    /// revision that was ever used has to be known here; `None` is for one that is not.
    fn upcast_state(revision: u32, state: Value) -> Option<Value> {
        (revision == Self::REVISION).then_some(state)
    }
}

/// What may be asked of one kind of stream.
pub trait DomainCommand: Sized + Send + Sync + 'static {
    /// The names on the wire, unique over all systems.
    const NAMES: &'static [&'static str];

    /// The command that a message means. `name` is one of [`Self::NAMES`], `data` one JSON value.
    fn decode(name: &str, data: &str, envelope: &Envelope) -> Result<Self, InvalidField>;

    /// The id of the stream that decides it, without the category.
    fn target(&self) -> &str;

    /// All that it asks for, in one order, secrets left out: what tells it from another with the same id.
    fn content(&self) -> String;
}

/// What was decided. Without events nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<E> {
    /// The events of the stream itself.
    pub events: Vec<E>,
    /// Entries for other streams of the tenant, in the same atomic append.
    pub others: Vec<SideEntry>,
}

impl<E> Decision<E> {
    /// Everything is already as the command asks.
    pub fn unchanged() -> Self {
        Self { events: Vec::new(), others: Vec::new() }
    }
}

impl<E> From<E> for Decision<E> {
    fn from(event: E) -> Self {
        Self { events: vec![event], others: Vec::new() }
    }
}

/// What a decision says about another stream. The rules cannot see that stream, so they say beforehand what
/// follows if it is not as they expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideEntry {
    /// Which stream.
    pub stream: StreamName,
    /// What it must be like.
    pub expected: Expected,
    /// What the command is refused with if it is not; nothing of the decision is kept then.
    pub otherwise: Rejection,
    /// Type and data of its events; none only checks.
    pub events: Vec<(Arc<str>, Arc<str>)>,
}

/// What an append expects of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// No event was ever in it.
    NoStream,
    /// It has at least one event.
    Exists,
    /// Its last event has this version; [`Version::ZERO`] means that there is none.
    Exactly(Version),
}

impl Expected {
    /// Whether a stream whose last event has the version `actual` is as expected.
    pub fn holds_at(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == Version::ZERO,
            Self::Exists => actual > Version::ZERO,
            Self::Exactly(version) => actual == version,
        }
    }
}
