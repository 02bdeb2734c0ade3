//! A log in a folder, and what it must hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sillage_journal::{Disk, RealDisk};
use sillage_kernel::{
    CommandId, ContentHash, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, StreamName,
    Version,
};
use sillage_store::event_store::journal::{IndexLimits, JournalOptions, JournalStore};
use sillage_store::{
    Append, AppendError, CursorUpdate, Direction, Entry, EventStore, LedgerKey, LedgerWrite, StoreError,
    Verdict,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::disk::{FailingDisk, Shared};

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
    folder: TempDir,
    /// All events, in the order of the log.
    log: Vec<EventId>,
    streams: BTreeMap<StreamName, Vec<EventId>>,
    /// Each command, and the position of its last event.
    commands: Vec<(LedgerKey, u64)>,
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
        let (folder, streams) = (TempDir::new().unwrap(), BTreeMap::new());
        let mut log =
            Self { store: None, disk, limits, folder, log: Vec::new(), streams, commands: Vec::new() };
        log.open();
        log
    }

    fn open(&mut self) {
        let options = JournalOptions { index: self.limits, ..JournalOptions::default() };
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
        let new = || NewEvent::new(EventId(Uuid::now_v7()), "Happened", "{}", Metadata::default());
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

    fn segment(&self) -> PathBuf {
        self.folder.path().join("0000000000000000.seg")
    }

    /// Where the log ends, without the zeros that were written ahead.
    fn log_bytes(&self) -> u64 {
        let bytes = fs::read(self.segment()).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
    }

    pub(crate) fn tear(&self, bytes: u64) {
        let len = self.log_bytes().saturating_sub(bytes).max(40);
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
        assert_eq!(all.iter().map(|event| event.id).collect::<Vec<_>>(), self.log);
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
        let ids = |events: &[Arc<Event>]| events.iter().map(|event| event.id).collect::<Vec<_>>();
        let len = events.len();
        let last = len as u64;
        for (from, limit) in [(1, usize::MAX), (last / 2 + 1, 3), (last, 1), (last + 1, 5)] {
            let read = page(from, Direction::Forward, limit).await?;
            let start = usize::try_from(from.saturating_sub(1)).unwrap().min(len);
            let end = start.saturating_add(limit).min(len);
            assert_eq!((read.head.get(), ids(&read.events)), (last, events[start..end].to_vec()));
            let read = page(from, Direction::Backward, limit).await?;
            let end = usize::try_from(from).unwrap().min(len);
            let wanted: Vec<_> = events[..end].iter().rev().take(limit).copied().collect();
            assert_eq!((read.head.get(), ids(&read.events)), (last, wanted));
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
