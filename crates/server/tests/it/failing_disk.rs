//! The disk refuses, the folder is taken, the clock jumps: nobody is told that something was kept which was not, the
//! error says what is wrong, and the next start finds the truth.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sillage_store::event_store::journal::Boundary;
use sillage_store::event_store::journal::walk::{LogWalk, Recorded};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Process, action, run, serve, start, until, within};

/// A library that makes trouble for a server, and the file that says which.
struct Trouble {
    tools: TempDir,
    library: PathBuf,
}

impl Trouble {
    fn new() -> Self {
        let tools = TempDir::new().unwrap();
        let (source, library) = (tools.path().join("trouble.c"), tools.path().join("trouble.so"));
        fs::write(&source, include_str!("support/trouble.c")).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(built.unwrap().success());
        Self { tools, library }
    }

    /// From now on there is this trouble, and no other.
    fn make(&self, words: &str) {
        let (file, new) = (self.tools.path().join("words"), self.tools.path().join("new"));
        fs::write(&new, words).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", &self.library).env("TROUBLE", self.tools.path().join("words"))
    }

    fn start(&self, data: &Path) -> Process {
        Process::listening(self.prepare(&mut serve(data)), data)
    }
}

/// Sends the like of a user, whose number is also that of the command, and answers the status and the body.
async fn like(server: &Process, user: u128) -> (u16, Value) {
    let token = server.client.token(&format!("u{user}"), &[]);
    server
        .client
        .post("/api/commands", &token, action("LikeAdd", "t", Uuid::from_u128(user)).to_string())
        .await
}

/// What became of the command of a user.
async fn outcome(server: &Process, user: u128) -> (u16, Value) {
    let token = server.client.token(&format!("u{user}"), &[]);
    server.client.get(&format!("/api/commands/{}", Uuid::from_u128(user)), &token).await
}

async fn count(server: &Process) -> u64 {
    let token = server.client.token("u1", &[]);
    let head = server.client.get("/readyz", "").await.1["head"].clone();
    let path = format!("/api/social/likes/t?at_least={head}");
    server.client.get(&path, &token).await.1["count"].as_u64().unwrap()
}

#[tokio::test]
async fn a_disk_that_does_not_flush_ends_the_process_and_loses_nothing() {
    let (data, trouble) = (TempDir::new().unwrap(), Trouble::new());
    let server = trouble.start(data.path());
    assert_eq!(like(&server, 1).await.0, 202);

    trouble.make("sync");
    let (status, problem) = like(&server, 2).await;
    assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "{problem}");
    assert!(!server.ended().await, "an end by a failure is no success");

    trouble.make("");
    let server = Process::start(data.path());
    assert_eq!(like(&server, 2).await.0, 202);
    assert_eq!((outcome(&server, 2).await.0, count(&server).await), (200, 2), "each counts once");
}

/// While a write fails nothing is kept, and nobody is told otherwise; then it goes on as if nothing had been.
#[tokio::test]
async fn a_disk_that_is_full_or_does_not_write_is_survived() {
    for word in ["full", "write"] {
        let (data, trouble) = (TempDir::new().unwrap(), Trouble::new());
        let server = trouble.start(data.path());
        assert_eq!(like(&server, 1).await.0, 202, "{word}");
        trouble.make(word);
        for user in [2, 3, 2] {
            let (status, problem) = like(&server, user).await;
            assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "{word}: {problem}");
        }
        assert_eq!(server.client.get("/readyz", "").await.0, 200, "{word}: it can still be read");
        assert_eq!((outcome(&server, 1).await.0, outcome(&server, 2).await.0), (200, 404), "{word}");
        trouble.make("");
        assert_eq!(like(&server, 2).await.0, 202, "{word}: there is room again");
        assert_eq!(count(&server).await, 2, "{word}");
        trouble.make(word);
        assert_eq!(like(&server, 4).await.0, 503, "{word}");
        server.kill();
        trouble.make("");
        let server = trouble.start(data.path());
        assert_eq!((outcome(&server, 2).await.0, outcome(&server, 4).await.0), (200, 404), "{word}");
        assert_eq!((like(&server, 4).await.0, count(&server).await), (202, 3), "{word}");
        server.kill();
        verify(data.path());
    }
}

