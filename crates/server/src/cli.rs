//! The command line: one module for each command.

mod archive;
mod backup;
mod data;
mod epoch;
mod events;
mod export;
mod import;
mod log;
#[cfg(feature = "postgres")]
mod migrate;
mod progress;
mod restore;
mod serve;
mod state;
mod tail;
mod token;
mod verify;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::systems::System;

/// Reads the command line of a program that serves `system`, and does what it says. All of `sillage` is this with
/// systems of its own.
pub fn main(system: System) -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(serve) => serve::run(serve, system),
        Command::Token(token) => token::run(token),
        Command::Log(log) => log::run(log),
        Command::Tail(tail) => tail::run(tail),
        Command::State(state) => state::run(state, &system),
        Command::Export(export) => export::run(export),
        Command::Import(import) => import::run(import),
        Command::Verify(verify) => verify::run(verify),
        Command::Backup(backup) => backup::run(backup),
        Command::Restore(restore) => restore::run(restore),
        Command::Archive(archive) => archive::run(archive),
        #[cfg(feature = "postgres")]
        Command::Migrate(migrate) => migrate::run(migrate),
        Command::Epoch(epoch) => epoch::run(epoch),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sillage: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a command ends with when it fails: a sentence that says what to do.
type Failure = Box<dyn Error>;

/// Waits for what one thread can do; commands other than `serve` have nothing else to do meanwhile.
fn wait_for<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// An event-sourced, real-time backend in one binary.
#[derive(Parser)]
#[command(name = "sillage", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
