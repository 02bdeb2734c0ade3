//! What moves: commands towards the log, and events away from it.
//!
//! [`bus`] takes commands, decides them stream by stream and hands them to the store. [`projector`] folds
//! events into views. [`reactors`] lets everybody act who acts on events. All of them follow the log through
//! the same subscription, each with its own cursor. [`history`] tells what was so, and [`raw`] lets programs append
//! that have their own rules. [`compaction`] drops what a baseline stands for. [`supervisor`] notices when one of them breaks.

pub mod baselines;
pub mod bus;
pub mod compaction;
pub mod deciders;
pub mod history;
pub mod projector;
pub mod raw;
pub mod reactors;
mod replay;
pub mod supervisor;
pub mod tracing_context;

pub use baselines::last_baseline;
pub use bus::{BusOptions, CommandBus, DispatchError, ReceiptSink, Reply, Settled};
pub use compaction::{
    Compacted, Compaction, CompactionError, Compactor, Keep, Neighbour, NoPlace, Policies, PolicyError,
    SeenHere,
};
pub use deciders::{Command, ContentKey, Deciders, DecodeCommandError};
pub use history::{HistoryError, StateAt};
pub use projector::Projector;
pub use reactors::{Control, ControlError, ReactorHandle, ReactorStatus, Reactors, Retry, Runs};
pub use replay::{ReplayError, Until};
pub use supervisor::Supervisor;
