//! The long measurements, as tables of commands.

use std::path::Path;

use crate::Outcome;
use crate::commands::{self, Words};
use crate::tools;

type Suite = &'static [(&'static str, Words)];

const BENCH: Suite = &[
    ("the store", &["cargo", "bench", "-p", "sillage-store", "--bench", "index"]),
    ("the pieces", &["cargo", "bench", "-p", "sillage-server", "--bench", "pieces"]),
    ("the server, for release", &["cargo", "build", "--release", "-p", "sillage-server"]),
    (
        "side by side with peers",
        &[
            "cargo",
            "run",
            "--release",
            "--manifest-path",
            "benches/Cargo.toml",
            "--",
            "target/umadb/bin/umadb",
        ],
    ),
    (
        "peers on PostgreSQL",
        &["cargo", "build", "--release", "--manifest-path", "benches/postgres-peers/Cargo.toml"],
    ),
    ("a peer on PostgreSQL that is no Rust", &["npm", "--prefix", "benches/emmett", "ci"]),
    ("the driver of the load", &["cargo", "build", "--release", "-p", "sillage-client", "--example", "load"]),
    (
        "on PostgreSQL, side by side with peers",
        &[
            "env",
            "PEERS=benches/postgres-peers/target/release/sillage-postgres-peers",
            "EMMETT=node",
            "SILLAGE=target/release/sillage",
            "LOAD=target/release/examples/load",
            "cargo",
            "run",
            "--release",
            "--manifest-path",
            "benches/Cargo.toml",
            "--features",
            "postgres",
            "--bin",
            "postgres",
        ],
    ),
    (
        "the whole, from a socket to its receipt",
        &["cargo", "run", "--release", "-p", "sillage-client", "--example", "load", "--", "bench"],
    ),
    (
        "the client and the page in a browser",
        &["env", "SILLAGE=target/release/sillage", "npm", "--prefix", "web", "run", "bench"],
    ),
];

/// Runs one target of the fuzzer on what it has found before and on its seeds.
macro_rules! fuzz {
    ($target:literal) => {
        &[
            "cargo",
            "+nightly",
            "fuzz",
            "run",
            $target,
            concat!("fuzz/corpus/", $target),
            concat!("fuzz/seeds/", $target),
            "--",
            "-max_total_time=300",
            "-rss_limit_mb=4096",
        ]
    };
}

/// Runs some tests of the conformance suite for longer than `make test` does.
macro_rules! conformance {
    ($setting:literal, $tests:literal) => {
        &[
            "env",
            $setting,
            "cargo",
            "test",
            "--release",
            "-p",
            "sillage-conformance",
            "--test",
            "it",
            $tests,
            "--",
            "--nocapture",
        ]
    };
}

const SOAK: Suite = &[
    ("a thousand crashes", conformance!("SILLAGE_CYCLES=1000", "crash::")),
    ("nodes on one database, killed and hanging", conformance!("SILLAGE_KILLS=400", "postgres::kills::")),
    ("places for finds", &["mkdir", "-p", "fuzz/corpus/frame", "fuzz/corpus/body", "fuzz/corpus/segment"]),
    ("frames", fuzz!("frame")),
    ("bodies", fuzz!("body")),
    ("segments", fuzz!("segment")),
];

pub(crate) fn bench(root: &Path) -> Outcome {
    tools::for_bench(root)?;
    run(root, "bench", BENCH)
}

pub(crate) fn soak(root: &Path) -> Outcome {
    tools::for_soak(root)?;
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
