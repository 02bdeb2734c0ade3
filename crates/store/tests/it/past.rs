//! Views that are rebuilt from baselines, and views as they once were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use serde_json::json;
use sillage_kernel::{
    BASELINE_TAKEN, Baseline, Checksum, Event, EventId, Expected, Filter, FoldsBaselines, Metadata, NewEvent,
    Position, Rows, StreamName, Tenant, Timestamp, Version, View, ViewError,
};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::views::{
    Baselines, COMPACTED_TO, MAX_PAST, PastError, PastView, PastViews, Table, ViewSet, ViewsError,
};
use sillage_store::{Append, CursorUpdate, Entry, EventStore};
use tempfile::TempDir;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

/// Adds up the data of each stream; an event with 13 cannot be folded.
struct Sums;

impl View for Sums {
    const NAME: &'static str = "sums";
    const REVISION: u32 = 1;
    type Key = StreamName;
    type Row = u64;

    fn filter() -> Filter {
        Filter::Category("thing".into())
    }

    fn fold(event: &Event, rows: &mut dyn Rows<StreamName, u64>) -> Result<(), ViewError> {
        let add: u64 = serde_json::from_str(&event.data).unwrap();
        if add == 13 {
            return Err(ViewError::Storage("on purpose".into()));
        }
        let sum = rows.get(&event.stream)?.unwrap_or(0);
        rows.put(event.stream.clone(), sum + add);
        Ok(())
    }

    const FOLDS_BASELINES: FoldsBaselines = FoldsBaselines::Yes;

    fn fold_baseline(
        baseline: &Baseline,
        _: &Event,
        rows: &mut dyn Rows<StreamName, u64>,
    ) -> Result<(), ViewError> {
        // Nothing is to be there, and if there is, it shows.
        let sum = rows.get(&baseline.stream)?.unwrap_or(0);
        rows.put(baseline.stream.clone(), sum + baseline.state.as_u64().unwrap());
        Ok(())
    }
}

struct SumsTable;

impl Table<Sums> for SumsTable {
    fn schema(&self) -> &'static str {
        "DROP TABLE IF EXISTS sums; CREATE TABLE sums(stream TEXT PRIMARY KEY, sum INTEGER NOT NULL)"
    }

    fn load(&self, db: &Connection, key: &StreamName) -> rusqlite::Result<Option<u64>> {
        db.query_row("SELECT sum FROM sums WHERE stream = ?1", [key.as_str()], |row| row.get(0)).optional()
    }

    fn save(&self, db: &Connection, key: &StreamName, row: Option<&u64>) -> rusqlite::Result<()> {
        db.execute("INSERT OR REPLACE INTO sums VALUES (?1, ?2)", (key.as_str(), row)).map(drop)
    }
}

/// Counts all events of things, and needs each of them.
struct Everything;

impl View for Everything {
    const NAME: &'static str = "everything";
    const REVISION: u32 = 1;
    type Key = ();
    type Row = u64;

    fn filter() -> Filter {
        Filter::People
    }

    fn fold(_: &Event, rows: &mut dyn Rows<(), u64>) -> Result<(), ViewError> {
        let count = rows.get(&())?.unwrap_or(0);
        rows.put((), count + 1);
        Ok(())
    }
}

struct EverythingTable;

impl Table<Everything> for EverythingTable {
    fn schema(&self) -> &'static str {
        "DROP TABLE IF EXISTS everything; CREATE TABLE everything(one INTEGER PRIMARY KEY, count INTEGER NOT NULL)"
    }

    fn load(&self, db: &Connection, (): &()) -> rusqlite::Result<Option<u64>> {
        db.query_row("SELECT count FROM everything", [], |row| row.get(0)).optional()
    }

    fn save(&self, db: &Connection, (): &(), row: Option<&u64>) -> rusqlite::Result<()> {
        db.execute("INSERT OR REPLACE INTO everything VALUES (1, ?1)", [row]).map(drop)
    }
}

fn views() -> ViewSet {
    ViewSet::default().with(SumsTable)
}

fn both() -> ViewSet {
    views().with(EverythingTable)
}

fn tenant() -> Tenant {
    "main".parse().unwrap()
}

/// A log of things, with the sums that it leads to.
struct Scene {
    folder: TempDir,
    store: Arc<MemoryStore>,
    /// After each position, the sum of each stream.
    sums: Vec<BTreeMap<StreamName, u64>>,
}

impl Scene {
    fn new() -> Self {
        let (folder, store) = (TempDir::new().unwrap(), Arc::new(MemoryStore::new(1)));
        Self { folder, store, sums: vec![BTreeMap::new()] }
    }

    async fn append(&self, stream: StreamName, event_type: &str, data: String) {
        let metadata = Metadata { schema: 1, ..Metadata::default() };
        let event = NewEvent::new(EventId(Uuid::new_v4()), event_type, data, metadata);
        let entries = vec![Entry { stream, expected: Expected::Any, events: vec![event] }];
        let append = Append { tenant: tenant(), entries, ledger: None, fence: None, recorded_at: None };
        self.store.append(vec![append]).await.remove(0).unwrap();
    }

