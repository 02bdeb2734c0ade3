//! `sillage migrate` with the real binary: a log that was moved is what it was, whenever the move was killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sillage_conformance::postgres::Server;
use sillage_kernel::{
    CommandId, ContentHash, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, StreamName,
    Timestamp, Version,
};
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use sillage_store::event_store::postgres::{PostgresOptions, PostgresStore};
use sillage_store::{
    Append, CursorUpdate, Cut, Direction, Entry, EventStore, Lease, LedgerKey, LedgerWrite, Mode, Parked,
    ParkedBecause, StoreError, Verdict,
};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::support::{Process, action, run, serve, start_in, until};

const STREAMS: usize = 60;
/// How many events each of them has.
const EVENTS: usize = 40;
/// So many bytes of data each that there are several pieces to move.
const BULK_BYTES: usize = 3_000;
const KILLS: usize = 4;

fn stream(n: usize) -> StreamName {
    StreamName::new("thing", &n.to_string()).unwrap()
}

fn open(folder: &Path) -> JournalStore {
    let options =
        JournalOptions { segment_bytes: 1 << 20, least_saved: u64::MAX, ..JournalOptions::default() };
    JournalStore::open(&folder.join("journal"), 1, options).unwrap().0
}

/// A command that adds an event of so many bytes.
fn append(n: usize, bytes: usize) -> Append {
    let data = format!("\"{}\"", "x".repeat(bytes));
    let event = NewEvent::new(EventId(Uuid::now_v7()), "Happened", data, Metadata::default());
    let tenant = if n.is_multiple_of(7) { "south" } else { "main" };
    let key = LedgerKey {
        tenant: tenant.parse().unwrap(),
        principal: "anna".parse().unwrap(),
        command_id: CommandId(Uuid::now_v7()),
    };
    let ledger =
        LedgerWrite { key, content: ContentHash([9; 16]), stream: stream(n), verdict: Verdict::Applied };
    let entries = vec![Entry { stream: stream(n), expected: Expected::Any, events: vec![event] }];
    Append { tenant: tenant.parse().unwrap(), entries, ledger: Some(ledger), fence: None, recorded_at: None }
}

/// Fills a log with all that a log may have, and answers which commands were settled.
async fn fill(store: &JournalStore) -> Vec<LedgerKey> {
    let mut keys = Vec::new();
    for _ in 0..EVENTS {
        let appends: Vec<_> = (0..STREAMS).map(|n| append(n, BULK_BYTES)).collect();
        keys.extend(appends.iter().filter_map(|append| Some(append.ledger.as_ref()?.key.clone())));
        store.append(appends).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    }
    let parked = Parked {
        position: Position::new(17),
        tenant: "main".parse().unwrap(),
        key: "k".into(),
        because: ParkedBecause::Failed { error: "no\u{0}".to_owned(), attempts: 3 },
        since: Timestamp::from_micros(5),
    };
    for (reactor, mode, park) in [("mail", Mode::Paused, vec![parked]), ("relay", Mode::Running, Vec::new())]
    {
        let (position, mode) = (Some(Position::new(20)), Some(mode));
        let update =
            CursorUpdate { reactor: reactor.into(), position, mode, park, ..CursorUpdate::default() };
        store.write_cursor(update).await.unwrap();
    }
    for owner in ["one", "two"] {
        let held = store.acquire_lease("lease", owner, Duration::ZERO).await.unwrap();
        assert!(held.is_some());
    }
    let cut = |n| {
        let tenant = if n % 7 == 0 { "south" } else { "main" };
        Cut { tenant: tenant.parse().unwrap(), stream: stream(n), through: Version::new(30) }
    };
    let dropped = store.drop_events((0..STREAMS / 2).map(cut).collect()).await.unwrap();
    assert!(dropped.events > 100, "{dropped:?}");
    keys
}

async fn events(store: &dyn EventStore) -> Vec<Arc<Event>> {
    let (mut events, mut after) = (Vec::new(), Position::ZERO);
    while after < store.head() {
        let page = store.read_all(after, Filter::Everything, 1_000).await.unwrap();
        after = page.through;
        events.extend(page.events);
    }
    events
}

/// What reading each version of each stream comes to: its event, or where the kept ones begin.
async fn versions(store: &dyn EventStore) -> BTreeMap<(usize, u64), Result<EventId, Version>> {
    let mut found = BTreeMap::new();
    for n in 0..STREAMS {
        let tenant = if n % 7 == 0 { "south" } else { "main" }.parse().unwrap();
        for version in (1..=EVENTS as u64).step_by(3) {
            let page =
                store.read_stream(&tenant, &stream(n), Version::new(version), Direction::Forward, 1).await;
            let told = match page {
                Ok(page) => Ok(page.events[0].id),
                Err(StoreError::Dropped { kept_from }) => Err(kept_from),
                Err(error) => panic!("{error}"),
            };
            found.insert((n, version), told);
        }
    }
    found
}

