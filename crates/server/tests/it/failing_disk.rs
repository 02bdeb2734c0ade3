//! The disk refuses to flush: nobody is told that something was kept, the process ends with an error, and the
//! next start finds the truth.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Process, action, serve, start, until, within};

/// A library that makes flushes fail while a file exists.
fn failing_sync(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("failing_sync.c"), folder.join("failing_sync.so"));
    fs::write(&source, include_str!("support/failing_sync.c")).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.unwrap().success());
    library
}

#[tokio::test]
async fn a_disk_that_does_not_flush_ends_the_process_and_loses_nothing() {
    let (data, tools) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let sign = tools.path().join("fail");
    let mut failing = serve(data.path());
    failing.env("LD_PRELOAD", failing_sync(tools.path())).env("FAILING_SYNC", &sign);
    let server = Process::listening(&mut failing, data.path());
    let token = server.client.token("alice", &[]);
    let like = |user: u128| action("LikeAdd", "t", Uuid::from_u128(user)).to_string();
    assert_eq!(server.client.post("/api/commands", &token, like(1)).await.0, 202);

    fs::write(&sign, "").unwrap();
    let bob = server.client.token("bob", &[]);
    let (status, problem) = server.client.post("/api/commands", &bob, like(2)).await;
    assert_eq!((status, &problem["code"]), (503, &"unavailable".into()), "{problem}");
    assert!(!server.ended().await, "an end by a failure is no success");

    fs::remove_file(&sign).unwrap();
    let server = Process::start(data.path());
    assert_eq!(server.client.post("/api/commands", &bob, like(2)).await.0, 202);
    let (_, receipt) = server.client.get(&format!("/api/commands/{}", Uuid::from_u128(2)), &bob).await;
    let at_least = &receipt["position"];
    let path = format!("/api/social/likes/t?at_least={at_least}");
    let (_, likes) = server.client.get(&path, &token).await;
    assert_eq!((&likes["count"], &likes["me"]), (&2.into(), &true.into()), "each counts once");
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
