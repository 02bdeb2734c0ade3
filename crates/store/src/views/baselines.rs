//! Which events of the log a baseline stands for, for views that are rebuilt.
//!
//! Invariant: a view never sees a part of what a baseline stands for, however much of it was dropped: it passes over all
//! of it, and takes the baseline.

use std::collections::HashMap;

use sillage_kernel::ids::BASELINES;
use sillage_kernel::{Baseline, DecodeError, Event, Filter, Position, StreamName, Tenant, Version};

use crate::event_store::{EventStore, LogPage, Nodes, StoreError};

/// The cursor that says what compaction has dropped: whatever is missing, a baseline up to its position stands for it.
pub const COMPACTED_TO: &str = "$compacted";
/// How many baselines are read at once.
const PAGE: usize = 64;

/// The last baseline of each stream up to a position. One entry for each stream that has one.
#[derive(Debug, Default)]
pub struct Baselines {
    to: Position,
    /// Up to where they stand for something that is missing.
    compacted_to: Position,
    last: HashMap<(Tenant, StreamName), Version>,
}

/// Why the baselines cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum BaselinesError {
    /// The log cannot be read: come back later, and tell an operator.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of them is not what it promises: mend the code, then restart.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Baselines {
    /// Those that stand for all that was dropped.
    pub async fn of_compaction(store: &dyn EventStore) -> Result<Self, BaselinesError> {
        let to = compacted_to(store).await?;
        Self::up_to(store, to).await
    }

    /// Those up to a position.
    pub(super) async fn up_to(store: &dyn EventStore, to: Position) -> Result<Self, BaselinesError> {
        let compacted_to = compacted_to(store).await?;
        let (mut last, mut reached) = (HashMap::new(), Position::ZERO);
        while reached < to {
            let page = store.read_all(reached, Filter::Category(BASELINES.into()), PAGE).await?;
            for event in page.events.iter().filter(|event| event.position <= to) {
                let Baseline { stream, version, .. } = Baseline::read(event)?;
                last.insert((event.tenant.clone(), stream), version);
            }
            reached = page.through;
        }
        Ok(Self { to, compacted_to, last })
    }

    /// The position up to which they stand for events.
    pub(super) fn to(&self) -> Position {
        self.to
    }

    /// Whether streams of a category that is wanted may lack events.
    pub(super) fn miss_any_of(&self, filter: &Filter) -> bool {
        self.compacted_to > Position::ZERO
            && self.last.keys().any(|(_, stream)| filter.admits_category(stream.category()))
    }

    /// Whether a baseline stands for the event.
    pub(super) fn cover(&self, event: &Event) -> bool {
        let Event { position, tenant, stream, version, .. } = event;
        *position <= self.to
            && self.last.get(&(tenant.clone(), stream.clone())).is_some_and(|last| version <= last)
    }

    /// The baseline that the event carries, if it is the last one of its stream.
    pub(super) fn taken(&self, event: &Event) -> Result<Option<Baseline>, DecodeError> {
        if event.position > self.to {
            return Ok(None);
        }
        let baseline = Baseline::read(event)?;
        let last = self.last.get(&(event.tenant.clone(), baseline.stream.clone()));
        Ok((last == Some(&baseline.version)).then_some(baseline))
    }
}

/// Whether events may be missing on a page of what comes after `after`, since another node had them dropped before it
/// was read, and no baseline up to `covered` stands for them. Nothing is dropped before [`COMPACTED_TO`] says so, so it
/// is asked after the page was read; and not at all for a page that has an event at each of its positions.
pub async fn may_lack_events(
    store: &dyn EventStore,
    after: Position,
    covered: Position,
    LogPage { events, through }: &LogPage,
) -> Result<bool, StoreError> {
    let is_whole = events.len() as u64 == through.get().saturating_sub(after.get());
    if is_whole || store.features().nodes == Nodes::One {
        return Ok(false);
    }
    Ok(compacted_to(store).await? > after.max(covered))
}

/// Up to where baselines stand for what was dropped.
pub(super) async fn compacted_to(store: &dyn EventStore) -> Result<Position, StoreError> {
    Ok(store.read_cursor(COMPACTED_TO).await?.position)
}
