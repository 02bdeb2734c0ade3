//! Crashes: whatever the machine does, what was acknowledged is there and what was refused is not.
//!
//! The store runs on a simulated disk. Several writers ask it for random things; at a random operation of the disk
//! the process is killed or the power goes, also while the log is opened; the log is opened again, is compared with
//! what the writers were told, and is written on. In some lives between two crashes events are dropped and files are
//! archived, beside the writers, and the index is so small that runs of it are written and merged all the time.
//!
//! All of it follows from one seed, which a failure prints: `SILLAGE_SEED=n` repeats it, but for when the threads beside
//! the writer come to the disk. `SILLAGE_CYCLES=n` says how many crashes there are.

mod truth;
mod workload;

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use sillage_journal::Disk;
use sillage_journal::testing::{Crash, Dice, Fault, Lie, SimulatedDisk};
use sillage_kernel::Position;
use sillage_store::EventStore;
use sillage_store::event_store::journal::{IndexLimits, JournalOptions, JournalStore, LogError};

use truth::{Truth, Wrong};
use workload::{Job, LEASES, OWNERS, Op, Term, jobs, plug, submit};

/// How many crashes one log goes through; then another begins, so that none gets long.
const CYCLES_OF_A_LOG: u64 = 10;
/// How many crashes there are unless it is said otherwise.
const CYCLES: u64 = 50;
/// After how many crashes at the latest a lie must be noticed.
const MAX_CYCLES_OF_A_LIE: u64 = 1_000;
/// The most groups between two crashes.
const MAX_GROUPS: usize = 8;
/// Within how many operations of the disk it stops, most of the time; a group takes some five.
const OPERATIONS: usize = 40;

/// The same for what is dropped or archived; a segment that is written anew takes some four.
const OPERATIONS_OF_A_SEGMENT: usize = 8;

/// How a log fared.
#[derive(Debug, Default)]
struct Tally {
    crashes: u64,
    crashes_while_opening: u64,
    groups: u64,
    dropped_events: u64,
    archived_files: u64,
}

/// One log on its disk.
struct Life {
    dice: Dice,
    disk: SimulatedDisk,
    truth: Truth,
    tally: Tally,
    upkeep: Upkeep,
}

/// Whether others than the writer are at the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upkeep {
    Idle,
    Busy,
}

impl Life {
    fn new(seed: u64, lie: Option<Lie>) -> Self {
        let mut dice = Dice::new(seed);
        let own = Dice::new(dice.roll());
        let disk = match lie {
            None => SimulatedDisk::new(own),
            Some(lie) => SimulatedDisk::lying(own, lie),
        };
        Self { dice, disk, truth: Truth::default(), tally: Tally::default(), upkeep: Upkeep::Idle }
    }

    /// Goes through all its crashes, or says what was wrong.
    async fn go(&mut self) -> Result<(), Wrong> {
        for _ in 0..CYCLES_OF_A_LOG {
            self.cycle().await?;
        }
        let store = self.open(Opening::Undisturbed)?;
        self.truth.settle(&*store).await
    }

    async fn cycle(&mut self) -> Result<(), Wrong> {
        let store = self.open(Opening::Disturbed)?;
        self.truth.settle(&*store).await?;
        self.ask_for_leases(&*store).await?;
        if self.dice.percent(80) {
            self.disk.stop_after(self.dice.below(OPERATIONS));
        }
        for _ in 0..self.dice.below(MAX_GROUPS) {
            if store.failed().now_or_never().is_some() {
                break;
            }
            if self.dice.percent(15) {
                self.disk.fail(*self.dice.pick(&[Fault::Write, Fault::Sync]));
            }
            if self.upkeep == Upkeep::Busy && self.dice.percent(40) {
                self.tend(&store).await?;
            } else {
                self.group(&*store).await?;
            }
        }
        if !self.disk.has_stopped() {
            self.truth.check(&*store).await?;
        }
        drop(store);
        self.crash();
        self.tally.crashes += 1;
        Ok(())
    }

