//! Segments that are written anew: what is left keeps its address, and a crash leaves the old one or the new one.

use std::{collections::BTreeMap, fs, ops::ControlFlow, path::Path, sync::Arc};

use sillage_journal::{
    AcceptLoss, Address, Boundary, Compaction, Disk, End, Error, Fate, Folders, Journal, Keeper, Opened,
    Options, Reader, RealDisk, Reason, Record, RecordRef, Sieve, Walk, Writer,
    testing::{Crash, Dice, Fault, SimulatedDisk},
};
use tempfile::TempDir;

use crate::{LOG_ID, flip, names, segments};

const SEGMENT_BYTES: u64 = 1_500;
const BATCHES: usize = 24;

/// Leaves out what begins with `-`, shortens what begins with `~` to its first two bytes, and keeps the rest.
#[derive(Default)]
pub(crate) struct Letters {
    looked: usize,
    judged: usize,
    pauses: usize,
    /// After how many pauses it breaks off.
    patience: Option<usize>,
}

fn fate(payload: &[u8]) -> Fate {
    match payload.first() {
        Some(b'-') => Fate::Leave,
        Some(b'~') if payload.len() > 2 => Fate::Replace { kind: 9, payload: payload[..2].to_vec() },
        _ => Fate::Keep,
    }
}

impl Sieve for Letters {
    fn look(&mut self, _: &RecordRef<'_>) {
        assert_eq!(self.judged, 0, "all is shown before anything is judged");
        self.looked += 1;
    }
    fn judge(&mut self, record: &RecordRef<'_>) -> Fate {
        self.judged += 1;
        fate(record.payload)
    }
    fn pause(&mut self) -> ControlFlow<()> {
        self.pauses += 1;
        let enough = self.patience.is_some_and(|patience| self.pauses > patience);
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What the log holds: each record by its address, none where it was left out, and the end of each batch.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Held {
    pub(crate) records: BTreeMap<Address, Option<Record>>,
    pub(crate) ends: Vec<Boundary>,
}

impl Held {
    /// What is left of it if these segments are written anew.
    pub(crate) fn sifted(&self, segments: &[(Address, Address)]) -> Self {
        let mut held = self.clone();
        for (address, slot) in &mut held.records {
            let Some(record) = slot.as_mut() else { continue };
            if segments.iter().any(|(base, end)| base <= address && address < end) {
                match fate(&record.payload) {
                    Fate::Keep => {}
                    Fate::Replace { kind, payload } => (record.kind, record.payload) = (kind, payload),
                    Fate::Leave => *slot = None,
                }
            }
        }
        held
    }
}

pub(crate) fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, ..Options::new(LOG_ID) }
}

/// Opens the log and collects what the replay shows.
pub(crate) fn open(folders: impl Into<Folders>, disk: Arc<dyn Disk>) -> Result<(Opened, Held), Error> {
    let mut held = Held::default();
    let opened = Journal::open(folders, options(), disk, |batch| {
        assert_eq!(batch.number(), held.ends.len() as u64 + 1);
        assert_eq!(batch.records().count(), usize::try_from(batch.count()).unwrap());
        held.ends.push(batch.end());
        for record in batch.records() {
            let RecordRef { address, kind, flags, key_id, payload } = record;
            let record = Record { kind, flags, key_id, payload: payload.to_vec() };
            held.records.insert(address, Some(record));
        }
        Ok(())
    })?;
    Ok((opened, held))
}

/// A batch of four: one that goes whole, one that goes but for its place, and two that stay. Every third has only one,
/// which goes.
fn append(writer: &mut Writer, held: &mut Held, n: usize) {
    let bulk = "x".repeat(200 + 37 * (n % 5));
    let texts = match n % 3 {
        2 => vec![format!("-{n} {bulk}")],
        _ => vec![format!("-{n} {bulk}"), format!("~{n} {bulk}"), format!("kept {n}"), String::new()],
    };
    for (index, text) in texts.into_iter().enumerate() {
        let flags = u16::try_from(index).unwrap();
        let record = Record { kind: 1, flags, key_id: 7, payload: text.into_bytes() };
        let address = writer.push(1, flags, 7, &record.payload).unwrap();
        held.records.insert(address, Some(record));
    }
    writer.end_batch().unwrap();
}

