//! Installs what the tests and the soak need. A tool that already answers is left alone, so a second run costs nothing.

use std::path::Path;

use crate::Outcome;
use crate::commands::{self, Words};

struct Tool {
    name: &'static str,
    /// Succeeds when the tool is there.
    probe: Words,
    /// Brings the tool; run in order.
    install: &'static [Words],
}

/// One row for each tool, whatever brings it: cargo, apt-get, npm or pip.
const TOOLS: &[Tool] = &[
    Tool {
        name: "cargo-nextest",
        probe: &["cargo", "nextest", "--version"],
        install: &[&["cargo", "install", "cargo-nextest", "--locked"]],
    },
    // The packages of web/ need it; Debian's own is recent enough.
    Tool {
        name: "npm",
        probe: &["npm", "--version"],
        install: &[&["apt-get", "update"], &["apt-get", "install", "--yes", "nodejs", "npm"]],
    },
    // The pages are looked at with it.
    Tool {
        name: "chromium",
        probe: &["chromium", "--version"],
        install: &[&["apt-get", "update"], &["apt-get", "install", "--yes", "chromium"]],
    },
    // The tests start servers of their own from it. Its programs are in no folder of PATH.
    Tool {
        name: "postgresql",
        probe: &["sh", "-c", "ls /usr/lib/postgresql/*/bin/initdb"],
        install: &[&["apt-get", "update"], &["apt-get", "install", "--yes", "postgresql"]],
    },
    // The README is walked with it.
    Tool {
        name: "curl",
        probe: &["curl", "--version"],
        install: &[&["apt-get", "update"], &["apt-get", "install", "--yes", "curl"]],
    },
];

/// What only the soak needs.
const SOAK_TOOLS: &[Tool] = &[
    Tool {
        name: "a nightly compiler",
        probe: &["cargo", "+nightly", "--version"],
        install: &[&["rustup", "toolchain", "install", "nightly", "--profile", "minimal"]],
    },
    Tool {
        name: "cargo-fuzz",
        probe: &["cargo", "fuzz", "--version"],
        install: &[&["cargo", "install", "cargo-fuzz", "--locked"]],
    },
];

pub(crate) fn run(root: &Path) -> Outcome {
    TOOLS.iter().try_for_each(|tool| ensure(root, tool))
}

pub(crate) fn for_soak(root: &Path) -> Outcome {
    SOAK_TOOLS.iter().try_for_each(|tool| ensure(root, tool))
}

fn ensure(root: &Path, tool: &Tool) -> Outcome {
    if commands::works(root, tool.probe) {
        println!("{} is here", tool.name);
        return Ok(());
    }
    for step in tool.install {
        commands::run(root, step)?;
    }
    if commands::works(root, tool.probe) {
        return Ok(());
    }
    Err(format!(
        "{} was installed, but `{}` still fails: is its folder in PATH?",
        tool.name,
        tool.probe.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(probe: Words, install: &'static [Words], expected: Result<(), &str>) {
        let tool = Tool { name: "a tool", probe, install };
        let outcome = ensure(&crate::root(), &tool);
        match expected {
            Ok(()) => assert_eq!(outcome, Ok(())),
            Err(part) => {
                assert!(outcome.as_ref().is_err_and(|error| error.contains(part)), "{outcome:?}: {part}");
            }
        }
    }

    #[test]
    fn a_tool_is_installed_only_when_missing_and_must_then_answer() {
        check(&["true"], &[&["false"]], Ok(()));
        check(&["false"], &[&["true"]], Err("still fails"));
        check(&["false"], &[&["false"]], Err("`false` failed"));
        check(&["no-such-program"], &[&["no-such-program"]], Err("did not start"));
    }
}