    /// Lets several writers ask for something, so that it goes to the disk together.
    async fn group(&mut self, store: &dyn EventStore) -> Result<(), Wrong> {
        let jobs = jobs(&mut self.dice, &mut self.truth);
        self.tally.groups += 1;
        // With others at the disk nobody knows who waits at the plug.
        if jobs.len() == 1 || self.upkeep == Upkeep::Busy {
            return self.one_by_one(store, jobs).await;
        }
        // While the plug waits for the disk, all others queue up: so it does not depend on luck who is in a group.
        let held = self.disk.hold();
        let first = submit(store, plug(&mut self.dice));
        held.wait();
        let rest: Vec<_> = jobs.into_iter().map(|job| submit(store, job)).collect();
        drop(held);
        self.truth.hear(&first.await)?;
        let mut answers = Vec::new();
        for answer in rest {
            answers.extend(answer.await);
        }
        // They may have become several groups, one after the other. Behind one that was surely not kept there may be one
        // of which nobody knows.
        for run in answers.chunk_by(|(_, one), (_, next)| one.failure() == next.failure()) {
            self.truth.hear(run)?;
        }
        self.truth.read_on(store).await
    }

    /// Drops or archives a part, beside some who write.
    async fn tend(&mut self, store: &JournalStore) -> Result<(), Wrong> {
        if self.dice.percent(50) {
            self.disk.stop_after(self.dice.below(OPERATIONS_OF_A_SEGMENT));
        }
        if self.dice.percent(30) {
            let before = Position::new(self.dice.below(self.truth.len() + 2) as u64);
            // It fails if the disk does. What was moved until then is read from where it is.
            self.tally.archived_files += store.archive(before, |_| ()).await.unwrap_or_default();
            return self.truth.check(store).await;
        }
        let dropping = store.drop_events(self.truth.cuts(&mut self.dice));
        if self.dice.percent(50) {
            self.group(store).await?;
        }
        if let Ok(dropped) = dropping.await {
            self.tally.dropped_events += dropped.events;
            self.truth.dropped(store).await?;
        }
        self.truth.check(store).await
    }

    async fn one_by_one(&mut self, store: &dyn EventStore, jobs: Vec<Job>) -> Result<(), Wrong> {
        for job in jobs {
            self.truth.hear(&submit(store, job).await)?;
            self.truth.read_on(store).await?;
        }
        Ok(())
    }

    /// Whoever asks for a lease is told who has it.
    async fn ask_for_leases(&mut self, store: &dyn EventStore) -> Result<(), Wrong> {
        let ask = |name| OWNERS.map(|owner| vec![Op::Lease { name, owner, term: Term::Over }]);
        self.one_by_one(store, LEASES.into_iter().flat_map(ask).collect()).await
    }

    /// Opens the log, however often that takes.
    fn open(&mut self, opening: Opening) -> Result<Arc<JournalStore>, Wrong> {
        self.upkeep = *self.dice.pick(&[Upkeep::Idle, Upkeep::Busy]);
        let sizes = match self.upkeep {
            Upkeep::Idle => [1, 3_000, 20_000, 400_000],
            // Only what is full can be dropped.
            Upkeep::Busy => [1, 600, 1_500, 3_000],
        };
        // From one opening to the next another size may be wanted.
        let segment_bytes = *self.dice.pick(&sizes);
        let least_group = *self.dice.pick(&[1, 8, 96]);
        let index = match self.upkeep {
            Upkeep::Idle => IndexLimits::default(),
            Upkeep::Busy => {
                let tail_entries = *self.dice.pick(&[2, 8, 30]);
                IndexLimits {
                    tail_entries,
                    merged_runs: 2,
                    levels: 3,
                    hot_streams: 2,
                    ..IndexLimits::default()
                }
            }
        };
        let archive = Some(Path::new("/archive").to_owned());
        let options =
            JournalOptions { segment_bytes, archive, least_group, index, ..JournalOptions::default() };
        if self.upkeep == Upkeep::Busy && self.dice.percent(20) {
            self.lose_index();
        }
        loop {
            let disturbed = opening == Opening::Disturbed && self.dice.percent(40);
            if disturbed {
                match self.dice.below(4) {
                    0 => self.disk.fail(Fault::Sync),
                    1 => self.disk.fail(Fault::Write),
                    _ => self.disk.stop_after(self.dice.below(9)),
                }
            }
            match JournalStore::open_on(Path::new("/log"), 7, options.clone(), Arc::new(self.disk.clone())) {
                Ok((store, _)) if !self.disk.has_stopped() => {
                    self.disk.calm();
                    return Ok(Arc::new(store));
                }
                Ok((store, _)) => drop(store),
                Err(LogError::Io { .. }) if disturbed => {}
                Err(error) => return Err(format!("the log cannot be opened: {error}")),
            }
            self.tally.crashes_while_opening += 1;
            self.crash();
        }
    }