/// Some batches, in groups of one to three.
fn fill(writer: &mut Writer, batches: usize) -> Held {
    let mut held = Held::default();
    let mut n = 0;
    while n < batches {
        for _ in 0..=n % 3 {
            append(writer, &mut held, n);
            n += 1;
        }
        writer.commit().unwrap();
    }
    held
}

/// A log in several segments, open, and what it holds.
pub(crate) fn log(folders: impl Into<Folders>, disk: &Arc<dyn Disk>) -> (Opened, Held) {
    let folders = folders.into();
    let (opened, _) = open(folders.clone(), Arc::clone(disk)).unwrap();
    let Opened { mut writer, .. } = opened;
    fill(&mut writer, BATCHES);
    drop(writer);
    open(folders, Arc::clone(disk)).unwrap()
}

pub(crate) fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// Writes the first so many segments anew.
pub(crate) fn compact(keeper: &mut Keeper, segments: usize) -> Vec<(Address, Address)> {
    let sealed: Vec<_> = keeper.sealed().into_iter().take(segments).collect();
    for (base, _) in &sealed {
        let mut letters = Letters::default();
        let done = keeper.compact(*base, &mut letters).unwrap();
        assert!(matches!(done, Compaction::Done { before, after } if after * 4 <= before * 3), "{done:?}");
        assert!(letters.looked == letters.judged && letters.judged > 0);
    }
    sealed
}

