//! What the targets share: one user, who sends commands to the rules of all systems.

use std::sync::LazyLock;

use sillage_domains::likes::Likes;
use sillage_gateway::receive::Incoming;
use sillage_kernel::{Actor, Envelope};
use sillage_runtime::{Command, ContentKey, Deciders, DecodeCommandError};

static DECIDERS: LazyLock<Deciders> = LazyLock::new(|| Deciders::new(ContentKey([0; 32])).with::<Likes>());

/// The command that a message of `alice` means. A refusal is as good as a command.
pub fn decode(incoming: Incoming<'_>) -> Result<Command, DecodeCommandError> {
    let Incoming { feed, name, command_id, data } = incoming;
    let envelope = Envelope {
        tenant: "main".parse().expect("a good name"),
        actor: Actor::user("alice".parse().expect("a good name")),
        command_id,
        feed,
        traceparent: None,
    };
    DECIDERS.decode(name, data, envelope)
}
