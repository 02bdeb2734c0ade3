//! From the events of a stream to its state: at the end, at a version, or at a time.
//!
//! Invariant: a snapshot only saves reading. The state is the same as if every event had been folded, since a
//! snapshot is used only if the log has the event that it names, and what is wrong with it is passed over.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sillage_kernel::{Event, EventId, Timestamp, Version};
use sillage_store::{Direction, EventStore, Snapshot, SnapshotOf, Snapshots, StoreError};

use crate::bus::StreamKey;
use crate::deciders::{Rules, State};

/// How many events of a stream are read at once. Between two such pages a shard does everything else.
const PAGE: usize = 256;
/// A snapshot is due when there is at least one event for so many bytes of it: keeping snapshots never costs more
/// than keeping the events.
const BYTES_FOR_AN_EVENT: usize = 256;

/// Up to where events are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// All that there are.
    End,
    /// Those up to this one.
    Version(Version),
    /// Those that were recorded up to then.
    Time(Timestamp),
}

impl Until {
    /// Whether the event is in.
    pub(crate) fn admits(self, event: &Event) -> bool {
        match self {
            Self::End => true,
            Self::Version(version) => event.version <= version,
            Self::Time(time) => event.recorded_at <= time,
        }
    }
}

/// Why there is no state.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplayError {
    /// The log cannot be read: come back later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules cannot fold an event: the code or the log is wrong. Tell an operator.
    #[error("{0}")]
    Broken(String),
}

/// A state, and where it is from.
pub(crate) struct Replayed {
    pub(crate) state: State,
    /// The last event in it.
    pub(crate) last: Option<Last>,
    /// When the next snapshot is due.
    pub(crate) snapshot_due: Version,
}

/// What is told of the last event in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) version: Version,
    pub(crate) event: EventId,
    pub(crate) recorded_at: Timestamp,
}

impl Replayed {
    pub(crate) fn version(&self) -> Version {
        self.last.map_or(Version::ZERO, |last| last.version)
    }

    pub(crate) fn nothing(rules: &dyn Rules) -> Self {
        let snapshot_due = Version::new(rules.snapshot_every());
        Self { state: rules.new_state(), last: None, snapshot_due }
    }

    /// Folds an event into it.
    pub(crate) fn fold(&mut self, rules: &dyn Rules, event: &Event) -> Result<(), ReplayError> {
        let fold = AssertUnwindSafe(|| rules.replay(&mut self.state, event));
        let folded = catch_unwind(fold).map_err(|_| ReplayError::Broken(PANICKED.into()))?;
        folded.map_err(|error| ReplayError::Broken(error.to_string()))?;
        let Event { version, id, recorded_at, .. } = event;
        self.last = Some(Last { version: *version, event: *id, recorded_at: *recorded_at });
        Ok(())
    }
}

/// What a mistake in the rules of a stream is called.
pub(crate) const PANICKED: &str = "the rules have panicked";

/// The state as a snapshot; `None` if it cannot be saved, which is told.
pub(crate) fn snapshot_of(
    rules: &dyn Rules,
    state: &State,
    version: Version,
    event: EventId,
) -> Option<Snapshot> {
    let saved = rules.save(state).inspect_err(|error| tracing::warn!(%error, "a state cannot be saved"));
    Some(Snapshot { version, event, state: saved.ok()? })
}

/// When a snapshot is due after one at this version.
pub(crate) fn due_after(rules: &dyn Rules, version: Version, state_bytes: usize) -> Version {
    let events = rules.snapshot_every().max((state_bytes / BYTES_FOR_AN_EVENT) as u64);
    Version::new(version.get() + events)
}

/// Replays a stream. A snapshot is looked for when the first page is not the whole of it.
pub(crate) async fn replay(
    store: &dyn EventStore,
    snapshots: Option<&Snapshots>,
    key: &StreamKey,
    rules: &dyn Rules,
    until: Until,
) -> Result<Replayed, ReplayError> {
    let (tenant, stream) = key;
    let read = async |from, limit| store.read_stream(tenant, stream, from, Direction::Forward, limit).await;
    let mut replayed = Replayed::nothing(rules);
    let every = usize::try_from(rules.snapshot_every()).unwrap_or(usize::MAX).clamp(1, PAGE);
    let mut page = read(Version::new(1), every).await?;
    let is_whole = page.events.last().is_none_or(|last| last.version >= page.head || !until.admits(last));
    if let Some(snapshots) = snapshots.filter(|_| !is_whole) {
        let of = SnapshotOf { tenant: tenant.clone(), stream: stream.clone(), revision: rules.revision() };
        if let Some(snapshot) = snapshots.find(of).await {
            let from_there = read(snapshot.version, PAGE).await?;
            if let Some(begun) =
                begin(rules, &snapshot, from_there.events.first().map(|event| &**event), until)
            {
                (replayed, page) = (begun, from_there);
            }
        }
    }
    loop {
        // The first event may be that of the snapshot.
        let known = replayed.version();
        for event in page.events.iter().skip_while(|event| event.version <= known) {
            if !until.admits(event) {
                return Ok(replayed);
            }
            replayed.fold(rules, event)?;
        }
        if replayed.version() >= page.head {
            return Ok(replayed);
        }
        page = read(replayed.version().next(), PAGE).await?;
    }
}

/// The state of a snapshot, if it can be believed and is not behind what is wanted.
fn begin(rules: &dyn Rules, snapshot: &Snapshot, event: Option<&Event>, until: Until) -> Option<Replayed> {
    let Snapshot { version, event: id, state } = snapshot;
    let event = event.filter(|event| event.version == *version && event.id == *id && until.admits(event))?;
    let state_bytes = state.len();
    let restored =
        rules.restore(state).inspect_err(|error| tracing::warn!(%error, "a snapshot is passed over"));
    let last = Last { version: *version, event: *id, recorded_at: event.recorded_at };
    let snapshot_due = due_after(rules, *version, state_bytes);
    Some(Replayed { state: restored.ok()?, last: Some(last), snapshot_due })
}