/// Asserts that readers find each record at its address, one by one and together, and that what was left out is told.
#[track_caller]
pub(crate) fn check_reader(reader: &Reader, held: &Held) {
    for (at, record) in &held.records {
        match (reader.read(*at), record) {
            (Ok(found), Some(record)) => assert_eq!(found, *record, "{at}"),
            (Err(Error::LeftOut { at: told }), None) => assert_eq!(told, *at),
            (found, record) => panic!("{at} is {found:?} and should be {record:?}"),
        }
    }
    let there = || held.records.iter().filter_map(|(at, record)| Some((*at, record.as_ref()?)));
    for step in [1, 2, 5] {
        let addresses: Vec<_> = there().map(|(at, _)| at).step_by(step).collect();
        let mut wanted = there().step_by(step);
        let read = reader.read_each(&addresses, |found| {
            let (at, record) = wanted.next().unwrap();
            assert_eq!((found.address, found.payload, found.kind), (at, &record.payload[..], record.kind));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!((read.unwrap(), wanted.next()), (ControlFlow::Continue(()), None));
    }
}

/// Asserts that a replay between any two boundaries shows what stands there.
#[track_caller]
pub(crate) fn check_replay(reader: &Reader, held: &Held) {
    let ends: Vec<_> = std::iter::once(Boundary::default()).chain(held.ends.iter().copied()).collect();
    for (index, &from) in ends.iter().enumerate() {
        let mut found = Held::default();
        let to = *ends.last().unwrap();
        let shown = reader.replay(from, to, |batch| {
            found.ends.push(batch.end());
            for record in batch.records() {
                let RecordRef { address, kind, flags, key_id, payload } = record;
                let record = Record { kind, flags, key_id, payload: payload.to_vec() };
                found.records.insert(address, Some(record));
            }
            Ok(())
        });
        shown.unwrap();
        assert_eq!(found.ends, held.ends[index..], "from {from:?}");
        let there: BTreeMap<_, _> =
            held.records.range(from.at..).filter(|(_, record)| record.is_some()).collect();
        assert!(found.records.iter().eq(there), "from {from:?}");
    }
}

pub(crate) fn seen(held: &Held) -> Held {
    let records = held.records.iter().filter(|(_, record)| record.is_some());
    Held { records: records.map(|(at, record)| (*at, record.clone())).collect(), ends: held.ends.clone() }
}

/// Walks on from a boundary.
pub(crate) fn walk(walk: &mut Walk) -> (End<()>, Held) {
    let mut held = Held::default();
    let end = walk.run(|batch| {
        held.ends.push(batch.end());
        for record in batch.records() {
            let RecordRef { address, kind, flags, key_id, payload } = record;
            let record = Record { kind, flags, key_id, payload: payload.to_vec() };
            held.records.insert(address, Some(record));
        }
        ControlFlow::Continue(())
    });
    (end.unwrap(), held)
}

#[test]
fn what_is_left_is_read_by_the_address_that_it_always_had() {
    let dir = TempDir::new().unwrap();
    let (Opened { mut writer, reader, mut keeper, .. }, before) = log(dir.path(), &real());
    let files = names(dir.path(), ".seg");
    assert!(files.len() > 4, "{files:?}");
    check_reader(&reader, &before);
    let compacted = compact(&mut keeper, files.len() - 2);
    let after = before.sifted(&compacted);
    assert_eq!(names(dir.path(), ".seg"), files);
    assert_eq!(names(dir.path(), ".new"), [""; 0]);
    check_reader(&reader, &after);
    check_replay(&reader, &after);
    // Addresses that never were a record's.
    let odd = after.records.keys().next().unwrap().get() + 1;
    assert!(matches!(reader.read(Address::new(odd)), Err(Error::LeftOut { .. })));

    for from in [Boundary::default()].into_iter().chain(after.ends.iter().copied()) {
        let (end, found) = walk(&mut Walk::new(dir.path(), real(), from));
        assert_eq!((end, found.ends.last()), (End::Whole, after.ends.last().filter(|end| **end != from)));
        assert!(found.records.iter().eq(seen(&after).records.range(from.at..)), "{from:?}");
    }
    // Twice changes nothing but what has become unnecessary since.
    let again = keeper.compact(compacted[0].0, &mut Letters::default()).unwrap();
    assert_eq!(again, Compaction::NotWorth);
    check_reader(&reader, &after);

    append(&mut writer, &mut Held::default(), 0);
    writer.commit().unwrap();
    drop((writer, keeper));
    let (opened, replayed) = open(dir.path(), real()).unwrap();
    assert_eq!(replayed.ends.len(), after.ends.len() + 1);
    assert_eq!(replayed.ends[..after.ends.len()], after.ends);
    assert!(replayed.records.iter().take(seen(&after).records.len()).eq(&seen(&after).records));
    check_reader(&opened.reader, &after);
}

/// Each opening may begin at any boundary, as one that has an index does.
#[test]
fn an_opening_begins_at_any_boundary_of_a_compacted_segment() {
    let dir = TempDir::new().unwrap();
    let (Opened { mut keeper, writer, .. }, before) = log(dir.path(), &real());
    let after = before.sifted(&compact(&mut keeper, usize::MAX));
    drop((writer, keeper));
    for (index, start) in after.ends.iter().enumerate() {
        let open = |start| {
            let mut ends = Vec::new();
            let options = Options { start: Some(start), ..options() };
            let opened = Journal::open(dir.path(), options, real(), |batch| {
                ends.push(batch.end());
                Ok(())
            })?;
            Ok((opened, ends))
        };
        let (opened, ends) = open(*start).unwrap();
        assert_eq!(ends, after.ends[index + 1..]);
        check_reader(&opened.reader, &after);
        drop(opened);
        let foreign = Boundary { checksum: start.checksum ^ 1, ..*start };
        let refused: Result<_, Error> = open(foreign);
        assert!(matches!(refused, Err(Error::NoBoundary(_))));
    }
}

#[test]
fn only_what_is_worth_it_is_written_anew_and_never_what_is_written_on() {
    let dir = TempDir::new().unwrap();
    let (Opened { writer, mut keeper, .. }, before) = log(dir.path(), &real());
    let sealed = keeper.sealed();
    let active = sealed.last().unwrap().1;
    let here = |base: u64| Address::new(base);
    for base in [active, here(1), here(u64::MAX)] {
        assert_eq!(keeper.compact(base, &mut Letters::default()).unwrap(), Compaction::NotHere);
        assert_eq!(keeper.file_bytes(base).unwrap(), None);
    }
    struct All;
    impl Sieve for All {
        fn look(&mut self, _: &RecordRef<'_>) {}
        fn judge(&mut self, _: &RecordRef<'_>) -> Fate {
            Fate::Keep
        }
        fn pause(&mut self) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    let bytes = |path: &Path| fs::read(path).unwrap();
    let path = dir.path().join(format!("{}.seg", sealed[1].0));
    let old = bytes(&path);
    assert_eq!(keeper.compact(sealed[1].0, &mut All).unwrap(), Compaction::NotWorth);
    assert_eq!((bytes(&path), names(dir.path(), ".new").len()), (old.clone(), 0));
    assert_eq!(keeper.file_bytes(sealed[1].0).unwrap(), Some(old.len() as u64));
    drop((writer, keeper));
    assert_eq!(open(dir.path(), real()).unwrap().1, before);
}

#[test]
fn a_sieve_that_breaks_off_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 3 << 20, ..Options::new(LOG_ID) };
    let open = || Journal::open(dir.path(), options.clone(), real(), |_| Ok(())).unwrap();
    let Opened { mut writer, mut keeper, .. } = open();
    for n in 0..8 {
        writer.push(1, 0, 0, &vec![b'k'; 500_000 + n]).unwrap();
        writer.push(1, 0, 0, &vec![b'-'; 500_000 + n]).unwrap();
        writer.end_batch().unwrap();
        writer.commit().unwrap();
    }
    let base = keeper.sealed()[0].0;
    let path = dir.path().join(format!("{base}.seg"));
    let before = fs::read(&path).unwrap();
    let mut letters = Letters { patience: Some(0), ..Letters::default() };
    assert_eq!(keeper.compact(base, &mut letters).unwrap(), Compaction::Stopped);
    assert_eq!((fs::read(&path).unwrap(), names(dir.path(), ".new").len()), (before, 0));
    let mut letters = Letters::default();
    assert!(matches!(keeper.compact(base, &mut letters).unwrap(), Compaction::Done { .. }));
    assert!(letters.pauses >= 1, "it never paused");
}

/// Whoever reads goes on, with the old file or the new one, and finds what was kept at any moment.
#[test]
fn readers_go_on_while_segments_are_written_anew() {
    let dir = TempDir::new().unwrap();
    let (Opened { writer, reader, mut keeper, .. }, before) = log(dir.path(), &real());
    let after = before.sifted(&keeper.sealed());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut rounds = 0;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) || rounds < 3 {
                    for (at, record) in &after.records {
                        match (reader.read(*at), record) {
                            (Ok(found), Some(record)) => {
                                assert!(found == *record || Some(&found) == before.records[at].as_ref());
                            }
                            (Ok(found), None) => assert_eq!(Some(&found), before.records[at].as_ref()),
                            (Err(Error::LeftOut { .. }), None) => {}
                            (Err(error), _) => panic!("{at}: {error}"),
                        }
                    }
                    rounds += 1;
                }
            });
        }
        compact(&mut keeper, usize::MAX);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    check_reader(&reader, &after);
    drop(writer);
}

