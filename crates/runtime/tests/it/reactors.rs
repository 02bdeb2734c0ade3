//! A reactor that fails, panics or hangs: what waits, what goes on, and what an operator can do.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sillage_kernel::{
    Event, EventId, Expected, Failed, Failure, Filter, Metadata, NewEvent, Position, Reaction, Reactor,
};
use sillage_runtime::reactors::{Control, ControlError};
use sillage_runtime::{ReactorHandle, ReactorStatus, Reactors, Retry};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::{Append, Entry, EventStore, Mode, ParkedBecause};
use uuid::Uuid;

/// How a destination treats the events of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Refuse,
    Fail,
    Panic,
    PanicAtOnce,
    Hang,
}

/// Remembers what it has seen, and is in a mood about some streams.
#[derive(Default)]
struct Destination {
    moods: Mutex<BTreeMap<String, Mood>>,
    seen: Mutex<Vec<u64>>,
}

impl Destination {
    fn mood(&self, stream: &str, mood: Option<Mood>) {
        let mut moods = self.moods.lock().unwrap();
        match mood {
            Some(mood) => drop(moods.insert(stream.to_owned(), mood)),
            None => drop(moods.remove(stream)),
        }
    }

    fn seen(&self) -> Vec<u64> {
        self.seen.lock().unwrap().clone()
    }
}

impl Reactor for Destination {
    fn name(&self) -> &'static str {
        "destination"
    }

    fn filter(&self) -> Filter {
        Filter::People
    }

    fn react<'a>(&'a self, events: &'a [Arc<Event>]) -> Reaction<'a> {
        let at_once = |event: &Arc<Event>| {
            self.moods.lock().unwrap().get(event.stream.as_str()) == Some(&Mood::PanicAtOnce)
        };
        let panics = events.first().is_some_and(at_once);
        assert!(!panics, "on purpose");
        Box::pin(async move {
            for (confirmed, event) in events.iter().enumerate() {
                let mood = self.moods.lock().unwrap().get(event.stream.as_str()).copied();
                let failure = match mood {
                    None => {
                        self.seen.lock().unwrap().push(event.position.get());
                        continue;
                    }
                    Some(Mood::Refuse) => Failure::Park("never".into()),
                    Some(Mood::Fail) => Failure::Retry("not now".into()),
                    Some(Mood::Panic | Mood::PanicAtOnce) => panic!("on purpose"),
                    Some(Mood::Hang) => std::future::pending().await,
                };
                return Err(Failed { confirmed, failure });
            }
            Ok(())
        })
    }
}

const RETRY: Retry = Retry {
    attempts: NonZeroU32::new(3).unwrap(),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(5),
    timeout: Duration::from_millis(50),
};

struct Scene {
    store: MemoryStore,
    destination: Arc<Destination>,
    reactors: Reactors,
    handle: ReactorHandle,
}

impl Scene {
    fn new() -> Self {
        Self::on(MemoryStore::new(1), Arc::default())
    }

    fn on(store: MemoryStore, destination: Arc<Destination>) -> Self {
        let mut reactors = Reactors::default();
        let handle = reactors.start(Arc::new(store.clone()), Arc::clone(&destination) as _, RETRY);
        Self { store, destination, reactors, handle }
    }

    /// Stops the reactor as a crash would, and starts it again on the same log.
    async fn restart(self) -> Self {
        let Self { store, destination, reactors, handle: _ } = self;
        reactors.stop().await;
        Self::on(store, destination)
    }

    async fn append(&self, stream: &str) {
        let event = NewEvent::new(EventId(Uuid::new_v4()), "Happened", "{}".into(), Metadata::default());
        let entry = Entry { stream: stream.parse().unwrap(), expected: Expected::Any, events: vec![event] };
        let append =
            Append { tenant: "main".parse().unwrap(), entries: vec![entry], ledger: None, fence: None };
        self.store.append(vec![append]).await.pop().unwrap().unwrap();
    }

    async fn until(&self, what: &str, holds: impl Fn(&ReactorStatus) -> bool) -> ReactorStatus {
        let mut watch = self.handle.watch();
        let status =
            tokio::time::timeout(Duration::from_secs(10), watch.wait_for(|status| holds(status))).await;
        status.unwrap_or_else(|_| panic!("{what} never came: {:?}", self.handle.status())).unwrap().clone()
    }

    async fn control(&self, control: Control) {
        self.handle.control(control).await.unwrap();
    }
}

fn at(position: u64) -> Position {
    Position::new(position)
}

fn parked(status: &ReactorStatus) -> Vec<u64> {
    status.parked.iter().map(|parked| parked.position.get()).collect()
}