/// The two logs say the same, whatever is asked.
async fn assert_same(left: &dyn EventStore, right: &dyn EventStore, keys: &[LedgerKey]) {
    assert_eq!((left.epoch(), left.head()), (right.epoch(), right.head()));
    assert!(events(left).await == events(right).await, "the events are others");
    assert_eq!(versions(left).await, versions(right).await);
    for keys in keys.chunks(500) {
        let (was, is) =
            (left.look_up(keys.to_vec()).await.unwrap(), right.look_up(keys.to_vec()).await.unwrap());
        assert!(was.iter().all(Option::is_some) && was == is, "the ledger is another");
    }
    for reactor in ["mail", "relay"] {
        assert_eq!(left.read_cursor(reactor).await.unwrap(), right.read_cursor(reactor).await.unwrap());
    }
    let [was, is] = [left, right].map(|store| store.acquire_lease("lease", "three", Duration::from_secs(9)));
    assert_eq!((was.await.unwrap(), is.await.unwrap()), (Some(Lease { token: 3 }), Some(Lease { token: 3 })));
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from.join("journal")).arg(to).status().unwrap().success());
}

fn migrate(from: &Path, database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
    command.args(["migrate", "--from"]).arg(from).args(["--to", database]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

/// Every piece takes a while.
const SLOW: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
    CREATE TRIGGER slow AFTER UPDATE ON sillage.move EXECUTE FUNCTION slow()";

/// Runs the move, and kills it as soon as it has come further. Answers how far that is.
async fn kill_on_the_way(from: &Path, database: &str) -> String {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await.unwrap();
    tokio::spawn(connection);
    let mark = async || {
        let row =
            client.query_one("SELECT mark FROM sillage.move WHERE stage = 'copying'", &[]).await.ok()?;
        Some(row.get::<_, String>(0))
    };
    let before = mark().await;
    let mut moving = migrate(from, database).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let further = async || mark().await.filter(|mark| Some(mark) != before.as_ref());
    let reached = until("a part of the move", further).await;
    moving.kill().unwrap();
    assert!(!moving.wait().unwrap().success(), "it was over before it was killed");
    if before.is_none() {
        client.batch_execute(SLOW).await.unwrap();
    }
    reached
}

/// Whatever kills the move, it goes on where it was, and in the end the log in the database is the log that was in the
/// folder: a node goes on with it, and nobody takes the one for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_moved_whole_however_often_the_move_is_killed() {
    let running = start_in(TempDir::new().unwrap(), |_| ()).await;
    let (anna, command) = (running.client.token("anna", &[]), action("LikeAdd", "a", Uuid::now_v7()));
    let mut socket = running.client.socket(&anna).await;
    socket.send(&command).await;
    let receipt = socket.next_of("receipt").await;
    assert_eq!(receipt["outcome"], "applied", "{receipt}");
    let folder = running.folder;
    running.node.stop().await;
    let store = open(folder.path());
    let (keys, epoch) = (fill(&store).await, store.epoch());
    store.close().await;
    let before = TempDir::new().unwrap();
    copy(folder.path(), before.path());

    let server = Server::shared();
    let database = server.create_database();
    let mut reached = Vec::new();
    for _ in 0..KILLS {
        reached.push(kill_on_the_way(folder.path(), &database).await);
    }
    reached.dedup();
    assert_eq!(reached.len(), KILLS, "it does not go on where it was: {reached:?}");
    let refused = serve(folder.path()).env("SILLAGE_STORE", &database).output().unwrap();
    assert!(said(&refused).contains("a log is being moved into the database"), "{}", said(&refused));
    let moved = migrate(folder.path(), &database).output().unwrap();
    assert!(moved.status.success(), "{}", said(&moved));
    // As if it had been killed when the journal had begun its new epoch, and the database did not know yet.
    let (client, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("DELETE FROM sillage.log; UPDATE sillage.move SET stage = 'whole'").await.unwrap();
    let refused = serve(folder.path()).env("SILLAGE_STORE", &database).output().unwrap();
    assert!(said(&refused).contains("a log is being moved into the database"), "{}", said(&refused));
    let finished = migrate(folder.path(), &database).output().unwrap();
    assert!(finished.status.success(), "{}", said(&finished));
    let again = migrate(folder.path(), &database).output().unwrap();
    assert!(said(&again).contains("was moved into the database before"), "{}", said(&again));

    let was = open(before.path());
    let is = PostgresStore::open(&database.parse().unwrap(), 1, PostgresOptions::default()).await.unwrap();
    assert_same(&was, &is, &keys).await;
    is.close().await;
    let verified =
        Command::new(env!("CARGO_BIN_EXE_sillage")).args(["verify", "--store", &database]).output();
    let verified = verified.unwrap();
    assert!(
        verified.status.success() && said(&verified).contains("as it was written"),
        "{}",
        said(&verified)
    );
    let left = open(folder.path());
    assert!(left.epoch() != epoch && left.head() == was.head(), "two logs have one epoch");
    drop(left);

    let node = Process::listening(serve(folder.path()).env("SILLAGE_STORE", &database), folder.path());
    let mut socket = node.client.socket(&anna).await;
    socket.send(&command).await;
    let repeated = socket.next_of("receipt").await;
    let told = |receipt: &Value| (receipt["outcome"].clone(), receipt["sequence_numbers"].clone());
    assert_eq!(told(&repeated), told(&receipt), "{repeated}");
    socket.send(&action("LikeRemove", "a", Uuid::now_v7())).await;
    socket.next_of("receipt").await;
    let likes = async || {
        let (status, likes) = node.client.get("/api/social/likes/a", &anna).await;
        (status == 200 && likes["version"] == 2).then_some(likes)
    };
    assert_eq!(until("the next version", likes).await["count"], 0);
}

/// Back into a folder a log comes as whole, and whatever kills that, it goes on; a node that runs meanwhile ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_moved_back_whole() {
    let (folder, back) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(folder.path());
    let keys = fill(&store).await;
    store.close().await;
    let before = TempDir::new().unwrap();
    copy(folder.path(), before.path());
    let server = Server::shared();
    let database = server.create_database();
    let moved = migrate(folder.path(), &database).output().unwrap();
    assert!(moved.status.success(), "{}", said(&moved));
    let node = Process::listening(serve(folder.path()).env("SILLAGE_STORE", &database), folder.path());
    let move_back = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
        command.args(["migrate", "--from", &database, "--to"]).arg(back.path());
        command
    };
    let unfinished = back.path().join("journal.unfinished");
    let (holder, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; SELECT FROM sillage.cursors WHERE reactor = 'relay' FOR UPDATE")
        .await
        .unwrap();
    // At its beginning, and when all is there and only the epoch is to change.
    for file in [unfinished.clone(), unfinished.join("retired")] {
        let mut moving = move_back().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("a part of the move", || std::future::ready(file.exists().then_some(()))).await;
        moving.kill().unwrap();
        assert!(!moving.wait().unwrap().success(), "it was over before it was killed");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    let done = move_back().output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    assert!(!node.ended().await, "a node goes on with another log");
    assert!(said(&move_back().output().unwrap()).contains("is there already"));
    // As if it had been killed when the epoch had changed, and the folder had not its name yet.
    let epoch = holder.query_one("SELECT log_id FROM sillage.log", &[]).await.unwrap().get::<_, Uuid>(0);
    fs::rename(back.path().join("journal"), &unfinished).unwrap();
    fs::write(unfinished.join("retired"), epoch.simple().to_string()).unwrap();
    let done = move_back().output().unwrap();
    assert!(done.status.success(), "{}", said(&done));

    assert_same(&open(before.path()), &open(back.path()), &keys).await;
    let verified = run(&["verify", "--data"], back.path());
    assert!(said(&verified).contains("as it was written"), "{}", said(&verified));
}

/// Nothing is moved while somebody writes the log, or on top of another log, or of half of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_not_moved_where_it_does_not_fit() {
    let (server, folder) = (Server::shared(), TempDir::new().unwrap());
    let (taken, begun) = (server.create_database(), server.create_database());
    PostgresStore::open(&taken.parse().unwrap(), 5, PostgresOptions::default()).await.unwrap().close().await;
    let refused = |from: &Path, database: &str| {
        let output = migrate(from, database).output().unwrap();
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    };
    let store = open(folder.path());
    fill(&store).await;
    assert!(refused(folder.path(), &begun).contains("a server runs on"));
    store.close().await;
    drop(store);
    assert!(refused(folder.path(), &taken).contains("holds a log already"));
    assert!(refused(folder.path(), "mysql://x").contains("address of a PostgreSQL database"));
    kill_on_the_way(folder.path(), &begun).await;
    let other = TempDir::new().unwrap();
    drop(JournalStore::open(&other.path().join("journal"), 77, JournalOptions::default()).unwrap());
    assert!(refused(other.path(), &begun).contains("another log is being moved"));
    let (client, connection) = tokio_postgres::connect(&begun, NoTls).await.unwrap();
    tokio::spawn(connection);
    // It has begun another epoch since, so that nobody can tell what it has lost.
    let renewed = run(&["epoch", "new", "--data"], folder.path());
    assert!(renewed.status.success(), "{}", said(&renewed));
    assert!(refused(folder.path(), &begun).contains("has begun another epoch"));
    // And if all had been copied before: it was written after that, in the epoch that it had.
    client.batch_execute("UPDATE sillage.move SET stage = 'whole', mark = ''").await.unwrap();
    assert!(refused(folder.path(), &begun).contains("was used, or has begun"));
    assert_eq!(client.query("SELECT FROM sillage.log", &[]).await.unwrap().len(), 0, "it was opened");
    assert!(fs::exists(folder.path().join("journal")).unwrap());
}
