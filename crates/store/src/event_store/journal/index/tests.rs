//! What an index says of a log that nobody wrote: its files to the byte, and its memory as time goes by.

use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sillage_journal::{Address, Boundary, RealDisk};
use sillage_kernel::event::Place as EventPlace;
use sillage_kernel::{Checksum, CommandId, Event, EventId, Metadata, NewEvent, Position, Timestamp, Version};
use tempfile::TempDir;
use uuid::Uuid;

use super::bloom::HashKey;
use super::run::Run;
use super::{Fullness, Index, IndexLimits, Layer, Name, Upkeep, open};
use crate::event_store::ledger::LedgerLimits;
use crate::event_store::{CursorUpdate, LedgerKey};

fn second(n: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(n).unwrap() * 1_000_000)
}

fn key(id: Uuid) -> LedgerKey {
    let (tenant, principal) = ("main".parse().unwrap(), "alice".parse().unwrap());
    LedgerKey { tenant, principal, command_id: CommandId(id) }
}

fn event(position: u64, stream: &str, version: u64) -> Event {
    let id = EventId(Uuid::from_u128(position.into()));
    let new = NewEvent::new(id, "Happened", "{}", Metadata::default());
    let (position, version) = (Position::new(position), Version::new(version));
    let (tenant, stream, recorded_at) =
        ("main".parse().unwrap(), stream.parse().unwrap(), second(position.get()));
    new.recorded(EventPlace { position, tenant, stream, version, recorded_at }, &Checksum::START)
}

fn boundary(at: u64, batches: u64) -> Boundary {
    Boundary { at: Address::new(at), batches, checksum: 7 }
}

/// The index of a log in `dir`, as far as runs cover it.
fn reopened(dir: &Path, limits: IndexLimits, ledger: LedgerLimits) -> Upkeep {
    let (mut folder, runs) = open(Arc::new(RealDisk), dir.to_owned(), 0xab).unwrap();
    folder.key = HashKey(0xcd);
    let (index, _) = Index::new(limits, ledger, &folder, runs).unwrap();
    Upkeep { index: Arc::new(RwLock::new(index)), folder: Arc::new(folder), reader: None }
}

/// Writes two runs, which are merged if two are.
fn two_runs(dir: &Path, merged_runs: usize) -> Vec<Arc<Run>> {
    let limits = IndexLimits { merged_runs, ..IndexLimits::default() };
    let upkeep = reopened(dir, limits, LedgerLimits::default());
    for (run, names) in
        [["like-a", "$outcomes-é", "like-a"], ["like-b", "like-a", "shop-1"]].iter().enumerate()
    {
        let mut index = upkeep.index.write().unwrap();
        let run = run as u64;
        for (n, name) in (3 * run..).zip(names) {
            let version = [1, 1, 2, 1, 3, 1][usize::try_from(n).unwrap()];
            index.add(&event(n + 1, name, version), Address::new(40 + 1_000 * n));
            index.settle(&key(Uuid::from_u128(n.into())), Address::new(540 + 1_000 * n), second(n));
        }
        let position = Some(Position::new(run + 1));
        index.step(&CursorUpdate { reactor: "views".into(), position, ..CursorUpdate::default() });
        index.reach(boundary(3_000 * (run + 1), 3 * (run + 1)));
        index.freeze(Vec::new());
        drop(index);
        upkeep.write_all();
    }
    let index = upkeep.index.read().unwrap();
    index.runs.clone()
}

/// Compares with a golden file of hexadecimal; `UPDATE_GOLDEN=1` writes it.
fn check(name: &str, run: &Run) {
    let mut hex = String::new();
    for line in std::fs::read(&run.path).unwrap().chunks(32) {
        line.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
        hex.push('\n');
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &hex).unwrap();
    }
    assert!(std::fs::read_to_string(&file).unwrap() == hex, "the format of {name} has changed");
}