    /// Deletes the index, as an operator may, if there is one yet.
    fn lose_index(&self) {
        let folder = Path::new("/log/index");
        let Ok(runs) = self.disk.list(folder) else { return };
        runs.iter().for_each(|run| self.disk.remove(&folder.join(run)).unwrap());
        self.disk.sync_dir(folder).unwrap();
    }

    fn crash(&mut self) {
        let kill = self.dice.percent(30);
        self.disk.restart(if kill { Crash::Kill } else { Crash::PowerLoss(&mut self.dice) });
    }
}

/// Whether anything goes wrong while the log is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    Disturbed,
    Undisturbed,
}

/// How the log of a seed has fared, and what was wrong in the end, if anything.
fn run(seed: u64, lie: Option<Lie>) -> (Tally, Result<(), Wrong>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut life = Life::new(seed, lie);
    let found = runtime.block_on(life.go());
    (life.tally, found)
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

#[test]
fn nothing_acknowledged_is_lost_in_a_crash() {
    let seeds: Vec<u64> = match setting("SILLAGE_SEED") {
        Some(seed) => vec![seed],
        None => {
            let logs = setting("SILLAGE_CYCLES").unwrap_or(CYCLES).div_ceil(CYCLES_OF_A_LOG);
            let first = uuid::Uuid::new_v4().as_u64_pair().0;
            (0..logs).map(|log| first.wrapping_add(log)).collect()
        }
    };
    let mut total = Tally::default();
    for seed in seeds {
        let (tally, found) = run(seed, None);
        let Tally { crashes, crashes_while_opening, groups, dropped_events, archived_files } = tally;
        found.unwrap_or_else(|wrong| panic!("SILLAGE_SEED={seed} repeats this: {wrong}"));
        total.crashes += crashes;
        total.crashes_while_opening += crashes_while_opening;
        total.groups += groups;
        total.dropped_events += dropped_events;
        total.archived_files += archived_files;
    }
    println!("{total:?}");
}

/// A harness that finds nothing may be blind. Sound code on a disk that lies is broken code on one that does not.
#[track_caller]
fn check_noticed(lie: Lie) {
    let mut crashes = 0;
    for seed in 1..=MAX_CYCLES_OF_A_LIE / CYCLES_OF_A_LOG {
        let (tally, found) = run(seed, Some(lie));
        crashes += tally.crashes + tally.crashes_while_opening;
        if let Err(wrong) = found {
            println!("{lie:?} is noticed after {crashes} crashes: {wrong}");
            return;
        }
    }
    panic!("{lie:?} is not noticed in {crashes} crashes");
}

#[test]
fn an_answer_before_the_flush_is_noticed() {
    check_noticed(Lie::SyncsLate);
}

#[test]
fn a_missing_flush_of_the_directory_is_noticed() {
    check_noticed(Lie::SyncsNoDirectory);
}

#[test]
fn a_marker_that_is_durable_before_its_records_is_noticed() {
    check_noticed(Lie::SyncsLastSectorFirst);
}

#[test]
fn a_failed_flush_that_is_ignored_is_noticed() {
    check_noticed(Lie::HidesFailedSyncs);
}

#[test]
fn an_old_segment_that_is_removed_before_the_new_one_is_durable_is_noticed() {
    check_noticed(Lie::RemovesBeforeRenaming);
}
