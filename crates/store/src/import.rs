//! Bringing events of another log into this one, batch by batch, as their only writer.
//!
//! A batch is judged as a whole before any of it is appended: if one event does not fit, none is taken. What is taken
//! keeps its stream, version, id, bytes and time, and so its checksum. Versions make it repeatable: an event that is
//! there already is known again, so an import that was cut short is made whole by running it once more.

use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::event::Place;
use sillage_kernel::wire::export::BroughtEvent;
use sillage_kernel::{Digest, Event, Expected, Filter, Position, Timestamp, Version};

use crate::clock;
use crate::event_store::{
    Append, AppendError, Direction, Entry, EventStore, Head, StoreError, StreamMap, check_limits,
};

/// The most events of one batch.
pub const MAX_BATCH_EVENTS: usize = 1_000;
/// A batch takes no further event once its lines have so many bytes.
pub const BATCH_BYTES: usize = 8 << 20;
/// How far the clock of the machine that an event comes from may be ahead.
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);
/// Of how many streams the end is remembered from batch to batch; about 300 bytes each. Beyond that all are read anew.
const MAX_ENDS: usize = 65_536;

/// Takes batches. Nobody else may write to the store meanwhile.
pub struct Import {
    store: Arc<dyn EventStore>,
    ends: StreamMap<Head>,
    /// The time of the last event of the log.
    last: Timestamp,
    taken: Taken,
    /// Whether an event of the log has another time than it had where it came from. Then checksums are others, too.
    times: Times,
}

const DOES_NOT_FOLLOW: &str = "its checksum does not follow from the event before it in the stream: it was changed, or \
    what is before it came here with another time; without the checksum it is taken as it is";

#[derive(Clone, Copy, PartialEq)]
enum Times {
    Kept,
    Moved,
}