#[test]
fn runs_are_written_as_ever() {
    let (apart, merged) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let runs = two_runs(apart.path(), 3);
    assert_eq!(runs.len(), 2);
    check("run.hex", &runs[0]);
    let [merged] = &two_runs(merged.path(), 2)[..] else { panic!("they were not merged") };
    check("run-merged.hex", merged);
    let name = |stream: &str| {
        let key = ("main".parse().unwrap(), stream.parse().unwrap());
        Name { hash: HashKey(0xcd).stream(&key.0, &key.1), key }
    };
    let name = name("like-a");
    let span = merged.span(&name).unwrap().unwrap();
    let addresses = merged.addresses(&name, &span, 0..9).unwrap();
    assert_eq!(addresses, [40, 2_040, 4_040].map(Address::new));
    assert_eq!(merged.places(2..6).unwrap().len(), 4);
}

/// Every single byte of a run counts: with another it is refused when it is opened, or when it is read.
#[test]
fn a_run_with_another_byte_is_refused() {
    let dir = TempDir::new().unwrap();
    let run = &two_runs(dir.path(), 3)[0];
    let good = std::fs::read(&run.path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&run.path, &bytes).unwrap();
        assert!(Run::open(&RealDisk, &run.path).is_err(), "byte {at}");
        std::fs::write(&run.path, &good[..at]).unwrap();
        assert!(Run::open(&RealDisk, &run.path).is_err(), "cut at {at}");
    }
}

/// The id of the command that is settled at second `n`, by clients whose clocks are ahead, right or behind.
fn minted_around(n: u64) -> LedgerKey {
    let minted = second(n + [40, 0, 3, 20][usize::try_from(n % 4).unwrap()]).as_millis() - 3_000;
    let random = u128::from(n).to_be_bytes();
    key(uuid::Builder::from_unix_timestamp_millis(minted, random.last_chunk().unwrap()).into_uuid())
}

fn knows(index: &Index, n: u64, key: &LedgerKey) -> bool {
    let found = index.of_command(key).find(|address| Ok((address.get() == 100 * n).then_some(())));
    found.unwrap().is_some()
}

#[test]
fn what_was_forgotten_is_never_taken_for_new_whatever_the_clocks_of_clients_say() {
    let young = LedgerLimits { memory: Duration::from_secs(30), max_commands: 1_000 };
    let few = LedgerLimits { max_commands: 40, ..LedgerLimits::default() };
    let limits = IndexLimits { tail_entries: 5, merged_runs: 2, levels: 2, ..IndexLimits::default() };
    for ledger in [young, few] {
        let dir = TempDir::new().unwrap();
        let mut upkeep = reopened(dir.path(), limits, ledger);
        let mut before = Timestamp::default();
        for n in 3..250 {
            if n % 40 == 0 {
                // Merged long after they were written, when more is forgotten. What no run covers is replayed.
                upkeep.write_all();
                upkeep = reopened(dir.path(), limits, ledger);
                let covered = upkeep.index.read().unwrap().covered().unwrap().batches;
                (covered + 1..n).for_each(|n| settle(&upkeep, n));
            }
            settle(&upkeep, n);
            let index = upkeep.index.read().unwrap();
            let since = index.remembers_since(second(n));
            assert!(before <= since, "{n}: memory went back from {before} to {since}");
            before = since;
            for old in 3..=n {
                let key = minted_around(old);
                let expired = key.command_id.minted_at().unwrap() < since;
                assert!(
                    expired || knows(&index, old, &key),
                    "{old} of {n} would be taken for new: {ledger:?}"
                );
            }
        }
        let index = upkeep.index.read().unwrap();
        assert!(!knows(&index, 3, &minted_around(3)), "nothing was forgotten: {ledger:?}");
        assert!(knows(&index, 240, &minted_around(240)), "all was forgotten: {ledger:?}");
    }
}

/// Settles a command in a batch of its own.
fn settle(upkeep: &Upkeep, n: u64) {
    let mut index = upkeep.index.write().unwrap();
    index.settle(&minted_around(n), Address::new(100 * n), second(n));
    if index.reach(boundary(100 * n + 50, n)) == Fullness::Full {
        index.freeze(Vec::new());
        drop(index);
        upkeep.write().unwrap();
    }
}

#[test]
fn runs_of_another_log_are_none_of_ours() {
    let dir = TempDir::new().unwrap();
    two_runs(dir.path(), 3);
    let found = |log_id| open(Arc::new(RealDisk), dir.path().to_owned(), log_id).unwrap().1.len();
    assert_eq!((found(0xab), found(0xac)), (2, 0));
}