#[tokio::test]
async fn what_fails_is_parked_with_what_follows_and_the_rest_goes_on() {
    for mood in [Mood::Refuse, Mood::Fail, Mood::Panic, Mood::PanicAtOnce, Mood::Hang] {
        let scene = Scene::new();
        scene.destination.mood("thing-a", Some(mood));
        for stream in ["thing-a", "thing-b", "thing-a", "thing-b"] {
            scene.append(stream).await;
        }
        let status = scene
            .until("parking", |status| {
                parked(status) == [1, 3] && status.position == at(4) && status.retrying == 0
            })
            .await;
        assert_eq!(scene.destination.seen(), [2, 4], "{mood:?}");
        let expected = if mood == Mood::Refuse { 1 } else { 3 };
        let ParkedBecause::Failed { attempts, .. } = &status.parked[0].because else { panic!("{status:?}") };
        assert_eq!((*attempts, &status.parked[1].because), (expected, &ParkedBecause::Behind), "{mood:?}");
        // What comes later for the same key waits too.
        scene.append("thing-a").await;
        scene.until("the newcomer", |status| parked(status) == [1, 3, 5]).await;
        // It is mended: all of them come, in order.
        scene.destination.mood("thing-a", None);
        scene.control(Control::Retry(Some(at(1)))).await;
        scene.until("the end", |status| status.parked.is_empty() && status.retrying == 0).await;
        assert_eq!(scene.destination.seen(), [2, 4, 1, 3, 5], "{mood:?}");
    }
}

#[tokio::test]
async fn what_fails_a_few_times_succeeds_in_order() {
    let scene = Scene::new();
    scene.destination.mood("thing-a", Some(Mood::Fail));
    scene.append("thing-a").await;
    scene.append("thing-a").await;
    scene.until("the first failure", |status| status.retrying > 0).await;
    scene.destination.mood("thing-a", None);
    let status = scene.until("the end", |status| status.retrying == 0 && status.position == at(2)).await;
    // It may have been parked before it was mended; then an operator's word is needed.
    if !status.parked.is_empty() {
        scene.control(Control::Retry(None)).await;
        scene.until("the retry", |status| status.parked.is_empty()).await;
    }
    assert_eq!(scene.destination.seen(), [1, 2]);
}

#[tokio::test]
async fn a_skip_gives_up_one_event_and_tries_those_behind_it() {
    let scene = Scene::new();
    scene.destination.mood("thing-a", Some(Mood::Refuse));
    scene.append("thing-a").await;
    scene.append("thing-a").await;
    scene.until("parking", |status| parked(status) == [1, 2]).await;
    assert_eq!(scene.handle.control(Control::Skip(at(2))).await, Err(ControlError::Behind(at(2))));
    assert_eq!(scene.handle.control(Control::Skip(at(9))).await, Err(ControlError::NotParked(at(9))));
    scene.destination.mood("thing-a", None);
    scene.control(Control::Skip(at(1))).await;
    scene.until("the end", |status| status.parked.is_empty() && status.retrying == 0).await;
    assert_eq!(scene.destination.seen(), [2]);
}

#[tokio::test]
async fn a_pause_a_place_and_what_is_parked_outlive_a_restart() {
    let scene = Scene::new();
    scene.destination.mood("thing-a", Some(Mood::Refuse));
    scene.append("thing-a").await;
    scene.append("thing-b").await;
    scene.until("parking", |status| parked(status) == [1] && status.position == at(2)).await;
    scene.control(Control::Pause).await;
    scene.append("thing-b").await;
    scene.append("thing-a").await;
    let scene = scene.restart().await;
    let status = scene.until("the pause", |status| status.mode == Mode::Paused).await;
    assert_eq!((parked(&status), status.position), (vec![1], at(2)));
    assert_eq!(scene.destination.seen(), [2]);
    scene.control(Control::Resume).await;
    scene.until("the rest", |status| parked(status) == [1, 4] && status.position == at(4)).await;
    assert_eq!(scene.destination.seen(), [2, 3]);
}

#[tokio::test]
async fn a_rewind_acts_again_on_everything_after_a_position() {
    let scene = Scene::new();
    for _ in 0..3 {
        scene.append("thing-a").await;
    }
    scene.until("the end", |status| status.position == at(3)).await;
    assert_eq!(scene.handle.control(Control::Rewind(at(4))).await, Err(ControlError::NotThereYet(at(3))));
    scene.control(Control::Rewind(at(1))).await;
    scene.until("the end again", |status| status.position == at(3)).await;
    assert_eq!(scene.destination.seen(), [1, 2, 3, 2, 3]);
}

#[tokio::test]
async fn one_that_hangs_harms_no_other() {
    let scene = Scene::new();
    scene.destination.mood("thing-a", Some(Mood::Hang));
    let other = Arc::new(Destination::default());
    let mut reactors = Reactors::default();
    let patient = Retry { timeout: Duration::from_secs(3_600), ..RETRY };
    let handle = reactors.start(Arc::new(scene.store.clone()), Arc::clone(&other) as _, patient);
    scene.append("thing-a").await;
    let mut watch = handle.watch();
    let passed =
        tokio::time::timeout(Duration::from_secs(10), watch.wait_for(|status| status.position == at(1)));
    passed.await.unwrap().unwrap();
    assert_eq!((other.seen(), scene.destination.seen()), (vec![1], vec![]));
}
