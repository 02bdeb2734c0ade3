//! Segments that are moved to another folder: they are read from wherever they are.

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use sillage_journal::{
    AcceptLoss, Boundary, Compaction, Disk, End, Error, Folders, Journal, Opened, Options, RealDisk, Walk,
    testing::{Crash, Dice, SimulatedDisk},
};
use tempfile::TempDir;

use crate::compaction::{Letters, check_reader, check_replay, compact, log, open, options, real, seen, walk};
use crate::names;

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Archive { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn with_archive(dir: &Path) -> Folders {
    Folders::from(dir.join("log").as_path()).with_archive(Some(dir.join("archive")))
}

#[test]
fn archived_segments_are_read_from_where_they_are() {
    let dir = TempDir::new().unwrap();
    let folders = with_archive(dir.path());
    let (Opened { writer, reader, mut keeper, .. }, before) = log(folders.clone(), &real());
    let after = before.sifted(&compact(&mut keeper, 2));
    let sealed = keeper.sealed();
    // One that was compacted, and one that was not.
    for (base, _) in &sealed[1..3] {
        assert!(keeper.archive(*base).unwrap());
        assert!(!keeper.archive(*base).unwrap(), "it is there already");
        assert_eq!(keeper.compact(*base, &mut Letters::default()).unwrap(), Compaction::NotHere);
    }
    assert!(!keeper.archive(sealed.last().unwrap().1).unwrap(), "it is written on");
    let (own, archive) = (dir.path().join("log"), dir.path().join("archive"));
    assert_eq!((names(&archive, ".seg").len(), names(&archive, ".new").len()), (2, 0));
    assert_eq!(names(&own, ".seg").len(), sealed.len() + 1 - 2);
    check_reader(&reader, &after);
    check_replay(&reader, &after);
    drop((writer, keeper, reader));
    let (opened, found) = open(folders.clone(), real()).unwrap();
    assert_eq!(found, seen(&after));
    check_reader(&opened.reader, &after);
    let (end, walked) = walk(&mut Walk::new(folders.clone(), real(), Boundary::default()));
    assert_eq!((end, walked), (End::Whole, seen(&after)));
    drop(opened);

    // In both is as good.
    let name = format!("{}.seg", sealed[1].0);
    fs::copy(archive.join(&name), own.join(&name)).unwrap();
    assert_eq!(open(folders, real()).unwrap().1, seen(&after));
}

#[test]
fn an_archive_that_is_not_there_is_told_by_its_name_and_nothing_is_changed() {
    let dir = TempDir::new().unwrap();
    let folders = with_archive(dir.path());
    let (own, archive, away) = (dir.path().join("log"), dir.path().join("archive"), dir.path().join("away"));
    let (Opened { writer, mut keeper, .. }, before) = log(folders.clone(), &real());
    assert!(!archive.exists(), "as long as nothing is archived it need not be there");
    let first = keeper.sealed()[0].0;
    keeper.archive(first).unwrap();
    drop((writer, keeper));
    fs::rename(&archive, &away).unwrap();
    let files = names(&own, "");
    for there in [false, true] {
        if there {
            // A mount point without the mount.
            fs::create_dir(&archive).unwrap();
        }
        let accept = Options { accept_loss: AcceptLoss::Yes, ..options() };
        let error = Journal::open(folders.clone(), accept, real(), |_| Ok(())).unwrap_err();
        assert!(is_not_found(&error) && error.to_string().contains(archive.to_str().unwrap()), "{error}");
        let walked =
            Walk::new(folders.clone(), real(), Boundary::default()).run(|_| ControlFlow::<()>::Continue(()));
        assert!(is_not_found(&walked.unwrap_err()));
        assert_eq!(names(&own, ""), files);
    }
    fs::remove_dir(&archive).unwrap();
    fs::rename(&away, &archive).unwrap();
    let (opened, found) = open(folders.clone(), real()).unwrap();
    assert_eq!(found, before);
    drop(opened);
    // One that has not read there yet finds out when it does.
    let start = Some(*before.ends.last().unwrap());
    let opened = Journal::open(folders, Options { start, ..options() }, real(), |_| Ok(())).unwrap();
    fs::rename(&archive, &away).unwrap();
    let error = opened.reader.read(*before.records.keys().next().unwrap()).unwrap_err();
    assert!(is_not_found(&error) && error.to_string().contains(archive.to_str().unwrap()), "{error}");
}

/// Without the name of its archive a log is not opened, whatever loss is accepted: all that is here would be taken for
/// lost.
#[test]
fn a_log_whose_archive_is_not_named_is_not_opened_and_nothing_is_changed() {
    let dir = TempDir::new().unwrap();
    let folders = with_archive(dir.path());
    let (Opened { writer, mut keeper, .. }, before) = log(folders.clone(), &real());
    let sealed = keeper.sealed();
    keeper.archive(sealed[0].0).unwrap();
    drop((writer, keeper));
    let own = Folders::from(dir.path().join("log").as_path());
    let files = names(own.own(), "");
    let start = Some(*before.ends.last().unwrap());
    for (accept_loss, start) in
        [(AcceptLoss::No, None), (AcceptLoss::Yes, None), (AcceptLoss::No, start), (AcceptLoss::Yes, start)]
    {
        let options = Options { accept_loss, start, ..options() };
        let error = Journal::open(own.clone(), options, real(), |_| Ok(())).unwrap_err();
        let Error::NoBeginning { folder, first } = &error else { panic!("{error}") };
        assert_eq!((folder.as_path(), *first), (own.own(), sealed[0].1));
        assert_eq!(names(own.own(), ""), files);
    }
    assert!(matches!(own.check(&RealDisk), Err(Error::NoBeginning { .. })));
    folders.check(&RealDisk).unwrap();
    assert_eq!(open(folders, real()).unwrap().1, before);
}

/// The folder of the log under any name is no archive: a copy there would be removed with the file itself.
#[test]
fn the_folder_of_the_log_is_no_archive_of_it() {
    let dir = TempDir::new().unwrap();
    let (own, link) = (dir.path().join("log"), dir.path().join("link"));
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::symlink(&own, &link).unwrap();
    for archive in [own.clone(), link, own.join(".")] {
        let folders = Folders::from(&own).with_archive(Some(archive));
        let (Opened { mut keeper, writer, reader, .. }, before) = log(folders.clone(), &real());
        let first = keeper.sealed()[0].0;
        // What is left of an attempt to write it anew does not hide that.
        fs::write(own.join(format!("{first}.seg.new")), "left").unwrap();
        let files = names(&own, ".seg");
        let error = keeper.archive(first).unwrap_err();
        assert!(error.to_string().contains("the folder of the log itself"), "{error}");
        assert_eq!((names(&own, ".seg"), names(&own, ".new").len()), (files, 0));
        check_reader(&reader, &before);
        drop((keeper, writer));
    }
}

/// Two logs, the second of which has another id, with the same archive; the first has put its first segment there.
fn two_logs_with_one_archive() -> (TempDir, [Folders; 2]) {
    let dir = TempDir::new().unwrap();
    let folders = ["one", "other"]
        .map(|name| Folders::from(&dir.path().join(name)).with_archive(Some(dir.path().join("archive"))));
    for (log_id, folders) in [(1, &folders[0]), (2, &folders[1])] {
        let options = Options { log_id, ..options() };
        drop(Journal::open(folders.clone(), options, real(), |_| Ok(())).unwrap());
        log(folders.clone(), &real());
    }
    let mut keeper = open(folders[0].clone(), real()).unwrap().0.keeper;
    let first = keeper.sealed()[0].0;
    assert!(keeper.archive(first).unwrap());
    (dir, folders)
}

#[test]
fn what_another_log_has_archived_is_not_overwritten() {
    let (_dir, [one, other]) = two_logs_with_one_archive();
    let before = open(one.clone(), real()).unwrap().1;
    let mut keeper = open(other, real()).unwrap().0.keeper;
    let first = keeper.sealed()[0].0;
    let error = keeper.archive(first).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }) && error.to_string().contains("another log"), "{error}");
    assert!(keeper.file_bytes(first).unwrap().is_some(), "it was removed");
    assert_eq!(open(one, real()).unwrap().1, before);
}

