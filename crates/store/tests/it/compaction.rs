//! What is dropped and archived of a log on disk: what is left is whole, wherever it is and whatever happens meanwhile.

mod slow_disk;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sillage_journal::testing::{Crash, Dice, SimulatedDisk};
use sillage_kernel::{
    CommandId, ContentHash, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, StreamName,
    Tenant, Timestamp, Version,
};
use sillage_store::event_store::journal::backup::{backup, restore};
use sillage_store::event_store::journal::verify::{Concern, Defect, Verified, verify};
use sillage_store::event_store::journal::walk::{LogWalk, Placed, Recorded};
use sillage_store::event_store::journal::{
    Boundary, End, Folders, IndexLimits, JournalOptions, JournalStore, LogError,
};
use sillage_store::event_store::ledger::LedgerLimits;
use sillage_store::{
    Append, CursorState, CursorUpdate, Cut, Direction, Dropped, Entry, EventStore, LedgerKey, LedgerWrite,
    Mode, Parked, ParkedBecause, StoreError, Verdict,
};
use tempfile::TempDir;
use uuid::Uuid;

use self::slow_disk::{Slow, SlowDisk, State};
use crate::journal::log::eventually;
use crate::verify::{files, flip};

const LOG_ID: u128 = 7;
const BULK_BYTES: usize = 700;

/// Files of about four events, and an index of small runs.
fn options() -> JournalOptions {
    let index = IndexLimits { tail_entries: 8, merged_runs: 2, levels: 2, ..IndexLimits::default() };
    JournalOptions { index, segment_bytes: 4_000, ..JournalOptions::default() }
}

fn open(dir: &Path) -> JournalStore {
    JournalStore::open(dir, LOG_ID, options()).unwrap().0
}

fn tenant() -> Tenant {
    "main".parse().unwrap()
}

fn stream(n: usize) -> StreamName {
    StreamName::new("thing", &n.to_string()).unwrap()
}

fn append(n: usize) -> Append {
    settling(n, CommandId(Uuid::now_v7()))
}

fn settling(n: usize, command_id: CommandId) -> Append {
    let data = format!("\"{}\"", "x".repeat(BULK_BYTES));
    let event = NewEvent::new(EventId(Uuid::now_v7()), "Happened", data, Metadata::default());
    let key = LedgerKey { tenant: tenant(), principal: "anna".parse().unwrap(), command_id };
    let (content, verdict) = (ContentHash([0; 16]), Verdict::Applied);
    let ledger = Some(LedgerWrite { key, content, stream: stream(n), verdict });
    let entries = vec![Entry { stream: stream(n), expected: Expected::Any, events: vec![event] }];
    Append { tenant: tenant(), entries, ledger, fence: None, recorded_at: None }
}

/// Appends so many events, in turn to three streams, and answers the commands.
async fn fill(store: &JournalStore, events: usize) -> Vec<LedgerKey> {
    let mut keys = Vec::new();
    for n in 0..events {
        let append = append(n % 3);
        keys.extend(append.ledger.as_ref().map(|write| write.key.clone()));
        store.append(vec![append]).await.remove(0).unwrap();
    }
    keys
}

/// Cuts all three streams.
fn cuts(through: u64) -> Vec<Cut> {
    let cut = |n| Cut { tenant: tenant(), stream: stream(n), through: Version::new(through) };
    (0..3).map(cut).collect()
}

async fn events(store: &JournalStore) -> Vec<Arc<Event>> {
    let (mut events, mut after) = (Vec::new(), Position::ZERO);
    while after < store.head() {
        let page = store.read_all(after, Filter::Everything, 7).await.unwrap();
        assert!(page.through > after);
        after = page.through;
        events.extend(page.events);
    }
    events
}

fn look(folders: impl Into<Folders>) -> (Verified, Vec<Defect>) {
    let mut defects = Vec::new();
    let verified = verify(folders, |defect| defects.push(defect), |_| ()).unwrap();
    (verified, defects)
}