    async fn add(&mut self, stream: &str, number: u64) {
        let stream: StreamName = stream.parse().unwrap();
        self.append(stream.clone(), "Added", number.to_string()).await;
        let mut sums = self.sums.last().unwrap().clone();
        if stream.category() == "thing" {
            *sums.entry(stream).or_default() += number;
        }
        self.sums.push(sums);
    }

    /// A baseline of what the stream is at its version, which says that its sum is `state`.
    async fn baseline(&mut self, stream: &str, version: u64, state: u64) {
        let stream: StreamName = stream.parse().unwrap();
        let baseline = Baseline {
            stream: stream.clone(),
            version: Version::new(version),
            event: EventId(Uuid::nil()),
            checksum: Checksum::START,
            recorded_at: Timestamp::default(),
            revision: 1,
            state: json!(state),
        };
        let stream = StreamName::baseline_of(&stream).unwrap();
        self.append(stream, BASELINE_TAKEN, baseline.encode()).await;
        let sums = self.sums.last().unwrap().clone();
        self.sums.push(sums);
    }

    fn past(&self, views: fn() -> ViewSet) -> Arc<PastViews> {
        PastViews::open(Arc::clone(&self.store) as _, views(), &self.folder.path().join("past")).unwrap()
    }

    fn files(&self) -> usize {
        let there = std::fs::read_dir(self.folder.path().join("past")).unwrap();
        there
            .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "sqlite"))
            .count()
    }

    async fn compacted_to(&self, position: u64) {
        let position = Some(Position::new(position));
        let update = CursorUpdate { reactor: COMPACTED_TO.into(), position, ..CursorUpdate::default() };
        self.store.write_cursor(update).await.unwrap();
    }

    /// All events of the log but those at some positions, as they are after compaction.
    async fn events_without(&self, dropped: &[u64]) -> Vec<Arc<Event>> {
        let page = self.store.read_all(Position::ZERO, Filter::Everything, 1_000).await.unwrap();
        page.events.into_iter().filter(|event| !dropped.contains(&event.position.get())).collect()
    }
}

async fn sum(view: &PastView, stream: &str) -> (Option<u64>, u64) {
    let stream: StreamName = stream.parse().unwrap();
    let answer = view.query("sums", move |db| SumsTable.load(db, &stream)).await.unwrap();
    (answer.value, answer.position.get())
}

/// The sums of two streams of the scene, after all of its events but the dropped ones.
async fn rebuilt(scene: &Scene, folder: &TempDir, dropped: &[u64]) -> [Option<u64>; 2] {
    let (epoch, head) = (scene.store.epoch(), scene.store.head());
    let baselines = Baselines::of_compaction(scene.store.as_ref()).await.unwrap();
    let mut views = views().open(&folder.path().join("views.sqlite"), &epoch, head, baselines).unwrap();
    views.fold(&scene.events_without(dropped).await, head).unwrap();
    let ask = |db: &Connection| {
        Ok(["thing-a", "other-a"].map(|stream| SumsTable.load(db, &stream.parse().unwrap()).unwrap()))
    };
    let answer = views.reader().query("sums", ask).await.unwrap();
    assert_eq!(answer.position, head);
    answer.value
}

#[tokio::test]
async fn what_was_dropped_is_taken_from_the_last_baseline() {
    let mut scene = Scene::new();
    for number in 1..=2 {
        scene.add("thing-a", number).await;
    }
    scene.baseline("thing-a", 2, 3).await;
    for number in 3..=4 {
        scene.add("thing-a", number).await;
    }
    scene.baseline("other-a", 1, 999).await;
    scene.baseline("thing-a", 4, 10).await;
    scene.add("thing-a", 100).await;
    // This one stands for nothing yet, and says something else, so that it would show.
    scene.baseline("thing-a", 5, 999).await;
    for dropped in [&[][..], &[1], &[2, 4], &[1, 2, 3, 4, 5]] {
        scene.compacted_to(7).await;
        let folder = TempDir::new().unwrap();
        assert_eq!(rebuilt(&scene, &folder, dropped).await, [Some(110), None], "without {dropped:?}");
        // A view that has come so far does not change.
        assert_eq!(rebuilt(&scene, &folder, dropped).await, [Some(110), None], "without {dropped:?}");
    }
}

#[tokio::test]
async fn a_view_that_stands_before_what_was_dropped_begins_anew() {
    let mut scene = Scene::new();
    let folder = TempDir::new().unwrap();
    scene.add("thing-a", 1).await;
    assert_eq!(rebuilt(&scene, &folder, &[]).await, [Some(1), None]);
    for number in 2..=3 {
        scene.add("thing-a", number).await;
    }
    scene.baseline("thing-a", 3, 6).await;
    scene.compacted_to(4).await;
    assert_eq!(rebuilt(&scene, &folder, &[1, 2, 3]).await, [Some(6), None]);
    // One that cannot is not opened, unless nothing that it wants was dropped.
    let file = folder.path().join("views.sqlite");
    let (epoch, head) = (scene.store.epoch(), scene.store.head());
    let baselines = || Baselines::of_compaction(scene.store.as_ref());
    let refused = both().open(&file, &epoch, head, baselines().await.unwrap()).err().unwrap();
    assert!(matches!(refused, ViewsError::Compacted("everything")), "{refused}");
    scene.compacted_to(0).await;
    both().open(&file, &epoch, head, baselines().await.unwrap()).unwrap();
}

