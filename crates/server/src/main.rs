//! The binary `sillage`: reads the command line and does what it says.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use self::cli::{Cli, Command};

/// A command is a few dozen small allocations, freed by other threads than those that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(serve) => cli::serve::run(serve),
        Command::Token(token) => cli::token::run(token),
        Command::Log(log) => cli::log::run(log),
        Command::Tail(tail) => cli::tail::run(tail),
        Command::State(state) => cli::state::run(state),
        Command::Export(export) => cli::export::run(export),
        Command::Import(import) => cli::import::run(import),
        Command::Verify(verify) => cli::verify::run(verify),
        Command::Backup(backup) => cli::backup::run(backup),
        Command::Restore(restore) => cli::restore::run(restore),
        Command::Archive(archive) => cli::archive::run(archive),
        #[cfg(feature = "postgres")]
        Command::Migrate(migrate) => cli::migrate::run(migrate),
        Command::Epoch(epoch) => cli::epoch::run(epoch),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sillage: {error}");
            ExitCode::FAILURE
        }
    }
}
