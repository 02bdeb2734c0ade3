//! The long measurements, as tables of commands.

use std::path::Path;

use crate::Outcome;
use crate::commands::{self, Words};

type Suite = &'static [(&'static str, Words)];

const BENCH: Suite = &[("benches of every crate", &["cargo", "bench", "--workspace"])];

const SOAK: Suite = &[];

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