/// How many records of each kind the log has: events, dropped events, commands, and that some were forgotten.
fn kinds(dir: &Path) -> [usize; 4] {
    let mut found = [0; 4];
    let end = LogWalk::new(dir, Boundary::default()).run(|Placed { record, .. }| {
        let index = match record.unwrap() {
            Recorded::Event(_) => 0,
            Recorded::Dropped(_) => 1,
            Recorded::Ledger(..) => 2,
            Recorded::Forgotten(_) => 3,
            other => panic!("{other:?}"),
        };
        found[index] += 1;
        ControlFlow::<()>::Continue(())
    });
    assert!(matches!(end, Ok(End::Whole)));
    found
}

fn bytes(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

/// Dropping frees the disk, verify finds nothing wrong, and damage to what is left is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_log_is_small_and_sound_and_its_damage_is_told() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 90).await;
    let before = bytes(&files(dir.path(), "seg"));
    let dropped = store.drop_events(cuts(20)).await.unwrap();
    let (verified, defects) = look(dir.path());
    assert_eq!(defects, []);
    assert_eq!((verified.head.get(), verified.events, verified.dropped), (90, 90, dropped.events));
    assert!(dropped.events > 50, "{dropped:?}");
    let after = bytes(&files(dir.path(), "seg"));
    assert!(before - after > dropped.bytes * 9 / 10, "{before} bytes, then {after}");
    store.close().await;

    let file = &files(dir.path(), "seg")[1];
    let sound = fs::read(file).unwrap();
    for offset in (0..sound.len()).step_by(11) {
        flip(file, offset);
        let (_, defects) = look(dir.path());
        assert!(defects.first().is_some_and(|defect| defect.file == *file), "byte {offset}: {defects:?}");
        assert!(defects.iter().any(|defect| defect.concern == Concern::Bytes), "byte {offset}: {defects:?}");
        fs::write(file, &sound).unwrap();
    }
    assert_eq!(look(dir.path()).1, []);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    assert_eq!(events(&store).await.len(), 90 - usize::try_from(dropped.events).unwrap());
}

/// A command that the ledger has forgotten is left out, and none that it remembers. It is not taken for new for that:
/// until when it may have been minted stands in its place, and outlives the loss of the index.
#[tokio::test(flavor = "multi_thread")]
async fn forgotten_commands_are_left_out_and_what_is_refused_stays_refused() {
    check_forgotten(Duration::ZERO).await;
    // By the clock of whoever has minted the first one, all others are older than that.
    check_forgotten(Duration::from_secs(3_600)).await;
}

const COMMANDS: usize = 200;
const KNOWN: usize = 60;
/// Forgotten is run by run, so fewer may be known; so many are for sure.
const SURELY_KNOWN: usize = 20;

