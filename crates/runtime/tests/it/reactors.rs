//! A reactor that fails, panics or hangs: what waits, what goes on, and what an operator can do.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sillage_kernel::{
    Event, EventId, Expected, Failed, Failure, Filter, Metadata, NewEvent, Position, Reach, Reaction, Reactor,
};
use sillage_runtime::reactors::{Control, ControlError};
use sillage_runtime::{ReactorHandle, ReactorStatus, Reactors, Retry};
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::{Append, CursorUpdate, Entry, EventStore, Mode, ParkedBecause};
use uuid::Uuid;

/// How a destination treats the events of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Refuse,
    Fail,
    Panic,
    PanicAtOnce,
    Hang,
    Slow,
}

/// How long an event takes that is slow: three of them are more than the time-out.
const SLOW: Duration = Duration::from_millis(20);
/// The stream whose key is longer than any that is kept.
const LONG: &str = "thing-long";

/// Remembers what it has seen, and is in a mood about some streams.
#[derive(Default)]
struct Destination {
    moods: Mutex<BTreeMap<String, Mood>>,
    seen: Mutex<Vec<u64>>,
    inside: bool,
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

    fn reach(&self) -> Reach {
        if self.inside { Reach::Inside } else { Reach::Outside }
    }

    /// What stands behind a dot tells streams apart, but not keys.
    fn key(&self, event: &Event) -> Arc<str> {
        let stream = event.stream.as_str();
        match stream.split_once('.') {
            Some((key, _)) => key.into(),
            None if stream == LONG => "long".repeat(1 << 18).into(),
            None => stream.into(),
        }
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
                if mood == Some(Mood::Slow) {
                    tokio::time::sleep(SLOW).await; // tidy: sleep because that is what it takes so long for
                }
                let failure = match mood {
                    None | Some(Mood::Slow) => {
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

/// Whoever is blamed is parked.
const NO_RETRY: Retry = Retry { attempts: NonZeroU32::MIN, ..RETRY };

struct Scene {
    store: MemoryStore,
    destination: Arc<Destination>,
    reactors: Reactors,
    handle: ReactorHandle,
}

impl Scene {
    fn new() -> Self {
        Self::with(RETRY)
    }

    fn with(retry: Retry) -> Self {
        Self::on(MemoryStore::new(1), Arc::default(), retry)
    }

    fn on(store: MemoryStore, destination: Arc<Destination>, retry: Retry) -> Self {
        let mut reactors = Reactors::default();
        let handle = reactors.start(Arc::new(store.clone()), Arc::clone(&destination) as _, retry);
        Self { store, destination, reactors, handle }
    }

    /// Stops the reactor as a crash would, and starts it again on the same log.
    async fn restart(self) -> Self {
        let Self { store, destination, reactors, handle: _ } = self;
        reactors.stop().await;
        Self::on(store, destination, RETRY)
    }

    /// Appends an event to each of so many things, and has them come as one page.
    async fn append_things(&self, count: u64) {
        self.control(Control::Pause).await;
        for n in 1..=count {
            self.append(&format!("thing-{n}")).await;
        }
        self.control(Control::Resume).await;
    }

    async fn append(&self, stream: &str) {
        let event = NewEvent::new(EventId(Uuid::new_v4()), "Happened", "{}", Metadata::default());
        let entry = Entry { stream: stream.parse().unwrap(), expected: Expected::Any, events: vec![event] };
        let append = Append {
            tenant: "main".parse().unwrap(),
            entries: vec![entry],
            ledger: None,
            fence: None,
            recorded_at: None,
        };
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

/// In a new epoch nothing is sent before somebody has looked, but what is inside goes on.
#[tokio::test]
async fn in_a_new_epoch_only_what_reaches_outside_waits_to_be_resumed() {
    for inside in [false, true] {
        let store = MemoryStore::new(1);
        let held = CursorUpdate { mode: Some(Mode::Held), ..CursorUpdate::default() };
        store.write_cursor(CursorUpdate { reactor: "destination".into(), ..held }).await.unwrap();
        let destination = Arc::new(Destination { inside, ..Destination::default() });
        let scene = Scene::on(store, destination, RETRY);
        scene.append("thing-a").await;
        if !inside {
            let status = scene.until("the pause", |status| status.mode == Mode::Paused).await;
            assert_eq!((status.position, scene.destination.seen()), (Position::ZERO, vec![]));
            let scene = scene.restart().await;
            scene.until("the pause", |status| status.mode == Mode::Paused).await;
            assert!(scene.destination.seen().is_empty());
            scene.control(Control::Resume).await;
            scene.until("the end", |status| status.position == at(1)).await;
            let scene = scene.restart().await;
            scene.append("thing-a").await;
            scene.until("the end", |status| status.position == at(2)).await;
            continue;
        }
        scene.until("the end", |status| status.position == at(1) && status.mode == Mode::Running).await;
    }
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

#[tokio::test(start_paused = true)]
async fn one_that_panics_or_hangs_among_others_is_found_and_no_other_is_blamed() {
    for mood in [Mood::Panic, Mood::PanicAtOnce, Mood::Hang] {
        let scene = Scene::with(NO_RETRY);
        scene.destination.mood("thing-27", Some(mood));
        scene.append_things(60).await;
        let status = scene.until("the end", |status| status.position == at(60)).await;
        assert_eq!((parked(&status), status.retrying), (vec![27], 0), "{mood:?}");
        let seen = scene.destination.seen();
        for position in (1..=60).filter(|position| *position != 27) {
            let times = seen.iter().filter(|seen| **seen == position).count();
            assert!((1..=2).contains(&times), "{mood:?}: {position} was seen {times} times");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn slow_events_are_not_blamed_for_coming_together() {
    for (from, most) in [(1, 1), (31, 2)] {
        let scene = Scene::with(NO_RETRY);
        (from..=60).for_each(|n| scene.destination.mood(&format!("thing-{n}"), Some(Mood::Slow)));
        scene.append_things(60).await;
        let status = scene.until("the end", |status| status.position == at(60)).await;
        assert_eq!((parked(&status), status.last_error), (vec![], None), "slow from {from}");
        let seen = scene.destination.seen();
        for position in 1..=60 {
            let times = seen.iter().filter(|seen| **seen == position).count();
            assert!((1..=most).contains(&times), "slow from {from}: {position} was seen {times} times");
        }
    }
}

#[tokio::test]
async fn what_is_set_aside_before_the_cursor_has_come_to_it_outlives_a_crash() {
    let endless = Retry { attempts: NonZeroU32::MAX, ..RETRY };
    let scene = Scene::with(endless);
    for (stream, mood) in [("thing-a", Mood::Fail), ("thing-b", Mood::Refuse), ("thing-c", Mood::Refuse)] {
        scene.destination.mood(stream, Some(mood));
        scene.append(stream).await;
    }
    let before = scene.until("parking", |status| parked(status) == [2, 3]).await;
    scene.control(Control::Skip(at(2))).await;
    assert_eq!(scene.handle.control(Control::Skip(at(2))).await, Err(ControlError::NotParked(at(2))));
    assert_eq!(scene.handle.control(Control::Retry(Some(at(2)))).await, Err(ControlError::NotParked(at(2))));
    scene.control(Control::Retry(None)).await;
    let status = scene.until("the retry", |status| status.retrying == 1).await;
    assert_eq!(status.position, at(0), "thing-a holds the cursor back");

    for stream in ["thing-b", "thing-c"] {
        scene.destination.mood(stream, None);
    }
    let Scene { store, destination, reactors, handle: _ } = scene;
    reactors.stop().await;
    let scene = Scene::on(store, destination, endless);
    scene.append("thing-b").await;
    scene.append("thing-c").await;
    let status = scene.until("the newcomers", |status| parked(status) == [2, 3, 5]).await;
    assert_eq!(scene.destination.seen(), [4], "nothing waits behind what was skipped");
    assert_eq!((&status.parked[0].because, status.position), (&ParkedBecause::Skipped, at(0)));
    assert_eq!((&status.parked[1].because, &before.parked[1].because), (&failed(), &failed()));

    scene.destination.mood("thing-a", None);
    scene.until("the cursor", |status| status.position == at(5) && parked(status) == [3, 5]).await;
    assert_eq!(scene.destination.seen(), [4, 1]);
}

#[tokio::test]
async fn what_was_confirmed_above_a_held_back_cursor_is_in_order_again_after_a_crash() {
    let endless = Retry { attempts: NonZeroU32::MAX, ..RETRY };
    let scene = Scene::with(endless);
    for (stream, mood) in [("thing-a", Mood::Fail), ("thing-p.1", Mood::Refuse), ("thing-p.2", Mood::Refuse)]
    {
        scene.destination.mood(stream, Some(mood));
        scene.append(stream).await;
    }
    scene.until("parking", |status| parked(status) == [2, 3]).await;
    scene.destination.mood("thing-p.1", None);
    scene.control(Control::Retry(Some(at(2)))).await;
    scene.until("the retry", |status| parked(status) == [3] && status.retrying == 1).await;
    scene.control(Control::Pause).await;

    let Scene { store, destination, reactors, handle: _ } = scene;
    reactors.stop().await;
    let scene = Scene::on(store, destination, endless);
    scene.until("the pause", |status| status.mode == Mode::Paused).await;
    scene.destination.mood("thing-p.2", Some(Mood::Fail));
    scene.control(Control::Retry(Some(at(3)))).await;
    scene.control(Control::Resume).await;
    scene.until("the repetition", |status| parked(status) == [2, 3] && status.retrying == 1).await;
    scene.destination.mood("thing-p.2", None);
    scene.control(Control::Retry(None)).await;
    scene.until("the end", |status| status.parked.is_empty() && status.retrying == 1).await;
    assert_eq!(scene.destination.seen(), [2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_rewind_forgets_what_was_read_ahead() {
    let scene = Scene::new();
    (1..=60).for_each(|n| scene.destination.mood(&format!("thing-{n}"), Some(Mood::Slow)));
    scene.append_things(60).await;
    scene.until("the middle", |status| status.position > at(20)).await;
    scene.control(Control::Pause).await;
    scene.control(Control::Rewind(at(7))).await;
    assert_eq!(scene.handle.status().position, at(7));
    let seen = scene.destination.seen().len();
    scene.control(Control::Resume).await;
    scene.until("the end", |status| status.position == at(60)).await;
    assert_eq!(scene.destination.seen()[seen..], Vec::from_iter(8..=60));
}

fn failed() -> ParkedBecause {
    ParkedBecause::Failed { error: "never".to_owned(), attempts: 1 }
}

#[tokio::test]
async fn a_skip_holds_while_the_event_is_being_tried_again() {
    let scene = Scene::with(NO_RETRY);
    scene.destination.mood("thing-a", Some(Mood::Refuse));
    scene.append("thing-a").await;
    scene.until("parking", |status| parked(status) == [1]).await;
    scene.control(Control::Pause).await;
    scene.control(Control::Retry(None)).await;
    assert_eq!(scene.handle.status().retrying, 1);
    scene.control(Control::Skip(at(1))).await;
    scene.destination.mood("thing-a", None);
    scene.control(Control::Resume).await;
    scene.append("thing-a").await;
    let status = scene.until("the next", |status| status.position == at(2)).await;
    assert_eq!((scene.destination.seen(), parked(&status), status.retrying), (vec![2], vec![], 0));
}

#[tokio::test]
async fn more_than_one_step_of_the_cursor_may_hold_is_parked_and_forgotten_at_once() {
    const EVENTS: u64 = 1_100;
    let scene = Scene::new();
    scene.control(Control::Pause).await;
    scene.destination.mood(LONG, Some(Mood::Fail));
    for _ in 0..EVENTS {
        scene.append(LONG).await;
    }
    scene.control(Control::Resume).await;
    scene.until("parking", |status| status.position == at(EVENTS)).await;
    scene.control(Control::Pause).await;
    let written = scene.store.read_cursor("destination").await.unwrap();
    assert!(written.parked.keys().copied().eq((1..=EVENTS).map(at)), "{} are parked", written.parked.len());
    assert_eq!(written.position, at(EVENTS));
    scene.control(Control::Rewind(at(0))).await;
    let written = scene.store.read_cursor("destination").await.unwrap();
    assert_eq!((written.parked.len(), written.position), (0, at(0)));
}
