//! One round of compaction: takes the baselines that are due, then drops what baselines stand for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::ids::BASELINES;
use sillage_kernel::{
    BASELINE_SCHEMA, BASELINE_TAKEN, Baseline, Event, Expected, Filter, Metadata, NewEvent, Position,
    StreamName, Version,
};
use sillage_store::event_store::MAX_CUTS;
use sillage_store::views::COMPACTED_TO;
use sillage_store::{
    Append, AppendError, CursorError, CursorUpdate, Cut, Direction, Entry, EventStore, Fence, Parked,
    StoreError, clock,
};

use super::policy::Policy;
use super::{Compacted, Compaction, CompactionError, EVENTS_FOR_A_BASELINE, Policies};
use crate::baselines::{Baselines, find_baseline};
use crate::bus::{EventIds, StreamKey};
use crate::deciders::Rules;
use crate::replay::{Last, ReplayError, Replayed, Until, catch_up, replay};

/// How many events are looked at, and then the log is left alone for a moment.
const PAGE: usize = 1_024;
/// How many baselines are read at once. Each makes two cuts at most.
const BASELINES_PAGE: usize = 128;
/// How long it leaves the log alone after a page, and after each baseline that it takes.
const PAUSE: Duration = Duration::from_millis(5);
/// The lease of whoever compacts a log that several nodes share, and how long a node that hangs keeps others from it.
const LEASE: &str = "$compactor";
const TURN: Duration = Duration::from_secs(10);
/// How often it tries to take the baseline of a stream to which something is being appended. One that never rests gets
/// its baseline when it passes the next multiple.
const ATTEMPTS: usize = 16;

const _: () = assert!(2 * BASELINES_PAGE <= MAX_CUTS, "the cuts of a page are too many for one call");

pub(super) struct Worker {
    compaction: Compaction,
    ids: EventIds,
    /// Of each category up to where its baselines were used. The store is asked again after a start.
    asked: HashMap<&'static str, Position>,
    /// What the cursors are written with while others may write them.
    fence: Option<Fence>,
}

impl Worker {
    pub(super) fn new(compaction: Compaction) -> Self {
        Self { compaction, ids: EventIds::new(), asked: HashMap::new(), fence: None }
    }

    fn store(&self) -> &Arc<dyn EventStore> {
        &self.compaction.store
    }

    /// Goes once through what is new, up to where the log ends as it begins.
    pub(super) async fn round(&mut self) -> Result<Compacted, CompactionError> {
        let mut done = Compacted::default();
        let worked = self.work(&mut done).await;
        metrics::counter!("sillage_baselines_taken_total").increment(done.baselines);
        metrics::counter!("sillage_dropped_events_total").increment(done.dropped.events);
        metrics::counter!("sillage_dropped_bytes_total").increment(done.dropped.bytes);
        worked.map(|()| done)
    }

    /// Makes sure that no other node compacts; answers whether that is so.
    async fn take_turn(&mut self) -> Result<Turn, StoreError> {
        let Some(neighbour) = &self.compaction.neighbour else { return Ok(Turn::Ours) };
        self.fence = neighbour.hold(LEASE, TURN).await?;
        Ok(if self.fence.is_some() { Turn::Ours } else { Turn::Theirs })
    }

    async fn work(&mut self, done: &mut Compacted) -> Result<(), CompactionError> {
        if self.compaction.policies.0.is_empty() || self.take_turn().await? == Turn::Theirs {
            return Ok(());
        }
        let worked = self.work_on(done).await;
        if let Some(neighbour) = &self.compaction.neighbour {
            // If it cannot be given back, it runs out.
            drop(neighbour.hold(LEASE, Duration::ZERO).await);
        }
        worked
    }

    async fn work_on(&mut self, done: &mut Compacted) -> Result<(), CompactionError> {
        let Policies(policies) = self.compaction.policies.clone();
        for policy in policies.iter() {
            self.take_baselines(policy, done).await?;
            self.drop_events(policy, done).await?;
        }
        // What an engine has left of what it was asked for before.
        done.dropped += self.store().drop_events(Vec::new()).await?;
        Ok(())
    }

