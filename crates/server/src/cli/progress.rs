//! How far a long command has come, on stderr: one line that is written over on a terminal, elsewhere a line now and
//! then.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// How often a terminal is told, and anything else.
const ON_A_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Tells now and then. Dropping it takes the line off a terminal.
pub(crate) struct Progress {
    told: Instant,
    place: Place,
}

#[derive(PartialEq)]
enum Place {
    Terminal,
    Elsewhere,
}

impl Progress {
    pub(crate) fn begin() -> Self {
        let place = if stderr().is_terminal() { Place::Terminal } else { Place::Elsewhere };
        Self { told: Instant::now(), place }
    }

    /// Tells what `text` says, if it is time to. Who does not listen is not missed.
    pub(crate) fn tell(&mut self, text: impl FnOnce() -> String) {
        let (pause, before, after) = match self.place {
            Place::Terminal => (ON_A_TERMINAL, "\r\x1b[K", ""),
            Place::Elsewhere => (ELSEWHERE, "", "\n"),
        };
        if self.told.elapsed() >= pause {
            self.told = Instant::now();
            drop(write!(stderr(), "{before}{}{after}", text()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.place == Place::Terminal {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}
