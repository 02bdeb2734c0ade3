//! Walking over a log without its lock: all of it once, beside a writer, and past damage.

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use sillage_journal::{
    Boundary, Damage, Disk, DiskFile, End, Error, Lock, Options, RealDisk, Reason, Walk,
    testing::{Crash, Dice, SimulatedDisk},
};
use tempfile::TempDir;

use crate::{LOG_ID, flip, names, open_small, open_with, segments, stage};

fn walk(dir: &Path) -> Walk {
    Walk::new(dir, Arc::new(RealDisk), Boundary::default())
}

/// Walks on and adds the end of each batch that is shown.
fn run(walk: &mut Walk, ends: &mut Vec<Boundary>) -> Result<End<()>, Error> {
    walk.run(|batch| {
        ends.push(batch.end());
        ControlFlow::Continue(())
    })
}

/// Twelve batches, each a group, in segments of two or three.
fn log_of_twelve(dir: &Path, disk: Arc<dyn Disk>) -> Vec<Boundary> {
    let mut writer = open_small(dir, disk).0.writer;
    (0..12)
        .map(|_| {
            stage(&mut writer, &["one", "three"]);
            writer.commit().unwrap();
            writer.boundary()
        })
        .collect()
}

#[test]
fn every_batch_is_shown_once_however_often_the_walk_stops() {
    let dir = TempDir::new().unwrap();
    let all = log_of_twelve(dir.path(), Arc::new(RealDisk));
    let mut shown = Vec::new();
    let mut walking = walk(dir.path());
    assert_eq!(run(&mut walking, &mut shown).unwrap(), End::Whole);
    assert_eq!((&shown, walking.log_id()), (&all, Some(LOG_ID)));
    assert!(walking.total_bytes().unwrap() >= all[11].at.get());
    assert_eq!(run(&mut walking, &mut shown).unwrap(), End::Whole);
    assert_eq!(shown, all, "nothing was added");

    let mut one_by_one = walk(dir.path());
    for end in &all {
        let stopped = one_by_one.run(|batch| ControlFlow::Break(batch.number())).unwrap();
        assert_eq!((stopped, one_by_one.boundary()), (End::Stopped(end.batches), *end));
    }
    for (index, &from) in all.iter().enumerate() {
        let mut rest = Vec::new();
        let mut walking = Walk::new(dir.path(), Arc::new(RealDisk), from);
        assert_eq!(run(&mut walking, &mut rest).unwrap(), End::Whole);
        assert_eq!(rest, all[index + 1..], "from {from:?}");
    }
    let foreign = Boundary { checksum: all[0].checksum ^ 1, ..all[0] };
    let mut nowhere = Walk::new(dir.path(), Arc::new(RealDisk), foreign);
    assert!(matches!(run(&mut nowhere, &mut shown), Err(Error::NoBoundary(_))));
}

#[test]
fn beside_a_writer_the_order_is_exact_and_nothing_looks_damaged() {
    const GROUPS: u64 = 1_000;
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 50_000, ..Options::new(LOG_ID) };
    let (opened, _) = open_with(dir.path(), options, Arc::new(RealDisk)).unwrap();
    let mut writer = opened.writer;
    let writing = thread::spawn(move || {
        for group in 0..GROUPS {
            for _ in 0..=group % 3 {
                stage(&mut writer, &["x"; 7]);
            }
            writer.commit().unwrap();
        }
        writer.boundary()
    });
    let (mut walking, mut shown, mut looks) = (walk(dir.path()), Vec::new(), 0);
    let last = loop {
        let done = writing.is_finished();
        let end = run(&mut walking, &mut shown).unwrap();
        assert!(matches!(end, End::Whole | End::Unfinished { .. }), "{end:?}");
        looks += 1;
        if done {
            break writing.join().unwrap();
        }
    };
    assert!(looks > 2, "the walk was never beside the writer");
    assert!(shown.iter().map(|end| end.batches).eq(1..=last.batches), "{} of {last:?}", shown.len());
    assert_eq!(walking.boundary(), last);
    assert!(segments(dir.path()).len() > 3);
}

/// Files of which the first read of a group misses its first bytes: it was being written then.
struct Hasty(AtomicUsize);

struct HastyFile(Arc<dyn DiskFile>, AtomicBool);