async fn check_forgotten(ahead: Duration) {
    let dir = TempDir::new().unwrap();
    let ledger = LedgerLimits { max_commands: KNOWN as u64, ..LedgerLimits::default() };
    // Runs that are never merged still name what is left out of the log.
    let index = IndexLimits { levels: 0, ..options().index };
    let limited = JournalOptions { ledger, index, ..options() };
    let remembering = JournalOptions { index, ..options() };
    let open = |options| JournalStore::open(dir.path(), LOG_ID, options).unwrap().0;
    let store = open(limited.clone());
    let first = settling(0, minted(ahead));
    let mut keys: Vec<_> = first.ledger.iter().map(|write| write.key.clone()).collect();
    store.append(vec![first]).await.remove(0).unwrap();
    keys.extend(fill(&store, COMMANDS - 1).await);
    // Only what the runs say is forgotten may go, and what is set aside is written at the next start.
    store.close().await;
    drop(store);
    let store = open(limited.clone());
    store.drop_events(cuts(COMMANDS as u64)).await.unwrap();
    let [_, dropped, commands, forgotten] = kinds(dir.path());
    assert!(dropped > 180 && commands < KNOWN + 40 && forgotten > 5, "{dropped} {commands} {forgotten}");
    assert_eq!(look(dir.path()).1, []);
    store.close().await;
    drop(store);
    let mut left = Vec::new();
    let _ = LogWalk::new(dir.path(), Boundary::default()).run(|Placed { record, .. }| {
        if let Ok(Recorded::Ledger(key, ..)) = record {
            left.push(key);
        }
        ControlFlow::<()>::Continue(())
    });
    assert!(left.ends_with(&keys[COMMANDS - SURELY_KNOWN..]), "what is remembered was left out");
    let gone: Vec<_> = keys.iter().filter(|key| !left.contains(key)).collect();

    for (options, index) in
        [(limited.clone(), "kept"), (remembering.clone(), "kept"), (remembering, "lost"), (limited, "lost")]
    {
        if index == "lost" {
            fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let store = open(options);
        let since = store.remembers_since();
        let is_refused = |key: &&&LedgerKey| key.command_id.minted_at().unwrap() < since;
        assert_eq!(gone.iter().filter(is_refused).count(), gone.len(), "with an index that was {index}");
        let found = store.look_up(keys.clone()).await.unwrap();
        for (n, found) in found.iter().enumerate() {
            assert!(found.is_none() || left.contains(&keys[n]), "{found:?}");
            assert!(found.is_some() || n < COMMANDS - SURELY_KNOWN, "the command {n} is not known");
        }
        store.close().await;
    }
}

/// What the ledger has forgotten, but would know again after a crash, is not left out: nothing would refuse it then.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_left_out_only_once_it_is_durable_that_it_is_forgotten() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let keys = fill(&store, COMMANDS).await;
    store.close().await;
    drop(store);
    // No run is written any more that could say it, and none is merged.
    let ledger = LedgerLimits { max_commands: 10, ..LedgerLimits::default() };
    let index = IndexLimits { levels: 0, ..IndexLimits::default() };
    let limited = JournalOptions { ledger, index, ..options() };
    let store = JournalStore::open(dir.path(), LOG_ID, limited).unwrap().0;
    let first = keys[0].command_id.minted_at().unwrap();
    assert!(store.remembers_since() > first, "nothing was forgotten");
    store.drop_events(cuts(COMMANDS as u64)).await.unwrap();
    let [_, dropped, commands, forgotten] = kinds(dir.path());
    assert!(dropped > 180 && commands == COMMANDS && forgotten == 0, "{dropped} {commands} {forgotten}");
    store.close().await;
    drop(store);
    let store = open(dir.path());
    let found = store.look_up(keys).await.unwrap();
    assert!(found.iter().all(Option::is_some), "a command is no longer known, and is not refused");
}

/// An id that was minted so much later than now.
fn minted(ahead: Duration) -> CommandId {
    let then = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + ahead;
    let then = uuid::Timestamp::from_unix(uuid::NoContext, then.as_secs(), then.subsec_nanos());
    CommandId(Uuid::new_v7(then))
}

