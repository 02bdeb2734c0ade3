//! What the log must hold, by what its writers were told.
//!
//! Invariant: whatever was answered is in here as it was answered. What got no answer waits in `unknown` until the
//! log is opened again: it is then there whole or not at all, and what is not there never comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sillage_journal::testing::Dice;
use sillage_kernel::{
    Checksum, Event, EventId, Expected, Filter, Outcome, Position, Receipt, StreamName, Version,
};
use sillage_store::{
    Append, AppendError, Appended, CursorState, Cut, Direction, Entry, EventStore, Fence, Lease, LedgerEntry,
    LedgerKey, LedgerWrite, StoreError, Verdict,
};

use super::workload::{Answer, Op, Term, tenant};

/// Says what is wrong unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// What is wrong, in words.
pub(super) type Wrong = String;

/// The model. See the module.
#[derive(Default)]
pub(super) struct Truth {
    /// The log as it was read once it was sure.
    log: Vec<Arc<Event>>,
    /// What the log must be.
    written: Vec<Written>,
    versions: BTreeMap<StreamName, u64>,
    links: BTreeMap<StreamName, Checksum>,
    /// Up to which version the store was asked to drop each stream.
    cuts: BTreeMap<StreamName, u64>,
    /// The positions of events that are dropped for sure.
    gone: BTreeSet<Position>,
    ledger: BTreeMap<LedgerKey, LedgerEntry>,
    /// Every command that was ever sent.
    pub(super) commands: Vec<LedgerKey>,
    cursors: BTreeMap<Box<str>, CursorState>,
    /// Each state that a lease may be in, by what was answered.
    leases: BTreeMap<Box<str>, Vec<Holder>>,
    /// What got no answer since the last that did, group by group.
    unknown: Vec<Vec<Op>>,
}

struct Written {
    id: EventId,
    stream: StreamName,
    version: u64,
    data: Arc<str>,
}

/// Who has a lease; token 0 stands before the first holder.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Holder {
    owner: &'static str,
    token: u64,
    term: Term,
}

const NOBODY: Holder = Holder { owner: "", token: 0, term: Term::Over };

impl Holder {
    fn holds(self, held: Lease) -> bool {
        self != NOBODY && self.token == held.token
    }

    /// What is answered to whoever asks for the lease, and who has it then.
    fn asked(self, owner: &'static str, term: Term) -> (Option<Lease>, Self) {
        let token = if self.owner == owner { self.token } else { self.token + 1 };
        if self.owner != owner && self.term == Term::Long {
            return (None, self);
        }
        (Some(Lease { token }), Self { owner, token, term })
    }
}

/// Whether whoever appends still has its lease, where it is not known for sure who has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FenceHolds {
    Yes,
    Perhaps,
    No,
}

impl Truth {
    /// How many events the log has.
    pub(super) fn len(&self) -> usize {
        self.written.len()
    }

    pub(super) fn version(&self, stream: &StreamName) -> u64 {
        self.versions.get(stream).copied().unwrap_or_default()
    }

    /// The token of whoever may have a lease.
    pub(super) fn token(&self, lease: &str) -> u64 {
        self.leases.get(lease).and_then(|holders| holders.first()).map_or(0, |holder| holder.token)
    }

    /// Lets the beginnings of some streams go, perhaps more of them than there is.
    pub(super) fn cuts(&mut self, dice: &mut Dice) -> Vec<Cut> {
        let streams: Vec<_> = self.versions.iter().filter(|_| dice.percent(80)).collect();
        let cut = |(stream, version): (&StreamName, &u64)| {
            let through = match dice.percent(60) {
                true => *version + 1,
                false => dice.below(usize::try_from(*version).unwrap() + 2) as u64,
            };
            let known = self.cuts.entry(stream.clone()).or_default();
            *known = through.max(*known);
            Cut { tenant: tenant(), stream: stream.clone(), through: Version::new(through) }
        };
        streams.into_iter().map(cut).collect()
    }

    /// The store has said that it dropped something: whatever is not there now must never be there again.
    pub(super) async fn dropped(&mut self, store: &dyn EventStore) -> Result<(), Wrong> {
        self.gone = self.missing(&read_log(store, Position::ZERO).await?)?;
        Ok(())
    }

    /// Which events are not among those that the log begins with, all of which must have been let go. The others must
    /// be as they were.
    fn missing(&self, found: &[Arc<Event>]) -> Result<BTreeSet<Position>, Wrong> {
        let (mut found, mut missing) = (found.iter().peekable(), BTreeSet::new());
        for event in &self.log {
            let Event { stream, version, position, .. } = &**event;
            if found.next_if(|there| there.position == *position).is_none() {
                let may_go = self.cuts.get(stream).is_some_and(|through| version.get() <= *through);
                ensure!(may_go && version.get() < self.version(stream), "{stream} {version} was lost");
                missing.insert(*position);
            } else {
                ensure!(!self.gone.contains(position), "{stream} {version} was dropped, and is back");
            }
        }
        Ok(missing)
    }