impl Disk for Hasty {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let early = self.0.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(Arc::new(HastyFile(RealDisk.open(path)?, early.into())))
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("a walk changes nothing")
    }
    fn create(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        unreachable!("a walk changes nothing")
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("a walk changes nothing")
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        unreachable!("a walk changes nothing")
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("a walk changes nothing")
    }
    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        unreachable!("a walk takes no lock")
    }
}

impl DiskFile for HastyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(into, offset)?;
        if into.len() > 40 && self.1.swap(false, Ordering::Relaxed) {
            into[130..140].fill(0);
        }
        Ok(read)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("a walk changes nothing")
    }
    fn sync_data(&self) -> io::Result<()> {
        unreachable!("a walk changes nothing")
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        unreachable!("a walk changes nothing")
    }
}

#[test]
fn what_was_read_while_it_was_written_is_no_damage() {
    let dir = TempDir::new().unwrap();
    let all = log_of_twelve(dir.path(), Arc::new(RealDisk));
    let disk = Arc::new(Hasty(AtomicUsize::new(0)));
    let (mut walking, mut shown) = (Walk::new(dir.path(), disk.clone(), Boundary::default()), Vec::new());
    let end = run(&mut walking, &mut shown).unwrap();
    assert_eq!((end, shown), (End::Whole, all));
    assert!(disk.0.load(Ordering::Relaxed) > 6, "it was not read again");
}

/// What a loss of power leaves is judged as opening judges it.
#[test]
fn a_torn_tail_is_unfinished_and_the_rest_is_what_opening_finds() {
    let mut unfinished = 0;
    for seed in 0..200 {
        let disk = SimulatedDisk::new(Dice::new(seed));
        let dir = Path::new("/log");
        let all = log_of_twelve(dir, Arc::new(disk.clone()));
        let mut writer = open_small(dir, Arc::new(disk.clone())).0.writer;
        if seed % 4 < 2 {
            // The group goes to a segment that is there.
            stage(&mut writer, &["one"]);
            writer.commit().unwrap();
        }
        for _ in 0..3 {
            stage(&mut writer, &[&"x".repeat(400)]);
        }
        // The write is done and the flush is not, or not even that.
        disk.stop_after(usize::try_from(seed % 2).unwrap());
        writer.commit().unwrap_err();
        disk.restart(Crash::PowerLoss(&mut Dice::new(seed)));

        let (mut walking, mut shown) = (Walk::new(dir, Arc::new(disk.clone()), all[3]), Vec::new());
        let end = run(&mut walking, &mut shown).unwrap();
        let (opened, replayed) = open_small(dir, Arc::new(disk));
        assert_eq!(shown.len(), replayed.len() - 4, "seed {seed}");
        assert_eq!(walking.boundary(), opened.writer.boundary(), "seed {seed}");
        // A new segment of which nothing is there yet has nothing to cut.
        let empty = matches!(end, End::Unfinished { reason: Reason::SegmentHeader, .. });
        let torn = matches!(end, End::Unfinished { .. });
        let cut = opened.recovered.cut_bytes > 0;
        assert!(torn == cut || (empty && !cut), "seed {seed}: {end:?}, {:?}", opened.recovered);
        unfinished += usize::from(matches!(end, End::Unfinished { .. }));
    }
    assert!((1..200).contains(&unfinished), "{unfinished} of 200");
}

/// Walks over everything, past all damage.
fn run_past_damage(dir: &Path) -> (Vec<u64>, Vec<Damage>) {
    let (mut walking, mut shown, mut damages) = (walk(dir), Vec::new(), Vec::new());
    while let End::Damaged(damage) = run(&mut walking, &mut shown).unwrap() {
        damages.push(damage);
        if !walking.skip().unwrap() {
            break;
        }
    }
    (shown.iter().map(|end| end.batches).collect(), damages)
}

fn exchange(files: &[PathBuf]) {
    let (one, other) = (fs::read(&files[1]).unwrap(), fs::read(&files[2]).unwrap());
    fs::write(&files[1], other).unwrap();
    fs::write(&files[2], one).unwrap();
}

