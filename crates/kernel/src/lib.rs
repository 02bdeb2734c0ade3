//! The words of Sillage, as types.
//!
//! Nothing here does I/O, reads a clock or rolls a die: an id, a time or a random number always comes from
//! the caller. So the same code decides on the server, predicts in a browser and replays history.
//!
//! Where to look: [`ids`] for what things are called, [`event`] for facts, [`command`] for intentions and
//! their receipts, [`decider`], [`view`] and [`reactor`] for the three things one can write, [`wire`] for
//! what travels on a socket.

pub mod baseline;
pub mod command;
pub mod decider;
pub mod event;
pub mod ids;
mod macros;
pub mod reactor;
pub mod testing;
pub mod time;
pub mod upcasting;
pub mod view;
pub mod wire;

pub use baseline::{BASELINE_SCHEMA, BASELINE_TAKEN, Baseline};
pub use command::{Actor, CommandId, ContentHash, Envelope, InvalidField, Outcome, Receipt, Rejection};
pub use decider::{Context, Decider, Decision, DomainCommand, Expected, SideEntry};
pub use event::{Checksum, DecodeError, Digest, DomainEvent, Event, EventId, Metadata, NewEvent};
pub use ids::{Epoch, InvalidName, LogPosition, Position, StreamName, Tenant, UserId, Version};
pub use reactor::{Failed, Failure, Reach, Reaction, Reactor};
pub use time::Timestamp;
pub use upcasting::{Upcast, Upcaster, Upcasters};
pub use view::{Filter, FoldsBaselines, Rows, View, ViewError};

/// What the [`macros`] need from the libraries below, so that a domain need not name them.
#[doc(hidden)]
pub mod private {
    pub use serde_json;
}
