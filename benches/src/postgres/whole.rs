//! The whole: `sillage serve` on the database, and commands from 64 sockets, 8 under way on each, to their receipts.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::program::variable;

/// For how long it counts.
const SECONDS: &str = "8";

/// What the driver of the load says, if it and the server are named.
pub fn measure(address: &str) -> Option<String> {
    let (sillage, load) = (variable("SILLAGE")?, variable("LOAD")?);
    let folder = TempDir::new().expect("a folder");
    let mut command = Command::new(&sillage);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
    command.env("SILLAGE_STORE", address).env("SILLAGE_LOG", "error").stdout(Stdio::piped());
    let mut server = Running(command.spawn().expect("SILLAGE is a program"));
    let output = BufReader::new(server.0.stdout.take().expect("it is piped"));
    let line = output.lines().next().expect("it says where it listens").expect("a line");
    let (_, url) = line.split_once("listening on ").expect("it says where it listens");
    let mut command = Command::new(load);
    command.args(["commands", "--url", url, "--connections", "64", "--in-flight", "8", "--seconds", SECONDS]);
    command.args(["--server", &sillage, "--pid", &server.0.id().to_string(), "--data"]).arg(folder.path());
    let output = command.stderr(Stdio::inherit()).output().expect("LOAD is a program");
    assert!(output.status.success(), "the load has failed");
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A server, which ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
