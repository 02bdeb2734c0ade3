//! Decides what an append becomes: checks what it expects, numbers its events, links their checksums.
//!
//! Invariant: what is staged is seen by later appends and by nobody else, until [`Sequencer::commit`] makes a group of
//! it the truth or [`Sequencer::discard`] forgets all of it. So a group that could not be written leaves no trace, and
//! neither do those that were staged upon it. It does no I/O of its own; each engine with one writer runs one, and says
//! where the ends of streams are known.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sillage_kernel::event::Place;
use sillage_kernel::{
    Checksum, Event, NewEvent, Outcome, Position, Receipt, StreamName, Tenant, Timestamp, Version,
};

use super::{
    Append, AppendError, Appended, Entry, Fence, Lease, LedgerEntry, LedgerKey, LedgerWrite,
    MAX_APPEND_BYTES, MAX_APPEND_RECORDS, StoreError, Verdict,
};

/// A stream of a tenant.
pub(crate) type StreamKey = (Tenant, StreamName);
/// Something for each of many streams. Its hash has a seed of this process, and nobody outside sees what it makes of a
/// name; it takes a third of the time of the one of the standard library.
pub(crate) type StreamMap<T> = HashMap<StreamKey, T, foldhash::quality::RandomState>;

/// The end of a stream: the version and checksum of its last event.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    pub(crate) version: Version,
    pub(crate) checksum: Checksum,
}

/// Knows the ends of all streams, as they were committed.
pub(crate) trait Heads {
    /// The end of a stream, or the default for one that has no events. An error refuses the append.
    fn get(&mut self, key: &StreamKey) -> Result<Head, StoreError>;
    /// The stream ends there from now on.
    fn set(&mut self, key: StreamKey, head: Head);
}

impl Heads for StreamMap<Head> {
    fn get(&mut self, key: &StreamKey) -> Result<Head, StoreError> {
        Ok(Self::get(self, key).copied().unwrap_or_default())
    }

    fn set(&mut self, key: StreamKey, head: Head) {
        self.insert(key, head);
    }
}

/// Numbers what is appended. See the module.
#[derive(Default)]
pub(crate) struct Sequencer<H> {
    heads: H,
    leases: HashMap<Box<str>, HeldLease>,
    position: Position,
    recorded_at: Timestamp,
    /// Groups on their way to the disk, the oldest first. As many as the engine lets be on their way.
    sealed: VecDeque<Staged>,
    /// The group that is being staged.
    staged: Staged,
}

#[derive(Default)]
struct Staged {
    heads: StreamMap<Head>,
    ledger: HashMap<LedgerKey, LedgerEntry>,
    leases: HashMap<Box<str>, HeldLease>,
    position: Position,
    recorded_at: Timestamp,
}

#[derive(Debug, Clone)]
struct HeldLease {
    owner: Box<str>,
    lease: Lease,
    until: Timestamp,
}

/// What an append becomes, once its group is durable.
pub(crate) struct Admitted {
    /// Its events, numbered.
    pub(crate) events: Vec<Arc<Event>>,
    /// What the ledger remembers of it.
    pub(crate) ledger: Option<(LedgerKey, LedgerEntry)>,
    /// What its caller is told.
    pub(crate) appended: Appended,
}

impl<H: Heads> Sequencer<H> {
    /// Goes on behind what is in the log already.
    pub(crate) fn resume(heads: H, position: Position, recorded_at: Timestamp) -> Self {
        let staged = Staged { position, recorded_at, ..Staged::default() };
        Self { heads, leases: HashMap::new(), position, recorded_at, sealed: VecDeque::new(), staged }
    }

    /// The position of the last event that was staged.
    pub(crate) fn position(&self) -> Position {
        self.staged.position
    }

    /// Takes a lease that is in the log already, in the order of the log.
    pub(crate) fn replay_lease(&mut self, name: Box<str>, owner: Box<str>, lease: Lease, until: Timestamp) {
        self.leases.insert(name, HeldLease { owner, lease, until });
    }