    /// Follows the events of a category, and takes the baselines that are due.
    async fn take_baselines(
        &mut self,
        Policy { rules, .. }: &Policy,
        done: &mut Compacted,
    ) -> Result<(), CompactionError> {
        let cursor = format!("$compaction-{}", rules.category());
        let (from, head) = (self.store().read_cursor(&cursor).await?.position, self.store().head());
        let mut reached = from;
        while reached < head {
            let page =
                self.store().read_all(reached, Filter::Category(rules.category().into()), PAGE).await?;
            let is_due = |event: &&Arc<Event>| event.version.get().is_multiple_of(EVENTS_FOR_A_BASELINE);
            for event in page.events.iter().filter(is_due) {
                done.baselines += u64::from(self.take(event, rules.as_ref()).await? == Taken::Now);
                tokio::time::sleep(PAUSE).await;
            }
            reached = page.through;
            tokio::time::sleep(PAUSE).await;
        }
        if reached > from {
            self.write_cursor(&cursor, reached).await?;
        }
        Ok(())
    }

    /// Takes the baseline of a stream, unless it has one that is as late as `due`. What is wrong with one stream does
    /// not hold up the others: it keeps its events.
    async fn take(&mut self, due: &Event, rules: &dyn Rules) -> Result<Taken, CompactionError> {
        let Event { tenant, stream, version, .. } = due;
        let key = (tenant.clone(), stream.clone());
        let taken = self.try_take(&key, *version, rules).await;
        match taken {
            Err(ReplayError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(%stream, %error, "no baseline can be taken");
                Ok(Taken::No)
            }
            Ok(taken) => Ok(taken),
        }
    }

    async fn try_take(
        &mut self,
        key: &StreamKey,
        due: Version,
        rules: &dyn Rules,
    ) -> Result<Taken, ReplayError> {
        let store = Arc::clone(self.store());
        let name = StreamName::baseline_of(&key.1).map_err(|error| ReplayError::Broken(error.to_string()))?;
        let Baselines { found, taken, .. } = find_baseline(store.as_ref(), key, Until::End).await?;
        if found.is_some_and(|last| last.version >= due) {
            return Ok(Taken::No);
        }
        let snapshots = self.compaction.snapshots.clone();
        let mut replayed = replay(store.as_ref(), snapshots.as_deref(), key, rules, Until::End).await?;
        for _ in 0..ATTEMPTS {
            let append = self.append_of(key, &name, taken, &replayed, rules)?;
            let answers = store.append(vec![append]).await;
            match answers.into_iter().next().expect("each append is answered") {
                Ok(_) => return Ok(Taken::Now),
                Err(AppendError::Conflict { stream, .. }) if stream == key.1 => {
                    replayed = catch_up(store.as_ref(), key, rules, replayed).await?;
                }
                // Somebody else has taken it.
                Err(AppendError::Conflict { .. }) => return Ok(Taken::No),
                Err(AppendError::Invalid(why)) => return Err(ReplayError::Broken(why.to_owned())),
                Err(error) => return Err(StoreError::Unavailable(error.to_string().into()).into()),
            }
        }
        tracing::debug!(stream = %key.1, "a stream that never rests gets its baseline later");
        Ok(Taken::No)
    }

    /// What appends a baseline, if the stream is still at its version: then it is the state of the stream at its own
    /// position.
    fn append_of(
        &mut self,
        (tenant, stream): &StreamKey,
        name: &StreamName,
        taken: Version,
        Replayed { state, last, .. }: &Replayed,
        rules: &dyn Rules,
    ) -> Result<Append, ReplayError> {
        let nothing = || ReplayError::Broken("the stream has lost its events".to_owned());
        let Last { version, event, checksum, recorded_at } = (*last).ok_or_else(nothing)?;
        let broken = |error: serde_json::Error| ReplayError::Broken(error.to_string());
        let state = serde_json::from_str(&rules.save(state).map_err(broken)?).map_err(broken)?;
        let (stream, revision) = (stream.clone(), rules.revision());
        let baseline =
            Baseline { stream: stream.clone(), version, event, checksum, recorded_at, revision, state };
        let metadata = Metadata { schema: BASELINE_SCHEMA, ..Metadata::default() };
        let id = self.ids.next(clock::now());
        let baseline = NewEvent::new(id, BASELINE_TAKEN, baseline.encode(), metadata);
        let entries = vec![
            Entry { stream, expected: Expected::Exactly(version), events: Vec::new() },
            Entry { stream: name.clone(), expected: Expected::Exactly(taken), events: vec![baseline] },
        ];
        Ok(Append { tenant: tenant.clone(), entries, ledger: None, fence: None, recorded_at: None })
    }

