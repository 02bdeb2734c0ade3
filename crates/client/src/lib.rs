//! The Rust SDK of Sillage: send commands that are not lost, follow feeds without gaps.
//!
//! * A command is kept in the [`Outbox`] and sent until the server has said what became of it: over lost
//!   connections, lost answers and, with [`Outbox::file`], over the end of the program. Its id is minted here
//!   and stays the same, so that it takes effect once however often it is sent.
//! * A [`Subscription`] gives each event of a feed once and in order. It remembers where it is, and goes on there
//!   after a lost connection.
//! * The client obeys the server: when to come back, when to sign in again, when to stay away.
//! * Everything that waits is bounded, and each bound has a name in [`Limits`].
//!
//! ```no_run
//! use serde_json::json;
//! use sillage_client::{Client, FeedMessage, Options, Since, TokenSource};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Options::new("ws://localhost:8080/ws", TokenSource::fixed("…"))).await?;
//! let feed = "like-article-1".parse()?;
//! let mut subscription = client.subscribe(&feed, Since::Start).await?;
//! let data = json!({"likeId": "1", "at": "2026-11-20T12:00:00Z"});
//! let confirmed = client.send(&feed, "LikeAdd", &data).await?.confirmed().await?;
//! println!("in effect at {}", confirmed.position);
//! while let Some(message) = subscription.next().await {
//!     if let FeedMessage::Event(event) = message {
//!         println!("{} {}", event.sequence_number, event.data);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Absent on purpose: an optimistic state (fold [`Client::pending`] over what was confirmed), TLS (put a proxy
//! before the server), a cache of events.
//!
//! Where to look: [`Client`] is the door; `task` is the loop behind it, with `task/commands` for what is to be sent
//! and `task/feeds` for what is read, both without I/O; [`codes`] is the table of what the server says; [`raw`] is
//! the bare connection.

mod client;
pub mod codes;
mod error;
mod options;
mod outbox;
pub mod raw;
mod subscription;
mod task;
mod token;

pub use client::{Client, Confirmed, Effect, Sent, Settled, Settlements, Status};
pub use error::Error;
pub use options::{Limits, Options, Timing};
pub use outbox::Outbox;
pub use subscription::{FeedMessage, Since, Subscription};
pub use token::{TokenSource, Wanted};