#[test]
fn damage_is_told_with_its_place_and_the_next_segment_is_read() {
    /// What is harmed, how, which batches are shown, and which files are told with which reasons.
    type Row<'a> = (&'a str, fn(&[PathBuf]), &'a [u64], &'a [(usize, Reason)]);
    let rows: [Row<'_>; 8] = [
        (
            "a record",
            |files| flip(&files[1], 50),
            &[1, 2, 5, 6, 7, 8, 9, 10, 11, 12],
            &[(1, Reason::RecordChecksum)],
        ),
        (
            "two",
            |files| [1, 3].iter().for_each(|n| flip(&files[*n], 50)),
            &[1, 2, 5, 6, 9, 10, 11, 12],
            &[(1, Reason::RecordChecksum), (3, Reason::RecordChecksum)],
        ),
        (
            "a header",
            |files| flip(&files[2], 9),
            &[1, 2, 3, 4, 7, 8, 9, 10, 11, 12],
            &[(2, Reason::SegmentHeader)],
        ),
        (
            "the first header",
            |files| flip(&files[0], 9),
            &[3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            &[(0, Reason::SegmentHeader)],
        ),
        (
            "a file is gone",
            |files| fs::remove_file(&files[2]).unwrap(),
            &[1, 2, 3, 4, 7, 8, 9, 10, 11, 12],
            &[(3, Reason::Gap)],
        ),
        (
            "the first is gone",
            |files| fs::remove_file(&files[0]).unwrap(),
            &[3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            &[(1, Reason::Gap)],
        ),
        (
            "cut short",
            |files| fs::write(&files[1], &fs::read(&files[1]).unwrap()[..110]).unwrap(),
            &[1, 2, 5, 6, 7, 8, 9, 10, 11, 12],
            &[(1, Reason::CutShort)],
        ),
        (
            "exchanged",
            exchange,
            &[1, 2, 7, 8, 9, 10, 11, 12],
            &[(1, Reason::ForeignSegment), (2, Reason::ForeignSegment)],
        ),
    ];
    for (name, harm, wanted, reasons) in rows {
        let dir = TempDir::new().unwrap();
        log_of_twelve(dir.path(), Arc::new(RealDisk));
        let files = segments(dir.path());
        assert_eq!(files.len(), 6);
        harm(&files);
        let (shown, damages) = run_past_damage(dir.path());
        assert_eq!(shown, wanted, "{name}");
        let found: Vec<_> =
            damages.iter().map(|damage| (walk(dir.path()).place(*damage).0, damage.reason)).collect();
        let reasons: Vec<_> = reasons.iter().map(|(file, reason)| (files[*file].clone(), *reason)).collect();
        assert_eq!(found, reasons, "{name}");
    }
}

#[test]
fn the_offset_of_damage_is_where_its_batch_begins() {
    let dir = TempDir::new().unwrap();
    let all = log_of_twelve(dir.path(), Arc::new(RealDisk));
    let files = segments(dir.path());
    let second = usize::try_from(all[2].at.get() - all[1].at.get()).unwrap();
    flip(&files[1], second + 30);
    let (shown, damages) = run_past_damage(dir.path());
    assert_eq!(shown, [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(walk(dir.path()).place(damages[0]), (files[1].clone(), second as u64));
}

#[test]
fn a_log_that_was_cut_behind_a_walk_says_so() {
    let dir = TempDir::new().unwrap();
    let all = log_of_twelve(dir.path(), Arc::new(RealDisk));
    let (mut walking, mut shown) = (walk(dir.path()), Vec::new());
    run(&mut walking, &mut shown).unwrap();
    let files = segments(dir.path());
    fs::remove_file(&files[5]).unwrap();
    let mut writer = open_small(dir.path(), Arc::new(RealDisk)).0.writer;
    assert_eq!(writer.boundary(), all[9]);
    for _ in 0..2 {
        stage(&mut writer, &["other", "bytes"]);
    }
    writer.commit().unwrap();
    assert!(matches!(run(&mut walking, &mut shown), Err(Error::NoBoundary(at)) if at == all[11]));
}

#[test]
fn a_folder_without_a_log_is_none_and_nothing_is_made() {
    let dir = TempDir::new().unwrap();
    let mut walking = walk(dir.path());
    assert_eq!(run(&mut walking, &mut Vec::new()).unwrap(), End::Whole);
    assert_eq!((walking.log_id(), names(dir.path(), "").len()), (None, 0));
    assert!(matches!(run(&mut walk(&dir.path().join("none")), &mut Vec::new()), Err(Error::Io { .. })));
}