    /// Follows the baselines of a category, and drops what they stand for.
    async fn drop_events(&mut self, policy: &Policy, done: &mut Compacted) -> Result<(), CompactionError> {
        let category = policy.rules.category();
        let seen_by_all = self.seen_by_all().await?;
        let mut reached = self.asked.get(category).copied().unwrap_or_default();
        while reached < seen_by_all {
            let page =
                self.store().read_all(reached, Filter::Category(BASELINES.into()), BASELINES_PAGE).await?;
            let may_be_used = |event: &&Arc<Event>| {
                event.position <= seen_by_all
                    && (!is_of(event, category) || policy.keep.lets_go(event.recorded_at))
            };
            let usable: Vec<_> = page.events.iter().take_while(may_be_used).collect();
            let mut cuts = Vec::new();
            for event in usable.iter().filter(|event| is_of(event, category)) {
                cuts.extend(self.cuts_of(event, policy.rules.as_ref()).await?);
            }
            if let Some(last) = usable.last().filter(|_| !cuts.is_empty()) {
                if self.take_turn().await? == Turn::Theirs {
                    return Ok(());
                }
                // Before anything is missing: whoever begins anew takes the baselines up to here.
                let compacted_to = self.store().read_cursor(COMPACTED_TO).await?.position;
                self.write_cursor(COMPACTED_TO, compacted_to.max(last.position)).await?;
                done.dropped += self.store().drop_events(cuts).await?;
            }
            match page.events.get(usable.len()) {
                // What comes later is not older, and not seen earlier.
                Some(next) => reached = next.position.previous(),
                None => reached = page.through.min(seen_by_all),
            }
            self.asked.insert(category, reached);
            if usable.len() < page.events.len() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// What a baseline stands for: the events of its stream, and the baselines before it. Nothing, if it is not to be
    /// believed.
    async fn cuts_of(&self, event: &Event, rules: &dyn Rules) -> Result<Vec<Cut>, StoreError> {
        let (tenant, distrusted) = (&event.tenant, |why: &str| {
            tracing::error!(position = %event.position, why, "a baseline is not believed, and nothing is dropped");
            Ok(Vec::new())
        });
        let baseline = match Baseline::read(event) {
            Ok(baseline) if baseline.revision == rules.revision() => baseline,
            Ok(_) => return distrusted("its revision is not known"),
            Err(error) => return distrusted(&error.to_string()),
        };
        let Baseline { stream, version, event: id, checksum, .. } = baseline;
        match self.store().read_stream(tenant, &stream, version, Direction::Forward, 1).await {
            Ok(page) => {
                let last = page.events.first().filter(|last| last.version == version);
                if last.is_none_or(|last| last.id != id || last.checksum != checksum) {
                    return distrusted("the log has another event at its version");
                }
            }
            // It was asked for before.
            Err(StoreError::Dropped { .. }) => {}
            Err(error) => return Err(error),
        }
        let cut =
            |stream: &StreamName, through| Cut { tenant: tenant.clone(), stream: stream.clone(), through };
        let older = event.version.previous();
        Ok([(&stream, version), (&event.stream, older)]
            .into_iter()
            .filter(|(_, through)| *through > Version::ZERO)
            .map(|(stream, through)| cut(stream, through))
            .collect())
    }

    /// Up to where every reactor and every view has come for good, and nothing waits.
    async fn seen_by_all(&self) -> Result<Position, CompactionError> {
        let mut seen = self.compaction.seen.position(self.store().head());
        for reactor in self.compaction.seen.reactors.iter().filter(|reactor| reactor.is_kept_in_the_log()) {
            let status = reactor.status();
            // What the status tells may be ahead of what a restart finds, or behind it after a rewind.
            let written = self.store().read_cursor(status.name).await?;
            let waiting = written.parked.into_values().chain(status.parked).filter(Parked::waits);
            let waiting = waiting.map(|parked| parked.position.previous());
            seen = waiting.chain([seen, written.position, status.position]).min().unwrap_or_default();
        }
        let others = match &self.compaction.neighbour {
            Some(neighbour) => neighbour.seen_by_others().await?,
            None => seen,
        };
        Ok(seen.min(others))
    }

    async fn write_cursor(&self, reactor: &str, position: Position) -> Result<(), CursorError> {
        let (fence, position) = (self.fence.clone(), Some(position));
        let update = CursorUpdate { reactor: reactor.into(), fence, position, ..CursorUpdate::default() };
        self.store().write_cursor(update).await
    }
}

/// Who may compact the log now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Ours,
    Theirs,
}

/// Whether a baseline was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Now,
    No,
}

/// Whether an event is a baseline of a stream of that category.
fn is_of(event: &Event, category: &str) -> bool {
    event.stream.baseline_for().is_some_and(|stream| stream.category() == category)
}

impl From<StoreError> for CompactionError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string().into())
    }
}

impl From<CursorError> for CompactionError {
    fn from(error: CursorError) -> Self {
        Self(error.to_string().into())
    }
}