#[test]
fn a_single_view_is_given_the_baselines_of_its_category_alone() {
    let folder = TempDir::new().unwrap();
    let epoch = sillage_kernel::Epoch::from_log_id(1);
    let views =
        views().open(&folder.path().join("views.sqlite"), &epoch, Position::ZERO, Baselines::default());
    assert_eq!(views.unwrap().filter(), Filter::WithBaselines("thing".into()));
}

#[test]
fn a_view_says_whether_it_can_do_without_events() {
    assert_eq!(both().need_every_event_of("thing"), ["everything"]);
    assert_eq!(views().need_every_event_of("thing"), Vec::<&str>::new());
    assert_eq!(both().need_every_event_of("$outcomes"), Vec::<&str>::new(), "nobody wants them");
}

#[tokio::test]
async fn at_every_position_the_views_are_as_they_were() {
    let mut scene = Scene::new();
    for number in 0..40 {
        let stream = ["thing-a", "other-a", "thing-b"].into_iter().cycle().nth(number).unwrap();
        scene.add(stream, number as u64).await;
        if number == 20 {
            let so_far = scene.sums.last().unwrap()[&"thing-a".parse().unwrap()];
            scene.baseline("thing-a", 7, so_far).await;
        }
    }
    for views in [views, both] {
        let past = scene.past(views);
        for (position, sums) in scene.sums.iter().enumerate().rev() {
            let position = position as u64;
            let view = past.at(Position::new(position), PATIENCE).await.unwrap();
            for stream in ["thing-a", "thing-b"] {
                let expected = sums.get(&stream.parse().unwrap()).copied();
                assert_eq!(sum(&view, stream).await, (expected, position));
            }
        }
        let error = past.at(Position::new(42), PATIENCE).await.unwrap_err();
        assert!(matches!(error, PastError::NotYet { head } if head.get() == 41));
    }
}

#[tokio::test]
async fn few_are_kept_and_none_outlives_a_start() {
    let mut scene = Scene::new();
    for number in 1..=4 {
        scene.add("thing-a", number).await;
    }
    let past = scene.past(views);
    let first = past.at(Position::new(1), PATIENCE).await.unwrap();
    for position in 2..=4 {
        past.at(Position::new(position), PATIENCE).await.unwrap();
    }
    assert_eq!(scene.files(), MAX_PAST + 1, "one that somebody holds stays as long as they do");
    assert_eq!(sum(&first, "thing-a").await, (Some(1), 1));
    drop(first);
    assert_eq!(scene.files(), MAX_PAST);
    // What was asked for last is still there, and was not built again.
    let (before, again) =
        (past.at(Position::new(3), PATIENCE).await, past.at(Position::new(3), PATIENCE).await);
    assert_eq!(format!("{:?}", before.unwrap()), format!("{:?}", again.unwrap()));
    std::mem::forget(past);
    scene.past(views);
    assert_eq!(scene.files(), 0);
}

#[tokio::test]
async fn what_cannot_be_shown_is_an_error() {
    let mut scene = Scene::new();
    for number in 1..=4 {
        scene.add("thing-a", number).await;
    }
    scene.add("thing-a", 13).await;
    let past = scene.past(views);
    scene.compacted_to(3).await;
    let error = past.at(Position::new(2), PATIENCE).await.unwrap_err();
    assert!(matches!(error, PastError::Compacted { kept_from } if kept_from.get() == 3), "{error}");
    assert_eq!(sum(&past.at(Position::new(3), PATIENCE).await.unwrap(), "thing-a").await, (Some(6), 3));
    let error = past.at(Position::new(5), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, PastError::Unavailable(why) if why.contains("on purpose")), "{error}");
    assert_eq!(scene.files(), 1, "what was begun is removed");
}

#[tokio::test]
async fn one_is_built_at_a_time_and_whoever_does_not_wait_asks_again() {
    let mut scene = Scene::new();
    for number in 1..=4 {
        scene.add("thing-a", number).await;
    }
    let past = scene.past(views);
    // Nothing is built before this task waits for something.
    let error = past.at(Position::new(4), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, PastError::Building { .. }), "{error}");
    let error = past.at(Position::new(3), PATIENCE).await.unwrap_err();
    assert!(matches!(error, PastError::Busy), "{error}");
    assert_eq!(sum(&past.at(Position::new(4), PATIENCE).await.unwrap(), "thing-a").await, (Some(10), 4));
    assert_eq!(sum(&past.at(Position::new(3), PATIENCE).await.unwrap(), "thing-a").await, (Some(6), 3));
}
