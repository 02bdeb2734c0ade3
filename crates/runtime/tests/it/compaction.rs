//! Compaction: when a baseline is taken, what may be dropped, and what can still be told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sillage_kernel::{
    BASELINE_TAKEN, Baseline, Event, EventId, Expected, Failed, Failure, Filter, Metadata, NewEvent,
    Position, Reaction, Reactor, Rows, StreamName, Timestamp, Version, View, ViewError,
};
use sillage_runtime::compaction::EVENTS_FOR_A_BASELINE;
use sillage_runtime::history::Fold;
use sillage_runtime::{
    Compacted, Compaction, Compactor, Control, HistoryError, Keep, Policies, PolicyError, ReactorHandle,
    Reactors, Retry, SeenHere, Supervisor, Until, last_baseline,
};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::event_store::upcasting::Upcasting;
use sillage_store::views::{Baselines, COMPACTED_TO, Table, ViewSet, Views};
use sillage_store::{Append, CursorUpdate, Cut, Direction, Entry, EventStore, Snapshots, StoreError};
use tempfile::TempDir;
use uuid::Uuid;

use crate::faulty::{FaultyStore, Reading};
use crate::history::{deciders, place, state};

const PATIENCE: Duration = Duration::from_secs(10);

/// A log with one counter, and what compacts it.
struct Scene {
    store: Arc<MemoryStore>,
    folder: TempDir,
    views: Views,
    reactors: Reactors,
    supervisor: Supervisor,
}

impl Scene {
    fn new() -> Self {
        Self::with(ViewSet::default())
    }

    fn with(set: ViewSet) -> Self {
        let (store, folder) = (Arc::new(MemoryStore::new(1)), TempDir::new().unwrap());
        let file = folder.path().join("views.sqlite");
        let views = set.open(&file, &store.epoch(), Position::ZERO, Baselines::default()).unwrap();
        Self { store, folder, views, reactors: Reactors::default(), supervisor: Supervisor::default() }
    }

