//! Commands that come twice, late, out of order, and while the log fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use sillage_domains::likes::{Likes, MODERATE};
use sillage_kernel::{
    Actor, CommandId, Context, Decider, DomainCommand, DomainEvent, Envelope, Event, Filter, Outcome,
    Position, Receipt, Timestamp,
};
use sillage_runtime::deciders::MAX_CLOCK_AHEAD;
use sillage_runtime::{
    BusOptions, Command, CommandBus, ContentKey, Deciders, DecodeCommandError, DispatchError, ReceiptSink,
    Settled,
};
use sillage_store::{EventStore, clock};
use uuid::Uuid;

use crate::faulty::{Fault, FaultyStore};

/// Hears every receipt.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<Settled>>);

impl ReceiptSink for Heard {
    fn deliver(&self, settled: &[Settled]) {
        self.0.lock().unwrap().extend_from_slice(settled);
    }
}

/// What somebody wants of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Like,
    Unlike,
    Close,
    Open,
}

/// A wish of one of a few users, of one of a few targets. All users but the last are moderators.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Click {
    pub(crate) user: u8,
    pub(crate) target: u16,
    pub(crate) wish: Wish,
}

const USERS: u8 = 3;

fn name(click: Click) -> &'static str {
    match click.wish {
        Wish::Like => "LikeAdd",
        Wish::Unlike => "LikeRemove",
        Wish::Close => "LikesClose",
        Wish::Open => "LikesOpen",
    }
}

