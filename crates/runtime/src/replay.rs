//! From the events of a stream to its state: at the end, at a version, or at a time.
//!
//! Invariant: a snapshot only saves reading. The state is the same as if every event had been folded, since a
//! snapshot is used only if the log has the event that it names, and what is wrong with it is passed over. Where
//! compaction has dropped events, a baseline of the log stands for them; without one there is no state.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sillage_kernel::{Baseline, Checksum, Event, EventId, Timestamp, Version};
use sillage_store::{Direction, EventStore, Snapshot, SnapshotOf, Snapshots, StoreError, StreamPage};

use crate::baselines::{Baselines, find_baseline};
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
        self.admits_at(event.version, event.recorded_at)
    }

    /// Whether a state at that version is what is wanted, whatever comes next.
    pub(crate) fn is_reached(self, version: Version) -> bool {
        matches!(self, Self::Version(wanted) if wanted <= version)
    }

    /// Whether a state up to an event of that version, which was recorded then, is not beyond it.
    pub(crate) fn admits_at(self, version: Version, recorded_at: Timestamp) -> bool {
        match self {
            Self::End => true,
            Self::Version(wanted) => version <= wanted,
            Self::Time(time) => recorded_at <= time,
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
    /// The events were dropped, and the first baseline that stands for them is later: ask for a later state.
    #[error("the states before version {kept_from} were compacted")]
    Compacted {
        /// The first version whose state can be told.
        kept_from: Version,
    },
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
    pub(crate) checksum: Checksum,
    pub(crate) recorded_at: Timestamp,
}

impl Last {
    fn of(event: &Event) -> Self {
        let Event { version, id, checksum, recorded_at, .. } = event;
        Self { version: *version, event: *id, checksum: *checksum, recorded_at: *recorded_at }
    }
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
        self.last = Some(Last::of(event));
        Ok(())
    }

    /// The state of a baseline.
    pub(crate) fn of_baseline(rules: &dyn Rules, baseline: &Baseline) -> Result<Self, ReplayError> {
        let Baseline { stream, version, event, checksum, recorded_at, revision, state } = baseline;
        if *revision != rules.revision() {
            let known = rules.revision();
            let why =
                format!("the baseline of {stream} has revision {revision}, and this program knows {known}");
            return Err(ReplayError::Broken(why));
        }
        let state = state.to_string();
        let restored = rules.restore(&state).map_err(|error| ReplayError::Broken(error.to_string()))?;
        let (version, event, checksum, recorded_at) = (*version, *event, *checksum, *recorded_at);
        let last = Some(Last { version, event, checksum, recorded_at });
        Ok(Self { state: restored, last, snapshot_due: due_after(rules, version, state.len()) })
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
    let mut replayed = Replayed::nothing(rules);
    let every = usize::try_from(rules.snapshot_every()).unwrap_or(usize::MAX).clamp(1, PAGE);
    let mut page = read(store, key, Version::new(1), every).await;
    let has_end = |page: &StreamPage| {
        page.events.last().is_none_or(|last| last.version >= page.head || !until.admits(last))
    };
    let is_whole = page.as_ref().is_ok_and(has_end);
    if let Some(snapshots) = snapshots.filter(|_| !is_whole) {
        let of = SnapshotOf { tenant: tenant.clone(), stream: stream.clone(), revision: rules.revision() };
        if let Some(snapshot) = snapshots.find(of).await {
            let from_there = read(store, key, snapshot.version, PAGE).await;
            let first = from_there.as_ref().ok().and_then(|page| page.events.first());
            if let Some(begun) = begin(rules, &snapshot, first.map(|event| &**event), until) {
                (replayed, page) = (begun, from_there);
            }
        }
    }
    go_on(store, key, rules, until, replayed, page).await
}

/// Folds what has come since.
pub(crate) async fn catch_up(
    store: &dyn EventStore,
    key: &StreamKey,
    rules: &dyn Rules,
    replayed: Replayed,
) -> Result<Replayed, ReplayError> {
    let page = read(store, key, replayed.version().next(), PAGE).await;
    go_on(store, key, rules, Until::End, replayed, page).await
}

/// Goes on with a page. Where it lacks events, a baseline stands for all up to its version.
async fn go_on(
    store: &dyn EventStore,
    key: &StreamKey,
    rules: &dyn Rules,
    until: Until,
    mut replayed: Replayed,
    mut page: Result<StreamPage, StoreError>,
) -> Result<Replayed, ReplayError> {
    loop {
        let known = replayed.version();
        match page {
            Ok(StreamPage { events, head }) => {
                // The first event may be that of a snapshot.
                for event in events.iter().skip_while(|event| event.version <= known) {
                    if !until.admits(event) {
                        return Ok(replayed);
                    }
                    replayed.fold(rules, event)?;
                }
                if replayed.version() >= head {
                    return Ok(replayed);
                }
            }
            Err(StoreError::Dropped { .. }) if until.is_reached(known) => return Ok(replayed),
            Err(StoreError::Dropped { kept_from }) => {
                let Baselines { found, oldest, .. } = find_baseline(store, key, until).await?;
                // One that does not reach over the hole would be found again and again.
                let found = found.filter(|baseline| baseline.version > known);
                let kept_from = oldest.unwrap_or(kept_from);
                replayed = Replayed::of_baseline(rules, &found.ok_or(ReplayError::Compacted { kept_from })?)?;
            }
            Err(error) => return Err(error.into()),
        }
        page = read(store, key, replayed.version().next(), PAGE).await;
    }
}

async fn read(
    store: &dyn EventStore,
    (tenant, stream): &StreamKey,
    from: Version,
    limit: usize,
) -> Result<StreamPage, StoreError> {
    store.read_stream(tenant, stream, from, Direction::Forward, limit).await
}

/// The state of a snapshot, if it can be believed and is not behind what is wanted.
fn begin(rules: &dyn Rules, snapshot: &Snapshot, event: Option<&Event>, until: Until) -> Option<Replayed> {
    let Snapshot { version, event: id, state } = snapshot;
    let event = event.filter(|event| event.version == *version && event.id == *id && until.admits(event))?;
    let state_bytes = state.len();
    let restored =
        rules.restore(state).inspect_err(|error| tracing::warn!(%error, "a snapshot is passed over"));
    let snapshot_due = due_after(rules, *version, state_bytes);
    Some(Replayed { state: restored.ok()?, last: Some(Last::of(event)), snapshot_due })
}
