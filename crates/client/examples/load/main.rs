//! Drives load against a server, and says what it takes: commands, fan-out, idle sockets, the bare disk.
//!
//! It runs on one thread, since it mostly shares two cores with the server that it measures; how much of a core it
//! took is printed beside each result, so that one can tell whose limit was found. It uses the bare connection of
//! the SDK, see [`sillage_client::raw`]. Linux only, since it reads the server's share of the machine from `/proc`.
//!
//! `cargo run --release -p sillage-client --example load -- --help`

mod address;
mod bench;
mod commands;
mod fanout;
mod fsync;
mod histogram;
mod http;
mod idle;
mod lane;
mod process;
mod report;
mod server;
mod tokens;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a measurement ends with when it fails: a sentence that says what to do.
type Failure = Box<dyn Error>;

/// Drives load against a Sillage server.
#[derive(Parser)]
#[command(name = "load", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Commands over WebSockets, acknowledged by receipts.
    Commands(commands::Commands),
    /// One feed with many followers.
    Fanout(fanout::Fanout),
    /// Sockets that do nothing.
    Idle(idle::Idle),
    /// The bare disk: 4 KiB appended and flushed.
    Fsync(fsync::Fsync),
    /// All of it, each against a fresh server, as one table.
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(Cli::parse().command)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Commands(commands) => println!("{}", commands.run().await?),
        Command::Fanout(fanout) => println!("{}", fanout.run().await?),
        Command::Idle(idle) => println!("{}", idle.run().await?),
        Command::Fsync(fsync) => println!("{}", fsync.run()?),
        Command::Bench(bench) => println!("{}", bench.run().await?),
    }
    Ok(())
}