    /// Takes the answers to what the store was asked in one group, in the order in which it was asked.
    pub(super) fn hear(&mut self, group: &[(Op, Answer)]) -> Result<(), Wrong> {
        let unavailable = group.iter().filter(|(_, answer)| answer.is_unavailable()).count();
        if unavailable > 0 {
            ensure!(unavailable == group.len(), "{unavailable} of {} in a group have failed", group.len());
            self.unknown.push(group.iter().map(|(op, _)| op.clone()).collect());
            return Ok(());
        }
        // Whoever is answered after a failure knows that what failed was not kept.
        self.unknown.clear();
        for (op, answer) in group {
            match (op, answer) {
                (Op::Append(append), Answer::Append(answer)) => self.appended(append, answer)?,
                (Op::Cursor(update), Answer::Cursor(Ok(()))) => {
                    self.cursors.entry(update.reactor.clone()).or_default().apply(update);
                }
                (Op::Lease { name, owner, term }, Answer::Lease(Ok(lease))) => {
                    self.leased(name, owner, *term, *lease)?;
                }
                (op, answer) => return Err(format!("the answer to {op:?} is {answer:?}")),
            }
        }
        Ok(())
    }

    fn appended(&mut self, append: &Append, answer: &Result<Appended, AppendError>) -> Result<(), Wrong> {
        if let Some(Fence { lease, held }) = &append.fence {
            let fenced = *answer == Err(AppendError::Fenced);
            let holders = self.leases.entry(lease.clone()).or_insert_with(|| vec![NOBODY]);
            holders.retain(|holder| holder.holds(*held) != fenced);
            ensure!(!holders.is_empty(), "a fence of {held:?} on {lease} is answered {answer:?}");
            if fenced {
                return Ok(());
            }
        }
        let right = self.judge(append);
        ensure!(right.contains(answer), "the answer is {answer:?}, right would be {right:?}");
        if answer.is_ok() {
            self.write(append);
        }
        Ok(())
    }

    fn leased(
        &mut self,
        name: &str,
        owner: &'static str,
        term: Term,
        lease: Option<Lease>,
    ) -> Result<(), Wrong> {
        let holders = self.leases.entry(name.into()).or_insert_with(|| vec![NOBODY]);
        let asked = holders.iter().map(|holder| holder.asked(owner, term));
        *holders = asked.filter(|(answer, _)| *answer == lease).map(|(_, holder)| holder).collect();
        holders.dedup();
        ensure!(!holders.is_empty(), "{owner} has asked for {name} and is given {lease:?}");
        Ok(())
    }

    /// The answers that are right to an append whose fence holds. Of several conflicts any may be named.
    fn judge(&self, append: &Append) -> Vec<Result<Appended, AppendError>> {
        let Append { tenant: _, entries, ledger, fence: _, recorded_at: _ } = append;
        if let Some(known) = ledger.as_ref().and_then(|write| self.ledger.get(&write.key)) {
            return vec![Err(AppendError::Known(Box::new(known.clone())))];
        }
        let conflict = |Entry { stream, expected, events: _ }: &Entry| {
            let actual = Version::new(self.version(stream));
            let (stream, expected) = (stream.clone(), *expected);
            (!holds(expected, actual)).then_some(Err(AppendError::Conflict { stream, expected, actual }))
        };
        let conflicts: Vec<_> = entries.iter().filter_map(conflict).collect();
        if !conflicts.is_empty() {
            return conflicts;
        }
        let position = self.end_of(append);
        let receipt = ledger.as_ref().map(|write| self.settled(append, write).receipt);
        vec![Ok(Appended { position, receipt })]
    }

    fn end_of(&self, append: &Append) -> Position {
        let events = append.entries.iter().map(|entry| entry.events.len()).sum::<usize>();
        Position::new((self.len() + events) as u64)
    }

    /// What the ledger has of an append that is taken.
    fn settled(
        &self,
        append: &Append,
        LedgerWrite { key, content, stream, verdict }: &LedgerWrite,
    ) -> LedgerEntry {
        let own = append.entries.iter().filter(|entry| entry.stream == *stream);
        let events = own.map(|entry| entry.events.len() as u64).sum::<u64>();
        let before = self.version(stream);
        let outcome = match verdict {
            Verdict::Applied => {
                Outcome::Applied { versions: (before + 1..=before + events).map(Version::new).collect() }
            }
            Verdict::Unchanged => Outcome::Unchanged,
            Verdict::Rejected(rejection) => Outcome::Rejected(rejection.clone()),
        };
        let (stream, command_id, position) = (stream.clone(), key.command_id, self.end_of(append));
        LedgerEntry { content: *content, receipt: Receipt { stream, command_id, outcome, position } }
    }