/// The power goes, or the process dies, at each operation: each segment is the old one or the new one.
#[test]
fn a_crash_anywhere_leaves_the_old_segment_or_the_new_one() {
    let dir = Path::new("/log");
    let (mut old, mut new, mut operations) = (0, 0, 0);
    loop {
        let mut struck = false;
        for seed in 0..12 {
            let simulated = SimulatedDisk::new(Dice::new(seed));
            let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
            let (Opened { writer, mut keeper, .. }, before) = log(dir, &disk);
            let sealed = keeper.sealed();
            simulated.stop_after(operations);
            let done = sealed[..2]
                .iter()
                .try_for_each(|(base, _)| keeper.compact(*base, &mut Letters::default()).map(drop));
            struck |= done.is_err();
            drop((writer, keeper));
            let crash = &mut Dice::new(seed);
            simulated.restart(if seed % 3 == 0 { Crash::Kill } else { Crash::PowerLoss(crash) });
            let (Opened { reader, .. }, found) = open(dir, Arc::clone(&disk)).unwrap();
            let possible = [0, 1, 2].map(|compacted| seen(&before.sifted(&sealed[..compacted])));
            let second = seen(&before.sifted(&sealed[1..2]));
            let count = possible.iter().position(|held| *held == found);
            assert!(count.is_some() || found == second, "operation {operations}, seed {seed}");
            old += usize::from(count == Some(0));
            new += usize::from(count == Some(2));
            if done.is_ok() {
                assert_eq!(count, Some(2), "what was done is undone");
            }
            check_replay(&reader, &found);
            assert_eq!(disk.list(dir).unwrap().iter().filter(|name| name.ends_with(".new")).count(), 0);
        }
        if !struck {
            break;
        }
        operations += 1;
    }
    assert!(operations > 8 && old > 0 && new > 0, "{operations} operations, {old} old, {new} new");
}

