//! The server: how the crates are joined into one program.
//!
//! [`node`] is the composition root. [`systems`] holds what each system adds at the edge: its routes, the
//! tables of its views, its reactors. [`adapters`] are the ways to the outside world. `studio` carries the pages.

pub mod adapters;
pub mod node;
mod studio;
pub mod systems;
pub mod telemetry;

pub use node::{Config, Log, Node, NodeError};
