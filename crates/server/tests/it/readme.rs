//! The walk of the README is walked.

use sillage_conformance::walk::Walk;

#[test]
fn the_walk_prints_what_it_says() {
    Walk {
        document: include_str!("../../../../README.md"),
        start: "make run",
        program: "target/release/sillage",
        binary: env!("CARGO_BIN_EXE_sillage"),
    }
    .check();
}
