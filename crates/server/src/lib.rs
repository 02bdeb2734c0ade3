//! The server: how the crates are joined into one program.
//!
//! [`node`] is the composition root; [`keys`] are what the nodes of a log have in common. [`systems`] holds what each
//! system adds at the edge: its routes, the tables of its views, its reactors. [`adapters`] are the ways to the outside
//! world. `studio` carries the pages.

pub mod adapters;
pub mod keys;
pub mod node;
mod studio;
pub mod systems;
pub mod telemetry;

pub use node::{Config, Log, Node, NodeError};
