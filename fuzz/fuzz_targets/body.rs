//! The body of a route that a document prints: it becomes a command, or is refused; it never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sillage_domains::likes::{Likes, LikesCommand};
use sillage_gateway::receive::FlatCommand;
use sillage_kernel::{Actor, DomainCommand, Envelope};
use sillage_runtime::{ContentKey, Deciders};

fuzz_target!(|body: &[u8]| {
    let deciders = Deciders::new(ContentKey([0; 32])).with::<Likes>();
    let Ok(command) = FlatCommand::read(body, LikesCommand::NAMES) else { return };
    let incoming = command.incoming();
    let envelope = Envelope {
        tenant: "main".parse().expect("a good name"),
        actor: Actor::user("fuzz".parse().expect("a good name")),
        command_id: incoming.command_id,
        feed: incoming.feed,
        traceparent: None,
    };
    // A refusal is as good as a command.
    drop(deciders.decode(incoming.name, incoming.data, envelope));
});
