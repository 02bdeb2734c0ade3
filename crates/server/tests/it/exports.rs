//! `sillage export` and `sillage import`, with the real binary: what goes out comes in again, and is what it was.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use sillage_kernel::{
    Checksum, CommandId, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, Timestamp,
};
use sillage_store::event_store::journal::events::LogEvents;
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use sillage_store::{Append, Entry, EventStore};
use tempfile::TempDir;
use uuid::Uuid;

use super::support::{Process, Random, until};

/// The binary with some words for a data folder, not started yet.
pub(crate) fn sillage(words: &[&str], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
    command.args(words).arg("--data").arg(data).env_remove("SILLAGE_DATA");
    command
}

/// What the binary prints, which must end well.
pub(crate) fn prints(words: &[&str], data: &Path) -> String {
    let Output { status, stdout, stderr } = sillage(words, data).output().unwrap();
    assert!(status.success(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn import(words: &[&str], data: &Path) -> Child {
    let mut command = sillage(&[&["import"], words].concat(), data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Whether an import of that text ends well, and what it prints.
fn imports(words: &[&str], text: &[u8], data: &Path) -> (bool, String) {
    let mut child = import(words, data);
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may end before it has read all.
        scope.spawn(move || drop(stdin.write_all(text)));
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
    })
}

pub(crate) fn open(data: &Path) -> JournalStore {
    JournalStore::open(&data.join("journal"), 7, JournalOptions::default()).unwrap().0
}

/// A log of some thousands of events of hundreds of streams of three tenants, as many writers would make it.
pub(crate) async fn write_log(data: &Path, events: usize) {
    let (store, mut random) = (open(data), Random(1));
    let mut written = 0;
    while written < events {
        let appends: Vec<_> = (0..100).map(|_| some_append(&mut random)).collect();
        for append in &appends {
            written += append.entries[0].events.len();
        }
        assert!(store.append(appends).await.iter().all(Result::is_ok));
    }
    store.close().await;
}

fn some_append(random: &mut Random) -> Append {
    let data = [
        "{ \"b\" : 1 ,\n\t\"a\":2,\"b\":3}",
        "[1.0,1e0,1E+00,0.1,-0,123456789012345678901234567890,4.9e-324]",
        "\"\\u00e9é\\/\\ud83d\\ude00😀\\u0000\"",
        "null",
        " [ ] ",
        "{\"text\":\"the usual\"}",
    ];
    let tenant = ["main", "acme/é", "south"][random.below(3)].parse().unwrap();
    let category = ["playbook", "$system", "like"][random.below(3)];
    let stream = format!("{category}-{}", random.below(100)).parse().unwrap();
    let mut event = || {
        let user_id =
            [None, Some("anna".parse().unwrap()), Some("42".parse().unwrap())][random.below(3)].clone();
        let command_id = (random.below(2) == 0).then(|| CommandId(Uuid::now_v7()));
        let metadata = Metadata { user_id, command_id, schema: 1, ..Metadata::default() };
        let (id, text) = (EventId(Uuid::now_v7()), data[random.below(data.len())].to_owned());
        let stored = metadata.encode();
        let stored = if random.below(9) == 0 { stored.replace(',', " ,\n") } else { stored };
        NewEvent::kept(id, "It/Happened·é", text, metadata, stored)
    };
    let events = vec![event(), event()];
    let entries = vec![Entry { stream, expected: Expected::Any, events }];
    Append { tenant, entries, ledger: None, fence: None, recorded_at: None }
}

pub(crate) async fn whole_log(data: &Path) -> Vec<Arc<Event>> {
    let (store, mut all, mut after) = (open(data), Vec::new(), Position::ZERO);
    while after < store.head() {
        let page = store.read_all(after, Filter::Everything, 1_000).await.unwrap();
        all.extend(page.events);
        after = page.through;
    }
    store.close().await;
    all
}

fn count(data: &Path) -> usize {
    let mut count = 0;
    // Whoever imports may not have made it yet.
    let Ok(mut events) = LogEvents::open(&data.join("journal")) else { return 0 };
    let stopped = events.run(|_| {
        count += 1;
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(stopped.unwrap(), None);
    count
}

#[tokio::test]
async fn what_is_exported_and_imported_is_the_same_to_the_byte() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_log(from.path(), 5_000).await;
    let (source, file) = (whole_log(from.path()).await, from.path().join("events.jsonl"));
    let exported = prints(&["export"], from.path());
    assert_eq!(exported.lines().count(), source.len());
    std::fs::write(&file, &exported).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(prints(&["import", file], to.path()), "5000 events are new, 0 were there already.\n");
    // Whole events are compared: ids, numbers, bytes, metadata, times, and so the chains of checksums.
    assert!(whole_log(to.path()).await == source);
    let (good, said) = imports(&["-"], exported.as_bytes(), to.path());
    assert_eq!((good, said.as_str()), (true, "0 events are new, 5000 were there already.\n"));
    assert!(whole_log(to.path()).await == source);
}

#[tokio::test]
async fn an_import_that_was_killed_is_made_whole_by_another() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_log(from.path(), 5_000).await;
    let exported = prints(&["export"], from.path());
    let half: usize = exported.lines().take(2_500).map(|line| line.len() + 1).sum();
    let mut killed = import(&[], to.path());
    let mut stdin = killed.stdin.take().unwrap();
    stdin.write_all(&exported.as_bytes()[..half + 40]).unwrap();
    // Two batches are whole, and the third waits for its lines.
    until("the first two batches", || async { (count(to.path()) >= 2_000).then_some(()) }).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let (good, said) = imports(&[], exported.as_bytes(), to.path());
    assert_eq!((good, said.as_str()), (true, "3000 events are new, 2000 were there already.\n"));
    assert!(whole_log(to.path()).await == whole_log(from.path()).await);
}

#[tokio::test]
async fn a_bad_line_is_named_and_nothing_of_its_batch_is_kept() {
    let from = TempDir::new().unwrap();
    write_log(from.path(), 1_200).await;
    let exported = prints(&["export"], from.path());
    let lines: Vec<&str> = exported.lines().collect();
    let huge = format!("{{\"data\":\"{}\"}}", "x".repeat(17 << 20));
    let rows: [(&[u8], &str); 8] = [
        (b"this is no JSON", "line 1101: it is not JSON: expected"),
        (b"{\"specversion\":\"1.0\"}", "line 1101: missing field `id`, at column 21"),
        (b"{\"specversion\":1}", "line 1101: specversion: invalid type: integer"),
        (b"\xff\xfe", "line 1101: it is not UTF-8"),
        (huge.as_bytes(), "line 1101: it is longer than 16 MiB"),
        (&lines[1_100].as_bytes()[..90], "line 1101: it is not JSON: EOF"),
        (lines[1_199].as_bytes(), "is missing"),
        (b"", "is missing"),
    ];
    for (bad, why) in rows {
        let to = TempDir::new().unwrap();
        let mut text = lines[..1_100].join("\n").into_bytes();
        text.push(b'\n');
        text.extend(bad);
        text.extend(b"\n\n");
        text.extend(lines[1_101..].join("\n").bytes());
        let (good, said) = imports(&[], &text, to.path());
        assert!(!good && said.contains(why), "{said}\n instead of {why}");
        assert!(
            said.contains("nothing of lines 1001 to ") && said.contains("import the whole again"),
            "{said}"
        );
        assert_eq!(count(to.path()), 1_000, "{why}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_whole_is_said() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("nowhere");
    let said = |words: &[&str], data: &Path| {
        let Output { status, stdout, stderr } = sillage(words, data).stdin(Stdio::null()).output().unwrap();
        assert!(!status.success() && stdout.is_empty(), "{words:?}");
        String::from_utf8(stderr).unwrap()
    };
    assert!(said(&["export"], &missing).contains("there is no log in"));
    assert!(!missing.exists(), "who only reads makes nothing");
    assert!(said(&["import", "nowhere.jsonl"], folder.path()).contains("nowhere.jsonl cannot be read"));
    let format = said(&["import", "--format", "xml"], folder.path());
    assert!(format.contains("must be one of cloudevents, stored-event-record, playbook-event"), "{format}");
    write_log(folder.path(), 10).await;
    let category = said(&["export", "--format", "playbook-event", "--category", "like"], folder.path());
    assert!(category.contains("only events of the category playbook"), "{category}");
    let foreign = said(&["export", "--from", "abc:1"], folder.path());
    assert!(foreign.contains(&format!("the epoch of the log is {:032x}", 7)), "{foreign}");
    let running = Process::start(folder.path());
    let (good, said) = imports(&[], b"", folder.path());
    assert!(!good && said.contains("is in use: stop its server, then import"), "{said}");
    assert_eq!(prints(&["export"], folder.path()).lines().count(), 200);
    running.kill();
    assert_eq!(imports(&[], b"", folder.path()).1, "0 events are new, 0 were there already.\n");
}

/// The founding shapes lose what they have no place for, and nothing else; what they bring is known again.
#[tokio::test]
async fn the_founding_shapes_bring_what_they_have_a_place_for() {
    let from = TempDir::new().unwrap();
    write_log(from.path(), 1_500).await;
    let source = whole_log(from.path()).await;
    for (format, category, tenant) in
        [("stored-event-record", None, "main"), ("playbook-event", Some("playbook"), "acme/é")]
    {
        let exported = prints(&["export", "--format", format, "--tenant", tenant], from.path());
        let to = TempDir::new().unwrap();
        for new in [true, false] {
            let (good, said) =
                imports(&["--format", format, "--tenant", tenant], exported.as_bytes(), to.path());
            assert!(good && said.contains("0 events are new") != new, "{said}");
        }
        let wanted = |event: &&Arc<Event>| {
            event.tenant.as_str() == tenant && category.is_none_or(|only| event.stream.category() == only)
        };
        let (source, brought): (Vec<_>, _) =
            (source.iter().filter(wanted).collect(), whole_log(to.path()).await);
        assert_eq!((source.len(), exported.lines().count()), (brought.len(), brought.len()));
        assert!(brought.len() > 100);
        let told = |event: &Event| {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            let place = (event.tenant.clone(), event.stream.clone(), event.version, event.recorded_at);
            (place, event.event_type.clone(), data)
        };
        for (brought, source) in brought.iter().zip(source) {
            assert_eq!(told(brought), told(source));
            let kept = if category.is_some() {
                brought.metadata.user_id == source.metadata.user_id
            } else {
                brought.id == source.id
            };
            assert!(kept, "{brought:?}");
        }
    }
}

/// A part of a log goes where the rest is, and only there.
#[tokio::test]
async fn a_part_is_taken_where_it_follows() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_log(from.path(), 1_000).await;
    let all = prints(&["export"], from.path());
    let epoch = format!("{:032x}", 7);
    let later = prints(&["export", "--from", &format!("{epoch}:601")], from.path());
    assert_eq!(later.lines().count(), 400);
    assert!(all.ends_with(&later));
    let (good, said) = imports(&[], later.as_bytes(), to.path());
    assert!(!good && said.contains("is missing"), "{said}");
    let earlier = &all[..all.len() - later.len()];
    assert!(imports(&[], earlier.as_bytes(), to.path()).0);
    assert!(imports(&[], later.as_bytes(), to.path()).0);
    let source = whole_log(from.path()).await;
    assert!(whole_log(to.path()).await == source);
    let tampered = all.replacen("the usual", "the other", 1);
    let (good, said) = imports(&[], tampered.as_bytes(), TempDir::new().unwrap().path());
    assert!(!good && said.contains("its checksum does not follow from the event before it"), "{said}");
    assert!(source[0].follows(&Checksum::START) && source[0].recorded_at > Timestamp::default());
}
