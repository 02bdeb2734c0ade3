//! The body of a route that a document prints: it becomes a command, or is refused; it never panics, and it is the
//! same command as an action on its feed with the same data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sillage_domains::likes::LikesCommand;
use sillage_fuzz::decode;
use sillage_gateway::receive::{FlatCommand, Incoming};
use sillage_kernel::DomainCommand;

fuzz_target!(|body: &[u8]| {
    let Ok(flat) = FlatCommand::read(body, LikesCommand::NAMES) else { return };
    let Ok(command) = decode(flat.incoming()) else { return };
    let on_feed = Incoming { feed: Some(command.stream.clone()), ..flat.incoming() };
    let Ok(same) = decode(on_feed) else { panic!("its action is refused") };
    assert_eq!((same.stream, same.content), (command.stream, command.content));
});
