//! What was so: the state of any stream at a version or at a time.

use std::sync::Arc;

use sillage_kernel::{Baseline, Event, StreamName, Tenant, Timestamp, Version};
use sillage_store::{EventStore, Snapshots};

use crate::deciders::{Deciders, Rules};
use crate::replay::{Last, ReplayError, Replayed, Until, replay};

/// The state of a stream as it once was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateAt {
    /// The version of the last event in it; [`Version::ZERO`] if there is none.
    pub version: Version,
    /// When that event was recorded.
    pub recorded_at: Option<Timestamp>,
    /// The state, as JSON.
    pub state: String,
}

/// Why a state cannot be told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// No rules fold the streams of this category into a state: read its events.
    #[error("no rules are known for the streams of {0}")]
    NoRules(String),
    /// There is no such version yet.
    #[error("the stream has come to version {0}")]
    NotYet(Version),
    /// The events were dropped, and the first baseline that stands for them is later: ask for a later state.
    #[error("the states before version {kept_from} were compacted")]
    Compacted {
        /// The first version whose state can be told.
        kept_from: Version,
    },
    /// It cannot be replayed.
    #[error(transparent)]
    Replay(ReplayError),
}

impl From<ReplayError> for HistoryError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Compacted { kept_from } => Self::Compacted { kept_from },
            other => Self::Replay(other),
        }
    }
}

/// The state of a stream of the log at some point.
pub async fn state_at(
    deciders: &Deciders,
    store: &dyn EventStore,
    snapshots: Option<&Snapshots>,
    (tenant, stream): (&Tenant, &StreamName),
    until: Until,
) -> Result<StateAt, HistoryError> {
    let rules = rules_of(deciders, stream)?;
    let key = (tenant.clone(), stream.clone());
    let replayed = replay(store, snapshots, &key, rules.as_ref(), until).await?;
    told(rules.as_ref(), &replayed, until)
}

/// A state that grows with the events that it is given: for whoever reads them from elsewhere than a store.
pub struct Fold {
    stream: StreamName,
    rules: Arc<dyn Rules>,
    until: Until,
    replayed: Replayed,
    hole: Hole,
}

/// Whether the events that were added lack some that were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    /// They do not.
    None,
    /// They do, before this version, until a baseline comes.
    Before(Version),
    /// What is wanted lies in it: the first state after it is that of a baseline at this version.
    Final(Version),
}

impl Fold {
    /// The state of a stream before its first event.
    pub fn new(deciders: &Deciders, stream: &StreamName, until: Until) -> Result<Self, HistoryError> {
        let rules = Arc::clone(rules_of(deciders, stream)?);
        let replayed = Replayed::nothing(rules.as_ref());
        Ok(Self { stream: stream.clone(), rules, until, replayed, hole: Hole::None })
    }

    /// Whether an event is one of the stream, or one of its baselines. All others need not be added.
    pub fn wants(&self, event: &Event) -> bool {
        event.stream == self.stream || self.is_baseline(event)
    }

    fn is_baseline(&self, event: &Event) -> bool {
        event.stream.baseline_for().as_ref() == Some(&self.stream)
    }

    /// Folds the next event of the stream, or takes the next of its baselines, in the order of the log and in their
    /// newest shapes. What comes after what is wanted is passed over.
    pub fn add(&mut self, event: &Event) -> Result<(), HistoryError> {
        if self.is_baseline(event) {
            return self.add_baseline(event);
        }
        let next = self.replayed.version().next();
        if event.version > next && !self.until.is_reached(self.replayed.version()) {
            if !matches!(self.hole, Hole::Final(_)) {
                self.hole = Hole::Before(event.version);
            }
        } else if event.version == next && self.until.admits(event) {
            self.replayed.fold(self.rules.as_ref(), event)?;
        }
        Ok(())
    }

    fn add_baseline(&mut self, event: &Event) -> Result<(), HistoryError> {
        let baseline = Baseline::read(event).map_err(|error| ReplayError::Broken(error.to_string()))?;
        let Baseline { version, recorded_at, .. } = baseline;
        if matches!(self.hole, Hole::Before(_)) {
            self.hole = Hole::Final(version);
            if self.until.admits_at(version, recorded_at) {
                self.replayed = Replayed::of_baseline(self.rules.as_ref(), &baseline)?;
                self.hole = Hole::None;
            }
        }
        Ok(())
    }

    /// The state.
    pub fn finish(self) -> Result<StateAt, HistoryError> {
        match self.hole {
            Hole::Before(kept_from) | Hole::Final(kept_from) => Err(HistoryError::Compacted { kept_from }),
            Hole::None => told(self.rules.as_ref(), &self.replayed, self.until),
        }
    }
}

fn rules_of<'a>(deciders: &'a Deciders, stream: &StreamName) -> Result<&'a Arc<dyn Rules>, HistoryError> {
    deciders.rules_of(stream.category()).ok_or_else(|| HistoryError::NoRules(stream.category().to_owned()))
}

fn told(rules: &dyn Rules, replayed: &Replayed, until: Until) -> Result<StateAt, HistoryError> {
    let version = replayed.version();
    if matches!(until, Until::Version(wanted) if wanted > version) {
        return Err(HistoryError::NotYet(version));
    }
    let state = rules.save(&replayed.state).map_err(|error| ReplayError::Broken(error.to_string()))?;
    let recorded_at = replayed.last.map(|Last { recorded_at, .. }| recorded_at);
    Ok(StateAt { version, recorded_at, state })
}