/// The steps of a cursor that are left out made no difference, whatever they were.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_and_leases_are_what_they_were_after_needless_records_were_left_out() {
    let dir = TempDir::new().unwrap();
    let options = JournalOptions { segment_bytes: 200_000, ..options() };
    let open = || JournalStore::open(dir.path(), LOG_ID, options.clone()).unwrap().0;
    let store = open();
    let parked = |at, because| Parked {
        position: Position::new(at),
        tenant: tenant(),
        key: "key".into(),
        because,
        since: Timestamp::from_micros(1),
    };
    let step = |kind: usize, reactor: &str| {
        let update = CursorUpdate { reactor: reactor.into(), ..CursorUpdate::default() };
        let to = |position| Some(Position::new(position));
        match kind {
            0 => CursorUpdate { position: to(3), ..update },
            1 => CursorUpdate { position: to(6), ..update },
            2 => CursorUpdate { position: to(6), park: vec![parked(9, ParkedBecause::Behind)], ..update },
            3 => CursorUpdate { park: vec![parked(5, ParkedBecause::Skipped)], ..update },
            4 => CursorUpdate { position: to(3), mode: Some(Mode::Paused), ..update },
            5 => CursorUpdate { unpark: vec![Position::new(9)], position: to(9), ..update },
            _ => CursorUpdate { position: to(9), ..update },
        }
    };
    const KINDS: usize = 7;
    let mut states = Vec::new();
    for n in 0..KINDS.pow(3) {
        let (reactor, mut state) = (format!("r{n}"), CursorState::default());
        for kind in [n % KINDS, n / KINDS % KINDS, n / KINDS / KINDS] {
            let update = step(kind, &reactor);
            state.apply(&update);
            store.write_cursor(update).await.unwrap();
        }
        states.push((reactor, state));
        fill(&store, 1).await;
    }
    for owner in ["anna", "anna", "bert"] {
        store.acquire_lease("lease", owner, Duration::ZERO).await.unwrap();
        store.acquire_lease("held", "anna", Duration::from_secs(9_000)).await.unwrap();
    }
    let token = store.acquire_lease("lease", "bert", Duration::ZERO).await.unwrap().unwrap();
    fill(&store, 300).await;
    let records = |wanted: fn(&Recorded) -> bool| {
        let mut count = 0;
        let _ = LogWalk::new(dir.path(), Boundary::default()).run(|Placed { record, .. }| {
            count += usize::from(wanted(&record.unwrap()));
            ControlFlow::<()>::Continue(())
        });
        count
    };
    let all = || {
        let cursors = records(|record| matches!(record, Recorded::Cursor(_)));
        (cursors, records(|record| matches!(record, Recorded::Lease(_))))
    };
    assert_eq!(all(), (3 * KINDS.pow(3), 7));
    assert!(store.drop_events(cuts(u64::MAX)).await.unwrap().events > 300);
    let (cursors, leases) = all();
    assert!(cursors < 3 * KINDS.pow(3) - 40 && cursors > KINDS.pow(3) && leases == 2, "{cursors} {leases}");
    store.close().await;
    drop(store);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open();
    for (reactor, state) in states {
        assert_eq!(store.read_cursor(&reactor).await.unwrap(), state, "{reactor}");
    }
    assert_eq!(store.acquire_lease("held", "bert", Duration::ZERO).await.unwrap(), None);
    let next = store.acquire_lease("lease", "anna", Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(next.token, token.token + 1);
}

/// If what was newest is lost, a stream may end with what was dropped. It goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_lost_its_newest_events_goes_on_from_the_kept_checksum() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 30).await;
    let log = events(&store).await;
    store.drop_events(cuts(9)).await.unwrap();
    let gone = store.read_stream(&tenant(), &stream(0), Version::new(1), Direction::Forward, 1).await;
    let Err(StoreError::Dropped { kept_from }) = gone else { panic!("{gone:?}") };
    store.close().await;
    drop(store);
    // All files in which something is kept.
    let files = files(dir.path(), "seg");
    let lost = |file: &PathBuf| fs::metadata(file).unwrap().len() > 2_000;
    files.iter().filter(|file| lost(file)).for_each(|file| fs::remove_file(file).unwrap());
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    let head = store.head();
    assert!(head.get() > 5 && head.get() < 3 * (kept_from.get() - 1) + 3, "{head}");
    assert_eq!(events(&store).await, []);
    for (n, name) in [0, 1, 2].map(|n| (n, stream(n))) {
        let mut own = log.iter().filter(|event| event.stream == name && event.position <= head);
        let last = own.next_back().unwrap();
        for (from, direction) in [(1, Direction::Forward), (u64::MAX, Direction::Backward)] {
            let gone = store.read_stream(&tenant(), &name, Version::new(from), direction, 9).await;
            let Err(StoreError::Dropped { kept_from }) = gone else { panic!("{gone:?}") };
            assert_eq!(kept_from, last.version.next());
        }
        let mut next = append(n);
        next.entries[0].expected = Expected::Exactly(last.version);
        store.append(vec![next]).await.remove(0).unwrap();
        let page = store.read_stream(&tenant(), &name, last.version.next(), Direction::Forward, 9).await;
        assert!(page.unwrap().events[0].follows(&last.checksum));
    }
    assert_eq!(look(dir.path()).1, []);
}

