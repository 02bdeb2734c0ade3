//! The client's side of the table of codes: what to do about an error, and about a closed socket.

use std::time::Duration;

/// What to do about a command or a subscription that the server did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Send it again later, with the same id.
    Retry,
    /// Get a new token, then send it again.
    SignIn,
    /// Tell whoever wanted it.
    GiveUp,
}

/// What to do about an error of the server. A word that is not known here is for a person to judge, and a
/// feed that waits for ever helps nobody.
pub fn advice(code: &str) -> Advice {
    match code {
        "rate_limited" | "overloaded" | "unavailable" | "view_behind" | "internal" => Advice::Retry,
        "unauthorized" | "token_expired" => Advice::SignIn,
        _ => Advice::GiveUp,
    }
}

/// What to do once a socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Connect again, with jitter, but not before this has passed.
    Reconnect {
        /// As the server asked for.
        after: Duration,
    },
    /// Connect again, and do not repeat the message that was too large.
    TooLarge,
    /// Get a new token, then connect again.
    SignIn,
    /// Another connection has taken over: do not connect again.
    Replaced,
    /// It will not work, whatever is done: do not connect again.
    GiveUp,
}

/// How long to stay away when the server says "later" but not when.
const LATER: Duration = Duration::from_secs(5);
/// The longest time that a server can keep a client away.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// How long a server keeps a client away that says so many seconds.
pub(crate) fn retry_after(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(MAX_RETRY_AFTER)
}

/// What a closing frame means. `announced` is the `retry_after` of the error before it, in seconds.
pub fn verdict(code: Option<u16>, reason: &str, announced: Option<u64>) -> Verdict {
    let in_reason = || reason.split_once("retry_after=")?.1.split_whitespace().next()?.parse().ok();
    let asked = in_reason().or(announced).map(retry_after);
    match code {
        Some(1009) => Verdict::TooLarge,
        Some(4400 | 4404) => Verdict::GiveUp,
        Some(4401 | 4403) => Verdict::SignIn,
        Some(4409) => Verdict::Replaced,
        Some(4429 | 4503) => Verdict::Reconnect { after: asked.unwrap_or(LATER) },
        _ => Verdict::Reconnect { after: asked.unwrap_or_default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_frame_says_whether_to_come_back() {
        let reconnect = |seconds| Verdict::Reconnect { after: Duration::from_secs(seconds) };
        for (code, reason, announced, expected) in [
            (None, "", None, reconnect(0)),
            (Some(1001), "going away", None, reconnect(0)),
            (Some(1009), "too large", None, Verdict::TooLarge),
            (Some(4400), "not text", None, Verdict::GiveUp),
            (Some(4401), "sign in again", None, Verdict::SignIn),
            (Some(4403), "", None, Verdict::SignIn),
            (Some(4404), "", None, Verdict::GiveUp),
            (Some(4408), "no life", None, reconnect(0)),
            (Some(4409), "", None, Verdict::Replaced),
            (Some(4429), "", None, reconnect(5)),
            (Some(4429), "", Some(2), reconnect(2)),
            (Some(4503), "retry_after=7", None, reconnect(7)),
            (Some(4503), "retry_after=nonsense", Some(1), reconnect(1)),
            (Some(4503), "retry_after=99999999999", None, reconnect(600)),
        ] {
            assert_eq!(verdict(code, reason, announced), expected, "{code:?} {reason:?} {announced:?}");
        }
    }

    #[test]
    fn an_error_says_whether_to_try_again() {
        for (codes, expected) in [
            (&["rate_limited", "overloaded", "unavailable", "internal"][..], Advice::Retry),
            (&["unauthorized", "token_expired"], Advice::SignIn),
            (&["unknown_command", "invalid_field", "not_found", "conflict", "too_large"], Advice::GiveUp),
            (&["a_word_of_tomorrow"], Advice::GiveUp),
        ] {
            for code in codes {
                assert_eq!(advice(code), expected, "{code}");
            }
        }
    }
}
