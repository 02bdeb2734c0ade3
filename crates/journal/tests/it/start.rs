//! Opening at a known boundary: the rest is replayed as ever, and what does not fit is refused.

use std::{fs, path::Path, sync::Arc};

use sillage_journal::{
    AcceptLoss, Address, Boundary, Error, Journal, Opened, Options, Progress, RealDisk, Reason,
};
use tempfile::TempDir;

use crate::{LOG_ID, names};

/// Groups of one to three batches in small segments; the end of each batch.
fn log_of_many(dir: &Path) -> Vec<Boundary> {
    let options = Options { segment_bytes: 200, ..Options::new(LOG_ID) };
    let Opened { mut writer, .. } = Journal::open(dir, options, Arc::new(RealDisk), |_| Ok(())).unwrap();
    let mut groups = vec![writer.boundary()];
    for group in 0..9 {
        for batch in 0..=group % 3 {
            writer.push(1, 0, 0, "x".repeat(30 * batch).as_bytes()).unwrap();
            writer.push(2, 0, 0, b"second").unwrap();
            writer.end_batch().unwrap();
        }
        writer.commit().unwrap();
        groups.push(writer.boundary());
    }
    drop(writer);
    let mut ends = vec![Boundary::default()];
    open_from(dir, None, AcceptLoss::No, &mut ends).unwrap();
    assert!(groups.iter().all(|group| ends.contains(group)), "the writer knows other boundaries");
    assert!(names(dir, ".seg").len() > 3);
    ends
}

