//! The index of the embedded engine: whatever happens to its files, what is read is what was written.

mod disk;
pub(crate) mod log;

use std::cell::Cell;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy};
use proptest::prop_oneof;
use proptest::test_runner::{Config, TestRunner};
use sillage_store::AppendError;
use sillage_store::event_store::journal::IndexLimits;

use self::disk::{FailingDisk, Fault};
use self::log::{Log, eventually, small};

/// What happens to a log.
#[derive(Debug, Clone)]
enum Step {
    Append { stream: usize, events: usize },
    Reopen,
    RemoveRun(usize),
    DamageRun(usize, usize),
    RemoveIndex,
    TearLog(u64),
    Cut { stream: usize, through: u64 },
    Move { to: u64, kind: usize },
    Lease,
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..8_usize, 1..4_usize).prop_map(|(stream, events)| Step::Append { stream, events }),
        2 => Just(Step::Reopen),
        1 => (0..9_usize).prop_map(Step::RemoveRun),
        1 => (0..9_usize, 0..4_000_usize).prop_map(|(run, byte)| Step::DamageRun(run, byte)),
        1 => Just(Step::RemoveIndex),
        1 => (1..1_500_u64).prop_map(Step::TearLog),
        4 => (0..8_usize, 1..12_u64).prop_map(|(stream, through)| Step::Cut { stream, through }),
        4 => (1..40_u64, 0..9_usize).prop_map(|(to, kind)| Step::Move { to, kind }),
        1 => Just(Step::Lease),
        2 => Just(Step::Check),
    ]
}

#[test]
fn whatever_happens_to_its_files_the_index_agrees_with_a_plain_model() {
    let dropped = try_steps(48, || Log::new(small()));
    assert_eq!(dropped, 0, "all is in the file that is written on");
}

/// Whatever is left out of its files, what is rebuilt from them is what was there.
#[test]
fn whatever_is_dropped_the_index_agrees_with_a_plain_model() {
    let dropped = try_steps(64, || Log::in_segments(small()));
    assert!(dropped > 100, "only {dropped} events were dropped");
}

/// Lets all kinds of things happen to logs, and answers how many events were dropped.
fn try_steps(cases: u32, new: impl Fn() -> Log) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let dropped = Cell::new(0);
    let tried = TestRunner::new(config).run(&vec(step(), 1..80), |steps| {
        runtime.block_on(async {
            let mut log = new();
            for step in steps {
                match step {
                    Step::Append { stream, events } => log.append(stream, events).await,
                    Step::Reopen => log.reopen(|_| {}).await,
                    Step::RemoveRun(run) => {
                        log.reopen(|log| log.with_run(run, |path| fs::remove_file(path).unwrap())).await
                    }
                    Step::DamageRun(run, byte) => log.reopen(|log| log.damage_run(run, byte)).await,
                    Step::RemoveIndex => {
                        log.reopen(|log| fs::remove_dir_all(log.index()).unwrap()).await;
                        log.check().await;
                    }
                    Step::TearLog(bytes) => log.reopen(|log| log.tear(bytes)).await,
                    Step::Cut { stream, through } => {
                        dropped.set(dropped.get() + log.cut(stream, through).await);
                    }
                    Step::Move { to, kind } => log.move_cursor(to, kind).await,
                    Step::Lease => assert!(log.lease("anna").await.is_some()),
                    Step::Check => log.check().await,
                }
            }
            for change in [|_: &mut Log| {}, |log: &mut Log| fs::remove_dir_all(log.index()).unwrap()] {
                log.reopen(change).await;
                log.check().await;
            }
            assert_eq!(log.lease("anna").await, Some(1), "nobody else ever held it");
        });
        Ok(())
    });
    tried.unwrap_or_else(|failed| panic!("{failed}"));
    dropped.get()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_or_of_another_log_is_built_anew() {
    let mut log = Log::new(small());
    log.fill(60).await;
    let mut other = Log::new(small());
    other.fill(50).await;
    let foreign: Vec<_> = other.runs().into_iter().map(|path| fs::read(path).unwrap()).collect();
    log.reopen(|log| fs::remove_dir_all(log.index()).unwrap()).await;
    assert!(log.is_covered(), "what is read at a start is written at once, and does not stay in memory");
    log.check().await;
    log.reopen(|log| {
        log.runs().iter().zip(&foreign).for_each(|(path, bytes)| fs::write(path, bytes).unwrap())
    })
    .await;
    log.check().await;
    log.reopen(|log| fs::write(log.index().join("0000000000000000-00000000000003e8.new"), "half").unwrap())
        .await;
    log.check().await;
    assert!(fs::read_dir(log.index()).unwrap().all(|file| !file.unwrap().path().ends_with(".new")));
}

/// A start reads only what the runs do not cover.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_cover_is_not_read_at_a_start() {
    let mut log = Log::new(small());
    log.fill(80).await;
    log.reopen(|log| log.damage_event(20)).await;
    assert_eq!(log.head(), log.events(), "the damage was not met");
    let read = log.read_everything().await;
    assert!(read.is_err(), "damage is found when it is read");
}

