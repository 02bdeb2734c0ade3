//! How a client behaves: where it connects, how long it waits, how much it holds.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::outbox::Outbox;
use crate::token::TokenSource;

/// What a client is made from. `Options { outbox, ..Options::new(url, token) }` changes what is not to be as it
/// comes.
#[derive(Debug)]
pub struct Options {
    /// Where the socket is, as `ws://host:port/ws`.
    pub url: String,
    /// Whose connection it is.
    pub token: TokenSource,
    /// Where commands wait until they are settled.
    pub outbox: Outbox,
    /// How long the client waits for what.
    pub timing: Timing,
    /// How much the client holds.
    pub limits: Limits,
}

impl Options {
    /// A client that forgets its commands when it ends, with the usual times and limits.
    pub fn new(url: impl Into<String>, token: TokenSource) -> Self {
        let (timing, limits) = (Timing::default(), Limits::default());
        Self { url: url.into(), token, outbox: Outbox::memory(), timing, limits }
    }
}

/// How long a client waits for what.
#[derive(Debug, Clone)]
pub struct Timing {
    /// A connection that is not open by then is not tried any longer.
    pub connect: Duration,
    /// A command or subscription without an answer for so long is sent again; doubled each time.
    pub answer: Duration,
    /// The shortest pause before something that failed is tried again; doubled each time, with jitter.
    pub backoff: Duration,
    /// The longest such pause, before the jitter.
    pub max_backoff: Duration,
    /// A server that was silent for so long is asked for a sign of life. A connection that lasted as long has
    /// not failed: after its end the pauses begin anew.
    pub ping: Duration,
    /// A server that was silent for so long is taken to be gone.
    pub silence: Duration,
    /// A command without an answer for so long, by the time in its id, is given up. It stays below the time
    /// that the server remembers outcomes for, which is 30 days.
    pub max_age: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(30),
            ping: Duration::from_secs(20),
            silence: Duration::from_secs(45),
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// After so many failures pauses grow no further, whatever the times are.
const MAX_DOUBLINGS: u32 = 20;

impl Timing {
    /// How long to pause after so many failures in a row.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let growing = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.backoff)
            .with_max_delay(self.max_backoff)
            .without_max_times();
        let which = usize::try_from(failures.min(MAX_DOUBLINGS)).expect("it is at most 20");
        growing.build().nth(which).unwrap_or(self.max_backoff)
    }

    /// How long to wait for an answer to what was sent so many times before.
    pub(crate) fn patience(&self, attempts: u32) -> Duration {
        self.answer.saturating_mul(1 << attempts.min(3))
    }
}

/// How much a client holds at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Commands that are not settled.
    pub commands: usize,
    /// Bytes of their messages.
    pub command_bytes: usize,
    /// Bytes of one message; the server takes 256 KiB.
    pub message_bytes: usize,
    /// Commands that are sent and not answered, over all feeds.
    pub in_flight: usize,
    /// Commands that are sent and not answered, of one feed. With 1 they are decided in the order in which
    /// they were sent, whatever happens; with more, one that the server could not take for a moment may be
    /// decided after one that was sent later.
    pub in_flight_per_feed: usize,
    /// Events that a subscription holds for a slow reader. What does not fit is asked for again later.
    pub feed_messages: usize,
    /// Bytes of such events.
    pub feed_bytes: usize,
    /// Outcomes that [`settled`](crate::Client::settled) holds for a slow reader. What does not fit is gone.
    pub settled: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commands: 10_000,
            command_bytes: 16 << 20,
            message_bytes: 256 << 10,
            in_flight: 256,
            in_flight_per_feed: 1,
            feed_messages: 1_024,
            feed_bytes: 1 << 20,
            settled: 1_024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_up_to_a_limit() {
        let timing = Timing::default();
        for (failures, shortest) in [(0, 250), (1, 500), (2, 1_000), (7, 30_000), (u32::MAX, 30_000)] {
            let shortest = Duration::from_millis(shortest);
            let pause = timing.pause(failures);
            assert!((shortest..=2 * shortest).contains(&pause), "{failures}: {pause:?}");
        }
    }
}