/// The power goes, or the process dies, at each operation of the disk: what was kept is there, to the byte.
#[test]
fn a_crash_anywhere_while_dropping_loses_nothing_that_is_kept() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = Path::new("/log");
    let (mut operations, mut parts) = (0, 0);
    loop {
        let mut struck = false;
        for seed in 0..4 {
            let disk = SimulatedDisk::new(Dice::new(seed));
            // No runs are written, so that the operations are those of compaction.
            let options = JournalOptions { index: IndexLimits::default(), ..options() };
            let open = || {
                let disk = Arc::new(disk.clone());
                JournalStore::open_on(dir, LOG_ID, options.clone(), disk).unwrap().0
            };
            let store = open();
            runtime.block_on(fill(&store, 24));
            let before = runtime.block_on(events(&store));
            disk.stop_after(operations);
            let done = runtime.block_on(store.drop_events(cuts(5)));
            struck |= done.is_err();
            drop(store);
            let crash = &mut Dice::new(seed);
            disk.restart(if seed % 2 == 0 { Crash::Kill } else { Crash::PowerLoss(crash) });
            let store = open();
            let after = runtime.block_on(events(&store));
            let gone: Vec<_> = before.iter().filter(|event| !after.contains(event)).collect();
            assert!(gone.iter().all(|event| event.version.get() <= 5), "operation {operations}, seed {seed}");
            assert_eq!(after.len() + gone.len(), before.len());
            if let Ok(dropped) = done {
                assert_eq!(dropped.events, gone.len() as u64, "what was answered is undone");
            }
            parts += usize::from(!gone.is_empty() && gone.len() < 15);
            // Asked again, it does the rest.
            let rest = runtime.block_on(store.drop_events(cuts(5))).unwrap();
            assert_eq!(rest.events + gone.len() as u64, 15, "operation {operations}, seed {seed}");
            assert_eq!(runtime.block_on(events(&store)).len(), before.len() - 15);
            runtime.block_on(fill(&store, 1));
        }
        if !struck {
            break;
        }
        operations += 1;
    }
    assert!(operations > 10 && parts > 0, "{operations} operations, {parts} times a part");
}

/// However long a segment takes, whoever appends and reads is answered; so many wait for it and no more; and a full
/// disk costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_compaction() {
    let (dir, slow) = (TempDir::new().unwrap(), Arc::new(Slow::default()));
    let disk = Arc::new(SlowDisk(Arc::clone(&slow)));
    let store = JournalStore::open_on(dir.path(), LOG_ID, options(), disk).unwrap().0;
    fill(&store, 30).await;
    slow.set(|state| state.fails = true);
    let full = store.drop_events(cuts(8)).await;
    assert!(matches!(full, Err(StoreError::Unavailable(_))), "{full:?}");
    slow.set(|state| *state = State { held: true, ..State::default() });
    let mut dropping = store.drop_events(cuts(8));
    let brief = Duration::from_millis(50);
    eventually("that it waits", || (slow.state.lock().unwrap().waiting > 0).then_some(())).await;
    let begun = Instant::now();
    fill(&store, 30).await;
    assert_eq!(events(&store).await.len(), 60);
    let page = store.read_stream(&tenant(), &stream(0), Version::new(1), Direction::Forward, 99).await;
    assert_eq!(page.unwrap().events.len(), 20);
    assert!(begun.elapsed() < Duration::from_secs(20));
    let more: Vec<_> = (0..20).map(|_| store.drop_events(cuts(8))).collect();
    // Those for whom there is no room are told at once that nothing was done.
    let mut at_once = 0;
    for answer in more {
        let answered = tokio::time::timeout(brief, answer).await;
        at_once += usize::from(answered.is_ok_and(|answer| answer.unwrap() == Dropped::default()));
    }
    assert_eq!(at_once, 20 - 16);
    assert!(tokio::time::timeout(brief, &mut dropping).await.is_err(), "it did not wait");
    slow.set(|state| state.held = false);
    assert_eq!(dropping.await.unwrap().events, 24);
    assert_eq!(events(&store).await.len(), 60 - 24);
}

fn archived(dir: &Path) -> (PathBuf, PathBuf, JournalOptions) {
    let (own, archive) = (dir.join("journal"), dir.join("archive"));
    let options = JournalOptions { archive: Some(archive.clone()), ..options() };
    (own, archive, options)
}

