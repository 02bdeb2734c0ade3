//! Views: what a fold gives, what a failing one does, and what a restart finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use sillage_kernel::{
    Checksum, Epoch, Event, EventId, Filter, Metadata, Position, Rows, StreamName, Timestamp, Version, View,
    ViewError,
};
use sillage_store::views::{Baselines, Freshness, QueryError, Table, ViewSet, Views, ViewsError};
use tempfile::TempDir;
use uuid::Uuid;

/// Counts the events of each stream; one with the data `"broken"` cannot be folded.
struct Counts<const REVISION: u32>;

impl<const N: u32> View for Counts<N> {
    const NAME: &'static str = "counts";
    const REVISION: u32 = N;
    type Key = StreamName;
    type Row = u64;

    fn filter() -> Filter {
        Filter::Category("thing".into())
    }

    fn fold(event: &Event, rows: &mut dyn Rows<StreamName, u64>) -> Result<(), ViewError> {
        if &*event.data == "\"broken\"" {
            return Err(ViewError::Storage("on purpose".into()));
        }
        let count = rows.get(&event.stream)?.unwrap_or(0);
        if &*event.data == "\"reset\"" {
            rows.remove(event.stream.clone());
        } else {
            rows.put(event.stream.clone(), count + 1);
        }
        Ok(())
    }
}

struct CountsTable;

impl<const N: u32> Table<Counts<N>> for CountsTable {
    fn schema(&self) -> &'static str {
        "DROP TABLE IF EXISTS counts; CREATE TABLE counts(stream TEXT PRIMARY KEY, count INTEGER NOT NULL)"
    }

    fn load(&self, db: &Connection, key: &StreamName) -> rusqlite::Result<Option<u64>> {
        db.query_row("SELECT count FROM counts WHERE stream = ?1", [key.as_str()], |row| row.get(0))
            .optional()
    }

    fn save(&self, db: &Connection, key: &StreamName, row: Option<&u64>) -> rusqlite::Result<()> {
        match row {
            Some(count) => {
                db.execute("INSERT OR REPLACE INTO counts VALUES (?1, ?2)", (key.as_str(), count))?
            }
            None => db.execute("DELETE FROM counts WHERE stream = ?1", [key.as_str()])?,
        };
        Ok(())
    }
}

/// Remembers the last position; never fails.
struct Last;

impl View for Last {
    const NAME: &'static str = "last";
    const REVISION: u32 = 1;
    type Key = ();
    type Row = u64;

    fn filter() -> Filter {
        Filter::Everything
    }

    fn fold(event: &Event, rows: &mut dyn Rows<(), u64>) -> Result<(), ViewError> {
        rows.put((), event.position.get());
        Ok(())
    }
}

struct LastTable;

impl Table<Last> for LastTable {
    fn schema(&self) -> &'static str {
        "DROP TABLE IF EXISTS last; CREATE TABLE last(one INTEGER PRIMARY KEY, position INTEGER NOT NULL)"
    }

    fn load(&self, db: &Connection, (): &()) -> rusqlite::Result<Option<u64>> {
        db.query_row("SELECT position FROM last", [], |row| row.get(0)).optional()
    }

    fn save(&self, db: &Connection, (): &(), row: Option<&u64>) -> rusqlite::Result<()> {
        db.execute("INSERT OR REPLACE INTO last VALUES (1, ?1)", [row])?;
        Ok(())
    }
}

fn event(position: u64, stream: &str, data: &str) -> Arc<Event> {
    Arc::new(Event {
        position: Position::new(position),
        tenant: "main".parse().unwrap(),
        stream: stream.parse().unwrap(),
        version: Version::new(1),
        id: EventId(Uuid::from_u128(position.into())),
        event_type: "Happened".into(),
        data: format!("\"{data}\"").into(),
        metadata: Metadata::default(),
        metadata_json: "{}".into(),
        recorded_at: Timestamp::default(),
        checksum: Checksum::START,
    })
}

struct Scene {
    folder: TempDir,
    views: Views,
}