/// What became of the events so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// They are in the log now.
    pub new: u64,
    /// They were there already.
    pub known: u64,
    /// Those of the new ones that were older than the last event of the log, and took its time. Their checksums, and
    /// those of all that follows in their streams, are not what they were.
    pub moved: u64,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An event does not fit, and nothing of its batch was kept: mend it and bring all of it again.
    #[error("{reason}")]
    Refused {
        /// Its number in the batch, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The log cannot be read: look at its disk, and bring all of it again.
    #[error(transparent)]
    Unread(#[from] StoreError),
    /// The log cannot be written: look at its disk, and bring all of it again. What was kept of the batch will be
    /// known.
    #[error(transparent)]
    Unwritten(#[from] AppendError),
}

impl Import {
    /// An import into a store that nobody else writes to.
    pub async fn begin(store: Arc<dyn EventStore>) -> Result<Self, StoreError> {
        let before_last = store.head().previous();
        let mut page = store.read_all(before_last, Filter::Everything, 1).await?;
        let last = page.events.pop().map_or(Timestamp::from_micros(i64::MIN), |event| event.recorded_at);
        Ok(Self { store, ends: StreamMap::default(), last, taken: Taken::default(), times: Times::Kept })
    }

    /// What became of the events so far.
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// Takes a batch, and returns once it is durable.
    pub async fn take(&mut self, batch: Vec<BroughtEvent>) -> Result<(), ImportError> {
        let (last, times) = (self.last, self.times);
        let result = self.take_whole(batch).await;
        if result.is_err() {
            (self.last, self.times) = (last, times);
        }
        if result.is_err() || self.ends.len() > MAX_ENDS {
            self.ends.clear();
        }
        result
    }

    async fn take_whole(&mut self, batch: Vec<BroughtEvent>) -> Result<(), ImportError> {
        let mut taken = self.taken;
        let mut staged: Vec<Append> = Vec::with_capacity(batch.len());
        for (index, brought) in batch.into_iter().enumerate() {
            let refused = |reason| ImportError::Refused { index, reason };
            if brought.version == Version::ZERO {
                return Err(refused("versions begin with 1".to_owned()));
            }
            let end = self.end_of(&brought).await?;
            if brought.version <= end.version {
                self.know_again(&brought, &staged).await?.map_err(refused)?;
                taken.known += 1;
            } else {
                let append = self.stage(brought, end, &mut taken).map_err(refused)?;
                staged.push(append);
            }
        }
        for result in self.store.append(staged).await {
            result?;
        }
        self.taken = taken;
        Ok(())
    }

    /// The end of the event's stream, with what is staged.
    async fn end_of(&mut self, brought: &BroughtEvent) -> Result<Head, StoreError> {
        let BroughtEvent { tenant, stream, .. } = brought;
        let key = (tenant.clone(), stream.clone());
        if let Some(end) = self.ends.get(&key) {
            return Ok(*end);
        }
        let last = Version::new(u64::MAX);
        let page = self.store.read_stream(tenant, stream, last, Direction::Backward, 1).await?;
        let end = page
            .events
            .first()
            .map_or_else(Head::default, |event| Head { version: event.version, checksum: event.checksum });
        self.ends.insert(key, end);
        Ok(end)
    }

    /// Whether the event is the one that the stream has at its version; if not, what is wrong.
    async fn know_again(
        &mut self,
        brought: &BroughtEvent,
        staged: &[Append],
    ) -> Result<Result<(), String>, StoreError> {
        let BroughtEvent { tenant, stream, version, event, recorded_at, checksum: _ } = brought;
        let another = || Err(format!("{stream} has another event at version {version}"));
        let page = self.store.read_stream(tenant, stream, *version, Direction::Forward, 1).await?;
        if let Some(found) = page.events.first().filter(|found| found.version == *version) {
            if found.recorded_at != *recorded_at {
                self.times = Times::Moved;
            }
            let Event { event_type, data, metadata_json, .. } = &**found;
            let same = found.id == event.id && Digest::of(event_type, data, metadata_json) == event.digest;
            return Ok(if same { Ok(()) } else { another() });
        }
        // It may stand in this batch twice.
        let mut entries = staged.iter().filter(|append| append.tenant == *tenant).flat_map(|a| &a.entries);
        let expected = Expected::Exactly(version.previous());
        let twice = entries.any(|entry| {
            entry.stream == *stream && entry.expected == expected && entry.events.first() == Some(event)
        });
        Ok(if twice { Ok(()) } else { another() })
    }

    /// The append of an event that follows its stream's end, if it may.
    fn stage(&mut self, brought: BroughtEvent, end: Head, taken: &mut Taken) -> Result<Append, String> {
        let BroughtEvent { tenant, stream, version, event, recorded_at, checksum } = brought;
        if version != end.version.next() {
            return Err(format!(
                "{stream} ends at version {}, and this is version {version}: what is between is missing",
                end.version
            ));
        }
        if recorded_at > clock::later(clock::now(), MAX_AHEAD) {
            return Err(format!("its time, {recorded_at}, has not come yet by the clock of this machine"));
        }
        if recorded_at < self.last {
            self.times = Times::Moved;
            taken.moved += 1;
        }
        self.last = self.last.max(recorded_at);
        let (position, recorded_at) = (Position::ZERO, self.last);
        let place = Place { position, tenant: tenant.clone(), stream: stream.clone(), version, recorded_at };
        let found = event.clone().recorded(place, &end.checksum).checksum;
        if self.times == Times::Kept && checksum.is_some_and(|checksum| checksum != found) {
            return Err(DOES_NOT_FOLLOW.to_owned());
        }
        let (expected, key) = (Expected::Exactly(end.version), (tenant.clone(), stream.clone()));
        let entries = vec![Entry { stream, expected, events: vec![event] }];
        let append = Append { tenant, entries, ledger: None, fence: None, recorded_at: Some(recorded_at) };
        check_limits(&append).map_err(|error| error.to_string())?;
        self.ends.insert(key, Head { version, checksum: found });
        taken.new += 1;
        Ok(append)
    }
}