/// A failing disk is told, and costs nothing.
#[test]
fn a_segment_that_cannot_be_written_anew_stays_as_it_is() {
    let dir = Path::new("/log");
    for fault in [Fault::Write, Fault::Sync] {
        let simulated = SimulatedDisk::new(Dice::new(1));
        let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
        let (Opened { writer, reader, mut keeper, .. }, before) = log(dir, &disk);
        let base = keeper.sealed()[0].0;
        simulated.fail(fault);
        assert!(matches!(keeper.compact(base, &mut Letters::default()), Err(Error::Io { .. })));
        check_reader(&reader, &before);
        check_reader(&reader, &before.sifted(&compact(&mut keeper, 1)));
        drop(writer);
    }
}

/// Whichever byte is flipped, opening and walking tell it with the file, and a reader never gives another record.
#[test]
fn no_byte_of_a_compacted_segment_can_be_flipped_unnoticed() {
    let dir = TempDir::new().unwrap();
    let (Opened { writer, mut keeper, .. }, before) = log(dir.path(), &real());
    let sealed = keeper.sealed();
    let after = before.sifted(&compact(&mut keeper, usize::MAX));
    drop((writer, keeper));
    let file = &segments(dir.path())[1];
    let sound = fs::read(file).unwrap();
    for offset in 0..sound.len() {
        flip(file, offset);
        match open(dir.path(), real()) {
            Err(Error::Damaged { segment, .. }) => assert_eq!(segment, sealed[1].0, "byte {offset}"),
            Err(Error::Unsupported { .. }) => {}
            other => panic!("byte {offset}: {other:?}"),
        }
        let mut walking = Walk::new(dir.path(), real(), Boundary::default());
        match walking.run(|_| ControlFlow::<()>::Continue(())) {
            Ok(End::Damaged(damage)) => assert_eq!(damage.segment, sealed[1].0, "byte {offset}"),
            Err(Error::Unsupported { .. }) => {}
            other => panic!("byte {offset}: {other:?}"),
        }
        // An opening behind it does not see the damage; reading does.
        let start = *after.ends.iter().find(|end| end.at > sealed[1].1).unwrap();
        let options = Options { start: Some(start), ..options() };
        let opened = Journal::open(dir.path(), options, real(), |_| Ok(())).unwrap();
        for (at, record) in after.records.range(sealed[1].0..sealed[1].1) {
            if let Ok(found) = opened.reader.read(*at) {
                assert_eq!(Some(&found), record.as_ref(), "byte {offset}, {at}");
            }
        }
        drop(opened);
        fs::write(file, &sound).unwrap();
    }
    assert_eq!(open(dir.path(), real()).unwrap().1, seen(&after));
}

/// A segment that lacks its end is damage, wherever it is cut; only a crash of the file system can have done that.
#[test]
fn a_compacted_segment_that_is_cut_short_is_damaged() {
    let dir = TempDir::new().unwrap();
    let (Opened { writer, mut keeper, .. }, _) = log(dir.path(), &real());
    compact(&mut keeper, 2);
    drop((writer, keeper));
    let file = &segments(dir.path())[1];
    let sound = fs::read(file).unwrap();
    for len in (0..sound.len()).step_by(7) {
        fs::write(file, &sound[..len]).unwrap();
        let opened = open(dir.path(), real());
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{len}: {opened:?}");
    }
    fs::write(file, [&sound[..], b"more"].concat()).unwrap();
    let opened = open(dir.path(), real());
    assert!(matches!(opened, Err(Error::Damaged { reason: Reason::Directory, .. })), "{opened:?}");
}

