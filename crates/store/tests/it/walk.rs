//! The records of a folder, read beside the store that writes them.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use sillage_kernel::{
    CommandId, ContentHash, Epoch, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, Version,
};
use sillage_store::event_store::journal::walk::{LogWalk, Placed, Recorded};
use sillage_store::event_store::journal::{Boundary, End, JournalOptions, JournalStore};
use sillage_store::{Append, CursorUpdate, Entry, EventStore, LedgerKey, LedgerWrite, Verdict};
use tempfile::TempDir;
use uuid::Uuid;

const LOG_ID: u128 = 7;

fn open(dir: &Path) -> JournalStore {
    JournalStore::open(dir, LOG_ID, JournalOptions::default()).unwrap().0
}

/// Two events of a stream, and the command that asked for them.
fn append(n: u64) -> Append {
    let new = || NewEvent::new(EventId(Uuid::now_v7()), "Happened", "{}", Metadata::default());
    let tenant: sillage_kernel::Tenant = "main".parse().unwrap();
    let stream: sillage_kernel::StreamName = "thing-1".parse().unwrap();
    let principal = "anna".parse().unwrap();
    let key = LedgerKey { tenant: tenant.clone(), principal, command_id: CommandId(Uuid::now_v7()) };
    let (content, verdict) = (ContentHash([n.try_into().unwrap(); 16]), Verdict::Applied);
    let ledger = Some(LedgerWrite { key, content, stream: stream.clone(), verdict });
    let expected = Expected::Exactly(Version::new(2 * n));
    let entries = vec![Entry { stream, expected, events: vec![new(), new()] }];
    Append { tenant, entries, ledger, fence: None, recorded_at: None }
}

/// Walks on, and says in a word what each record is.
fn run(walk: &mut LogWalk) -> (End<()>, Vec<String>) {
    let mut told = Vec::new();
    let end = walk.run(|Placed { record, .. }| {
        told.push(match record.unwrap() {
            Recorded::Event(Event { position, version, .. }) => format!("event {position} {version}"),
            Recorded::Dropped(_) | Recorded::Forgotten(_) => panic!("nothing was compacted"),
            Recorded::Ledger(_, entry, _) => format!("command {}", entry.receipt.position),
            Recorded::Cursor(update) => format!("cursor {}", update.reactor),
            Recorded::Epoch(begun) => format!("epoch {}", begun.epoch),
            Recorded::Lease(lease) => format!("lease {} {}", lease.name, lease.owner),
        });
        ControlFlow::Continue(())
    });
    (end.unwrap(), told)
}

#[tokio::test]
async fn each_record_is_told_once_and_following_goes_on_from_the_last() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut walk = LogWalk::new(dir.path(), Boundary::default());
    assert_eq!((run(&mut walk), walk.epoch()), ((End::Whole, vec![]), Some(Epoch::from_log_id(LOG_ID))));

    store.append(vec![append(0)]).await.remove(0).unwrap();
    let cursor =
        CursorUpdate { reactor: "r".into(), position: Some(Position::new(1)), ..CursorUpdate::default() };
    store.write_cursor(cursor).await.unwrap();
    store.acquire_lease("l", "o", Duration::from_secs(9)).await.unwrap();
    let told = ["event 1 1", "event 2 2", "command 2", "cursor r", "lease l o"];
    assert_eq!(run(&mut walk), (End::Whole, told.map(String::from).to_vec()));
    assert_eq!(run(&mut walk), (End::Whole, vec![]));

    let between = walk.boundary();
    store.append(vec![append(1)]).await.remove(0).unwrap();
    let more = (End::Whole, ["event 3 3", "event 4 4", "command 4"].map(String::from).to_vec());
    assert_eq!(run(&mut walk), more);
    assert_eq!(run(&mut LogWalk::new(dir.path(), between)), more);
}

#[tokio::test]
async fn the_events_are_those_that_the_store_reads_and_a_stop_ends_behind_its_batch() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for n in 0..3 {
        store.append(vec![append(n)]).await.remove(0).unwrap();
    }
    let page = store.read_all(Position::ZERO, Filter::Everything, 9).await.unwrap();
    let mut walk = LogWalk::new(dir.path(), Boundary::default());
    let mut next = || walk.run(|Placed { record, batch, .. }| ControlFlow::Break((batch, record.unwrap())));
    for (number, event) in (1..).zip(page.events.iter().step_by(2)) {
        let stopped = next().unwrap();
        let End::Stopped((batch, Recorded::Event(found))) = stopped else { panic!("{stopped:?}") };
        assert_eq!((batch, &found), (number, &**event));
    }
    assert!(matches!(next().unwrap(), End::Whole));
}
