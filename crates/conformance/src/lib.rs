//! The suites that every engine must pass, for use in the tests of any crate.
//!
//! A property is an async function that gets a fixture and panics when the contract is broken. A suite is a
//! macro that makes a test of each property, so that a failure has a name. `tests/it/main.rs` of this crate
//! asks the engines that need nothing beside them, in one line each, and is the example to copy.
//!
//! A property knows nothing of the engine but the contract and the `Features` that the engine states. It
//! waits for conditions, each with a deadline, and never for a while.
//!
//! [`postgres`] runs a real server for the tests that need one, [`balancer`] stands before several nodes, [`many`]
//! checks what many have done at once, be they in this process or in others, and [`walk`] walks through a document with
//! a program.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test code: a panic is a failed test"
)]

pub mod balancer;
pub mod event_store;
pub mod many;
pub mod postgres;
pub mod schema;
mod wait;
pub mod walk;

pub use wait::{DEADLINE, within_deadline};