    fn write(&mut self, append: &Append) {
        if let Some(write) = &append.ledger {
            self.ledger.insert(write.key.clone(), self.settled(append, write));
        }
        for Entry { stream, expected: _, events } in &append.entries {
            for event in events {
                let version = self.versions.entry(stream.clone()).or_default();
                *version += 1;
                let (id, data) = (event.id, event.data.clone());
                self.written.push(Written { id, stream: stream.clone(), version: *version, data });
            }
        }
    }

    /// Reads what was written since, which must be all that there is.
    pub(super) async fn read_on(&mut self, store: &dyn EventStore) -> Result<(), Wrong> {
        let new = read_log(store, Position::new(self.log.len() as u64)).await?;
        let found = self.log.len() + new.len();
        ensure!(found == self.len(), "the log has {found} events and must have {}", self.len());
        for event in new {
            let Written { id, stream, version, data } = &self.written[self.log.len()];
            let right = (*id, stream, *version, data, self.log.len() as u64 + 1);
            let got = (event.id, &event.stream, event.version.get(), &event.data, event.position.get());
            ensure!(got == right, "the log has {got:?} and must have {right:?}");
            let link = self.links.entry(stream.clone()).or_insert(Checksum::START);
            ensure!(event.follows(link), "{} {} is not linked", event.stream, event.version);
            *link = event.checksum;
            self.log.push(event);
        }
        Ok(())
    }

    /// Finds out, after the log was opened again, what became of that which got no answer, and that all else is
    /// as it was answered.
    pub(super) async fn settle(&mut self, store: &dyn EventStore) -> Result<(), Wrong> {
        let log = read_log(store, Position::ZERO).await?;
        let head = store.head().get();
        ensure!(head >= self.log.len() as u64, "of {} acknowledged events {head} are left", self.log.len());
        self.missing(&log)?;
        let unknown = std::mem::take(&mut self.unknown);
        for group in &unknown {
            self.settle_group(store, group, &log).await?;
        }
        self.settle_cursors(store, unknown.iter().flatten()).await?;
        self.read_on(store).await?;
        self.check(store).await
    }

    /// What is kept of a group is what it begins with.
    async fn settle_group(
        &mut self,
        store: &dyn EventStore,
        group: &[Op],
        log: &[Arc<Event>],
    ) -> Result<(), Wrong> {
        let mut cut = None;
        for op in group {
            let append = match op {
                Op::Append(append) => append,
                Op::Lease { name, owner, term } => {
                    let holders = self.leases.entry((*name).into()).or_insert_with(|| vec![NOBODY]);
                    let then: Vec<_> = holders.iter().map(|holder| holder.asked(owner, *term).1).collect();
                    holders.extend(then);
                    continue;
                }
                Op::Cursor(_) => continue,
            };
            let fence = self.fence(append);
            if fence == FenceHolds::No || self.judge(append).iter().any(Result::is_err) {
                continue;
            }
            let first = append.entries.iter().flat_map(|entry| &entry.events).next();
            let is_there = match (first, &append.ledger) {
                (Some(event), _) => log.iter().any(|there| there.id == event.id),
                // A later append may have come with the same id.
                (None, Some(write)) => {
                    look_up(store, std::slice::from_ref(&write.key)).await?[0].as_ref().is_some_and(|kept| {
                        (kept.content, &kept.receipt.stream) == (write.content, &write.stream)
                    })
                }
                (None, None) => continue,
            };
            if is_there {
                ensure!(cut.is_none(), "{} was kept, but {cut:?} was lost before it", told(append));
                self.write(append);
            } else if fence == FenceHolds::Yes {
                cut.get_or_insert_with(|| told(append));
            }
        }
        Ok(())
    }

    fn fence(&self, append: &Append) -> FenceHolds {
        let Some(Fence { lease, held }) = &append.fence else { return FenceHolds::Yes };
        let holders = self.leases.get(lease).map_or(&[NOBODY][..], Vec::as_slice);
        let holding = holders.iter().filter(|holder| holder.holds(*held)).count();
        match holding {
            0 => FenceHolds::No,
            all if all == holders.len() => FenceHolds::Yes,
            _ => FenceHolds::Perhaps,
        }
    }

