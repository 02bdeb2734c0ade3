//! What moves: commands towards the log, and events away from it.
//!
//! [`bus`] takes commands, decides them stream by stream and hands them to the store. [`projector`] folds
//! events into views. [`reactors`] lets everybody act who acts on events. All of them follow the log through
//! the same subscription, each with its own cursor. [`supervisor`] notices when one of them breaks.

pub mod bus;
pub mod deciders;
pub mod projector;
pub mod reactors;
pub mod supervisor;
pub mod tracing_context;

pub use bus::{BusOptions, CommandBus, DispatchError, ReceiptSink, Reply, Settled};
pub use deciders::{Command, ContentKey, Deciders, DecodeCommandError};
pub use projector::Projector;
pub use reactors::{Control, ControlError, ReactorHandle, ReactorStatus, Reactors, Retry};
pub use supervisor::Supervisor;