/// Whoever accepts the loss keeps what stands before the damaged segment, and goes on in a segment of its own.
#[test]
fn an_accepted_loss_sets_a_compacted_segment_aside_as_a_whole() {
    for file in [0, 1, 2] {
        let dir = TempDir::new().unwrap();
        let (Opened { writer, mut keeper, .. }, before) = log(dir.path(), &real());
        let sealed = keeper.sealed();
        let after = seen(&before.sifted(&compact(&mut keeper, 3)));
        drop((writer, keeper));
        let files = segments(dir.path());
        let len = fs::read(&files[file]).unwrap().len();
        flip(&files[file], len / 2);
        let accept = |start| Options { accept_loss: AcceptLoss::Yes, start, ..options() };
        // An index that covers a part of what is lost does not fit.
        let inside = *after.ends.iter().find(|end| end.at > sealed[file].0).unwrap();
        let covered = Journal::open(dir.path(), accept(Some(inside)), real(), |_| Ok(()));
        let first_batch_only = inside.at == sealed[file].1;
        assert!(first_batch_only || matches!(covered, Err(Error::NoBoundary(_))), "{covered:?}");
        drop(covered);

        let mut kept = Held::default();
        let opened = Journal::open(dir.path(), accept(None), real(), |batch| {
            kept.ends.push(batch.end());
            Ok(())
        });
        let Opened { mut writer, recovered, .. } = opened.unwrap();
        assert_eq!(recovered.lost.unwrap().at, sealed[file].0);
        let left = after.ends.iter().filter(|end| end.at <= sealed[file].0).count();
        assert_eq!(kept.ends, after.ends[..left]);
        assert_eq!(names(dir.path(), ".lost").len(), files.len() - file);
        append(&mut writer, &mut Held::default(), 0);
        writer.commit().unwrap();
        drop(writer);
        assert_eq!(open(dir.path(), real()).unwrap().1.ends.len(), left + 1);
    }
}

/// Of a log whose last file is gone the compacted one before it is not written on.
#[test]
fn a_log_that_ends_with_a_compacted_segment_goes_on_behind_it() {
    let dir = TempDir::new().unwrap();
    let (Opened { writer, mut keeper, .. }, before) = log(dir.path(), &real());
    let after = seen(&before.sifted(&compact(&mut keeper, usize::MAX)));
    drop((writer, keeper));
    let files = segments(dir.path());
    fs::remove_file(files.last().unwrap()).unwrap();
    for round in 0..2 {
        let (Opened { mut writer, reader, .. }, found) = open(dir.path(), real()).unwrap();
        let left = found.ends.len() - round;
        if round == 0 {
            // All of the file, whatever it held before it was compacted.
            let folders = Folders::from(dir.path());
            let files_to = |end: usize| Journal::files(&folders, &RealDisk, found.ends[end]);
            assert!(files_to(left - 1).unwrap().iter().all(|(_, bytes)| bytes.is_none()));
            assert!(matches!(files_to(left - 2), Err(Error::NoBoundary(_))));
        }
        assert_eq!(found.ends[..left], after.ends[..left]);
        let mut held = Held::default();
        append(&mut writer, &mut held, 0);
        writer.commit().unwrap();
        check_reader(&reader, &held);
        assert_eq!(segments(dir.path()).len(), files.len());
    }
}

/// A file from the same place of another log of that id is no part of this one: the numbers of its batches tell.
#[test]
fn a_compacted_segment_with_other_numbers_is_damage() {
    let make = |payloads: &[usize]| {
        let dir = TempDir::new().unwrap();
        let Opened { mut writer, mut keeper, .. } = open(dir.path(), real()).unwrap().0;
        for payload in payloads.iter().chain(&[1_500, 10]) {
            writer.push(1, 0, 0, &vec![b'-'; *payload]).unwrap();
            writer.end_batch().unwrap();
            writer.commit().unwrap();
        }
        let second = keeper.sealed()[1].0;
        assert!(matches!(keeper.compact(second, &mut Letters::default()), Ok(Compaction::Done { .. })));
        (dir, second)
    };
    // One batch takes as much as two that are shorter by the rest of one.
    let ((one, base), (other, same)) = (make(&[1_656]), make(&[800, 800]));
    assert_eq!(base, same);
    let file = |dir: &TempDir| dir.path().join(format!("{base}.seg"));
    fs::copy(file(&other), file(&one)).unwrap();
    let opened = open(one.path(), real());
    assert!(matches!(opened, Err(Error::Damaged { reason: Reason::Sequence, .. })), "{opened:?}");
}