    /// Appends so many events, each of which counts one.
    async fn count(&self, mut events: u64) {
        while events > 0 {
            let page = events.min(500);
            let event = |_| counted(r#"{"by":1,"why":"asked"}"#, 3);
            self.append(place().1, (0..page).map(event).collect()).await;
            events -= page;
        }
    }

    async fn append(&self, stream: StreamName, events: Vec<NewEvent>) {
        self.store.append(vec![append_of(stream, events)]).await.remove(0).unwrap();
    }

    /// A baseline as another program has left it.
    async fn baseline(&self, version: u64, revision: u32, state: Value) {
        let (tenant, stream) = place();
        let at = self.store.read_stream(&tenant, &stream, Version::new(version), Direction::Forward, 1).await;
        let at = Arc::clone(&at.unwrap().events[0]);
        let baseline = Baseline {
            stream: stream.clone(),
            version: at.version,
            event: at.id,
            checksum: at.checksum,
            recorded_at: at.recorded_at,
            revision,
            state,
        };
        let metadata = Metadata { schema: 1, ..Metadata::default() };
        let event = NewEvent::new(EventId(Uuid::new_v4()), BASELINE_TAKEN, baseline.encode(), metadata);
        self.append(StreamName::baseline_of(&stream).unwrap(), vec![event]).await;
    }

    fn react(&mut self, reactor: impl Reactor) -> ReactorHandle {
        self.reactors.start(Arc::clone(&self.store) as _, Arc::new(reactor), Retry::default())
    }

    fn compactor(&self, keep: Keep) -> Compactor {
        self.compactor_of(Arc::clone(&self.store) as _, keep)
    }

    fn compactor_of(&self, store: Arc<dyn EventStore>, keep: Keep) -> Compactor {
        let policies = Policies::new(&deciders(), &ViewSet::default(), &[("counter".to_owned(), keep)]);
        let compaction = Compaction {
            store: Upcasting::over(store, deciders().upcasters().clone()),
            snapshots: None,
            policies: policies.unwrap(),
            seen: SeenHere { reactors: self.reactors.handles().to_vec(), views: self.views.reader() },
            neighbour: None,
        };
        Compactor::start(compaction, &self.supervisor).0
    }

    /// The first version that can be read.
    async fn kept_from(&self) -> u64 {
        let (tenant, stream) = place();
        match self.store.read_stream(&tenant, &stream, Version::new(1), Direction::Forward, 1).await {
            Err(StoreError::Dropped { kept_from }) => kept_from.get(),
            page => page.unwrap().events.first().map_or(0, |event| event.version.get()),
        }
    }

    /// Where a reactor stands, as it is written.
    async fn cursor(&self, reactor: &str) -> Position {
        self.store.read_cursor(reactor).await.unwrap().position
    }

    /// Writes where the destination stands, without its knowing.
    async fn write_cursor(&self, position: Position) {
        let (reactor, position) = ("destination".into(), Some(position));
        self.store.write_cursor(CursorUpdate { reactor, position, ..CursorUpdate::default() }).await.unwrap();
    }

    async fn total(&self, until: Until) -> Result<(u64, u64), HistoryError> {
        let store = Upcasting::over(Arc::clone(&self.store) as _, deciders().upcasters().clone());
        let then = state(store.as_ref(), None, until).await?;
        let state: Value = serde_json::from_str(&then.state).unwrap();
        Ok((then.version.get(), state["total"].as_u64().unwrap()))
    }

    /// The baselines of the log, in its order.
    async fn baselines(&self) -> Vec<Arc<Event>> {
        let filter = Filter::Category("$baseline".into());
        self.store.read_all(Position::ZERO, filter, 10_000).await.unwrap().events
    }
}

fn append_of(stream: StreamName, events: Vec<NewEvent>) -> Append {
    let entries = vec![Entry { stream, expected: Expected::Any, events }];
    Append { tenant: place().0, entries, ledger: None, fence: None, recorded_at: None }
}

fn counted(data: &str, schema: u16) -> NewEvent {
    NewEvent::new(EventId(Uuid::new_v4()), "Counted", data, Metadata { schema, ..Metadata::default() })
}

async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let wait = async {
        while !ask().await {
            // tidy: sleep because nothing tells when it is there; bounded by the deadline.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} never came"));
}

fn compacted(baselines: u64, events: u64) -> impl Fn(&Compacted) -> bool {
    move |done| (done.baselines, done.dropped.events) == (baselines, events)
}

#[tokio::test]
async fn a_stream_gets_a_baseline_and_loses_what_it_stands_for() {
    let scene = Scene::new();
    let compactor = scene.compactor(Keep::FromBaseline);
    scene.count(EVENTS_FOR_A_BASELINE - 1).await;
    assert!(compacted(0, 0)(&compactor.compact().await.unwrap()), "not yet");
    scene.count(201).await;
    // The newest event of a stream is never dropped.
    assert!(compacted(1, 1_199)(&compactor.compact().await.unwrap()));
    assert_eq!((scene.kept_from().await, scene.total(Until::End).await.unwrap()), (1_200, (1_200, 1_200)));
    scene.count(100).await;
    assert!(compacted(0, 0)(&compactor.compact().await.unwrap()), "nothing new is due");
    let version = |version| Until::Version(Version::new(version));
    assert_eq!(scene.total(Until::End).await.unwrap(), (1_300, 1_300));
    assert_eq!(scene.total(version(1_250)).await.unwrap(), (1_250, 1_250));
    assert_eq!(scene.total(version(1_200)).await.unwrap(), (1_200, 1_200));
    assert_eq!(scene.total(version(0)).await.unwrap(), (0, 0), "before the first there was nothing");
    for too_early in [version(1_199), version(1), Until::Time(Timestamp::from_micros(0))] {
        let error = scene.total(too_early).await.unwrap_err();
        assert!(
            matches!(error, HistoryError::Compacted { kept_from } if kept_from.get() == 1_200),
            "{error}"
        );
    }
    assert!(matches!(scene.total(version(1_301)).await.unwrap_err(), HistoryError::NotYet(_)));
    // The next one takes the place of the first, which goes, too.
    scene.count(800).await;
    assert!(compacted(1, 901)(&compactor.compact().await.unwrap()));
    let (tenant, stream) = place();
    let baseline = last_baseline(scene.store.as_ref(), &tenant, &stream).await.unwrap().unwrap();
    assert_eq!((baseline.version.get(), baseline.state), (2_100, json!({"total": 2_100})));
    assert_eq!(scene.baselines().await.len(), 1);
    assert_eq!(scene.cursor(COMPACTED_TO).await, scene.store.head());
}

/// Compacts while these come in, one after each page of the counter that is read.
async fn compact_while(scene: &Scene, appends: impl IntoIterator<Item = Append>) -> Compacted {
    let outrun = FaultyStore::over((*scene.store).clone());
    outrun.reading("counter-a", Reading::Outrun(Mutex::new(appends.into_iter().collect())));
    scene.compactor_of(Arc::new(outrun), Keep::Days(1)).compact().await.unwrap()
}

#[tokio::test]
async fn a_baseline_is_the_state_of_its_stream_at_its_own_position() {
    let scene = Scene::new();
    scene.count(1_000).await;
    let one_more = || append_of(place().1, vec![counted(r#"{"by":1,"why":"asked"}"#, 3)]);
    let endless = std::iter::repeat_with(one_more).take(1_000);
    assert!(compacted(0, 0)(&compact_while(&scene, endless).await), "a stream that never rests has to wait");
    scene.count(1_000).await;
    let some = std::iter::repeat_with(one_more).take(12);
    assert!(compacted(1, 0)(&compact_while(&scene, some).await), "nothing is a day old");
    let log = scene.store.read_all(Position::ZERO, Filter::Everything, 10_000).await.unwrap().events;
    let (baseline, before) = log.split_last().unwrap();
    let (baseline, last) = (Baseline::read(baseline).unwrap(), before.last().unwrap());
    assert_eq!((baseline.version, baseline.event, baseline.checksum), (last.version, last.id, last.checksum));
    assert_eq!(baseline.state, json!({"total": last.version.get()}));
    assert_eq!(scene.kept_from().await, 1);
}

#[tokio::test]
async fn of_two_that_take_a_baseline_one_is_too_late() {
    let scene = Scene::new();
    scene.count(1_000).await;
    let other = Scene::new();
    other.count(1_000).await;
    other.baseline(1_000, 3, json!({"total": 1_000})).await;
    let theirs = Arc::clone(&other.baselines().await[0]);
    let event = NewEvent::new(theirs.id, BASELINE_TAKEN, &*theirs.data, theirs.metadata.clone());
    let append = append_of(theirs.stream.clone(), vec![event]);
    assert!(compacted(0, 0)(&compact_while(&scene, [append]).await));
    assert_eq!(scene.baselines().await.len(), 1);
}

#[tokio::test]
async fn several_compactors_and_a_crash_in_between_do_no_harm() {
    let scene = Scene::new();
    let [one, two] = [scene.compactor(Keep::FromBaseline), scene.compactor(Keep::FromBaseline)];
    scene.count(1_500).await;
    let (first, second) = tokio::join!(one.compact(), two.compact());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.baselines + second.baselines, scene.baselines().await.len()), (1, 1));
    // As if the cursor had not been written after the baseline was.
    let position = Some(Position::ZERO);
    let lost = CursorUpdate { reactor: "$compaction-counter".into(), position, ..CursorUpdate::default() };
    scene.store.write_cursor(lost).await.unwrap();
    assert!(compacted(0, 0)(&scene.compactor(Keep::FromBaseline).compact().await.unwrap()));
    assert_eq!(scene.total(Until::End).await.unwrap(), (1_500, 1_500));
}

#[tokio::test]
async fn a_crash_between_a_baseline_and_the_dropping_is_made_good() {
    let scene = Scene::new();
    scene.count(1_500).await;
    let crashing = FaultyStore::over((*scene.store).clone());
    crashing.drops_nothing();
    scene.compactor_of(Arc::new(crashing), Keep::FromBaseline).compact().await.unwrap_err();
    // Whoever rebuilds a view now begins with the baseline already, though nothing is missing yet.
    let baselines = scene.baselines().await;
    assert_eq!((baselines.len(), scene.kept_from().await), (1, 1));
    assert_eq!(scene.cursor(COMPACTED_TO).await, baselines[0].position);
    assert_eq!(scene.total(Until::End).await.unwrap(), (1_500, 1_500));
    assert!(compacted(0, 1_499)(&scene.compactor(Keep::FromBaseline).compact().await.unwrap()));
    assert_eq!(scene.total(Until::End).await.unwrap(), (1_500, 1_500));
}

/// Parks every event, or does nothing.
struct Destination(Option<Failure>);

impl Reactor for Destination {
    fn name(&self) -> &'static str {
        "destination"
    }

    fn filter(&self) -> Filter {
        Filter::People
    }

    fn react<'a>(&'a self, events: &'a [Arc<Event>]) -> Reaction<'a> {
        assert!(events.iter().all(|event| &*event.event_type != BASELINE_TAKEN));
        let failed = |failure| Err(Failed { confirmed: 0, failure });
        Box::pin(std::future::ready(self.0.clone().map_or(Ok(()), failed)))
    }
}

#[tokio::test]
async fn nothing_is_dropped_that_a_reactor_has_not_passed() {
    let mut scene = Scene::new();
    let reactor = scene.react(Destination(None));
    let compactor = scene.compactor(Keep::FromBaseline);
    // It has passed most of what the baseline stands for.
    scene.count(990).await;
    let some = scene.store.head();
    until("the reactor", async || scene.cursor("destination").await == some).await;
    reactor.control(Control::Pause).await.unwrap();
    scene.count(10).await;
    assert!(compacted(1, 0)(&compactor.compact().await.unwrap()), "it is paused");
    scene.write_cursor(scene.store.head()).await;
    assert!(compacted(0, 0)(&compactor.compact().await.unwrap()), "what is written is ahead of it");
    scene.write_cursor(some).await;
    reactor.control(Control::Resume).await.unwrap();
    until("the reactor", async || reactor.status().position == scene.store.head()).await;
    until("its cursor", async || scene.cursor("destination").await == scene.store.head()).await;
    scene.write_cursor(some).await;
    assert!(compacted(0, 0)(&compactor.compact().await.unwrap()), "what is written is behind it");
    scene.write_cursor(scene.store.head()).await;
    assert!(compacted(0, 999)(&compactor.compact().await.unwrap()));
}

#[tokio::test]
async fn what_was_compacted_stays_said_when_somebody_goes_back() {
    let mut scene = Scene::new();
    scene.react(Destination(None));
    scene.count(1_000).await;
    for _ in 0..2 {
        let event = |_| counted(r#"{"by":1,"why":"asked"}"#, 3);
        scene.append("counter-b".parse().unwrap(), (0..500).map(event).collect()).await;
    }
    let compactor = scene.compactor(Keep::FromBaseline);
    until("what is dropped", async || {
        compactor.compact().await.unwrap();
        scene.cursor(COMPACTED_TO).await == scene.store.head()
    })
    .await;
    let [first, second] = &scene.baselines().await[..] else { panic!("there are two streams") };
    assert_eq!(scene.cursor(COMPACTED_TO).await, second.position);
    scene.write_cursor(first.position).await;
    assert!(compacted(0, 0)(&scene.compactor(Keep::FromBaseline).compact().await.unwrap()));
    assert_eq!(scene.cursor(COMPACTED_TO).await, second.position);
}

#[tokio::test]
async fn nothing_is_dropped_that_is_parked() {
    let mut scene = Scene::new();
    // Events of others, which it passes.
    scene.append("other-a".parse().unwrap(), vec![counted("{}", 3); 10]).await;
    scene.write_cursor(scene.store.head()).await;
    let reactor = scene.react(Destination(Some(Failure::Park("broken".into()))));
    let compactor = scene.compactor(Keep::FromBaseline);
    scene.count(1_000).await;
    until("what is parked", async || reactor.status().waiting() == 1_000).await;
    assert!(compacted(1, 0)(&compactor.compact().await.unwrap()));
    reactor.control(Control::Rewind(Position::ZERO)).await.unwrap();
    assert!(compacted(0, 0)(&compactor.compact().await.unwrap()), "it has gone back");
}

/// A view of counters that has to come along.
struct Seen;

impl View for Seen {
    const NAME: &'static str = "seen";
    const REVISION: u32 = 1;
    type Key = ();
    type Row = ();

    fn filter() -> Filter {
        Filter::Category("counter".into())
    }

    fn fold(_: &Event, _: &mut dyn Rows<(), ()>) -> Result<(), ViewError> {
        Ok(())
    }
}

impl Table<Seen> for Seen {
    fn schema(&self) -> &'static str {
        ""
    }

    fn load(&self, _: &rusqlite::Connection, (): &()) -> rusqlite::Result<Option<()>> {
        Ok(None)
    }

    fn save(&self, _: &rusqlite::Connection, (): &(), _: Option<&()>) -> rusqlite::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_is_dropped_that_a_view_has_not_folded() {
    let mut scene = Scene::with(ViewSet::default().with(Seen));
    let compactor = scene.compactor(Keep::FromBaseline);
    scene.count(990).await;
    scene.views.fold(&[], scene.store.head()).unwrap();
    scene.count(10).await;
    assert!(compacted(1, 0)(&compactor.compact().await.unwrap()));
    scene.views.fold(&[], scene.store.head()).unwrap();
    assert!(compacted(0, 999)(&compactor.compact().await.unwrap()));
}

#[test]
fn a_policy_that_would_lose_something_is_refused() {
    let policies = |views: ViewSet, keep: &[(&str, Keep)]| {
        let keep: Vec<_> = keep.iter().map(|(category, keep)| ((*category).to_owned(), *keep)).collect();
        Policies::new(&deciders(), &views, &keep).map(drop)
    };
    let seen = || ViewSet::default().with(Seen);
    let needed = PolicyError::Needed { category: "counter".to_owned(), view: "seen" };
    assert_eq!(policies(seen(), &[("counter", Keep::Days(7))]), Err(needed));
    assert_eq!(policies(seen(), &[("counter", Keep::All)]), Ok(()));
    let unknown = PolicyError::Unknown { category: "parcel".to_owned(), known: "counter".to_owned() };
    assert_eq!(policies(ViewSet::default(), &[("parcel", Keep::All)]), Err(unknown));
    let twice = [("counter", Keep::All), ("counter", Keep::FromBaseline)];
    assert_eq!(policies(ViewSet::default(), &twice), Err(PolicyError::Twice("counter".to_owned())));
}

#[tokio::test]
async fn an_old_baseline_is_upcast_and_one_that_cannot_be_is_not_used() {
    let scene = Scene::new();
    scene.count(10).await;
    // The number shows which baseline was used.
    scene.baseline(4, 2, json!({"sum": 40})).await;
    scene.baseline(6, 1, json!({"count": 6})).await;
    let compactor = scene.compactor(Keep::FromBaseline);
    assert!(compacted(0, 4)(&compactor.compact().await.unwrap()), "only the first is believed");
    let until = |version| Until::Version(Version::new(version));
    assert_eq!(scene.total(until(5)).await.unwrap(), (5, 41));
    let error = scene.total(Until::End).await.unwrap_err();
    assert!(matches!(&error, HistoryError::Replay(why) if why.to_string().contains("revision 1")), "{error}");
}

#[tokio::test]
async fn a_baseline_of_another_log_is_not_believed() {
    let scene = Scene::new();
    scene.count(10).await;
    let other = Scene::new();
    other.count(10).await;
    other.baseline(5, 3, json!({"total": 5})).await;
    let foreign = Arc::clone(&other.baselines().await[0]);
    let event = NewEvent::new(foreign.id, BASELINE_TAKEN, &*foreign.data, foreign.metadata.clone());
    scene.append(foreign.stream.clone(), vec![event]).await;
    assert!(compacted(0, 0)(&scene.compactor(Keep::FromBaseline).compact().await.unwrap()));
}

#[tokio::test]
async fn a_snapshot_of_what_was_dropped_is_passed_over_and_one_of_what_was_not_is_used() {
    let scene = Scene::new();
    let snapshots = Snapshots::open(&scene.folder.path().join("snapshots.sqlite")).unwrap();
    scene.count(1_000).await;
    scene.compactor(Keep::FromBaseline).compact().await.unwrap();
    scene.count(10).await;
    let (tenant, stream) = place();
    for (version, expected) in [(900, 1_010), (1_005, 105)] {
        let read =
            scene.store.read_stream(&tenant, &stream, Version::new(version), Direction::Forward, 1).await;
        let event = read.ok().map_or(EventId(Uuid::nil()), |page| page.events[0].id);
        let of = sillage_store::SnapshotOf { tenant: tenant.clone(), stream: stream.clone(), revision: 3 };
        let saved = r#"{"total":100}"#.to_owned();
        snapshots.offer(
            of.clone(),
            sillage_store::Snapshot { version: Version::new(version), event, state: saved },
        );
        until("the snapshot", async || {
            snapshots.find(of.clone()).await.is_some_and(|found| found.version.get() == version)
        })
        .await;
        let told = state(scene.store.as_ref(), Some(&snapshots), Until::End).await.unwrap();
        assert_eq!(told.state, json!({"total": expected}).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_by_itself() {
    let scene = Scene::new();
    let compactor = scene.compactor(Keep::FromBaseline);
    scene.count(1_000).await;
    while scene.kept_from().await == 1 {
        // tidy: sleep because the clock only moves while everybody waits; it is not the real one.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    drop(compactor);
}

/// Dropped are the events from 301 to 700 and those from 800 to 899; the baselines are at 750 and at 1,000.
#[tokio::test]
async fn a_fold_of_a_log_with_holes_takes_its_baselines_and_says_what_is_lost() {
    let scene = Scene::new();
    scene.count(750).await;
    scene.baseline(750, 3, json!({"total": 750})).await;
    scene.count(250).await;
    scene.baseline(1_000, 3, json!({"total": 1_000})).await;
    scene.append("counter-b".parse().unwrap(), vec![counted(r#"{"by":7,"why":"asked"}"#, 3)]).await;
    scene.count(10).await;
    let log = scene.store.read_all(Position::ZERO, Filter::Everything, 10_000).await.unwrap().events;
    let is_kept = |event: &&Arc<Event>| {
        let version = event.version.get();
        event.stream != place().1 || !((301..=700).contains(&version) || (800..900).contains(&version))
    };
    let told = |until| {
        let mut fold = Fold::new(&deciders(), &place().1, until).unwrap();
        for event in log.iter().filter(is_kept) {
            if fold.wants(event) {
                fold.add(event).unwrap();
            }
        }
        fold.finish()
    };
    for version in 0..=1_010 {
        let told = told(Until::Version(Version::new(version)));
        let lost_until = match version {
            301..750 => Some(750),
            800..1_000 => Some(1_000),
            _ => None,
        };
        match (told, lost_until) {
            (Ok(told), None) => assert_eq!(told.state, json!({"total": version}).to_string()),
            (Err(HistoryError::Compacted { kept_from }), Some(expected)) => {
                assert_eq!(kept_from.get(), expected, "at {version}");
            }
            (told, _) => panic!("at {version}: {told:?}"),
        }
    }
    assert_eq!(told(Until::End).unwrap().version.get(), 1_010);
    assert!(matches!(told(Until::Version(Version::new(1_011))), Err(HistoryError::NotYet(_))));
}

#[tokio::test]
async fn a_replay_that_is_overtaken_by_compaction_goes_on_from_the_baseline() {
    let scene = Scene::new();
    scene.count(2_000).await;
    scene.baseline(1_500, 3, json!({"total": 1_500})).await;
    let overtaken = FaultyStore::over((*scene.store).clone());
    let (tenant, stream) = place();
    let cut = Cut { tenant, stream: stream.clone(), through: Version::new(1_500) };
    overtaken.reading(stream.as_str(), Reading::Overtaken(cut));
    let told = state(&overtaken, None, Until::End).await.unwrap();
    assert_eq!((told.version.get(), told.state), (2_000, json!({"total": 2_000}).to_string()));
    assert_eq!(scene.kept_from().await, 1_501);
    let told = state(&overtaken, None, Until::Version(Version::new(1_400))).await.unwrap_err();
    assert!(matches!(told, HistoryError::Compacted { kept_from } if kept_from.get() == 1_500));
}
