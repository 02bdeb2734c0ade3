//! The server as its users meet it.

mod http;
mod kill;
mod malformed;
mod outbox;
mod readme;
mod sockets;
mod stalled;
mod support;
#[cfg(feature = "otlp")]
mod traces;
