//! Runs other programs. Nothing is run without being printed first, so that a log can be replayed by hand.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;

/// A program and its arguments.
pub(crate) type Words = &'static [&'static str];

/// Prints a command, runs it at `root`, and fails when it fails.
pub(crate) fn run(root: &Path, words: Words) -> Outcome {
    println!("$ {}", words.join(" "));
    let status = command(root, words)?.status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` failed: {status}", words.join(" "))),
        Err(error) => Err(format!("`{}` did not start: {error}", words.join(" "))),
    }
}

/// Whether a command runs and succeeds; what it prints is of no interest.
pub(crate) fn works(root: &Path, words: Words) -> bool {
    let Ok(mut command) = command(root, words) else { return false };
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What a command prints, which must be UTF-8.
pub(crate) fn output(root: &Path, words: Words) -> Result<String, String> {
    let shown = words.join(" ");
    let output =
        command(root, words)?.output().map_err(|error| format!("`{shown}` did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{shown}` printed what is not UTF-8"))
}

fn command(root: &Path, words: Words) -> Result<Command, String> {
    let (program, arguments) = words.split_first().ok_or("an empty command can't be run")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    Ok(command)
}