    /// Stages an append, or says why not. `known` tells what the ledger held before this group. Time never
    /// runs backwards in the log, whatever the clock says.
    pub(crate) fn stage(
        &mut self,
        append: Append,
        now: Timestamp,
        known: impl FnOnce(&LedgerKey) -> Result<Option<LedgerEntry>, StoreError>,
    ) -> Result<Admitted, AppendError> {
        check_limits(&append)?;
        self.check_fence(append.fence.as_ref())?;
        if let Some(LedgerWrite { key, .. }) = &append.ledger {
            let staged = self.newest_first().find_map(|group| group.ledger.get(key)).cloned();
            let entry = staged.map_or_else(|| known(key), |entry| Ok(Some(entry)));
            match entry {
                Ok(None) => {}
                Ok(Some(entry)) => return Err(AppendError::Known(Box::new(entry))),
                // Better no answer than a command that is let through twice.
                Err(error) => return Err(unavailable(error)),
            }
        }
        let Append { tenant, entries, ledger, fence: _, recorded_at } = append;
        let (mut checked, mut count) = (Vec::with_capacity(entries.len()), 0);
        for Entry { stream, expected, events } in entries {
            let key = (tenant.clone(), stream);
            let head = self.head(&key).map_err(unavailable)?;
            let actual = head.version;
            if !expected.holds_at(actual) {
                return Err(AppendError::Conflict { stream: key.1, expected, actual });
            }
            count += events.len();
            checked.push((key, head, events));
        }
        // Nothing can fail from here on.
        self.staged.recorded_at = self.staged.recorded_at.max(recorded_at.unwrap_or(now));
        let mut events = Vec::with_capacity(count);
        for (key, head, new) in checked {
            self.number(key, head, new, &mut events);
        }
        let position = self.staged.position;
        let ledger = ledger.map(|write| settle(write, &events, position));
        if let Some((key, entry)) = &ledger {
            self.staged.ledger.insert(key.clone(), entry.clone());
        }
        let receipt = ledger.as_ref().map(|(_, entry)| entry.receipt.clone());
        Ok(Admitted { events, ledger, appended: Appended { position, receipt } })
    }

    /// The group is complete: what is staged from here on is another.
    pub(crate) fn seal(&mut self) {
        let Staged { position, recorded_at, heads, ledger, leases: _ } = &self.staged;
        // The next will be about as large.
        let heads = StreamMap::with_capacity_and_hasher(heads.len(), heads.hasher().clone());
        let ledger = HashMap::with_capacity(ledger.len());
        let (position, recorded_at) = (*position, *recorded_at);
        let next = Staged { heads, ledger, leases: HashMap::new(), position, recorded_at };
        self.sealed.push_back(std::mem::replace(&mut self.staged, next));
    }

    /// The oldest group that was staged is durable.
    pub(crate) fn commit(&mut self) {
        if self.sealed.is_empty() {
            self.seal();
        }
        let Some(group) = self.sealed.pop_front() else { return };
        for (key, head) in group.heads {
            self.heads.set(key, head);
        }
        self.leases.extend(group.leases);
        (self.position, self.recorded_at) = (group.position, group.recorded_at);
    }

    /// What was staged is not, and never was.
    pub(crate) fn discard(&mut self) {
        let (position, recorded_at) = (self.position, self.recorded_at);
        self.sealed.clear();
        self.staged = Staged { position, recorded_at, ..Staged::default() };
    }

    /// What is staged, as lookups want it.
    fn newest_first(&self) -> impl Iterator<Item = &Staged> {
        std::iter::once(&self.staged).chain(self.sealed.iter().rev())
    }

    fn head(&mut self, key: &StreamKey) -> Result<Head, StoreError> {
        let staged = self.newest_first().find_map(|group| group.heads.get(key)).copied();
        staged.map_or_else(|| self.heads.get(key), Ok)
    }

    /// Gives the events of an entry their positions, versions and checksums, from the end of their stream on.
    fn number(
        &mut self,
        key: StreamKey,
        mut head: Head,
        events: Vec<NewEvent>,
        numbered: &mut Vec<Arc<Event>>,
    ) {
        if events.is_empty() {
            return;
        }
        let recorded_at = self.staged.recorded_at;
        for new in events {
            let (position, version) = (self.staged.position.next(), head.version.next());
            let (tenant, stream) = key.clone();
            let event =
                new.recorded(Place { position, tenant, stream, version, recorded_at }, &head.checksum);
            head = Head { version, checksum: event.checksum };
            self.staged.position = position;
            numbered.push(Arc::new(event));
        }
        self.staged.heads.insert(key, head);
    }