/// Opens from there and adds the end of each replayed batch.
fn open_from(
    dir: &Path,
    start: Option<Boundary>,
    accept_loss: AcceptLoss,
    ends: &mut Vec<Boundary>,
) -> Result<Opened, Error> {
    let options = Options { start, accept_loss, segment_bytes: 200, ..Options::new(LOG_ID) };
    Journal::open(dir, options, Arc::new(RealDisk), |batch| {
        ends.push(batch.end());
        Ok(())
    })
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    names(dir, "").into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

#[test]
fn from_any_boundary_the_rest_is_replayed() {
    let dir = TempDir::new().unwrap();
    let ends = log_of_many(dir.path());
    for (index, &start) in ends.iter().enumerate().skip(1) {
        let mut rest = Vec::new();
        let opened = open_from(dir.path(), Some(start), AcceptLoss::No, &mut rest).unwrap();
        assert_eq!(rest, ends[index + 1..], "from batch {index}");
        assert_eq!(opened.recovered.batches, ends.len() as u64 - 1);
        assert_eq!(opened.writer.boundary(), *ends.last().unwrap());
        opened.reader.read(Address::new(40)).expect("what lies before can be read");
    }
    let mut rest = Vec::new();
    let Opened { mut writer, .. } =
        open_from(dir.path(), ends.last().copied(), AcceptLoss::No, &mut rest).unwrap();
    writer.push(1, 0, 0, b"more").unwrap();
    writer.end_batch().unwrap();
    writer.commit().unwrap();
    drop(writer);
    open_from(dir.path(), None, AcceptLoss::No, &mut rest).expect("the log goes on in sequence");
    assert_eq!(rest.len(), ends.len());
}

#[test]
fn between_any_two_boundaries_the_batches_are_shown_again() {
    let dir = TempDir::new().unwrap();
    let ends = log_of_many(dir.path());
    let Opened { reader, .. } = open_from(dir.path(), None, AcceptLoss::No, &mut Vec::new()).unwrap();
    for from in 0..ends.len() {
        for to in from..ends.len() {
            let mut shown = Vec::new();
            let result = reader.replay(ends[from], ends[to], |batch| {
                shown.push(batch.end());
                Ok(())
            });
            result.unwrap();
            assert_eq!(shown, ends[from + 1..=to], "from {from} to {to}");
        }
    }
    let beyond = Boundary { batches: ends.len() as u64, ..*ends.last().unwrap() };
    assert!(reader.replay(ends[3], beyond, |_| Ok(())).is_err());
    let bad = Boundary { batches: ends[3].batches + 1, ..ends[3] };
    assert!(reader.replay(bad, beyond, |_| Ok(())).is_err());
}

#[test]
fn what_is_no_boundary_of_this_log_is_refused_and_nothing_changes() {
    let dir = TempDir::new().unwrap();
    let ends = log_of_many(dir.path());
    let torn = fs::read(dir.path().join(&names(dir.path(), ".seg")[0])).unwrap();
    fs::write(dir.path().join(format!("{}.seg", ends.last().unwrap().at)), &torn[..10]).unwrap();
    let before = contents(dir.path());
    for good in &ends[1..] {
        let at = |at: u64| Boundary { at: Address::new(at), ..*good };
        for bad in [
            at(good.at.get() - 1),
            at(good.at.get() + 1),
            at(0),
            at(40),
            at(1 << 40),
            Boundary { batches: good.batches + 1, ..*good },
            Boundary { checksum: good.checksum ^ 1, ..*good },
        ] {
            let opened = open_from(dir.path(), Some(bad), AcceptLoss::Yes, &mut Vec::new());
            assert!(matches!(opened, Err(Error::NoBoundary(found)) if found == bad), "{bad:?}: {opened:?}");
        }
    }
    assert!(contents(dir.path()) == before, "something was changed");
}

#[test]
fn damage_before_the_start_is_found_when_it_is_read_and_behind_it_as_ever() {
    let dir = TempDir::new().unwrap();
    let ends = log_of_many(dir.path());
    let flip = |at: Address| {
        let segments = names(dir.path(), ".seg");
        let base = |name: &String| u64::from_str_radix(name.trim_end_matches(".seg"), 16).unwrap();
        let name = segments.iter().rfind(|name| base(name) < at.get()).unwrap();
        let mut bytes = fs::read(dir.path().join(name)).unwrap();
        bytes[usize::try_from(at.get() - base(name)).unwrap() - 1] ^= 1;
        fs::write(dir.path().join(name), bytes).unwrap();
    };
    let (start, damaged, last) = (ends[5], ends[2], *ends.last().unwrap());
    flip(Address::new(50));
    let opened = open_from(dir.path(), Some(start), AcceptLoss::No, &mut Vec::new()).unwrap();
    let read = opened.reader.read(Address::new(40));
    assert!(matches!(read, Err(Error::Damaged { reason: Reason::RecordChecksum, .. })), "{read:?}");
    drop(opened);
    let from_beginning = open_from(dir.path(), None, AcceptLoss::No, &mut Vec::new());
    assert!(matches!(from_beginning, Err(Error::Damaged { .. })), "{from_beginning:?}");

    flip(ends[9].at);
    let opened = open_from(dir.path(), Some(start), AcceptLoss::No, &mut Vec::new());
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    let mut kept = Vec::new();
    let opened = open_from(dir.path(), Some(start), AcceptLoss::Yes, &mut kept).unwrap();
    assert!(opened.recovered.lost.is_some() && opened.recovered.cut_bytes > 0);
    assert_eq!(kept, ends[6..9], "what stands between the start and the damage");
    drop(opened);
    for gone in [last, ends[9]] {
        let opened = open_from(dir.path(), Some(gone), AcceptLoss::No, &mut Vec::new());
        assert!(matches!(opened, Err(Error::NoBoundary(_))), "{opened:?}");
    }
    flip(damaged.at);
    let opened = open_from(dir.path(), Some(damaged), AcceptLoss::No, &mut Vec::new());
    assert!(matches!(opened, Err(Error::NoBoundary(_))), "a marker that does not check proves nothing");
}

#[test]
fn the_progress_ends_with_the_log() {
    use std::sync::Mutex;
    static TOLD: Mutex<Vec<Progress>> = Mutex::new(Vec::new());
    let dir = TempDir::new().unwrap();
    let ends = log_of_many(dir.path());
    let progress: fn(Progress) = |progress| TOLD.lock().unwrap().push(progress);
    let options = Options { progress: Some(progress), ..Options::new(LOG_ID) };
    Journal::open(dir.path(), options, Arc::new(RealDisk), |_| Ok(())).unwrap();
    let told = TOLD.lock().unwrap();
    assert_eq!(told.len(), names(dir.path(), ".seg").len());
    assert!(told.is_sorted_by_key(|progress| progress.done_bytes));
    let last = told.last().unwrap();
    assert!(last.done_bytes == ends.last().unwrap().at.get() && last.done_bytes <= last.total_bytes);
}
