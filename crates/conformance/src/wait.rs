//! Waiting: for a condition, and never without an end.

use std::time::{Duration, Instant};

/// How long anything may take before it counts as hanging.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(1);

/// What the future comes to. One that hangs panics after [`DEADLINE`].
pub async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it hangs")
}

/// What `look` finds, as soon as it finds something.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "in vain it was waited for this: {what}");
        tokio::time::sleep(POLL).await; // tidy: sleep because it polls for what tells nobody
    }
}