    /// Refuses a fence whose lease has a newer holder.
    pub(crate) fn check_fence(&self, fence: Option<&Fence>) -> Result<(), AppendError> {
        let Some(Fence { lease, held }) = fence else { return Ok(()) };
        match self.lease(lease) {
            Some(current) if current.lease == *held => Ok(()),
            _ => Err(AppendError::Fenced),
        }
    }

    /// Stages that `owner` holds the lease until then; `None` while somebody else holds it.
    pub(crate) fn stage_lease(
        &mut self,
        name: &str,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Option<Lease> {
        let lease = match self.lease(name) {
            None => Lease { token: 1 },
            Some(held) if *held.owner == *owner => held.lease,
            Some(held) if held.until <= now => Lease { token: held.lease.token + 1 },
            Some(_) => return None,
        };
        self.staged.leases.insert(name.into(), HeldLease { owner: owner.into(), lease, until });
        Some(lease)
    }

    /// Who holds the lease, if anybody does.
    pub(crate) fn lease_holder(&self, name: &str, now: Timestamp) -> Option<Box<str>> {
        self.lease(name).filter(|held| held.until > now).map(|held| held.owner.clone())
    }

    fn lease(&self, name: &str) -> Option<&HeldLease> {
        self.newest_first().find_map(|group| group.leases.get(name)).or_else(|| self.leases.get(name))
    }
}

fn unavailable(error: StoreError) -> AppendError {
    AppendError::Unavailable(error.to_string().into())
}

/// Refuses an append that breaks a limit.
pub(crate) fn check_limits(append: &Append) -> Result<(), AppendError> {
    let records: usize = append.entries.iter().map(|entry| entry.events.len().max(1)).sum();
    if records > MAX_APPEND_RECORDS {
        return Err(AppendError::Invalid("it has more than 1,000 records"));
    }
    if weight(append) > MAX_APPEND_BYTES {
        return Err(AppendError::Invalid("it has more than 4 MiB of data"));
    }
    let twice = append
        .entries
        .iter()
        .enumerate()
        .any(|(at, entry)| append.entries.iter().take(at).any(|earlier| earlier.stream == entry.stream));
    if twice { Err(AppendError::Invalid("it names a stream twice")) } else { Ok(()) }
}

/// The bytes of all texts of an append: what its records take, beside their fixed parts.
pub(crate) fn weight(append: &Append) -> usize {
    let Append { tenant, entries, ledger, fence: _, recorded_at: _ } = append;
    let event = |event: &NewEvent| event.event_type.len() + event.data.len() + event.metadata_json.len();
    let entry = |entry: &Entry| {
        let names = tenant.as_str().len() + entry.stream.as_str().len();
        entry.events.iter().map(|new| event(new) + names).sum::<usize>()
    };
    let ledger = ledger.as_ref().map_or(0, |LedgerWrite { key, content: _, stream, verdict }| {
        let names = tenant.as_str().len() + key.principal.as_str().len() + stream.as_str().len();
        let rejection = match verdict {
            Verdict::Rejected(rejection) => serde_json::to_string(rejection).map_or(0, |json| json.len()),
            Verdict::Applied | Verdict::Unchanged => 0,
        };
        names + rejection
    });
    entries.iter().map(entry).sum::<usize>() + ledger
}

fn settle(write: LedgerWrite, events: &[Arc<Event>], position: Position) -> (LedgerKey, LedgerEntry) {
    let LedgerWrite { key, content, stream, verdict } = write;
    let outcome = match verdict {
        Verdict::Unchanged => Outcome::Unchanged,
        Verdict::Rejected(rejection) => Outcome::Rejected(rejection),
        Verdict::Applied => Outcome::Applied {
            versions: events
                .iter()
                .filter(|event| event.stream == stream)
                .map(|event| event.version)
                .collect(),
        },
    };
    let receipt = Receipt { stream, command_id: key.command_id, outcome, position };
    (key, LedgerEntry { content, receipt })
}
