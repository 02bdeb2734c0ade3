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
        Command::Verify(verify) => cli::verify::run(verify),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sillage: {error}");
            ExitCode::FAILURE
        }
    }
}
