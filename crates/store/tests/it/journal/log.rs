//! A log in a folder, and what it must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sillage_journal::{DEFAULT_SEGMENT_BYTES, Disk, RealDisk};
use sillage_kernel::{
    CommandId, ContentHash, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, StreamName,
    Timestamp, Version,
};
use sillage_store::event_store::journal::{IndexLimits, JournalOptions, JournalStore};
use sillage_store::{
    Append, AppendError, CursorState, CursorUpdate, Cut, Direction, Entry, EventStore, LedgerKey,
    LedgerWrite, Mode, Parked, ParkedBecause, StoreError, Verdict,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::disk::{FailingDisk, Shared};

/// The reactor whose cursor the model knows.
const MOVING: &str = "moving";

/// Limits with which a few events make several runs and merge them.
pub(crate) fn small() -> IndexLimits {
    IndexLimits { tail_entries: 5, merged_runs: 2, levels: 2, hot_streams: 3, ..IndexLimits::default() }
}

/// Waits until there is something.
pub(crate) async fn eventually<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(there) = there() {
            return there;
        }
        assert!(Instant::now() < deadline, "no {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) struct Log {
    // Before the folder, so that the log is closed when the folder goes.
    store: Option<JournalStore>,
    disk: Arc<dyn Disk>,
    limits: IndexLimits,
    segment_bytes: u64,
    /// How many bytes of data an event has.
    bulk: usize,
    folder: TempDir,
    /// All events, in the order of the log.
    log: Vec<EventId>,
    streams: BTreeMap<StreamName, Vec<EventId>>,
    /// Each command, and the position of its last event.
    commands: Vec<(LedgerKey, u64)>,
    /// How far each stream was cut, and what was dropped of all.
    cuts: BTreeMap<StreamName, u64>,
    dropped: BTreeSet<EventId>,
    /// Each state that the cursor of a reactor was in, the last one last; and whether some of that may be lost.
    cursor: Vec<CursorState>,
    torn: bool,
}

fn stream(n: usize) -> StreamName {
    let category = ["thing", "$system", "other", "like"][n % 4];
    StreamName::new(category, &n.to_string()).unwrap()
}

fn key(command_id: CommandId) -> LedgerKey {
    LedgerKey { tenant: "main".parse().unwrap(), principal: "anna".parse().unwrap(), command_id }
}

fn fresh() -> LedgerKey {
    key(CommandId(Uuid::now_v7()))
}

impl Log {
    pub(crate) fn new(limits: IndexLimits) -> Self {
        Self::over(limits, Arc::new(RealDisk))
    }

    pub(crate) fn on(limits: IndexLimits, disk: Arc<FailingDisk>) -> Self {
        Self::over(limits, Arc::new(Shared(disk)))
    }

    fn over(limits: IndexLimits, disk: Arc<dyn Disk>) -> Self {
        Self::with(limits, DEFAULT_SEGMENT_BYTES, 2, disk)
    }

    /// A log of many small files and larger events, so that a few events make a file that is worth compacting.
    pub(crate) fn in_segments(limits: IndexLimits) -> Self {
        Self::with(limits, 1_500, 400, Arc::new(RealDisk))
    }

    fn with(limits: IndexLimits, segment_bytes: u64, bulk: usize, disk: Arc<dyn Disk>) -> Self {
        let mut log = Self {
            store: None,
            disk,
            limits,
            segment_bytes,
            bulk,
            folder: TempDir::new().unwrap(),
            log: Vec::new(),
            streams: BTreeMap::new(),
            commands: Vec::new(),
            cuts: BTreeMap::new(),
            dropped: BTreeSet::new(),
            cursor: vec![CursorState::default()],
            torn: false,
        };
        log.open();
        log
    }

    fn open(&mut self) {
        let segment_bytes = self.segment_bytes;
        let options = JournalOptions { index: self.limits, segment_bytes, ..JournalOptions::default() };
        let disk = Arc::clone(&self.disk);
        let log_id = Uuid::new_v4().as_u128();
        self.store = Some(JournalStore::open_on(self.folder.path(), log_id, options, disk).unwrap().0);
    }

    fn store(&self) -> &JournalStore {
        self.store.as_ref().expect("it is open")
    }

    /// Closes it, lets something happen, and opens it again.
    pub(crate) async fn reopen(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        self.store().close().await;
        self.store = None;
        meanwhile(self);
        self.open();
        self.forget_what_was_torn();
        self.check_cursor().await;
    }

    pub(crate) async fn reopen_on_real_disk(&mut self) {
        self.reopen(|log| log.disk = Arc::new(RealDisk)).await;
    }

    /// The model loses what the log has lost.
    fn forget_what_was_torn(&mut self) {
        let head = self.head();
        assert!(head <= self.log.len());
        for lost in self.log.drain(head..) {
            self.streams.values_mut().for_each(|events| events.retain(|event| *event != lost));
        }
        self.commands.retain(|(_, position)| *position <= head as u64);
    }

    /// The cursor is where it was, or where it was before what was torn.
    async fn check_cursor(&mut self) {
        let found = self.store().read_cursor(MOVING).await.unwrap();
        let place = self.cursor.iter().rposition(|state| *state == found);
        let last = self.cursor.len() - 1;
        assert!(
            place == Some(last) || (self.torn && place.is_some()),
            "{found:?} of {:?}",
            self.cursor.last()
        );
        self.cursor.truncate(place.unwrap() + 1);
        self.torn = false;
    }

    /// Takes one step of the cursor, of some kind.
    pub(crate) async fn move_cursor(&mut self, to: u64, kind: usize) {
        let parked = |because| {
            let (tenant, key, since) = ("main".parse().unwrap(), "key".into(), Timestamp::from_micros(1));
            vec![Parked { position: Position::new(to + 1), tenant, key, because, since }]
        };
        let (reactor, position) = (MOVING.into(), Some(Position::new(to)));
        let moves = CursorUpdate { reactor, position, ..CursorUpdate::default() };
        let update = match kind {
            0 => CursorUpdate { park: parked(ParkedBecause::Skipped), ..moves },
            1 => CursorUpdate { park: parked(ParkedBecause::Behind), position: None, ..moves },
            2 => CursorUpdate { unpark: vec![Position::new(to)], position: None, ..moves },
            3 => CursorUpdate {
                mode: Some([Mode::Running, Mode::Paused][usize::from(to.is_multiple_of(2))]),
                ..moves
            },
            _ => moves,
        };
        self.store().write_cursor(update.clone()).await.unwrap();
        let mut state = self.cursor.last().unwrap().clone();
        state.apply(&update);
        self.cursor.push(state);
    }

    /// Cuts a stream, and answers how many events were dropped, of this one and of those that were cut before.
    pub(crate) async fn cut(&mut self, n: usize, through: u64) -> u64 {
        let (tenant, stream, through) = ("main".parse().unwrap(), stream(n), Version::new(through));
        let highest = self.cuts.entry(stream.clone()).or_default();
        *highest = through.get().max(*highest);
        let dropped = self.store().drop_events(vec![Cut { tenant, stream, through }]).await.unwrap();
        let mut found = 0;
        for (name, events) in &self.streams {
            let through =
                self.cuts.get(name).copied().unwrap_or(0).min(events.len().saturating_sub(1) as u64);
            for (version, event) in (1..).zip(events) {
                if self.is_dropped(name, version).await && self.dropped.insert(*event) {
                    assert!(version <= through, "{name} {version} was dropped");
                    found += 1;
                }
            }
        }
        assert_eq!(dropped.events, found);
        found
    }

    async fn is_dropped(&self, name: &StreamName, version: u64) -> bool {
        let (tenant, version) = ("main".parse().unwrap(), Version::new(version));
        match self.store().read_stream(&tenant, name, version, Direction::Forward, 1).await {
            Ok(page) => {
                assert_eq!(page.events.len(), 1);
                false
            }
            Err(StoreError::Dropped { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn append(&mut self, n: usize, events: usize) {
        self.try_append(n, events).await.unwrap();
    }

    /// Appends some events of one stream with a command, which must fit its version.
    pub(crate) async fn try_append(&mut self, n: usize, events: usize) -> Result<(), AppendError> {
        self.append_to(stream(n), events).await
    }

    pub(crate) async fn append_rare(&mut self) {
        self.append_to(StreamName::new("rare", "one").unwrap(), 1).await.unwrap();
    }

    async fn append_to(&mut self, stream: StreamName, events: usize) -> Result<(), AppendError> {
        let data = format!("\"{}\"", "x".repeat(self.bulk - 2));
        let new = || NewEvent::new(EventId(Uuid::now_v7()), "Happened", data.as_str(), Metadata::default());
        let events: Vec<_> = std::iter::repeat_with(new).take(events).collect();
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        let known = self.streams.entry(stream.clone()).or_default();
        let expected = Expected::Exactly(Version::new(known.len() as u64));
        // Some ids tell no time.
        let id = if self.log.len().is_multiple_of(3) { Uuid::new_v4() } else { Uuid::now_v7() };
        let key = key(CommandId(id));
        let (content, verdict) = (ContentHash([0; 16]), Verdict::Applied);
        let ledger = Some(LedgerWrite { key: key.clone(), content, stream: stream.clone(), verdict });
        let tenant = key.tenant.clone();
        let entries = vec![Entry { stream, expected, events }];
        let store = self.store.as_ref().expect("it is open");
        let appended = store
            .append(vec![Append { tenant, entries, ledger, fence: None, recorded_at: None }])
            .await
            .remove(0)?;
        known.extend(&ids);
        self.log.extend(ids);
        assert_eq!(appended.position.get(), self.log.len() as u64);
        self.commands.push((key, appended.position.get()));
        Ok(())
    }

    /// Appends so many events to some streams, and more until all but a few tails are in runs: the tail is only set
    /// aside when something is appended.
    pub(crate) async fn fill(&mut self, events: usize) {
        for n in 0..events {
            self.append(n % 7, 1).await;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while events > 3 * self.limits.tail_entries && !self.is_covered() {
            assert!(Instant::now() < deadline, "no runs");
            self.append(self.log.len() % 7, 1).await;
        }
    }

    /// Whether runs cover all of the log but a few tails.
    pub(crate) fn is_covered(&self) -> bool {
        let bytes = self.log_bytes();
        let per_entry = bytes / (2 * self.log.len() as u64);
        self.covered() + 4 * self.limits.tail_entries as u64 * per_entry > bytes
    }

    pub(crate) fn head(&self) -> usize {
        usize::try_from(self.store().head().get()).unwrap()
    }

    pub(crate) fn events(&self) -> usize {
        self.log.len()
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    /// The files of the runs, sorted.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.index()).unwrap().map(|file| file.unwrap().path());
        let mut runs: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|end| end == "run")).collect();
        runs.sort();
        runs
    }

    /// Up to which address the names of the runs say that they cover the log.
    pub(crate) fn covered(&self) -> u64 {
        let end = |path: &PathBuf| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            u64::from_str_radix(name.split_once('-').unwrap().1, 16).unwrap()
        };
        self.runs().iter().map(end).max().unwrap_or(0)
    }

    /// The last file of the log.
    fn segment(&self) -> PathBuf {
        let files = fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "seg")).max().unwrap()
    }

    /// How long the last file is, without the zeros that were written ahead.
    fn segment_bytes(&self) -> u64 {
        let bytes = fs::read(self.segment()).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
    }

    /// Where the log ends.
    fn log_bytes(&self) -> u64 {
        let base = self.segment().file_stem().unwrap().to_str().unwrap().to_owned();
        u64::from_str_radix(&base, 16).unwrap() + self.segment_bytes()
    }

    pub(crate) fn tear(&mut self, bytes: u64) {
        self.torn = true;
        let len = self.segment_bytes().saturating_sub(bytes).max(40);
        fs::OpenOptions::new().write(true).open(self.segment()).unwrap().set_len(len).unwrap();
    }

    /// Damages the record of the event at this position.
    pub(crate) fn damage_event(&self, position: usize) {
        let (bytes, id) = (fs::read(self.segment()).unwrap(), self.log[position - 1].0);
        let at = bytes.windows(16).position(|window| window == id.as_bytes()).unwrap();
        damage(&self.segment(), at);
    }

    pub(crate) fn with_run(&self, n: usize, change: impl FnOnce(&Path)) {
        let runs = self.runs();
        if !runs.is_empty() {
            change(&runs[n % runs.len()]);
        }
    }

    pub(crate) fn damage_run(&self, n: usize, byte: usize) {
        self.with_run(n, |path| damage(path, byte));
    }

    pub(crate) async fn read_everything(&self) -> Result<Vec<Arc<Event>>, StoreError> {
        self.read(Filter::Everything, 7).await
    }

    pub(crate) async fn rare(&self) -> Vec<Arc<Event>> {
        self.read(Filter::Category("rare".into()), 100).await.unwrap()
    }

    async fn read(&self, filter: Filter, limit: usize) -> Result<Vec<Arc<Event>>, StoreError> {
        let (mut found, mut after) = (Vec::new(), Position::ZERO);
        while after < self.store().head() {
            let page = self.store().read_all(after, filter.clone(), limit).await?;
            assert!(page.through > after, "the page after {after} comes no further");
            after = page.through;
            found.extend(page.events);
        }
        Ok(found)
    }

    pub(crate) async fn knows_a_fresh_command(&self) -> bool {
        self.store().look_up(vec![fresh()]).await.unwrap()[0].is_some()
    }

    pub(crate) async fn version_of_another(&self, n: usize) -> u64 {
        let name = StreamName::new("thing", &format!("another-{n}")).unwrap();
        let tenant = "main".parse().unwrap();
        let page = self.store().read_stream(&tenant, &name, Version::new(1), Direction::Forward, 9).await;
        page.unwrap().head.get()
    }

    /// Asserts that every way to read gives what was written.
    pub(crate) async fn check(&self) {
        self.try_check().await.unwrap();
    }

    /// As [`Self::check`], again as long as the store says that it cannot answer now.
    pub(crate) async fn check_until_right(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.try_check().await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::task::yield_now().await;
        }
    }

    async fn try_check(&self) -> Result<(), StoreError> {
        let all = self.read_everything().await?;
        let kept: Vec<_> = self.log.iter().filter(|id| !self.dropped.contains(id)).copied().collect();
        assert_eq!(all.iter().map(|event| event.id).collect::<Vec<_>>(), kept);
        let category = |name: &'static str| Filter::Category(name.into());
        for filter in [Filter::People, category("$system"), category("like"), category("nobody")] {
            let wanted: Vec<_> = all.iter().filter(|event| filter.admits(event)).cloned().collect();
            assert_eq!(self.read(filter, 5).await?, wanted);
        }
        for (name, events) in &self.streams {
            self.check_stream(name, events).await?;
        }
        let keys: Vec<_> = self.commands.iter().map(|(key, _)| key.clone()).collect();
        let found = self.store().look_up(keys).await?;
        for (found, (key, position)) in found.into_iter().zip(&self.commands) {
            let receipt = found.expect("a command is not known").receipt;
            assert_eq!((receipt.command_id, receipt.position.get()), (key.command_id, *position));
        }
        assert!(!self.knows_a_fresh_command().await);
        Ok(())
    }

    async fn check_stream(&self, name: &StreamName, events: &[EventId]) -> Result<(), StoreError> {
        let tenant = "main".parse().unwrap();
        let page = |from, direction, limit| {
            self.store().read_stream(&tenant, name, Version::new(from), direction, limit)
        };
        let last = events.len() as u64;
        let kept = |version: u64| {
            let id = *events.get(usize::try_from(version).unwrap().checked_sub(1)?)?;
            (!self.dropped.contains(&id)).then_some(id)
        };
        for (from, limit) in [(1, usize::MAX), (last / 2 + 1, 3), (last, 1), (last + 1, 5)] {
            let backward = (1..=from.min(last)).rev().collect();
            for (direction, asked) in
                [(Direction::Forward, Vec::from_iter(from.max(1)..=last)), (Direction::Backward, backward)]
            {
                let wanted: Vec<_> = asked.iter().map_while(|version| kept(*version)).take(limit).collect();
                let gone = asked.first().is_some_and(|first| kept(*first).is_none());
                match page(from, direction, limit).await {
                    Err(StoreError::Dropped { kept_from }) => {
                        let kept_from = kept_from.get();
                        assert!(gone && kept(kept_from - 1).is_none(), "{name} {from}");
                        assert!(
                            kept(kept_from).is_some() || kept_from == last + 1,
                            "{name} {from}: {kept_from}"
                        );
                    }
                    read => {
                        let read = read?;
                        let found: Vec<_> = read.events.iter().map(|event| event.id).collect();
                        assert_eq!((read.head.get(), found, gone), (last, wanted, false), "{name} {from}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves a cursor, and tells where it must be after any reopening.
    pub(crate) async fn step(&self, reactor: &str, position: u64) {
        let position = Some(Position::new(position));
        let update = CursorUpdate { reactor: reactor.into(), position, ..CursorUpdate::default() };
        self.store().write_cursor(update).await.unwrap();
    }

    pub(crate) async fn cursor(&self, reactor: &str) -> u64 {
        self.store().read_cursor(reactor).await.unwrap().position.get()
    }

    pub(crate) async fn lease(&self, owner: &str) -> Option<u64> {
        let lease = self.store().acquire_lease("lease", owner, Duration::from_secs(3_600)).await.unwrap();
        lease.map(|lease| lease.token)
    }
}

fn damage(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = byte % bytes.len();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}
