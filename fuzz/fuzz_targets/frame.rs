//! What a client sends on a socket: it becomes a command, or is refused; it never panics, and only an object is a
//! message or the data of a command.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sillage_fuzz::decode;
use sillage_gateway::receive::{action, read_message};

fuzz_target!(|text: &str| {
    for line in text.lines() {
        let Ok(message) = read_message(line) else { continue };
        assert!(is_object(line), "a message that is no object was read");
        let Ok(incoming) = action(&message) else { continue };
        let data = incoming.data;
        assert!(decode(incoming).is_err() || is_object(data), "data that is no object was taken");
    }
});

fn is_object(json: &str) -> bool {
    json.trim_ascii_start().starts_with('{')
}
