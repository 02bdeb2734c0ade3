//! The walk of the README is walked, and what it prints is compared.
//!
//! In a block ```` ```console ````, a line that begins with `$ ` is run by a shell, and the lines after it are
//! what it must print; `…` stands for anything within a line. `make run` starts the server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The address that the README uses.
const README_ADDRESS: &str = "127.0.0.1:4000";

struct Step {
    command: String,
    prints: Vec<String>,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), prints: Vec::new() }),
                None => steps.last_mut().expect("output follows a command").prints.push(line.to_owned()),
            },
            (false, _) => {}
        }
    }
    steps
}

/// Whether a printed line is as the README has it.
fn is_like(printed: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut ends_open = false;
    for part in parts {
        ends_open = part.is_empty();
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || ends_open
}

/// The walk as one script; before the output of each step it prints a mark.
fn script(steps: &[Step], port: u16) -> String {
    let address = format!("127.0.0.1:{port}");
    let mut script = String::from("server=\n");
    for step in steps {
        let command = step.command.replace(README_ADDRESS, &address);
        let command = match command.as_str() {
            "make run" => {
                // The line is waited for, so that the next step finds the server listening.
                format!(
                    "rm -f out; target/release/sillage serve --listen {address} >out 2>err & server=$!\n\
                     until grep -q listening out 2>/dev/null; do sleep 0.02; kill -0 $server || exit 1; done; cat out"
                )
            }
            // Only the server of this walk.
            "pkill -KILL -x sillage" => "kill -KILL $server; wait $server 2>/dev/null".to_owned(),
            other => other.to_owned(),
        };
        writeln!(script, "echo '--- step'\n{command}").unwrap();
    }
    script.push_str("kill -KILL $server\n");
    script
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_walk_prints_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let steps = steps(&std::fs::read_to_string(root.join("README.md")).unwrap());
    assert!(steps.len() > 10, "the walk is in the README");
    let folder = TempDir::new().unwrap();
    std::fs::create_dir_all(folder.path().join("target/release")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sillage"), folder.path().join("target/release/sillage"))
        .unwrap();
    let port = free_port();
    let mut shell = Command::new("bash")
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(script(&steps, port).as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap().replace(&port.to_string(), "4000");
    let mut parts = printed.split("--- step\n").skip(1);
    for Step { command, prints } in &steps {
        let lines: Vec<_> = parts.next().unwrap_or_default().lines().collect();
        let same =
            lines.len() == prints.len() && lines.iter().zip(prints).all(|(line, print)| is_like(line, print));
        assert!(same, "$ {command}\nprints\n{}\nand should print\n{}", lines.join("\n"), prints.join("\n"));
    }
}

#[test]
fn the_comparison_can_fail() {
    assert!(
        is_like("abc", "abc") && is_like("a12c", "a…c") && is_like("a12", "a…") && is_like("1b2c", "…b…c")
    );
    assert!(!is_like("abd", "abc") && !is_like("a12", "a…c") && !is_like("abcd", "abc") && !is_like("", "a"));
}
