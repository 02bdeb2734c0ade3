//! Given some events, when a command comes, then this is decided: how the rules are tested.
//!
//! It panics where the decision is another, and so belongs into tests.

use uuid::Uuid;

use crate::command::{Actor, CommandId, Rejection};
use crate::decider::{Context, Decider, Decision};
use crate::event::DomainEvent;
use crate::time::Timestamp;

/// A stream as it stands before the command. Whoever acts is `tester` unless [`Given::by`] says otherwise.
pub struct Given<D: Decider> {
    state: D::State,
    actor: Actor,
    now: Timestamp,
    command_id: CommandId,
}

/// What was decided.
pub struct Then<D: Decider>(Result<Decision<D::Event>, Rejection>);

/// The stream that these events have made.
///
/// Each event goes through its stored form first, so that what is decided on is what a replay would see.
pub fn given<D: Decider>(events: impl IntoIterator<Item = D::Event>) -> Given<D> {
    let mut state = D::State::default();
    for event in events {
        let stored = event.encode();
        let event = D::Event::decode(event.event_type(), &stored).expect("an event can be read back");
        D::evolve(&mut state, &event);
    }
    let actor = Actor::user("tester".parse().expect("a good name"));
    Given { state, actor, now: Timestamp::default(), command_id: CommandId(Uuid::nil()) }
}

impl<D: Decider> Given<D> {
    /// Somebody else acts.
    #[must_use]
    pub fn by(self, user: &str, scopes: &[&str]) -> Self {
        let user_id = user.parse().expect("a good name");
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Self { actor: Actor { user_id, scopes }, ..self }
    }

    /// It is another time.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        Self { now, ..self }
    }

    /// The command has this identity, instead of the nil UUID.
    #[must_use]
    pub fn as_command(self, command_id: CommandId) -> Self {
        Self { command_id, ..self }
    }

    /// The command comes.
    pub fn when(self, command: &D::Command) -> Then<D> {
        let Self { state, actor, now, command_id } = self;
        Then(D::decide(&state, command, &Context { now, actor: &actor, command_id }))
    }
}

impl<D: Decider> Then<D>
where
    D::Event: PartialEq + std::fmt::Debug,
{
    /// Exactly these events follow.
    #[track_caller]
    pub fn then(self, events: impl IntoIterator<Item = D::Event>) {
        let decision = self.0.expect("the command was to be accepted");
        assert_eq!(decision.events, events.into_iter().collect::<Vec<_>>());
    }

    /// Nothing changes.
    #[track_caller]
    pub fn then_unchanged(self) {
        self.then([]);
    }

    /// The rules refuse it with this code.
    #[track_caller]
    pub fn then_rejected(self, code: &str) {
        let rejection = self.0.expect_err("the command was to be rejected");
        assert_eq!(rejection.code, code, "{}", rejection.message);
    }
}