/// Damage that is found only when a run is read makes no answer wrong, and heals.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_found_damaged_when_it_is_read_is_written_anew() {
    let limits = IndexLimits { tail_entries: 3_000, ..IndexLimits::default() };
    let mut log = Log::new(limits);
    log.fill(2_500).await;
    let run = eventually("a run", || log.runs().pop()).await;
    let good = fs::read(&run).unwrap();
    assert!(good.len() > 5 * 4_096, "a run of several blocks");
    for block in (1..good.len() / 4_096 - 2).step_by(2) {
        log.reopen(|_| {
            let mut bytes = good.clone();
            bytes[block * 4_096 + 100] ^= 1;
            fs::write(&run, bytes).unwrap();
        })
        .await;
        // Twice, since what a filter or a fence denies is not read the first time.
        log.check_until_right().await;
        log.check().await;
        if fs::read(&run).unwrap() != good {
            eventually("the run as it was", || (fs::read(&run).unwrap() == good).then_some(())).await;
        }
    }
}

/// A full or failing disk costs the index time, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn wherever_writing_or_merging_fails_or_crashes_nothing_is_lost() {
    // As many operations as two runs and their merging take.
    for fault in [Fault::Fail, Fault::Crash] {
        for operation in 0..24 {
            let disk = Arc::new(FailingDisk::new(operation, fault));
            let mut log = Log::on(small(), Arc::clone(&disk));
            while !disk.has_struck() {
                log.append(log.events() % 5, 2).await;
            }
            log.check().await;
            if fault == Fault::Fail && operation == 0 {
                eventually("another try", || (!log.runs().is_empty()).then_some(())).await;
            }
            log.reopen_on_real_disk().await;
            log.check().await;
        }
    }
}

/// While runs cannot be written, what waits is bounded: appends are refused, and taken again once they can.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_indexed_is_bounded() {
    let disk = Arc::new(FailingDisk::new(0, Fault::Hold));
    let mut log = Log::on(IndexLimits { unwritten_entries: 40, ..small() }, Arc::clone(&disk));
    let mut taken = 0;
    let refused = loop {
        match log.try_append(taken % 5, 1).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "nothing holds it back");
    };
    assert_eq!(refused, AppendError::Overloaded);
    log.check().await;
    disk.release();
    loop {
        match log.try_append(0, 1).await {
            Ok(()) => break,
            Err(AppendError::Overloaded) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    log.check().await;
}

/// Only a few runs are left of many, and no file that is not needed.
#[tokio::test(flavor = "multi_thread")]
async fn runs_are_merged_until_few_are_left() {
    let mut log = Log::new(IndexLimits { merged_runs: 4, levels: 2, ..small() });
    for n in 0..200 {
        log.append(n % 7, 1).await;
        if n % 20 == 0 {
            log.check().await;
        }
    }
    // 200 events and commands make at most 200 runs of two; merged in fours, twice.
    eventually("few runs", || (log.runs().len() < 200 / 16 + 8).then_some(())).await;
    log.check().await;
}

/// Many events that nobody wants are passed without being read.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_other_categories_are_not_read() {
    let disk = Arc::new(FailingDisk::new(u64::MAX, Fault::Fail));
    let mut log = Log::on(small(), Arc::clone(&disk));
    log.fill(60).await;
    log.append_rare().await;
    log.reopen(|_| {}).await;
    let before = disk.log_reads.load(Ordering::Relaxed);
    assert_eq!(log.rare().await.len(), 1);
    let read = disk.log_reads.load(Ordering::Relaxed) - before;
    assert!(read <= 2, "{read} records were read for one");
}

/// What was never there costs no read, and what is there a handful, however many runs there are.
#[tokio::test(flavor = "multi_thread")]
async fn fresh_names_cost_no_read() {
    let disk = Arc::new(FailingDisk::new(u64::MAX, Fault::Fail));
    let mut log = Log::on(small(), Arc::clone(&disk));
    log.fill(200).await;
    let reads = || disk.reads.load(Ordering::Relaxed);
    eventually("quiet", || disk.is_quiet().then_some(())).await;
    let before = reads();
    for _ in 0..100 {
        assert!(!log.knows_a_fresh_command().await);
    }
    assert_eq!(reads(), before, "an id that was minted now is in no run");
    for n in 0..100 {
        assert_eq!(log.version_of_another(n).await, 0);
    }
    assert!(reads() - before <= 20, "{} reads for a hundred streams that are not there", reads() - before);
}

/// Cursors and leases stand in the runs too: what wrote them is not read again.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_and_leases_outlive_the_runs_that_cover_them() {
    let mut log = Log::new(small());
    log.step("one", 3).await;
    assert_eq!(log.lease("anna").await, Some(1));
    log.fill(60).await;
    for change in ["nothing", "the last run", "all runs"] {
        log.reopen(|log| match change {
            "the last run" => fs::remove_file(log.runs().pop().unwrap()).unwrap(),
            "all runs" => fs::remove_dir_all(log.index()).unwrap(),
            _ => {}
        })
        .await;
        assert_eq!(log.cursor("one").await, 3, "without {change}");
        assert_eq!(log.cursor("another").await, 0);
        assert_eq!(log.lease("bert").await, None, "somebody else holds it");
        assert_eq!(log.lease("anna").await, Some(1));
    }
}
