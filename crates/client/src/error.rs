//! Everything that can go wrong, and what to do about it.

use std::time::Duration;

use sillage_kernel::Rejection;

/// What went wrong. Each variant says what its reader should do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The address is not one of a WebSocket without TLS: correct it.
    #[error("the address cannot be used: {0}")]
    Url(String),
    /// Nobody answers there, or not as Sillage does: the client tries again by itself; whoever opened a raw
    /// connection does so.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// There is no token, or none that holds: sign in, then [`reconnect`](crate::Client::reconnect).
    #[error("sign in first")]
    SignIn,
    /// The outbox could not be read or written, and the command is not sent: mend the disk. Once a flush has
    /// failed nobody knows what the disk holds, so the file takes nothing more until it is opened again; a
    /// command that is found in it then is sent after all.
    #[error("the outbox: {0}")]
    Outbox(String),
    /// Another client has the file of this outbox open: use that client, or another file.
    #[error("another client has this outbox open")]
    OutboxInUse,
    /// So many commands wait already: send again when some of them are settled.
    #[error("{waiting} commands wait already")]
    OutboxFull {
        /// How many.
        waiting: usize,
    },
    /// The command is larger than the server takes: send less.
    #[error("the command has {bytes} bytes, which is too large")]
    TooLarge {
        /// How many bytes its message has.
        bytes: usize,
    },
    /// The data is not JSON: correct the type that it is made from.
    #[error("the data cannot be written as JSON: {0}")]
    Data(String),
    /// The rules say no. Not an error of the system: show it to whoever wanted it.
    #[error("rejected: {}", .0.message)]
    Rejected(Rejection),
    /// The server did not take the command, and will not: correct it, or leave it.
    #[error("{code}: {message}")]
    Refused {
        /// A word that a program can act on.
        code: String,
        /// A sentence for a person.
        message: String,
        /// The field that is wrong, if it is one.
        field: Option<String>,
    },
    /// There was no answer for so long that the command is sent no more. If it reached the server before, it
    /// may have been applied: look, before wanting it again.
    #[error("there was no answer within {max_age:?}")]
    TooOld {
        /// How long was waited.
        max_age: Duration,
    },
    /// So many messages were not read in time, and are forgotten: read faster, or do without.
    #[error("{0} messages were missed")]
    Missed(u64),
    /// The client is closed. What it still held stays in a file outbox, and is sent when that is opened.
    #[error("the client is closed")]
    Closed,
}
