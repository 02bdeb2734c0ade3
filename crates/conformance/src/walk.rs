//! A document is walked as its reader would, and what is printed is compared with what it says.
//!
//! In a block ```` ```console ````, a line that begins with `$ ` is run by a shell, and the lines after it are
//! what it must print; `…` stands for anything within a line. The server listens on a port of its own, in a folder of
//! its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The address that documents use.
const ADDRESS: &str = "127.0.0.1:4000";

/// A document, and what its words mean here.
pub struct Walk<'a> {
    /// Its text.
    pub document: &'a str,
    /// The line that starts the server.
    pub start: &'a str,
    /// What stands for the program in a command.
    pub program: &'a str,
    /// The file of that program.
    pub binary: &'a str,
}

impl Walk<'_> {
    /// Walks; panics where something else is printed than the document says.
    pub fn check(&self) {
        let steps = steps(self.document);
        assert!(!steps.is_empty(), "there is a walk in the document");
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let mut shell = Command::new("bash")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(self.script(&steps, port).as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap().replace(&port.to_string(), "4000");
        let mut parts = printed.split("--- step\n").skip(1);
        for Step { command, prints } in &steps {
            let lines: Vec<_> = parts.next().unwrap_or_default().lines().collect();
            let same = lines.len() == prints.len()
                && lines.iter().zip(prints).all(|(line, print)| is_like(line, print));
            assert!(
                same,
                "$ {command}\nprints\n{}\nand should print\n{}",
                lines.join("\n"),
                prints.join("\n")
            );
        }
    }

    /// The walk as one script; before the output of each step it prints a mark.
    fn script(&self, steps: &[Step], port: u16) -> String {
        let Self { start, program, binary, .. } = self;
        let address = format!("127.0.0.1:{port}");
        let mut script = String::from("server=\n");
        for Step { command, .. } in steps {
            let command = if command == start {
                // The line is waited for, so that the next step finds the server listening.
                format!(
                    "rm -f out; {binary} serve --listen {address} >out 2>err & server=$!\n\
                     until grep -q listening out 2>/dev/null; do sleep 0.02; kill -0 $server || exit 1; done; cat out"
                )
            } else if command.starts_with("pkill -KILL -x ") {
                // Only the server of this walk.
                "kill -KILL $server; wait $server 2>/dev/null".to_owned()
            } else {
                command.replace(ADDRESS, &address).replace(program, binary)
            };
            writeln!(script, "echo '--- step'\n{command}").unwrap();
        }
        script.push_str("kill -KILL $server\n");
        script
    }
}

struct Step {
    command: String,
    prints: Vec<String>,
}

fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
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

/// Whether a printed line is as the document has it.
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

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_can_fail() {
        assert!(
            is_like("abc", "abc")
                && is_like("a12c", "a…c")
                && is_like("a12", "a…")
                && is_like("1b2c", "…b…c")
        );
        assert!(
            !is_like("abd", "abc") && !is_like("a12", "a…c") && !is_like("abcd", "abc") && !is_like("", "a")
        );
    }

    #[test]
    #[should_panic(expected = "should print\ntwo")]
    fn a_document_that_is_wrong_is_found_out() {
        let document = "```console\n$ start\nlistening\n$ echo one\ntwo\n```\n";
        let folder = TempDir::new().unwrap();
        let server = folder.path().join("server");
        std::fs::write(&server, "echo listening; exec sleep 60\n").unwrap();
        let binary = format!("bash {}", server.display());
        Walk { document, start: "start", program: "server", binary: &binary }.check();
    }
}
