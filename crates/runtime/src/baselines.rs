//! The baselines of a stream, the last first.

use sillage_kernel::ids::MAX_NUMBER;
use sillage_kernel::{Baseline, StreamName, Tenant, Version};
use sillage_store::{Direction, EventStore, StoreError};

use crate::bus::StreamKey;
use crate::replay::{ReplayError, Until};

/// How many baselines are read at once. Mostly the last one is wanted.
const PAGE: usize = 4;

/// What there is of a stream's baselines.
pub(crate) struct Baselines {
    /// The last one that is not beyond what is wanted.
    pub(crate) found: Option<Baseline>,
    /// The version of the oldest one that was seen.
    pub(crate) oldest: Option<Version>,
    /// How many were ever taken.
    pub(crate) taken: Version,
}

/// The last baseline of a stream: a state that stands for all of its events up to a version.
pub async fn last_baseline(
    store: &dyn EventStore,
    tenant: &Tenant,
    stream: &StreamName,
) -> Result<Option<Baseline>, ReplayError> {
    let key = (tenant.clone(), stream.clone());
    Ok(find_baseline(store, &key, Until::End).await?.found)
}

/// The last baseline of a stream that is not beyond what is wanted.
pub(crate) async fn find_baseline(
    store: &dyn EventStore,
    (tenant, stream): &StreamKey,
    until: Until,
) -> Result<Baselines, ReplayError> {
    let mut baselines = Baselines { found: None, oldest: None, taken: Version::ZERO };
    let Ok(name) = StreamName::baseline_of(stream) else { return Ok(baselines) };
    let mut from = Version::new(MAX_NUMBER);
    while from > Version::ZERO {
        let page = match store.read_stream(tenant, &name, from, Direction::Backward, PAGE).await {
            Ok(page) => page,
            // Older ones are gone together with what they stood for.
            Err(StoreError::Dropped { .. }) => return Ok(baselines),
            Err(error) => return Err(error.into()),
        };
        baselines.taken = page.head;
        let Some(last) = page.events.last() else { return Ok(baselines) };
        from = last.version.previous();
        for event in &page.events {
            let baseline = Baseline::read(event).map_err(|error| ReplayError::Broken(error.to_string()))?;
            baselines.oldest = Some(baseline.version);
            if until.admits_at(baseline.version, baseline.recorded_at) {
                baselines.found = Some(baseline);
                return Ok(baselines);
            }
        }
    }
    Ok(baselines)
}
