//! The long measurements, as tables of commands.

use std::path::Path;

use crate::Outcome;
use crate::commands::{self, Words};

type Suite = &'static [(&'static str, Words)];

const BENCH: Suite = &[
    ("the pieces", &["cargo", "bench", "-p", "sillage-server", "--bench", "pieces"]),
    ("the server, for release", &["cargo", "build", "--release", "-p", "sillage-server"]),
    (
        "the whole, from a socket to its receipt",
        &["cargo", "run", "--release", "-p", "sillage-client", "--example", "load", "--", "bench"],
    ),
];

const SOAK: Suite = &[
    ("frames", &["cargo", "+nightly", "fuzz", "run", "frame", "--", "-max_total_time=300"]),
    ("bodies", &["cargo", "+nightly", "fuzz", "run", "body", "--", "-max_total_time=300"]),
    ("segments", &["cargo", "+nightly", "fuzz", "run", "segment", "--", "-max_total_time=300"]),
];

pub(crate) fn bench(root: &Path) -> Outcome {
    run(root, "bench", BENCH)
}

pub(crate) fn soak(root: &Path) -> Outcome {
    run(root, "soak", SOAK)
}

fn run(root: &Path, suite: &str, rows: Suite) -> Outcome {
    if rows.is_empty() {
        println!("{suite}: nothing registered");
    }
    rows.iter().try_for_each(|(name, words)| {
        println!("{suite}: {name}");
        commands::run(root, words)
    })
}
