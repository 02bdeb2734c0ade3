//! The limit: a group of events written to a file in one go, and one fdatasync. No queue, no check, no checksum.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::peer::EVENT_BYTES;

/// What stands before each event: a length and a checksum, as any log has them.
const HEADER_BYTES: usize = 14;
/// How far zeros are written ahead at a time; their cost is part of what is measured.
const AHEAD_BYTES: u64 = 8 << 20;

/// Where the groups go.
#[derive(Clone, Copy, PartialEq)]
pub enum Space {
    /// To the end of a file, which grows.
    Growing,
    /// Over zeros that were written before.
    Zeroed,
}

/// Durable events a second, so many in a group.
pub fn measure(space: Space, folder: &Path, waiting: usize, time: Duration) -> f64 {
    let file = File::create(folder.join("raw")).expect("a file");
    let group = vec![b'x'; waiting * (EVENT_BYTES + HEADER_BYTES)];
    let zeros = vec![0; AHEAD_BYTES as usize];
    let (mut end, mut zeroed, mut events) = (0, 0, 0);
    let begun = Instant::now();
    while begun.elapsed() < time {
        let next = end + group.len() as u64;
        while space == Space::Zeroed && next > zeroed {
            file.write_all_at(&zeros, zeroed).expect("room for zeros");
            zeroed += AHEAD_BYTES;
        }
        file.write_all_at(&group, end).expect("room for a group");
        file.sync_data().expect("a flush");
        (end, events) = (next, events + waiting);
    }
    events as f64 / begun.elapsed().as_secs_f64()
}
