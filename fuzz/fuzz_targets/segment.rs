//! The bytes of a segment, however damaged: recovery never panics, and what it keeps, it finds again after the rest
//! was cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sillage_journal::{Address, recovery};

// As `crates/journal/src/format.rs` has them.
const SEGMENT_HEADER_BYTES: usize = 40;
const RECORD_HEADER_BYTES: usize = 16;
const MARKER_BYTES: usize = 40;
const MARKER_KIND: u8 = 0;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // Nearly everything that is made up ends at the first checksum; with good ones it gets further.
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    check(&sealed);
});

fn check(bytes: &[u8]) {
    let scan = recovery::scan(bytes, Address::new(0), 1);
    for (number, batch) in (1..).zip(&scan.batches) {
        assert_eq!(batch.number(), number);
        assert_eq!(batch.records().count() as u64, u64::from(batch.count()));
    }
    let again = recovery::scan(&bytes[..scan.end], Address::new(0), 1);
    assert_eq!((again.end, again.tail), (scan.end, recovery::Tail::Clean));
    assert_eq!(again.batches.len(), scan.batches.len());
}

/// Gives each record its checksum, and each marker the count and checksum of its run, as far as lengths lead.
fn seal(bytes: &mut [u8]) {
    let (mut at, mut run, mut count) = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES, 0_u32);
    while let Some(&[a, b, c, d, _, _, _, _, _, kind, ..]) = bytes.get(at..) {
        let end = (at + RECORD_HEADER_BYTES).saturating_add(u32::from_le_bytes([a, b, c, d]) as usize);
        if end > bytes.len() {
            return;
        }
        let closes = kind == MARKER_KIND && end - at == MARKER_BYTES;
        if closes {
            let crc = crc32c::crc32c(&bytes[run..at]);
            bytes[at + 24..at + 28].copy_from_slice(&count.to_le_bytes());
            bytes[at + 28..at + 32].copy_from_slice(&crc.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        (at, count) = (end, count + 1);
        if closes {
            (run, count) = (end, 0);
        }
    }
}
