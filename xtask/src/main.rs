//! What the Makefile calls: one table of subcommands, each in a module of its own.

mod commands;
mod suites;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A subcommand fails with the sentence that its caller should read.
type Outcome = Result<(), String>;

struct Subcommand {
    name: &'static str,
    about: &'static str,
    run: fn(&Path) -> Outcome,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "tidy", about: "check the rules of the house", run: tidy::run },
    Subcommand { name: "test-tools", about: "install what the tests need", run: tools::run },
    Subcommand { name: "bench", about: "measure speed", run: suites::bench },
    Subcommand { name: "soak", about: "run for long under load", run: suites::soak },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [] => {
            println!("{}", usage());
            Ok(())
        }
        [name] => match SUBCOMMANDS.iter().find(|subcommand| subcommand.name == name) {
            Some(subcommand) => (subcommand.run)(&root()),
            None => Err(format!("there is no subcommand `{name}`\n{}", usage())),
        },
        _ => Err(format!("a subcommand takes no arguments\n{}", usage())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let rows = SUBCOMMANDS.iter().map(|row| format!("\n  {:<10}  {}", row.name, row.about));
    format!("cargo xtask <subcommand>{}", rows.collect::<String>())
}

/// The root of the checkout that this program was built from.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
