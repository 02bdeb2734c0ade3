//! `sillage archive`, and whatever reads a log of which a part was moved, with the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sillage_domains::likes::Likes;
use sillage_kernel::{
    BASELINE_SCHEMA, BASELINE_TAKEN, Baseline, Decider, EventId, Expected, Metadata, NewEvent, StreamName,
    Tenant, Timestamp, Version,
};
use sillage_store::event_store::journal::{IndexLimits, JournalOptions, JournalStore};
use sillage_store::{Append, Cut, Direction, Entry, EventStore, clock};
use tempfile::TempDir;
use uuid::Uuid;

use crate::exports::{prints, sillage};
use crate::support::{Client, Process, Running, action, serve, start_in, until};

const LIKES: usize = 12;

async fn like(client: &Client, n: usize) {
    let body = action("LikeAdd", &format!("t{}", n % 3), Uuid::now_v7()).to_string();
    assert_eq!(client.post("/api/commands", &client.token(&format!("u{n}"), &[]), body).await.0, 202);
}

/// A data folder whose log has a file for each event, made by a server in this process.
async fn made() -> TempDir {
    let running = start_in(TempDir::new().unwrap(), |config| config.journal.segment_bytes = 1).await;
    for n in 0..LIKES {
        like(&running.client, n).await;
    }
    let Running { node, folder, .. } = running;
    node.stop().await;
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    files.sort();
    files
}

/// The words of a command and the archive.
fn with<'a>(words: &[&'a str], archive: &'a Path) -> Vec<&'a str> {
    [words, &["--archive", archive.to_str().unwrap()]].concat()
}