fn open<const N: u32>(folder: &TempDir, epoch: u128, head: u64) -> Result<Views, ViewsError> {
    let set = ViewSet::default().with::<Counts<N>>(CountsTable).with::<Last>(LastTable);
    set.open(
        &folder.path().join("views.sqlite"),
        &Epoch::from_log_id(epoch),
        Position::new(head),
        Baselines::default(),
    )
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let views = open::<1>(&folder, 1, 0).unwrap();
        Self { folder, views }
    }

    fn fold(&mut self, events: &[Arc<Event>]) {
        self.views.fold(events, events.last().unwrap().position).unwrap();
    }

    async fn count(&self, stream: &'static str) -> (Option<u64>, u64, Freshness) {
        let key: StreamName = stream.parse().unwrap();
        let ask = move |db: &Connection| <CountsTable as Table<Counts<1>>>::load(&CountsTable, db, &key);
        let answer = self.views.reader().query("counts", ask).await.unwrap();
        (answer.value, answer.position.get(), answer.freshness)
    }

    async fn last(&self) -> (Option<u64>, u64) {
        let answer = self.views.reader().query("last", |db| LastTable.load(db, &())).await.unwrap();
        (answer.value, answer.position.get())
    }

    fn reopen<const N: u32>(self, epoch: u128, head: u64) -> Self {
        let Self { folder, views } = self;
        drop(views);
        let views = open::<N>(&folder, epoch, head).unwrap();
        Self { folder, views }
    }

    fn positions(&self) -> Vec<u64> {
        self.views.reader().statuses().iter().map(|status| status.position.get()).collect()
    }
}

#[tokio::test]
async fn a_batch_is_folded_and_its_position_told() {
    let mut scene = Scene::new();
    scene.fold(&[event(1, "thing-a", ""), event(2, "other-a", ""), event(3, "thing-a", "")]);
    assert_eq!(scene.count("thing-a").await, (Some(2), 3, Freshness::Fresh));
    scene.fold(&[event(4, "thing-a", ""), event(5, "thing-b", ""), event(6, "thing-b", "reset")]);
    assert_eq!(scene.count("thing-a").await, (Some(3), 6, Freshness::Fresh));
    assert_eq!(scene.count("thing-b").await.0, None);
    assert_eq!(scene.last().await, (Some(6), 6));
    // The same events again, as after a crash, change nothing.
    scene.fold(&[event(4, "thing-a", ""), event(5, "thing-b", ""), event(6, "thing-b", "reset")]);
    assert_eq!(scene.count("thing-a").await.0, Some(3));
}

#[tokio::test]
async fn a_view_that_fails_stops_says_so_and_harms_no_other() {
    let mut scene = Scene::new();
    scene.fold(&[event(1, "thing-a", "")]);
    scene.fold(&[event(2, "thing-a", ""), event(3, "thing-a", "broken")]);
    scene.fold(&[event(4, "thing-a", "")]);
    assert_eq!(scene.count("thing-a").await, (Some(1), 1, Freshness::Stale), "nothing of the batch was kept");
    assert_eq!(scene.last().await, (Some(4), 4));
    let statuses = scene.views.reader().statuses();
    assert!(statuses[0].stopped.as_ref().unwrap().contains("on purpose"));
    assert_eq!(scene.views.cursor(), Some(Position::new(4)));
    // Mended and started again, it catches up from where it stood, and the other is not disturbed.
    let mut scene = scene.reopen::<1>(1, 4);
    assert_eq!(scene.views.cursor(), Some(Position::new(1)));
    scene.fold(&[event(2, "thing-a", ""), event(3, "thing-a", ""), event(4, "thing-a", "")]);
    assert_eq!((scene.count("thing-a").await.0, scene.last().await.0), (Some(4), Some(4)));
}

/// A table whose rows are large, in a file that may have only so many pages.
struct Cramped(Arc<AtomicU32>);