fn data(Click { user: _, target, wish }: Click) -> String {
    match wish {
        Wish::Like | Wish::Unlike => {
            format!(r#"{{"likeId":"l","targetId":"t{target}","at":"2026-01-19T12:00:00Z"}}"#)
        }
        Wish::Close | Wish::Open => format!(r#"{{"targetId":"t{target}"}}"#),
    }
}

/// What is known of the command with that number.
pub(crate) fn envelope(id: usize, user: &str, scopes: &[&str]) -> Envelope {
    let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    Envelope {
        tenant: "main".parse().unwrap(),
        actor: Actor { user_id: user.parse().unwrap(), scopes },
        command_id: CommandId(Uuid::from_u128(1_000 + id as u128)),
        feed: None,
        traceparent: None,
    }
}

/// The number of the command with that id.
pub(crate) fn number(id: CommandId) -> usize {
    usize::try_from(id.0.as_u128() - 1_000).unwrap()
}

fn envelope_of(id: usize, click: Click) -> Envelope {
    let scopes: &[&str] = if click.user < USERS - 1 { &[MODERATE] } else { &[] };
    envelope(id, &format!("u{}", click.user), scopes)
}

pub(crate) fn command(id: usize, click: Click) -> Command {
    let deciders = Deciders::new(ContentKey([7; 32])).with::<Likes>();
    deciders.decode(name(click), &data(click), envelope_of(id, click)).unwrap()
}

/// Numbers of commands, with the answers that came.
pub(crate) type Answers = Vec<(usize, Result<Receipt, DispatchError>)>;

/// Sends the commands with these numbers in this order, without waiting for answers, and returns these in the
/// order in which they came.
pub(crate) async fn send(
    bus: &CommandBus,
    schedule: &[usize],
    command: impl Fn(usize) -> Command,
) -> Answers {
    let answers = Arc::new(Mutex::new(Answers::new()));
    let (all_in, mut waiting) = tokio::sync::mpsc::channel::<()>(1);
    for (index, &id) in schedule.iter().enumerate() {
        // Now and then the shards get a turn, so that several are on their way at the same time.
        for _ in 0..(index * 7 + id) % 4 {
            tokio::task::yield_now().await;
        }
        let (answers, all_in) = (Arc::clone(&answers), all_in.clone());
        let reply = move |result| {
            answers.lock().unwrap().push((id, result));
            drop(all_in);
        };
        bus.submit(command(id), Box::new(reply)).await;
    }
    drop(all_in);
    assert!(waiting.recv().await.is_none());
    let mut answers = answers.lock().unwrap();
    std::mem::take(&mut *answers)
}

/// The events of the log, each with the command that it is of.
pub(crate) async fn settled(store: &FaultyStore) -> Vec<(CommandId, Arc<Event>)> {
    let page = store.read_all(Position::ZERO, Filter::Everything, usize::MAX).await.unwrap();
    page.events.into_iter().map(|event| (event.metadata.command_id.unwrap(), event)).collect()
}

/// Decides every command once, in that order, on states that only these commands made: its event, none, or
/// the code that it is refused with.
fn replay(clicks: &[Click], order: &[CommandId]) -> Vec<Result<Option<String>, String>> {
    let mut states = BTreeMap::new();
    let decide = |id: &CommandId| {
        let index = number(*id);
        let (click, envelope) = (clicks[index], envelope_of(index, clicks[index]));
        let command = <Likes as Decider>::Command::decode(name(click), &data(click), &envelope).unwrap();
        let state = states.entry(click.target).or_default();
        let context = Context { now: Timestamp::default(), actor: &envelope.actor, command_id: *id };
        let decision =
            Likes::decide(state, &command, &context).map_err(|refused| refused.code.to_string())?;
        decision.events.iter().for_each(|event| Likes::evolve(state, event));
        Ok(decision.events.first().map(DomainEvent::encode))
    };
    order.iter().map(decide).collect()
}

/// The code that an event says a command was refused with.
pub(crate) fn refused_with(event: &Event) -> Option<String> {
    let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    (*event.event_type == *"CommandRejectedEvent").then(|| data["code"].as_str().unwrap().to_owned())
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A bus that has no clock, so that a replay decides the same.
pub(crate) fn start(
    store: &FaultyStore,
    shards: usize,
    streams_in_memory: usize,
) -> (CommandBus, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let options = BusOptions { shards, streams_in_memory, now: Timestamp::default, ..BusOptions::default() };
    (CommandBus::start(Arc::new(store.clone()), Arc::clone(&heard) as _, options), heard)
}

/// What the log says must be what the commands give when each is decided once, in the order of the log.
async fn check_log(store: &FaultyStore, clicks: &[Click]) {
    let log = settled(store).await;
    let order: Vec<_> = log.iter().map(|(id, _)| *id).collect();
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len(), "a command stands in the log twice");
    for ((id, event), replayed) in log.iter().zip(replay(clicks, &order)) {
        match replayed {
            Ok(Some(data)) => assert_eq!(*event.data, *data, "{id}"),
            Ok(None) => assert_eq!(&*event.event_type, "CommandUnchangedEvent", "{id}"),
            Err(code) => assert_eq!(refused_with(event), Some(code), "{id}"),
        }
    }
}

fn clicks() -> impl Strategy<Value = Vec<Click>> {
    let wish = prop_oneof![
        3 => Just(Wish::Like),
        2 => Just(Wish::Unlike),
        1 => Just(Wish::Close),
        1 => Just(Wish::Open),
    ];
    let click = (0..USERS, 0..2_u16, wish).prop_map(|(user, target, wish)| Click { user, target, wish });
    prop::collection::vec(click, 1..24)
}

pub(crate) fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        2 => (0..4_usize).prop_map(Fault::LoseAfter),
        2 => (0..3_usize).prop_map(Fault::LoseOne),
        1 => Just(Fault::AnswerLost),
    ];
    prop::collection::vec(fault, 0..24)
}