/// Of files with an event each exactly those before the position are moved.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_the_position_itself_is_not_archived() {
    let dir = TempDir::new().unwrap();
    let (own, archive, options) = archived(dir.path());
    let options = JournalOptions { segment_bytes: 1, ..options };
    let store = JournalStore::open(&own, LOG_ID, options).unwrap().0;
    fill(&store, 12).await;
    for position in 1..=12 {
        let moved = store.archive(Position::new(position), |_| ()).await.unwrap();
        assert_eq!(moved, u64::from(position > 1), "position {position}");
    }
    assert_eq!(files(&archive, "seg").len(), 11);
    assert_eq!(store.archive(Position::new(13), |_| ()).await.unwrap(), 0, "the last one is written on");
}

/// Old files are moved and read from where they are, by the store, by verify and by a backup; without the folder
/// nothing is opened, and the error names it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_archived_and_read_from_there() {
    let dir = TempDir::new().unwrap();
    let (own, archive, options) = archived(dir.path());
    let open = || JournalStore::open(&own, LOG_ID, options.clone());
    let store = open().unwrap().0;
    fill(&store, 60).await;
    store.drop_events(cuts(5)).await.unwrap();
    let before = events(&store).await;
    assert_eq!(store.archive(Position::new(1), |_| ()).await.unwrap(), 0);
    let all = files(&own, "seg");
    let moved = usize::try_from(store.archive(Position::new(31), |_| ()).await.unwrap()).unwrap();
    let (here, there) = (files(&own, "seg"), files(&archive, "seg"));
    assert_eq!((here.len(), there.len()), (all.len() - moved, moved));
    // About half of the events, and not the one that was named.
    assert!((all.len() / 2 - 2..=all.len() / 2 + 1).contains(&moved), "{moved} of {}", all.len());
    let position = |file: &Path| {
        let base = u64::from_str_radix(file.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        let mut first = None;
        let folders = Folders::from(&own).with_archive(Some(archive.clone()));
        let _ = LogWalk::new(folders, Boundary::default()).run(|Placed { address, record, .. }| match record
            .unwrap()
        {
            Recorded::Event(event) | Recorded::Dropped(event) if address.get() > base => {
                first = Some(event.position.get());
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        first.unwrap()
    };
    assert!(
        position(&here[0]) <= 31 && position(&here[1]) > 31,
        "{} {}",
        position(&here[0]),
        position(&here[1])
    );
    assert_eq!(events(&store).await, before);
    assert_eq!(store.archive(Position::new(31), |_| ()).await.unwrap(), 0, "they are there already");
    // What is archived is not touched any more; the rest is.
    store.drop_events(cuts(15)).await.unwrap();
    let kept = events(&store).await;
    assert!(kept.len() < before.len());
    assert_eq!(store.archive(Position::new(u64::MAX), |_| ()).await.unwrap(), (here.len() - 1) as u64);
    assert_eq!(events(&store).await, kept);
    store.close().await;
    drop(store);

    for index in ["kept", "lost"] {
        if index == "lost" {
            fs::remove_dir_all(own.join("index")).unwrap();
        }
        let store = open().unwrap().0;
        assert_eq!(events(&store).await, kept, "with an index that was {index}");
    }
    let folders = Folders::from(&own).with_archive(Some(archive.clone()));
    assert_eq!((look(folders.clone()).1, look(folders.clone()).0.events), (vec![], 60));
    let saved = dir.path().join("saved");
    backup(folders, &saved, |_| ()).unwrap();
    restore(&saved, &dir.path().join("back"), 99, |_| ()).unwrap();
    let back = JournalStore::open(&dir.path().join("back"), LOG_ID, self::options()).unwrap().0;
    assert_eq!(events(&back).await, kept);

    fs::rename(&archive, dir.path().join("away")).unwrap();
    let error = open().err().unwrap();
    assert!(matches!(error, LogError::Archive { .. }), "{error}");
    assert!(error.to_string().contains(archive.to_str().unwrap()), "{error}");
}
