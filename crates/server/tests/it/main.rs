//! The server as its users meet it.

#![cfg(test)]

mod archive;
#[cfg(feature = "postgres")]
mod balanced;
mod compaction;
mod connections;
mod descriptions;
#[cfg(feature = "postgres")]
mod dropping;
mod exports;
mod failing_disk;
mod http;
mod kill;
mod log;
mod malformed;
#[cfg(feature = "postgres")]
mod migrate;
mod neighbours;
#[cfg(feature = "postgres")]
mod nodes;
mod operator;
mod outbox;
mod raw;
mod readme;
#[cfg(feature = "postgres")]
mod receipts;
mod sockets;
mod stalled;
mod studio;
mod support;
#[cfg(feature = "otlp")]
mod traces;
