//! What an operator does with the log of a server: look at it, save it, take it back, let it begin anew.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Client, Process, action, run, serve, until};

const SEGMENT: &str = "journal/0000000000000000.seg";

async fn like(client: &Client, target: &str) {
    let body = action("LikeAdd", target, Uuid::now_v7()).to_string();
    assert_eq!(client.post("/api/commands", &client.token("alice", &[]), body).await.0, 202);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a command that went well has said.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command that failed has said on stdout, and its error.
fn failed(output: Output) -> (String, String) {
    let Output { status, stdout, stderr } = output;
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    assert!(stderr.starts_with("sillage: "), "{stderr}");
    (stdout, stderr)
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn verify_finds_nothing_beside_a_server_and_tells_what_was_damaged() {
    let data = TempDir::new().unwrap();
    let server = Process::start(data.path());
    for target in ["a", "b", "c", "a"] {
        like(&server.client, target).await;
    }
    let told = said(&run(&["verify", "--data"], data.path()));
    assert!(told.contains("4 events up to position 4, ") && told.contains("as it was written"), "{told}");
    server.kill();

    let (segment, sound) = (data.path().join(SEGMENT), fs::read(data.path().join(SEGMENT)).unwrap());
    for (offset, place) in [(9, "byte 0: the segment header"), (100, "byte 40: a record does not match")] {
        flip(&segment, offset);
        let (told, error) = failed(run(&["verify", "--data"], data.path()));
        let line = told.lines().next().unwrap();
        assert!(line.starts_with(path(&segment)) && line.contains(place), "{told}");
        assert!(told.contains("sillage restore --from BACKUP") && error.contains("defects"), "{told}{error}");
        let (_, refused) = failed(serve(data.path()).output().unwrap());
        assert!(refused.contains("sillage verify") && refused.contains("--accept-loss"), "{refused}");
        fs::write(&segment, &sound).unwrap();
    }
    said(&run(&["verify", "--data"], data.path()));
    let (_, error) = failed(run(&["verify", "--data"], &data.path().join("elsewhere")));
    assert!(error.contains("--data"), "{error}");
}

#[tokio::test]
async fn accepted_loss_cuts_the_log_sets_it_aside_and_begins_a_new_epoch() {
    let data = TempDir::new().unwrap();
    let server = Process::start(data.path());
    like(&server.client, "a").await;
    let len = fs::read(data.path().join(SEGMENT)).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let old = server.client.get("/readyz", "").await.1["epoch"].clone();
    like(&server.client, "b").await;
    like(&server.client, "c").await;
    server.kill();
    flip(&data.path().join(SEGMENT), len + 60);
    let server = Process::start_with(data.path(), &["--accept-loss"]);
    let ready = until_ready(&server.client).await;
    assert_eq!(ready["head"], 1);
    assert_ne!(ready["epoch"], old);
    let mut files = fs::read_dir(data.path().join("journal")).unwrap();
    assert!(files.any(|file| file.unwrap().path().extension().is_some_and(|end| end == "lost")));
}

async fn until_ready(client: &Client) -> Value {
    let ready = || async {
        let (status, ready) = client.get("/readyz", "").await;
        (status == 200).then_some(ready)
    };
    until("a ready node", ready).await
}

/// How each reactor stands: its name and its mode.
async fn modes(client: &Client) -> Vec<(String, String)> {
    let (status, reactors) = client.get("/api/reactors", &client.token("olga", &["operate"])).await;
    assert_eq!(status, 200, "{reactors}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    reactors.as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["mode"]))).collect()
}

/// Waits until the sockets run and the destination outside is in that mode.
async fn until_log_is(client: &Client, mode: &str) {
    let wanted = [("sockets", "running"), ("log", mode)].map(|(name, mode)| (name.into(), mode.into()));
    until(mode, || async { (modes(client).await == wanted).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_restored_in_a_new_epoch_and_clients_begin_anew() {
    let (data, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Process::start(data.path());
    let loading = server.client.clone();
    let load = tokio::spawn(async move {
        loop {
            for n in 0..50 {
                like(&loading, &format!("t{n}")).await;
            }
        }
    });
    let mut alice = server.client.socket(&server.client.token("bob", &[])).await;
    let subscribed = alice.subscribe("like-t0").await;
    let event = alice.next_of("event").await;
    assert_eq!((&event["sequence_number"], &event["epoch"]), (&json!(1), &subscribed["epoch"]));

    let saved = folder.path().join("backup");
    let arguments = ["backup", "--data", path(data.path()), "--to"];
    let made = tokio::task::spawn_blocking({
        let (arguments, saved) = (arguments.map(str::to_owned), saved.clone());
        move || run(&arguments.each_ref().map(String::as_str), &saved)
    });
    let told = said(&made.await.unwrap());
    assert!(told.contains("keys.json") && told.contains(subscribed["epoch"].as_str().unwrap()), "{told}");
    let (_, error) = failed(run(&arguments, &saved));
    assert!(error.contains("is there already"), "{error}");
    load.abort();
    let (_, error) = failed(run(&["restore", "--from", path(&saved), "--data"], data.path()));
    assert!(error.contains("is not empty"), "{error}");
    server.kill();

    // The keys are put there first, and the rest comes from the backup.
    let new = folder.path().join("new");
    fs::create_dir(&new).unwrap();
    fs::copy(data.path().join("keys.json"), new.join("keys.json")).unwrap();
    let told = said(&run(&["restore", "--from", path(&saved), "--data"], &new));
    assert!(told.contains("/api/reactors/NAME/resume") && !told.contains("Put keys.json"), "{told}");
    said(&run(&["verify", "--data"], &new));

    let server = Process::start(&new);
    let ready = until_ready(&server.client).await;
    assert_ne!(ready["epoch"], subscribed["epoch"]);
    let manifest: Value = serde_json::from_slice(&fs::read(saved.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((&ready["head"], &manifest["epoch"]), (&manifest["head"], &subscribed["epoch"]));
    let mut back = server.client.socket(&server.client.token("bob", &[])).await;
    back.send(
        &json!({"type": "subscribe", "feed": "like-t0", "epoch": subscribed["epoch"], "last_sequence": 1}),
    )
    .await;
    let resync = back.next().await.unwrap();
    assert_eq!((&resync["type"], &resync["epoch"]), (&json!("resync"), &ready["epoch"]), "{resync}");

    until_log_is(&server.client, "paused").await;
    let operator = server.client.token("olga", &["operate"]);
    assert_eq!(server.client.post("/api/reactors/log/resume", &operator, "").await.0, 204);
    until_log_is(&server.client, "running").await;
    like(&server.client, "after").await;
}

#[tokio::test]
async fn a_log_that_knows_less_than_its_views_is_refused_until_an_operator_confirms() {
    let (data, aside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Process::start(data.path());
    like(&server.client, "a").await;
    let old = until_ready(&server.client).await["epoch"].clone();
    server.kill();
    let (segment, earlier) = (data.path().join(SEGMENT), aside.path().join("log"));
    fs::copy(&segment, &earlier).unwrap();

    let server = Process::start(data.path());
    like(&server.client, "a").await;
    like(&server.client, "b").await;
    let alice = server.client.token("alice", &[]);
    assert_eq!(server.client.get("/api/social/likes/b?at_least=3", &alice).await.1["count"], 1);
    let (_, error) = failed(run(&["epoch", "new", "--data"], data.path()));
    assert!(error.contains("stop it first"), "{error}");
    server.kill();

    // Somebody puts an earlier state of the log in its place.
    fs::copy(&earlier, &segment).unwrap();
    let (_, error) = failed(serve(data.path()).output().unwrap());
    assert!(
        error.contains("beyond the end of the log at 1") && error.contains("sillage epoch new"),
        "{error}"
    );
    let told = said(&run(&["epoch", "new", "--data"], data.path()));
    assert!(told.contains(old.as_str().unwrap()) && told.contains("resume"), "{told}");

    let server = Process::start(data.path());
    let ready = until_ready(&server.client).await;
    assert_eq!((&ready["head"], ready["epoch"] == old), (&json!(1), false));
    assert_eq!(
        server.client.get("/api/social/likes/b", &alice).await.1["count"],
        0,
        "the views were built anew"
    );
    until_log_is(&server.client, "paused").await;
}