/// What a command that must fail says.
fn refused(words: &[&str], data: &Path) -> String {
    let output = sillage(words, data).env_remove("SILLAGE_ARCHIVE").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Whoever does not name the archive, or names one that lacks the files, is told what is missing.
fn check_missing(data: &Path, elsewhere: &Path) {
    let to = elsewhere.join("none");
    for words in [
        &["export"][..],
        &["state", "like-t0"],
        &["log"],
        &["tail"],
        &["epoch", "new"],
        &["import"],
        &["backup", "--to", to.to_str().unwrap()],
    ] {
        let error = refused(words, data);
        assert!(error.contains("was archived") && error.contains("--archive"), "{words:?}: {error}");
        let error = refused(&with(words, &elsewhere.join("empty")), data);
        assert!(error.contains("empty") && error.contains("correct --archive"), "{words:?}: {error}");
    }
    let told = String::from_utf8(sillage(&["verify"], data).output().unwrap().stdout).unwrap();
    assert!(told.contains("in an archive that is to be named"), "{told}");
    for accept_loss in [&[][..], &["--accept-loss"]] {
        let output = serve(data).args(accept_loss).env_remove("SILLAGE_ARCHIVE").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("name it with --archive"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_files_are_moved_and_everything_reads_them_from_there() {
    let (folder, elsewhere) = (made().await, TempDir::new().unwrap());
    let (data, archive) = (folder.path(), elsewhere.path().join("archive"));
    let before = prints(&["export"], data);
    let state = prints(&["state", "like-t0"], data);
    let count = files(&data.join("journal")).len();
    let epoch = serde_json::from_str::<Value>(before.lines().next().unwrap()).unwrap();
    let (epoch, _) = epoch["position"].as_str().unwrap().rsplit_once(':').unwrap();

    let foreign = format!("{}:7", Uuid::nil());
    let error = refused(&with(&["archive", "--before", &foreign], &archive), data);
    assert!(error.contains("means nothing in it") && !archive.exists(), "{error}");
    let error = sillage(&with(&["archive"], &archive), data).output().unwrap();
    assert!(!error.status.success() && String::from_utf8_lossy(&error.stderr).contains("--older-than"));

    let told = prints(&with(&["archive", "--before", "7"], &archive), data);
    let moved = files(&archive).len();
    assert!(told.starts_with(&format!("{moved} files ")) && told.contains("--archive"), "{told}");
    assert!((6..count).contains(&moved), "{moved} of {count}");
    assert_eq!(files(&data.join("journal")).len(), count - moved);
    assert!(prints(&with(&["archive", "--before", "7"], &archive), data).starts_with("0 files "));

    // Everything that reads is told of the folder, and reads as before.
    assert_eq!(prints(&with(&["export"], &archive), data), before);
    assert_eq!(prints(&with(&["state", "like-t0"], &archive), data), state);
    assert_eq!(prints(&with(&["log"], &archive), data).lines().count(), LIKES);
    assert_eq!(prints(&with(&["tail", "-n", "12"], &archive), data).lines().count(), LIKES);
    let verified = prints(&with(&["verify"], &archive), data);
    assert!(verified.contains("12 events up to position 12"), "{verified}");
    let saved = elsewhere.path().join("saved");
    prints(&with(&["backup", "--to", saved.to_str().unwrap()], &archive), data);
    assert_eq!(files(&saved).len(), count);

    // Nothing is changed by those who do not find it.
    check_missing(data, elsewhere.path());
    assert_eq!((files(&data.join("journal")).len(), files(&archive).len()), (count - moved, moved));

    // A server reads from there, and while it runs no file is moved.
    fs::remove_dir_all(data.join("journal/index")).unwrap();
    fs::remove_file(data.join("views.sqlite")).unwrap();
    let server = Process::start_with(data, &["--archive", archive.to_str().unwrap()]);
    until("a ready node", || async { (server.client.get("/readyz", "").await.0 == 200).then_some(()) }).await;
    like(&server.client, LIKES).await;
    let read = server.client.token("olga", &["log:read"]);
    let (status, log) = server.client.get("/api/log?from=1&limit=100", &read).await;
    assert_eq!((status, log["events"].as_array().map(Vec::len)), (200, Some(LIKES + 1)), "{log}");
    let error = refused(&with(&["archive", "--before", "9"], &archive), data);
    assert!(error.contains("a server runs on") && error.contains("stop it"), "{error}");
    server.kill();
    let position = format!("{epoch}:9");
    prints(&with(&["archive", "--before", &position], &archive), data);
    assert!(files(&archive).len() > moved);
}

#[tokio::test]
async fn files_are_old_when_all_of_their_events_are() {
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (data, archive) = (folder.path(), elsewhere.path().join("archive"));
    let day = Duration::from_secs(24 * 3_600);
    let index = IndexLimits { tail_entries: 2, ..IndexLimits::default() };
    let options = JournalOptions { segment_bytes: 1, index, ..JournalOptions::default() };
    let store = JournalStore::open(&data.join("journal"), 7, options).unwrap().0;
    for days in [40, 30, 20, 10, 0] {
        let then = clock::now().as_micros() - i64::try_from(day.as_micros()).unwrap() * days;
        let data = "{}".to_owned();
        let event = NewEvent::new(EventId(Uuid::now_v7()), "Happened", data, Metadata::default());
        let stream = "thing-1".parse().unwrap();
        let entries = vec![Entry { stream, expected: Expected::Any, events: vec![event] }];
        let (tenant, recorded_at) = ("main".parse().unwrap(), Some(Timestamp::from_micros(then)));
        let brought = Append { tenant, entries, ledger: None, fence: None, recorded_at };
        store.append(vec![brought]).await.remove(0).unwrap();
    }
    store.close().await;
    drop(store);
    for (days, moved) in [("50", 0), ("25", 2), ("25", 0), ("15", 1), ("0", 1)] {
        let told = prints(&with(&["archive", "--older-than", days], &archive), data);
        assert!(told.starts_with(&format!("{moved} files ")), "{days} days: {told}");
    }
    assert_eq!(files(&archive).len(), 4);
    assert_eq!(prints(&with(&["log"], &archive), data).lines().count(), 5);
}

/// Dropped events are no silence: what reads the log says how many there were, and a state begins with its baseline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_is_counted_and_a_state_begins_with_its_baseline() {
    let folder = made().await;
    let data = folder.path();
    let state = prints(&["state", "like-t0"], data);
    let index = IndexLimits { tail_entries: 2, ..IndexLimits::default() };
    let options = JournalOptions { segment_bytes: 1, index, ..JournalOptions::default() };
    let store = JournalStore::open(&data.join("journal"), 7, options).unwrap().0;
    let (tenant, stream): (Tenant, StreamName) = ("main".parse().unwrap(), "like-t0".parse().unwrap());
    let page = store.read_stream(&tenant, &stream, Version::new(1), Direction::Forward, 99).await.unwrap();
    let last = page.events.last().unwrap();
    let baseline = Baseline {
        stream: stream.clone(),
        version: last.version,
        event: last.id,
        checksum: last.checksum,
        recorded_at: last.recorded_at,
        revision: Likes::REVISION,
        state: serde_json::from_str::<Value>(&state).unwrap()["state"].clone(),
    };
    let metadata = Metadata { schema: BASELINE_SCHEMA, ..Metadata::default() };
    let taken = NewEvent::new(EventId(Uuid::now_v7()), BASELINE_TAKEN, baseline.encode(), metadata);
    // What comes after it seals the file that it is in.
    let after = NewEvent::new(EventId(Uuid::now_v7()), "Happened", "{}".to_owned(), Metadata::default());
    for (stream, event) in
        [(StreamName::baseline_of(&stream).unwrap(), taken), ("thing-1".parse().unwrap(), after)]
    {
        let entries = vec![Entry { stream, expected: Expected::Any, events: vec![event] }];
        let (tenant, ledger, fence, recorded_at) = (tenant.clone(), None, None, None);
        store.append(vec![Append { tenant, entries, ledger, fence, recorded_at }]).await.remove(0).unwrap();
    }
    let through = last.version;
    let dropped = store.drop_events(vec![Cut { tenant, stream, through }]).await.unwrap();
    assert_eq!(dropped.events, through.get() - 1, "the newest stays");
    store.close().await;
    drop(store);

    assert_eq!(prints(&["state", "like-t0"], data), state);
    let error = refused(&["state", "like-t0", "--version", "1"], data);
    assert!(error.contains("were compacted"), "{error}");
    for words in [&["export"][..], &["log"]] {
        let output = sillage(words, data).output().unwrap();
        let (lines, told) =
            (output.stdout.split(|byte| *byte == b'\n').count() - 1, String::from_utf8_lossy(&output.stderr));
        assert_eq!(lines as u64, LIKES as u64 + 2 - dropped.events);
        assert!(told.starts_with(&format!("{} events were passed over", dropped.events)), "{told}");
    }
    let verified = prints(&["verify"], data);
    assert!(
        verified.contains(&format!("Of {} events the contents were dropped", dropped.events)),
        "{verified}"
    );
}
