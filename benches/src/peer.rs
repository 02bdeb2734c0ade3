//! What all stores with a queue are driven by: so many tasks, each of which waits for one append at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Over how many streams the events go.
pub const STREAMS: usize = 10_000;
/// The bytes of the data of an event.
pub const EVENT_BYTES: usize = 400;

/// What a caller has seen of a stream.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// The number of its last event.
    pub version: u64,
    /// The position of that in the log.
    #[allow(dead_code, reason = "not every peer needs it")]
    pub position: u64,
}

/// A store that is measured.
pub trait Peer: Send + Sync + 'static {
    /// Appends one event to a stream that must be as it was seen, and answers once that is durable, with the position.
    fn append(&self, stream: usize, seen: Seen) -> impl Future<Output = u64> + Send;
}

/// The name of a stream.
pub fn name(stream: usize) -> String {
    format!("thing-{stream}")
}

/// The data of an event: JSON of [`EVENT_BYTES`].
pub fn data() -> String {
    const FRAME: usize = r#"{"text":""}"#.len();
    format!(r#"{{"text":"{}"}}"#, "x".repeat(EVENT_BYTES - FRAME))
}

/// Runs a future on as many threads as a server would have.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Durable events a second with so many appends waiting at a time. Each task has streams of its own, so nothing is
/// refused and nothing has to be read.
pub async fn drive(peer: Arc<impl Peer>, waiting: usize, time: Duration) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..waiting)
        .map(|task| {
            let peer = Arc::clone(&peer);
            tokio::spawn(async move {
                let mut seen = vec![Seen::default(); (STREAMS - task).div_ceil(waiting)];
                let (mut events, mut dice) = (0_u64, task as u64 + 1);
                while begun.elapsed() < time {
                    dice =
                        dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let own = (dice >> 33) as usize % seen.len();
                    let position = peer.append(own * waiting + task, seen[own]).await;
                    seen[own] = Seen { version: seen[own].version + 1, position };
                    events += 1;
                }
                events
            })
        })
        .collect();
    let mut events = 0;
    for task in tasks {
        events += task.await.expect("the peer has failed");
    }
    events as f64 / begun.elapsed().as_secs_f64()
}