/// Beside the archive of another log a sound one looks damaged. That is no reason to cut it, nor to touch the other.
#[test]
fn with_the_archive_of_another_log_nothing_is_cut() {
    let (dir, [one, other]) = two_logs_with_one_archive();
    // The second log lacks its own first segment, as if that were in its own archive.
    let mut files = names(other.own(), ".seg");
    files.sort();
    fs::rename(other.own().join(&files[0]), dir.path().join("aside")).unwrap();
    let all = || [other.own(), other.archive().unwrap()].map(|folder| names(folder, ""));
    let before = all();
    for accept_loss in [AcceptLoss::No, AcceptLoss::Yes] {
        let options = Options { accept_loss, ..options() };
        let error = Journal::open(other.clone(), options, real(), |_| Ok(())).unwrap_err();
        assert!(
            matches!(error, Error::Archive { .. }) && error.to_string().contains("another log"),
            "{error}"
        );
        assert_eq!(all(), before);
    }
    open(one, real()).unwrap();
}

/// The power goes, or the process dies, at each operation of moving a segment: it can be read from the one folder or
/// the other.
#[test]
fn a_crash_anywhere_leaves_an_archived_segment_readable() {
    let folders = Folders::from(Path::new("/log")).with_archive(Some(PathBuf::from("/archive")));
    let (mut here, mut moved, mut operations) = (0, 0, 0);
    loop {
        let mut struck = false;
        for seed in 0..12 {
            let simulated = SimulatedDisk::new(Dice::new(seed));
            let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
            let (Opened { writer, mut keeper, .. }, before) = log(folders.clone(), &disk);
            let after = seen(&before.sifted(&compact(&mut keeper, 1)));
            let sealed = keeper.sealed();
            simulated.stop_after(operations);
            let done = sealed[..2].iter().try_for_each(|(base, _)| keeper.archive(*base).map(drop));
            struck |= done.is_err();
            drop((writer, keeper));
            let crash = &mut Dice::new(seed);
            simulated.restart(if seed % 3 == 0 { Crash::Kill } else { Crash::PowerLoss(crash) });
            let (Opened { mut keeper, reader, writer, .. }, found) = open(folders.clone(), Arc::clone(&disk))
                .unwrap_or_else(|error| panic!("operation {operations}, seed {seed}: {error}"));
            assert_eq!(found, after, "operation {operations}, seed {seed}");
            let left = keeper.file_bytes(sealed[0].0).unwrap();
            if left.is_some() {
                here += 1
            } else {
                moved += 1
            }
            assert!(done.is_err() || left.is_none(), "what was moved is back");
            // And it can be moved then.
            for (base, _) in &sealed[..2] {
                keeper.archive(*base).unwrap();
                assert_eq!(keeper.file_bytes(*base).unwrap(), None);
            }
            check_replay(&reader, &found);
            drop(writer);
        }
        if !struck {
            break;
        }
        operations += 1;
    }
    assert!(operations > 8 && here > 0 && moved > 0, "{operations} operations, {here} here, {moved} moved");
}
