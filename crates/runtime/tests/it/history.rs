//! Old events, saved states, and what was so.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sillage_kernel::{
    Actor, Checksum, CommandId, Context, Decider, Decision, DomainCommand, DomainEvent, Envelope, EventId,
    Expected, Filter, InvalidField, Metadata, NewEvent, Outcome, Position, Rejection, StreamName, Tenant,
    Timestamp, Version,
};
use sillage_runtime::history::{Fold, state_at};
use sillage_runtime::{
    BusOptions, CommandBus, ContentKey, Deciders, HistoryError, ReceiptSink, Settled, StateAt, Until,
};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::event_store::upcasting::Upcasting;
use sillage_store::{Append, Direction, Entry, EventStore, Snapshot, SnapshotOf, Snapshots};
use tempfile::TempDir;
use uuid::Uuid;

/// Something was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    by: u64,
    why: String,
}

/// Before the second schema everything was counted singly, and `because` had no better name.
fn singly(mut data: Value) -> Value {
    data["by"] = json!(1);
    data
}

fn why(data: Value) -> Value {
    json!({ "by": data["by"], "why": data["because"] })
}

sillage_kernel::domain_events! {
    /// What can happen to a counter.
    pub(crate) enum CounterEvent { Counted }
    upcast { Counted: [singly, why] }
}

pub(crate) struct Count;

impl DomainCommand for Count {
    const NAMES: &'static [&'static str] = &["Count"];

    fn decode(_: &str, _: &str, _: &Envelope) -> Result<Self, InvalidField> {
        Ok(Self)
    }

    fn target(&self) -> &str {
        "a"
    }

    fn content(&self) -> String {
        String::new()
    }
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    total: u64,
}

pub(crate) struct Counting;

impl Decider for Counting {
    const CATEGORY: &'static str = "counter";
    const REVISION: u32 = 3;
    const SNAPSHOT_EVERY: u64 = 10;
    type State = Counter;
    type Command = Count;
    type Event = CounterEvent;

    fn decide(_: &Counter, _: &Count, _: &Context<'_>) -> Result<Decision<CounterEvent>, Rejection> {
        Ok(CounterEvent::from(Counted { by: 1, why: "asked".into() }).into())
    }

    fn evolve(state: &mut Counter, CounterEvent::Counted(Counted { by, .. }): &CounterEvent) {
        state.total += by;
    }

    /// The second revision had another name for the total; the first is forgotten, which is a mistake.
    fn upcast_state(revision: u32, state: Value) -> Option<Value> {
        match revision {
            2 => Some(json!({ "total": state["sum"] })),
            Self::REVISION => Some(state),
            _ => None,
        }
    }
}

pub(crate) fn deciders() -> Deciders {
    Deciders::new(ContentKey([0; 32])).with::<Counting>()
}

pub(crate) fn place() -> (Tenant, StreamName) {
    ("main".parse().unwrap(), "counter-a".parse().unwrap())
}

