//! The server: how the crates are joined into one program.
//!
//! [`node`] is the composition root; [`keys`] are what the nodes of a log have in common. [`systems`] holds what each
//! system adds at the edge: its routes, the tables of its views, its reactors. [`adapters`] are the ways to the outside
//! world. `cli` is the command line, `studio` carries the pages.
//!
//! A program with rules of its own joins them to a [`System`] and hands that to [`main()`], or starts a [`Node`] by
//! itself: `examples/rooms` is one.

pub mod adapters;
mod cli;
pub mod keys;
pub mod node;
mod studio;
pub mod systems;
pub mod telemetry;

pub use cli::main;
pub use node::{Config, Log, Node, NodeError};
pub use systems::System;
