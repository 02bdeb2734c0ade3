//! The command line: one module for each command.

mod data;
mod progress;
pub(crate) mod serve;
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
    /// Check the log: its bytes, its numbers, its checksums, its index; also while the server runs.
    Verify(verify::Verify),
}
