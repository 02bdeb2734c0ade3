//! A state that stands in the log for the events that compaction drops.
//!
//! Invariant: at its position a baseline is the state of its stream, to the event. What stands before it in the log is
//! in it, and what comes after it is not; so whoever takes it and then folds what follows has the same state as one who
//! has folded every event.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decider::Decider;
use crate::event::{Checksum, DecodeError, Event, EventId};
use crate::ids::{StreamName, Version};
use crate::time::Timestamp;

/// The type of the event that carries a [`Baseline`].
pub const BASELINE_TAKEN: &str = "BaselineTaken";
/// The number of the shape of its data.
pub const BASELINE_SCHEMA: u16 = 1;

/// The data of a [`BASELINE_TAKEN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The stream whose state it is. The event itself is in [`StreamName::baseline_of`] it.
    pub stream: StreamName,
    /// The version of the last event in it.
    pub version: Version,
    /// The id of that event.
    pub event: EventId,
    /// The checksum of that event, which the one after it is linked to.
    pub checksum: Checksum,
    /// When that event was recorded.
    pub recorded_at: Timestamp,
    /// The number of the shape of the state.
    pub revision: u32,
    /// The state.
    pub state: Value,
}

impl Baseline {
    /// The baseline that an event carries. Another event is an error, as is one of another shape.
    pub fn read(event: &Event) -> Result<Self, DecodeError> {
        let wrong = |reason| DecodeError { event_type: event.event_type.as_ref().into(), reason };
        let schema = event.metadata.schema;
        if &*event.event_type != BASELINE_TAKEN || schema != BASELINE_SCHEMA {
            return Err(wrong(format!("it is not a {BASELINE_TAKEN} of schema {BASELINE_SCHEMA}")));
        }
        let baseline: Self = serde_json::from_str(&event.data).map_err(|error| wrong(error.to_string()))?;
        if event.stream.baseline_for().as_ref() != Some(&baseline.stream) {
            return Err(wrong(format!("it is of {}, and stands in {}", baseline.stream, event.stream)));
        }
        Ok(baseline)
    }

    /// It as JSON.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a baseline has only string keys and no failing parts")
    }

    /// The state, for the rules that made it. Older shapes have been upcast before they come here.
    pub fn state_of<D: Decider>(&self) -> Result<D::State, DecodeError> {
        let wrong = |reason| DecodeError { event_type: BASELINE_TAKEN.to_owned(), reason };
        if self.stream.category() != D::CATEGORY || self.revision != D::REVISION {
            return Err(wrong(format!(
                "a state of {} with revision {} cannot be taken for one of {} with revision {}",
                self.stream,
                self.revision,
                D::CATEGORY,
                D::REVISION
            )));
        }
        D::State::deserialize(&self.state).map_err(|error| wrong(error.to_string()))
    }
}
