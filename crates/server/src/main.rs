//! The program `sillage`: the systems of this house behind the command line.

use std::process::ExitCode;

/// A command is a few dozen small allocations, freed by other threads than those that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sillage_server::main(sillage_server::systems::all())
}
