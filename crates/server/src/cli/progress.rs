//! How far a long command has come, on stderr: in place on a terminal, and now and then a line otherwise.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use sillage_store::event_store::journal::Progress;

/// How often the line on a terminal changes.
const IN_PLACE: Duration = Duration::from_millis(100);
/// How often there is a line otherwise.
const LINES: Duration = Duration::from_secs(5);
const MIB: u64 = 1 << 20;

/// Tells how far something has come.
pub(crate) struct Teller {
    doing: &'static str,
    last: Instant,
    /// Whether a line on the terminal has to be taken back.
    shown: bool,
}

impl Teller {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, last: Instant::now(), shown: false }
    }

    /// Tells it, unless that was done a moment ago. Whether anybody can read it is of no concern.
    pub(crate) fn tell(&mut self, Progress { done_bytes, total_bytes }: Progress) {
        let in_place = stderr().is_terminal();
        if self.last.elapsed() < if in_place { IN_PLACE } else { LINES } {
            return;
        }
        self.last = Instant::now();
        self.shown = in_place;
        let percent = (done_bytes * 100).checked_div(total_bytes).unwrap_or(100);
        let line = format!("{}: {percent} % of {} MiB", self.doing, total_bytes / MIB);
        let (start, end) = if in_place { ("\r", "\u{1b}[K") } else { ("", "\n") };
        drop(write!(stderr(), "{start}{line}{end}"));
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.shown {
            drop(write!(stderr(), "\r\u{1b}[K"));
        }
    }
}
