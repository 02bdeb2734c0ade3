//! Old shapes of events, brought to the newest one whenever they are read.
//!
//! Invariant: what is stored is never changed. The data that a reader gets has the newest shape, and the checksum
//! beside it stays that of the stored bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::baseline::Baseline;
use crate::decider::Decider;
use crate::event::{DomainEvent, Event};

/// The number of the first shape of a state.
const FIRST_REVISION: u32 = 1;

/// Brings the data of an event from one schema to the next. Pure, and total: the event has happened.
pub type Upcast = fn(Value) -> Value;

/// How the old data of one type of event becomes the newest.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    /// The type.
    pub event_type: &'static str,
    /// The first step leads from schema 1 to 2, the next from 2 to 3, and so on to the newest.
    pub steps: &'static [Upcast],
}

/// Brings a state of a revision to the newest one, if it knows it: [`Decider::upcast_state`].
type UpcastState = fn(u32, Value) -> Option<Value>;

/// All that some kinds of stream know about their old events, and about old states in baselines.
#[derive(Debug, Clone, Default)]
pub struct Upcasters {
    events: BTreeMap<&'static str, &'static [Upcast]>,
    /// By category: the newest revision, and how to come to it.
    states: BTreeMap<&'static str, (u32, UpcastState)>,
}

impl Upcasters {
    /// Adds the upcasters of one kind of stream.
    #[must_use]
    pub fn with<E: DomainEvent>(mut self) -> Self {
        self.events.extend(E::upcasters().iter().map(|Upcaster { event_type, steps }| (*event_type, *steps)));
        self
    }

    /// Adds what the rules of one kind of stream know about their old states.
    #[must_use]
    pub fn with_states_of<D: Decider>(mut self) -> Self {
        if D::REVISION > FIRST_REVISION {
            self.states.insert(D::CATEGORY, (D::REVISION, D::upcast_state));
        }
        self
    }

    /// Whether every event is as it was stored.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.states.is_empty()
    }

    /// The event in the newest shape; `None` if that is the one it has. Data that cannot be brought there stays as it
    /// is: whoever decodes it says what is wrong.
    pub fn newest(&self, event: &Event) -> Option<Event> {
        if let Some(stream) = event.stream.baseline_for() {
            return self.newest_baseline(event, stream.category());
        }
        let steps =
            self.events.get(&*event.event_type)?.get(usize::from(event.metadata.schema).checked_sub(1)?..)?;
        if steps.is_empty() {
            return None;
        }
        let data = serde_json::from_str(&event.data).ok()?;
        let newest = steps.iter().fold(data, |data, step| step(data));
        let mut event = Event { data: newest.to_string().into(), ..event.clone() };
        event.metadata.schema += u16::try_from(steps.len()).expect("a type has few schemas");
        Some(event)
    }

    fn newest_baseline(&self, event: &Event, category: &str) -> Option<Event> {
        let (newest, upcast) = self.states.get(category)?;
        let mut baseline = Baseline::read(event).ok().filter(|baseline| baseline.revision != *newest)?;
        baseline.state = upcast(baseline.revision, baseline.state)?;
        baseline.revision = *newest;
        Some(Event { data: baseline.encode().into(), ..event.clone() })
    }
}
