//! What a client sends on a socket: it becomes a command, or is refused; it never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sillage_domains::likes::Likes;
use sillage_gateway::receive::{action, read_message};
use sillage_kernel::{Actor, Envelope};
use sillage_runtime::{ContentKey, Deciders};

fuzz_target!(|text: &str| {
    let deciders = Deciders::new(ContentKey([0; 32])).with::<Likes>();
    for line in text.lines() {
        let Ok(message) = read_message(line) else { continue };
        let Ok(incoming) = action(&message) else { continue };
        let envelope = Envelope {
            tenant: "main".parse().expect("a good name"),
            actor: Actor::user("fuzz".parse().expect("a good name")),
            command_id: incoming.command_id,
            feed: incoming.feed,
            traceparent: None,
        };
        // A refusal is as good as a command.
        drop(deciders.decode(incoming.name, incoming.data, envelope));
    }
});
