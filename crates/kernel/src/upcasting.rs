//! Old shapes of events, brought to the newest one whenever they are read.
//!
//! Invariant: what is stored is never changed. The data that a reader gets has the newest shape, and the checksum
//! beside it stays that of the stored bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::event::{DomainEvent, Event};

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

/// All that some kinds of stream know about their old events.
#[derive(Debug, Clone, Default)]
pub struct Upcasters(BTreeMap<&'static str, &'static [Upcast]>);

impl Upcasters {
    /// Adds the upcasters of one kind of stream.
    #[must_use]
    pub fn with<E: DomainEvent>(mut self) -> Self {
        self.0.extend(E::upcasters().iter().map(|Upcaster { event_type, steps }| (*event_type, *steps)));
        self
    }

    /// Whether every event is as it was stored.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The event in the newest shape; `None` if that is the one it has. Data that is no JSON stays as it is: whoever
    /// decodes it says what is wrong.
    pub fn newest(&self, event: &Event) -> Option<Event> {
        let steps =
            self.0.get(&*event.event_type)?.get(usize::from(event.metadata.schema).checked_sub(1)?..)?;
        if steps.is_empty() {
            return None;
        }
        let data = serde_json::from_str(&event.data).ok()?;
        let newest = steps.iter().fold(data, |data, step| step(data));
        let mut event = Event { data: newest.to_string().into(), ..event.clone() };
        event.metadata.schema += u16::try_from(steps.len()).expect("a type has few schemas");
        Some(event)
    }
}
