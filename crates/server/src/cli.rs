//! The command line: one module for each command.

pub(crate) mod archive;
pub(crate) mod backup;
mod data;
pub(crate) mod epoch;
mod events;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod log;
#[cfg(feature = "postgres")]
pub(crate) mod migrate;
mod progress;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod state;
pub(crate) mod tail;
pub(crate) mod token;
pub(crate) mod verify;

use std::error::Error;

use clap::{Parser, Subcommand};

/// What a command ends with when it fails: a sentence that says what to do.
pub(crate) type Failure = Box<dyn Error>;

/// An event-sourced, real-time backend in one binary.
#[derive(Parser)]
#[command(name = "sillage", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the server.
    Serve(serve::Serve),
    /// Print a token for a user; also while the server runs.
    Token(token::Token),
    /// Print what happened; also while the server runs.
    Log(log::Log),
    /// Print what happened last, and what happens from now on; also while the server runs.
    Tail(tail::Tail),
    /// Print the state of a stream, now or as it was; also while the server runs.
    State(state::State),
    /// Write events for another log or other programs, one on a line; also while the server runs.
    Export(export::Export),
    /// Bring events of another log into this one; the server must be stopped.
    Import(import::Import),
    /// Check the log: its bytes, its numbers, its checksums, its index; also while the server runs.
    Verify(verify::Verify),
    /// Save the log into a new folder; also while the server runs.
    Backup(backup::Backup),
    /// Take a backup back into an empty data folder, as a log of a new epoch.
    Restore(restore::Restore),
    /// Move old files of the log to another folder, from where they are read; the server must be stopped.
    Archive(archive::Archive),
    /// Move the log from a data folder into a database, or back; the server must be stopped.
    #[cfg(feature = "postgres")]
    Migrate(migrate::Migrate),
    /// Change the identity of the log.
    Epoch(epoch::Epoch),
}