    async fn settle_cursors(
        &mut self,
        store: &dyn EventStore,
        unknown: impl Iterator<Item = &Op>,
    ) -> Result<(), Wrong> {
        let mut possible: BTreeMap<Box<str>, Vec<CursorState>> =
            self.cursors.iter().map(|(reactor, state)| (reactor.clone(), vec![state.clone()])).collect();
        for op in unknown {
            let Op::Cursor(update) = op else { continue };
            let states =
                possible.entry(update.reactor.clone()).or_insert_with(|| vec![CursorState::default()]);
            let mut then = states.clone();
            then.iter_mut().for_each(|state| state.apply(update));
            states.extend(then);
        }
        for (reactor, states) in possible {
            let state = store.read_cursor(&reactor).await.map_err(|error| error.to_string())?;
            ensure!(states.contains(&state), "the cursor of {reactor} is {state:?}");
            self.cursors.insert(reactor, state);
        }
        Ok(())
    }

    /// Reads a stream from its first version on, past what was dropped of it.
    async fn check_stream(
        &self,
        store: &dyn EventStore,
        stream: &StreamName,
        version: u64,
        missing: &BTreeSet<Position>,
    ) -> Result<(), Wrong> {
        let own: Vec<_> = self.log.iter().filter(|event| event.stream == *stream).collect();
        let is_missing = |index: usize| own.get(index).is_some_and(|event| missing.contains(&event.position));
        let mut index = 0;
        while index < own.len() {
            let from = own[index].version;
            match store.read_stream(&tenant(), stream, from, Direction::Forward, usize::MAX).await {
                Ok(page) => {
                    ensure!(page.head.get() == version, "{stream} is at {}, not {version}", page.head);
                    let kept =
                        own[index..].iter().copied().take_while(|event| !missing.contains(&event.position));
                    ensure!(!is_missing(index) && page.events.iter().eq(kept), "{stream} was changed");
                    index += page.events.len();
                }
                Err(StoreError::Dropped { kept_from }) => {
                    let kept = usize::try_from(kept_from.get()).unwrap() - 1;
                    let borders =
                        kept > index && kept < own.len() && !is_missing(kept) && is_missing(kept - 1);
                    ensure!(is_missing(index) && borders, "{stream} is said to be kept from {kept_from} on");
                    index = kept;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Asserts that all that can be read is as it was answered.
    pub(super) async fn check(&self, store: &dyn EventStore) -> Result<(), Wrong> {
        let log = read_log(store, Position::ZERO).await?;
        let missing = self.missing(&log)?;
        let left = self.log.iter().filter(|event| !missing.contains(&event.position));
        ensure!(log.iter().eq(left), "the log was changed");
        for (stream, version) in &self.versions {
            self.check_stream(store, stream, *version, &missing).await?;
        }
        let right: Vec<_> = self.commands.iter().map(|key| self.ledger.get(key).cloned()).collect();
        let found = look_up(store, &self.commands).await?;
        let wrong = found.iter().zip(&right).find(|(found, right)| found != right);
        ensure!(wrong.is_none(), "the ledger has and should have {wrong:?}");
        for (reactor, state) in &self.cursors {
            let found = store.read_cursor(reactor).await.map_err(|error| error.to_string())?;
            ensure!(found == *state, "the cursor of {reactor} is {found:?}");
        }
        Ok(())
    }
}

/// An append in few words.
fn told(append: &Append) -> String {
    let entry = |Entry { stream, expected, events }: &Entry| {
        format!("{stream} {expected:?} {:?}", Vec::from_iter(events.iter().map(|event| event.id.0)))
    };
    append.entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn holds(expected: Expected, actual: Version) -> bool {
    match expected {
        Expected::Any => true,
        Expected::NoStream => actual == Version::ZERO,
        Expected::Exists => actual != Version::ZERO,
        Expected::Exactly(version) => actual == version,
    }
}

async fn look_up(store: &dyn EventStore, keys: &[LedgerKey]) -> Result<Vec<Option<LedgerEntry>>, Wrong> {
    store.look_up(keys.to_vec()).await.map_err(|error| error.to_string())
}

async fn read_log(store: &dyn EventStore, after: Position) -> Result<Vec<Arc<Event>>, Wrong> {
    const PAGE: usize = 1_000;
    let (mut cursor, mut log) = (after, Vec::new());
    while cursor < store.head() {
        let page = store.read_all(cursor, Filter::Everything, PAGE).await;
        let page = page.map_err(|error| error.to_string())?;
        ensure!(page.through > cursor, "the page after {cursor} comes no further");
        cursor = page.through;
        log.extend(page.events);
    }
    Ok(log)
}
