//! The program `rooms`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sillage_server::main(rooms::edge::system())
}