/// A log as older programs have left it: so many events of each schema.
async fn log(schemas: [usize; 3]) -> MemoryStore {
    let store = MemoryStore::new(1);
    let data = [r#"{"because":"a"}"#, r#"{"because":"b","by":10}"#, r#"{"by":100,"why":"c"}"#];
    for ((schema, data), count) in (1..).zip(data).zip(schemas) {
        for _ in 0..count {
            let metadata = Metadata { schema, ..Metadata::default() };
            let event = NewEvent::new(EventId(Uuid::new_v4()), "Counted", data.to_owned(), metadata);
            let (tenant, stream) = place();
            let entries = vec![Entry { stream, expected: Expected::Any, events: vec![event] }];
            store
                .append(vec![Append { tenant, entries, ledger: None, fence: None, recorded_at: None }])
                .await
                .remove(0)
                .unwrap();
        }
    }
    store
}

pub(crate) async fn state(
    store: &dyn EventStore,
    snapshots: Option<&Snapshots>,
    until: Until,
) -> Result<StateAt, HistoryError> {
    let (tenant, stream) = place();
    state_at(&deciders(), store, snapshots, (&tenant, &stream), until).await
}

#[tokio::test]
async fn old_events_are_read_in_the_newest_shape_and_stay_as_they_are() {
    let stored = log([1, 1, 1]).await;
    let newest = Upcasting::over(Arc::new(stored.clone()), deciders().upcasters().clone());
    let (tenant, stream) = place();
    let page = |store: Arc<dyn EventStore>| {
        let (tenant, stream) = (tenant.clone(), stream.clone());
        async move {
            store.read_stream(&tenant, &stream, Version::new(1), Direction::Forward, 9).await.unwrap().events
        }
    };
    let read: Vec<_> = page(Arc::clone(&newest))
        .await
        .iter()
        .map(|event| (event.metadata.schema, CounterEvent::read(event).unwrap()))
        .collect();
    let counted = |by, why: &str| (3, CounterEvent::from(Counted { by, why: why.into() }));
    assert_eq!(read, [counted(1, "a"), counted(10, "b"), counted(100, "c")]);
    let all = newest.read_all(Position::ZERO, Filter::Everything, 9).await.unwrap().events;
    assert_eq!(all, page(newest).await);
    let mut before = Checksum::START;
    for event in page(Arc::new(stored)).await {
        assert!(event.follows(&before), "the log below has the stored bytes");
        before = event.checksum;
    }
}

#[tokio::test]
async fn an_event_of_a_newer_program_is_not_misread() {
    let store = log([0, 0, 0]).await;
    let (tenant, stream) = place();
    let metadata = Metadata { schema: 4, ..Metadata::default() };
    let event =
        NewEvent::new(EventId(Uuid::new_v4()), "Counted", r#"{"by":1,"why":"d"}"#.to_owned(), metadata);
    let entries = vec![Entry { stream, expected: Expected::Any, events: vec![event] }];
    store
        .append(vec![Append { tenant, entries, ledger: None, fence: None, recorded_at: None }])
        .await
        .remove(0)
        .unwrap();
    let error = state(&store, None, Until::End).await.unwrap_err().to_string();
    assert!(error.contains("schema 4") && error.contains("knows 3"), "{error}");
}

#[tokio::test]
async fn the_state_at_a_version_or_at_a_time() {
    let store = log([0, 0, 25]).await;
    let (tenant, stream) = place();
    let events =
        store.read_stream(&tenant, &stream, Version::new(1), Direction::Forward, 99).await.unwrap().events;
    for (version, before) in (0..=25_u64).zip(std::iter::once(None).chain(events.iter().map(Some))) {
        let at = state(&store, None, Until::Version(Version::new(version))).await.unwrap();
        let recorded_at = before.map(|event| event.recorded_at);
        let expected = StateAt {
            version: Version::new(version),
            recorded_at,
            state: format!(r#"{{"total":{}}}"#, version * 100),
        };
        assert_eq!(at, expected);
        if let Some(time) = recorded_at {
            // Several may have been recorded in one microsecond.
            let last = events.iter().filter(|event| event.recorded_at <= time).count() as u64;
            assert_eq!(state(&store, None, Until::Time(time)).await.unwrap().version, Version::new(last));
        }
        let mut fold = Fold::new(&deciders(), &stream, Until::Version(Version::new(version))).unwrap();
        events.iter().for_each(|event| fold.add(event).unwrap());
        assert_eq!(fold.finish().unwrap(), expected);
    }
    let before = state(&store, None, Until::Time(Timestamp::from_micros(0))).await.unwrap();
    assert_eq!((before.version, before.recorded_at), (Version::ZERO, None));
    let error = state(&store, None, Until::Version(Version::new(26))).await.unwrap_err();
    assert!(matches!(error, HistoryError::NotYet(version) if version == Version::new(25)), "{error}");
    let other = (tenant, "thing-a".parse().unwrap());
    let error = state_at(&deciders(), &store, None, (&other.0, &other.1), Until::End).await.unwrap_err();
    assert!(matches!(error, HistoryError::NoRules(category) if category == "thing"));
}

fn of(revision: u32) -> SnapshotOf {
    let (tenant, stream) = place();
    SnapshotOf { tenant, stream, revision }
}

fn open() -> (TempDir, Snapshots) {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(&folder.path().join("snapshots.sqlite")).unwrap();
    (folder, snapshots)
}

async fn kept(snapshots: &Snapshots, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let look = async {
        loop {
            match snapshots.find(of(Counting::REVISION)).await {
                Some(snapshot) if wanted(&snapshot) => return snapshot,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("a snapshot was to be kept")
}

/// The snapshots of these tests say 7,000,000, which no replay does: so it shows whether one was used.
#[tokio::test]
async fn a_snapshot_is_believed_only_if_the_log_has_its_event() {
    let store = log([0, 0, 40]).await;
    let (tenant, stream) = place();
    let events =
        store.read_stream(&tenant, &stream, Version::new(1), Direction::Forward, 99).await.unwrap().events;
    let (of_20, of_21) = (events[19].id, events[20].id);
    let lie = r#"{"total":7000000}"#;
    let (used, passed_over) = ("7002000", "4000");
    let rows = [
        (Counting::REVISION, 20, of_20, lie, used),
        (Counting::REVISION, 20, of_21, lie, passed_over),
        (Counting::REVISION, 41, of_20, lie, passed_over),
        (Counting::REVISION + 1, 20, of_20, lie, passed_over),
        (Counting::REVISION, 20, of_20, r#"{"sum":7000000}"#, passed_over),
    ];
    for (row, (revision, version, event, state_then, expected)) in rows.into_iter().enumerate() {
        let (folder, snapshots) = open();
        let snapshot = Snapshot { version: Version::new(version), event, state: state_then.into() };
        snapshots.offer(of(revision), snapshot);
        drop(snapshots);
        let snapshots = Snapshots::open(&folder.path().join("snapshots.sqlite")).unwrap();
        let now = state(&store, Some(&snapshots), Until::End).await.unwrap();
        assert_eq!(
            (now.version.get(), &*now.state),
            (40, &*format!(r#"{{"total":{expected}}}"#)),
            "row {row}"
        );
        // What is wanted lies before the snapshot.
        let then = state(&store, Some(&snapshots), Until::Version(Version::new(15))).await.unwrap();
        assert_eq!(then.state, r#"{"total":1500}"#, "row {row}");
    }
}

struct Nobody;

impl ReceiptSink for Nobody {
    fn deliver(&self, _: &[Settled]) {}
}

async fn count(bus: &CommandBus) -> Version {
    let envelope = Envelope {
        tenant: "main".parse().unwrap(),
        actor: Actor::user("alice".parse().unwrap()),
        command_id: CommandId(Uuid::new_v4()),
        feed: None,
        traceparent: None,
    };
    let receipt = bus.dispatch(deciders().decode("Count", "{}", envelope).unwrap()).await.unwrap();
    match receipt.outcome {
        Outcome::Applied { versions } => *versions.last().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_bus_keeps_a_snapshot_whenever_one_is_due_and_begins_with_it() {
    let store = Arc::new(log([0, 0, 0]).await);
    let (folder, snapshots) = open();
    let file = folder.path().join("snapshots.sqlite");
    let start = |snapshots: &Arc<Snapshots>| {
        let options = BusOptions { snapshots: Some(Arc::clone(snapshots)), ..BusOptions::default() };
        CommandBus::start(Arc::clone(&store) as _, Arc::new(Nobody), options)
    };
    let snapshots = Arc::new(snapshots);
    let bus = start(&snapshots);
    for version in 1..=35 {
        assert_eq!(count(&bus).await.get(), version);
    }
    let snapshot = kept(&snapshots, |snapshot| snapshot.version.get() == 30).await;
    assert_eq!(snapshot.state, r#"{"total":30}"#);
    let (tenant, stream) = place();
    let events =
        store.read_stream(&tenant, &stream, Version::new(30), Direction::Forward, 1).await.unwrap().events;
    assert_eq!(events[0].id, snapshot.event);
    // A node that starts again goes on from there; to see that it does, the state is made to lie.
    snapshots.offer(of(Counting::REVISION), Snapshot { state: r#"{"total":1000}"#.into(), ..snapshot });
    drop((bus, snapshots));
    let snapshots = Arc::new(Snapshots::open(&file).unwrap());
    kept(&snapshots, |snapshot| snapshot.state.contains("1000")).await;
    let bus = start(&snapshots);
    for version in 36..=40 {
        assert_eq!(count(&bus).await.get(), version);
    }
    let snapshot = kept(&snapshots, |snapshot| snapshot.version.get() == 40).await;
    assert_eq!(snapshot.state, r#"{"total":1010}"#);
}