/// Space ahead is only for speed.
#[tokio::test]
async fn without_room_for_zeros_ahead_everything_works() {
    let (data, trouble) = (TempDir::new().unwrap(), Trouble::new());
    trouble.make("ahead");
    let server = trouble.start(data.path());
    for user in 1..=20 {
        assert_eq!(like(&server, user).await.0, 202);
    }
    let log = data.path().join("journal/0000000000000000.seg");
    assert!(fs::metadata(log).unwrap().len() < 64 << 10, "there was room ahead");
    server.kill();
    assert_eq!(count(&Process::start(data.path())).await, 20);
}

/// A write failed, and what it left cannot be cut: only a new start knows what is there.
#[tokio::test]
async fn a_write_that_cannot_be_taken_back_ends_the_process() {
    let (data, trouble) = (TempDir::new().unwrap(), Trouble::new());
    let server = trouble.start(data.path());
    assert_eq!(like(&server, 1).await.0, 202);
    trouble.make("full truncate");
    assert_eq!(like(&server, 2).await.0, 503);
    assert!(!server.ended().await);
    trouble.make("");
    let server = Process::start(data.path());
    assert_eq!((outcome(&server, 1).await.0, outcome(&server, 2).await.0), (200, 404));
    assert_eq!((like(&server, 2).await.0, count(&server).await), (202, 2));
}

fn verify(data: &Path) -> Output {
    let verified = run(&["verify", "--data"], data);
    assert!(verified.status.success(), "{verified:?}");
    verified
}

/// Tries to start a server that cannot, and answers what it says.
fn refused(command: &mut Command) -> String {
    let ended = command.output().unwrap();
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
    String::from_utf8(ended.stderr).unwrap()
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_or_is_taken_is_refused_with_the_reason() {
    let (data, trouble) = (TempDir::new().unwrap(), Trouble::new());
    let server = trouble.start(data.path());
    assert_eq!(like(&server, 1).await.0, 202);
    let said = refused(&mut serve(data.path()));
    assert!(said.contains("another process uses it: stop that one"), "{said}");
    assert_eq!(like(&server, 2).await.0, 202, "the first is not disturbed");
    server.kill();

    trouble.make("read-only");
    let said = refused(trouble.prepare(&mut serve(data.path())));
    assert!(said.contains("Read-only file system") && said.contains("journal"), "{said}");
    let mut reading = Command::new(env!("CARGO_BIN_EXE_sillage"));
    reading.args(["verify", "--data"]).arg(data.path());
    let verified = trouble.prepare(&mut reading).output().unwrap();
    assert!(verified.status.success(), "what only reads needs no more: {verified:?}");
    trouble.make("");
    assert_eq!(count(&trouble.start(data.path())).await, 2);
}

/// The clock is an hour ahead, then right, then again, while it runs and between two runs.
#[tokio::test]
async fn a_clock_that_jumps_back_disturbs_nobody() {
    let (data, trouble) = (TempDir::new().unwrap(), Trouble::new());
    trouble.make("clock+1h");
    let server = trouble.start(data.path());
    assert_eq!(like(&server, 1).await.0, 202);
    trouble.make("");
    assert_eq!(like(&server, 2).await.0, 202, "an hour earlier");
    assert_eq!((like(&server, 1).await.0, outcome(&server, 1).await.0), (202, 200), "it is known");
    server.kill();
    let server = trouble.start(data.path());
    assert_eq!(like(&server, 3).await.0, 202, "after a start an hour before the last event");
    assert_eq!(count(&server).await, 3);
    trouble.make("clock+1h");
    assert_eq!((like(&server, 4).await.0, count(&server).await), (202, 4));
    server.kill();

    verify(data.path());
    let mut times = Vec::new();
    let mut walk = LogWalk::new(&data.path().join("journal"), Boundary::default());
    let end = walk.run(|placed| {
        if let Recorded::Event(event) = placed.record.unwrap() {
            times.push(event.recorded_at);
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    end.unwrap();
    assert!(times.len() == 4 && times.is_sorted(), "{times:?}");
    assert_eq!(times[0], times[1], "time stands still until the clock has caught up");
}

#[tokio::test]
async fn a_node_in_which_something_has_failed_is_not_ready() {
    let running = start(|_| {}).await;
    let ready = || async {
        let (status, readiness) = running.client.get("/readyz", "").await;
        (status == 200).then_some(readiness)
    };
    assert_eq!(until("a ready node", ready).await.get("failure"), None);
    running.node.gateway().supervisor.report("the first");
    running.node.gateway().supervisor.report("the second");
    let (status, readiness) = running.client.get("/readyz", "").await;
    assert_eq!((status, &readiness["failure"]), (503, &"the first".into()));
    assert_eq!(&*within("the failure", running.node.failed()).await, "the first");
}
