//! The bytes of a segment, however damaged: recovery says what is whole, and never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sillage_journal::{Address, recovery};

fuzz_target!(|bytes: &[u8]| {
    let scan = recovery::scan(bytes, Address::new(0), 1);
    assert!(scan.end <= bytes.len());
});