impl Table<Counts<1>> for Cramped {
    fn schema(&self) -> &'static str {
        "DROP TABLE IF EXISTS cramped; CREATE TABLE cramped(stream TEXT PRIMARY KEY, count INTEGER, ballast BLOB)"
    }

    fn load(&self, db: &Connection, key: &StreamName) -> rusqlite::Result<Option<u64>> {
        let ask = "SELECT count FROM cramped WHERE stream = ?1";
        db.query_row(ask, [key.as_str()], |row| row.get(0)).optional()
    }

    fn save(&self, db: &Connection, key: &StreamName, row: Option<&u64>) -> rusqlite::Result<()> {
        let limit = format!("PRAGMA max_page_count = {}", self.0.load(Ordering::Relaxed));
        db.query_row(&limit, [], |_| Ok(()))?;
        let insert = "INSERT OR REPLACE INTO cramped VALUES (?1, ?2, zeroblob(1000000))";
        db.execute(insert, (key.as_str(), row)).map(drop)
    }
}

#[tokio::test]
async fn a_full_disk_stops_no_view() {
    let (folder, pages) = (TempDir::new().unwrap(), Arc::new(AtomicU32::new(1)));
    let set = ViewSet::default().with::<Last>(LastTable).with::<Counts<1>>(Cramped(Arc::clone(&pages)));
    let file = folder.path().join("views.sqlite");
    let mut views = set.open(&file, &Epoch::from_log_id(1), Position::ZERO, Baselines::default()).unwrap();
    let events = [event(1, "thing-a", "")];
    let full = views.fold(&events, Position::new(1)).unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    assert_eq!(views.cursor(), Some(Position::ZERO), "no view was moved, and none has stopped");
    // There is room again.
    pages.store(1_000_000, Ordering::Relaxed);
    views.fold(&events, Position::new(1)).unwrap();
    let scene = Scene { folder, views };
    assert_eq!((scene.positions(), scene.last().await), (vec![1, 1], (Some(1), 1)));
}

#[tokio::test]
async fn another_shape_or_another_log_begins_anew() {
    let mut scene = Scene::new();
    scene.fold(&[event(1, "thing-a", ""), event(2, "thing-a", "")]);
    let scene = scene.reopen::<1>(1, 2);
    assert_eq!((scene.positions(), scene.count("thing-a").await.0), (vec![2, 2], Some(2)));
    let scene = scene.reopen::<2>(1, 2);
    assert_eq!((scene.positions(), scene.count("thing-a").await.0), (vec![0, 2], None));
    let scene = scene.reopen::<2>(7, 2);
    assert_eq!((scene.positions(), scene.last().await.0), (vec![0, 0], None));
}

/// Whether an error says that the views stand at 2 and the log at 1.
fn beyond(error: &ViewsError) -> bool {
    matches!(error, ViewsError::BeyondTheLog { views, log } if (views.get(), log.get()) == (2, 1))
}

#[tokio::test]
async fn views_that_know_more_than_the_log_are_not_opened() {
    let mut scene = Scene::new();
    scene.fold(&[event(1, "thing-a", ""), event(2, "thing-a", "")]);
    let Scene { folder, views } = scene;
    drop(views);
    let error = open::<1>(&folder, 1, 1).err().unwrap();
    assert!(beyond(&error) && error.to_string().contains("sillage epoch new"), "{error}");
    // Nor when all of them would be built anew, or are no more.
    let error = open::<2>(&folder, 1, 1).err().unwrap();
    assert!(beyond(&error), "{error}");
    let none = ViewSet::default();
    let none = none.open(
        &folder.path().join("views.sqlite"),
        &Epoch::from_log_id(1),
        Position::new(1),
        Baselines::default(),
    );
    assert!(beyond(&none.err().unwrap()));
    open::<1>(&folder, 7, 1).unwrap();
}

#[tokio::test]
async fn whoever_waits_for_a_position_gets_it_or_hears_how_far_it_has_come() {
    let mut scene = Scene::new();
    let reader = scene.views.reader();
    let waiting = tokio::spawn(async move {
        reader
            .wait_for("counts", Position::new(2), Duration::from_secs(10))
            .await
            .map_err(|error| error.to_string())
    });
    scene.fold(&[event(1, "thing-a", "")]);
    scene.fold(&[event(2, "thing-a", "")]);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let late = scene.views.reader().wait_for("counts", Position::new(3), Duration::from_millis(1)).await;
    assert!(matches!(late, Err(QueryError::TooEarly { reached }) if reached.get() == 2));
}