/// Wishes, and the order in which they are sent, some of them several times and some never.
fn clicks_and_schedule() -> impl Strategy<Value = (Vec<Click>, Vec<usize>)> {
    clicks().prop_flat_map(|clicks| {
        let last = clicks.len();
        (Just(clicks), prop::collection::vec(0..last, 1..64))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Without faults, doubled and resent commands change nothing, and each stream has its commands in the
    /// order in which they were first admitted.
    #[test]
    fn each_command_counts_once_in_the_order_of_admission((clicks, schedule) in clicks_and_schedule()) {
        runtime().block_on(async {
            let store = FaultyStore::new([]);
            let (bus, heard) = start(&store, 2, 1);
            let answers = send(&bus, &schedule, |id| command(id, clicks[id])).await;
            prop_assert_eq!(answers.len(), schedule.len());
            check_log(&store, &clicks).await;
            let log = settled(&store).await;
            for target in 0..2 {
                let mut seen = BTreeSet::new();
                let of_target = |id: &usize| clicks[*id].target == target;
                let first: Vec<_> = schedule.iter().filter(|id| of_target(id) && seen.insert(**id)).collect();
                let logged = log.iter().map(|(id, _)| number(*id));
                prop_assert_eq!(first.into_iter().copied().collect::<Vec<_>>(), logged.filter(of_target).collect::<Vec<_>>());
            }
            let mut receipts = BTreeMap::new();
            for (id, answer) in answers {
                let receipt = answer.unwrap();
                let first = receipts.entry(id).or_insert_with(|| receipt.clone());
                prop_assert_eq!(&receipt, first, "a resend heard something else");
            }
            let heard: BTreeSet<_> = heard.0.lock().unwrap().iter().map(|s| s.receipt.command_id).collect();
            prop_assert_eq!(heard.len(), receipts.len(), "a receipt was not delivered");
            Ok(())
        })?;
    }

    /// While appends are lost, nothing that was decided on a lost state stays: the log is always what its
    /// commands give. Whoever heard of no outcome sends again, and hears; in the end each counts once.
    #[test]
    fn a_lost_append_leaves_nothing_behind((clicks, schedule) in clicks_and_schedule(), faults in faults()) {
        runtime().block_on(async {
            let store = FaultyStore::new(faults);
            let (bus, _) = start(&store, 2, 16);
            let mut first_outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
            for attempt in 0.. {
                let answers = send(&bus, &schedule, |id| command(id, clicks[id])).await;
                check_log(&store, &clicks).await;
                let mut all_settled = true;
                for (id, answer) in answers {
                    match answer {
                        Ok(Receipt { outcome, .. }) => {
                            let first = first_outcomes.entry(id).or_insert_with(|| outcome.clone());
                            prop_assert_eq!(&outcome, first);
                        }
                        Err(error) => {
                            prop_assert!(matches!(error, DispatchError::Unavailable(_)), "{}", error);
                            all_settled = false;
                        }
                    }
                }
                if all_settled {
                    break;
                }
                prop_assert!(attempt < 20, "the faults have an end");
            }
            let sent: BTreeSet<_> = schedule.iter().collect();
            prop_assert_eq!(settled(&store).await.len(), sent.len());
            Ok(())
        })?;
    }
}

#[test]
fn the_same_id_with_another_content_is_an_error() {
    runtime().block_on(async {
        let store = FaultyStore::new([]);
        let (bus, _) = start(&store, 2, 16);
        let like = Click { user: 0, target: 0, wish: Wish::Like };
        let receipt = bus.dispatch(command(1, like)).await.unwrap();
        assert!(matches!(receipt.outcome, Outcome::Applied { .. }));
        for other in [Click { target: 1, ..like }, Click { wish: Wish::Unlike, ..like }] {
            assert_eq!(bus.dispatch(command(1, other)).await, Err(DispatchError::ContentDiffers));
        }
        // The same id of another person is another command.
        assert!(bus.dispatch(command(1, Click { user: 1, ..like })).await.is_ok());
        assert_eq!(bus.dispatch(command(1, like)).await, Ok(receipt));
        assert_eq!(store.head().get(), 2);
    });
}

#[test]
fn an_id_that_was_minted_too_far_in_the_future_is_refused_for_its_shape() {
    let deciders = Deciders::new(ContentKey([7; 32])).with::<Likes>();
    let like = Click { user: 0, target: 0, wish: Wish::Like };
    for (ahead, is_good) in [(Duration::ZERO, true), (MAX_CLOCK_AHEAD, true), (2 * MAX_CLOCK_AHEAD, false)] {
        let minted = clock::later(clock::now(), ahead);
        let id = uuid::Builder::from_unix_timestamp_millis(minted.as_millis(), &[7; 10]).into_uuid();
        let envelope = Envelope { command_id: CommandId(id), ..envelope_of(0, like) };
        match deciders.decode(name(like), &data(like), envelope) {
            Ok(_) => assert!(is_good, "{ahead:?}"),
            Err(DecodeCommandError::InvalidField(invalid)) => {
                assert_eq!((is_good, &*invalid.field), (false, "command_id"), "{ahead:?}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}
