//! A rule that panics harms nobody but the command that it panics at.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sillage_kernel::{
    Actor, CommandId, Context, Decider, Decision, DomainCommand, Envelope, InvalidField, Outcome, Rejection,
};
use sillage_runtime::{
    BusOptions, Command, CommandBus, ContentKey, Deciders, DispatchError, ReceiptSink, Settled,
};
use sillage_store::event_store::memory::MemoryStore;
use uuid::Uuid;

/// A step was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepTaken {
    number: u64,
}

sillage_kernel::domain_events! {
    /// What can happen on a walk.
    pub(crate) enum WalkEvent { StepTaken }
}

/// Takes a step, or falls.
struct Step {
    falls: bool,
}

struct Walk;

impl DomainCommand for Step {
    const NAMES: &'static [&'static str] = &["Step", "Fall"];

    fn decode(name: &str, _: &str, _: &Envelope) -> Result<Self, InvalidField> {
        Ok(Self { falls: name == "Fall" })
    }

    fn target(&self) -> &str {
        "a"
    }

    fn content(&self) -> String {
        self.falls.to_string()
    }
}

impl Decider for Walk {
    const CATEGORY: &'static str = "walk";
    const REVISION: u32 = 1;
    type State = u64;
    type Command = Step;
    type Event = WalkEvent;

    fn decide(state: &u64, command: &Step, _: &Context<'_>) -> Result<Decision<WalkEvent>, Rejection> {
        assert!(!command.falls, "on purpose");
        Ok(WalkEvent::from(StepTaken { number: state + 1 }).into())
    }

    fn evolve(state: &mut u64, _: &WalkEvent) {
        *state += 1;
    }
}

struct Nobody;

impl ReceiptSink for Nobody {
    fn deliver(&self, _: &[Settled]) {}
}

pub(crate) fn command(number: u128, name: &str) -> Command {
    let envelope = Envelope {
        tenant: "main".parse().unwrap(),
        actor: Actor::user("alice".parse().unwrap()),
        command_id: CommandId(Uuid::from_u128(number)),
        feed: None,
        traceparent: None,
    };
    Deciders::new(ContentKey([0; 32])).with::<Walk>().decode(name, "{}", envelope).unwrap()
}

#[tokio::test]
async fn those_of_the_same_turn_and_stream_are_decided_all_the_same() {
    let store = Arc::new(MemoryStore::new(1));
    let bus = CommandBus::start(store, Arc::new(Nobody), BusOptions { shards: 1, ..BusOptions::default() });
    // Nothing yields between them, so they are one turn.
    let names = ["Fall", "Step", "Fall", "Step", "Step"];
    let mut answers = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let (sender, answer) = tokio::sync::oneshot::channel();
        bus.submit(command(number as u128 + 1, name), Box::new(move |result| drop(sender.send(result))))
            .await;
        answers.push(answer);
    }
    let mut versions = Vec::new();
    for (answer, name) in answers.into_iter().zip(names) {
        match (name, answer.await.unwrap()) {
            ("Fall", Err(DispatchError::Broken(_))) => {}
            ("Step", Ok(receipt)) => match receipt.outcome {
                Outcome::Applied { versions: of_step } => versions.extend(of_step.iter().map(|v| v.get())),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(versions, [1, 2, 3]);
    assert!(bus.dispatch(command(99, "Step")).await.is_ok(), "the shard lives");
}
