//! Rows that are programs of their own: what they are made of cannot be built together with ours, or is no Rust.

use std::process::{Command, Stdio};
use std::time::Duration;

/// A program that is given an address, how many appends wait and for how many seconds, and prints events a second.
pub struct Program {
    program: String,
    arguments: Vec<String>,
}

impl Program {
    /// Those that somebody has named.
    pub fn named() -> Vec<(&'static str, Self)> {
        let mut named = Vec::new();
        if let Some(program) = variable("PEERS") {
            for name in ["eventcore-postgres", "postgres-es"] {
                named.push((name, Self { program: program.clone(), arguments: vec![name.to_owned()] }));
            }
        }
        if let Some(program) = variable("EMMETT") {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/emmett/append.js").to_owned();
            named.push(("npm emmett-postgresql", Self { program, arguments: vec![script] }));
        }
        named
    }

    /// Durable events a second, as it says.
    pub fn measure(&self, address: &str, waiting: usize, time: Duration) -> f64 {
        let Self { program, arguments } = self;
        let output = Command::new(program)
            .args(arguments)
            .args([address, &waiting.to_string(), &time.as_secs_f64().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        assert!(output.status.success(), "{program} {arguments:?} has failed");
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim().parse().unwrap_or_else(|_| panic!("{program} says no number: {said}"))
    }
}

/// A variable of the environment; one that is missing leaves something out.
pub fn variable(name: &str) -> Option<String> {
    let found = std::env::var(name).ok();
    if found.is_none() {
        eprintln!("{name} is not set, and what it names is left out");
    }
    found
}
