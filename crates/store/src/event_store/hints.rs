//! What the nodes of a log tell each other in passing, beside the log.
//!
//! Invariant: a hint is never data. It may be lost, or come late or twice; of those about the same thing that wait only
//! the newest goes out; whoever tells one does not hear it. So whoever is told something looks it up where it is kept, or
//! takes it for what it is, which the next one replaces, and which nobody misses if it never comes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// How many hints of one node wait to be told; more are lost.
pub const MAX_WAITING_HINTS: usize = 4_096;
/// The longest hint, in bytes, as JSON; a longer one is lost.
pub const MAX_HINT_BYTES: usize = 2 << 10;
/// How many hints of other nodes wait for each that hears them; whoever is slower misses the oldest.
pub const MAX_HEARD_HINTS: usize = 4_096;

/// Something small that is told to the other nodes. Whoever may look into the database sees it, so it holds ids and
/// nothing else of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// What kind of news it is; whoever hears leaves the others alone.
    pub topic: Box<str>,
    /// What it is about: a newer hint about the same takes the place of one that was not told yet.
    pub key: Box<str>,
    /// What is told of it.
    pub payload: Box<str>,
}

/// The way to the other nodes that use the same log.
pub trait Hints: Send + Sync + 'static {
    /// Tells the other nodes, soon, and several at once. It never waits: what finds no room is lost.
    fn tell(&self, hints: Vec<Hint>);

    /// What the others tell from now on.
    fn heard(&self) -> broadcast::Receiver<Arc<Hint>>;
}
