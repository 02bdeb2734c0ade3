//! The loss of power: what a disk may leave of a group that it has not confirmed, sector by sector.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use sillage_journal::{
    Address, Disk, Opened, Options,
    recovery::{Tail, scan},
    testing::{Crash, Dice, Fault, Lie, SECTOR_BYTES, SimulatedDisk},
};

use crate::{LOG_ID, open_with, stage, texts};

const DIR: &str = "/log";
const FILE: &str = "/log/file";

fn read(disk: &SimulatedDisk) -> Vec<u8> {
    let file = disk.open(Path::new(FILE)).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// A file of four sectors of ones, synced with its name.
fn four_sectors(disk: &SimulatedDisk) -> Arc<dyn sillage_journal::DiskFile> {
    disk.create_dir(Path::new(DIR)).unwrap();
    let file = disk.create(Path::new(FILE)).unwrap();
    file.write_all_at(&[1; 4 * SECTOR_BYTES], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    file
}

/// What is left of a change after the loss of power, over many seeds, in words.
fn outcomes(change: impl Fn(&SimulatedDisk), look: impl Fn(&SimulatedDisk) -> String) -> BTreeSet<String> {
    let after = |seed| {
        let disk = SimulatedDisk::new(Dice::new(seed));
        change(&disk);
        disk.restart(Crash::PowerLoss(&mut Dice::new(seed)));
        look(&disk)
    };
    for seed in 0..5 {
        assert_eq!(after(seed), after(seed), "a seed gives the same again");
    }
    (0..200).map(after).collect()
}

/// The first byte of each sector.
fn sectors(disk: &SimulatedDisk) -> String {
    let digit = |sector: &[u8]| char::from(b'0' + sector[0]);
    read(disk).chunks(SECTOR_BYTES).map(digit).collect()
}

fn words(from: &[&str]) -> BTreeSet<String> {
    from.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn what_is_synced_survives_and_of_the_rest_any_part() {
    let synced = outcomes(|disk| drop(four_sectors(disk)), sectors);
    assert_eq!(synced, words(&["1111"]));

    let two = |disk: &SimulatedDisk| {
        let file = four_sectors(disk);
        file.write_all_at(&[2; 2 * SECTOR_BYTES], SECTOR_BYTES as u64).unwrap();
    };
    assert_eq!(outcomes(two, sectors), words(&["1111", "1211", "1121", "1221"]));

    // The length may come without the bytes, and the bytes are not seen without the length.
    let longer = |disk: &SimulatedDisk| {
        let file = four_sectors(disk);
        file.write_all_at(&[2; SECTOR_BYTES], 4 * SECTOR_BYTES as u64).unwrap();
    };
    assert_eq!(outcomes(longer, sectors), words(&["1111", "11110", "11112"]));

    let shorter = |disk: &SimulatedDisk| four_sectors(disk).truncate(SECTOR_BYTES as u64).unwrap();
    assert_eq!(outcomes(shorter, sectors), words(&["1", "1111"]));
}

#[test]
fn names_survive_if_their_directory_was_synced() {
    let names = |disk: &SimulatedDisk| disk.list(Path::new(DIR)).unwrap().join(" ");
    let created = |disk: &SimulatedDisk| {
        let file = { four_sectors(disk) };
        disk.create(Path::new("/log/new")).unwrap().sync_data().unwrap();
        file.sync_data().unwrap();
    };
    assert_eq!(outcomes(created, names), words(&["file", "file new"]));
    let renamed = |disk: &SimulatedDisk| {
        four_sectors(disk);
        disk.rename(Path::new(FILE), Path::new("/log/other")).unwrap();
    };
    assert_eq!(outcomes(renamed, names), words(&["file", "other"]));
    let synced = |disk: &SimulatedDisk| {
        created(disk);
        disk.sync_dir(Path::new(DIR)).unwrap();
    };
    assert_eq!(outcomes(synced, names), words(&["file new"]));
}

#[test]
fn a_killed_process_leaves_all_that_it_wrote() {
    let disk = SimulatedDisk::new(Dice::new(1));
    let file = four_sectors(&disk);
    let lock = disk.lock(Path::new("/log/lock")).unwrap();
    assert!(lock.is_some() && disk.lock(Path::new("/log/lock")).unwrap().is_none());
    file.write_all_at(&[2; SECTOR_BYTES], 0).unwrap();
    disk.restart(Crash::Kill);
    assert_eq!(sectors(&disk), "2111");
    assert!(file.write_all_at(&[3], 0).is_err(), "whoever is dead writes no more");
    assert!(disk.lock(Path::new("/log/lock")).unwrap().is_some(), "the dead hold no lock");
}

/// What a failed flush has given up is seen until the power goes, and no later flush brings it back.
#[test]
fn a_failed_flush_is_not_made_good_by_the_next() {
    let write = |disk: &SimulatedDisk| {
        let file = four_sectors(disk);
        file.write_all_at(&[2; SECTOR_BYTES], 0).unwrap();
        disk.fail(Fault::Sync);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(sectors(disk), "2111");
    };
    assert_eq!(outcomes(write, sectors), words(&["1111", "2111"]));
}

#[test]
fn a_stopped_machine_does_nothing_more() {
    for operations in 0..4 {
        let disk = SimulatedDisk::new(Dice::new(1));
        let file = four_sectors(&disk);
        disk.stop_after(operations);
        let done = (0..5).take_while(|_| file.write_all_at(&[2], 0).is_ok()).count();
        assert_eq!((done, disk.has_stopped()), (operations, true));
        assert!(file.sync_data().is_err());
        disk.restart(Crash::Kill);
        assert_eq!(read(&disk)[0], 2, "the last write was under way");
    }
}

#[test]
fn each_lie_loses_what_was_confirmed() {
    for lie in [Lie::SyncsLate, Lie::SyncsLastSectorFirst, Lie::SyncsNoDirectory, Lie::HidesFailedSyncs] {
        let lost = |seed: &u64| {
            let disk = SimulatedDisk::lying(Dice::new(*seed), lie);
            disk.create_dir(Path::new(DIR)).unwrap();
            let file = disk.create(Path::new(FILE)).unwrap();
            disk.sync_dir(Path::new(DIR)).unwrap();
            file.write_all_at(&[1; 4 * SECTOR_BYTES], 0).unwrap();
            if lie == Lie::HidesFailedSyncs {
                disk.fail(Fault::Sync);
            }
            file.sync_data().unwrap();
            disk.restart(Crash::PowerLoss(&mut Dice::new(*seed)));
            disk.open(Path::new(FILE)).is_err() || sectors(&disk) != "1111"
        };
        let often = (0..100).filter(lost).count();
        assert!(often > 20, "{lie:?} has lost something {often} times");
    }
}

/// Payloads of more than a sector each, so that every marker has sectors of its own.
fn long(text: &str) -> String {
    text.repeat(700)
}

/// Whatever subset of the sectors of a group has reached the plates, a batch counts only if all of it is there,
/// whether its marker is or not; and nothing of it is taken for damage, since nobody was told of the group.
#[test]
fn a_marker_whose_records_are_missing_is_refused() {
    let disk = SimulatedDisk::new(Dice::new(1));
    let (Opened { mut writer, .. }, _) =
        open_with(Path::new(DIR), Options::new(LOG_ID), Arc::new(disk.clone())).unwrap();
    stage(&mut writer, &["acknowledged"]);
    writer.commit().unwrap();
    let name = format!("{}.seg", Address::new(0));
    let segment = || {
        let file = disk.open(&Path::new(DIR).join(&name)).unwrap();
        let mut bytes = vec![0; 10 * SECTOR_BYTES];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let before = segment();
    for text in ["a", "b", "c", "d"] {
        stage(&mut writer, &[&long(text)]);
    }
    writer.commit().unwrap();
    let after = segment();
    let Tail::Clean = scan(&after, Address::new(0), 1).tail else { panic!("the group is not whole") };
    let ends: Vec<usize> = {
        let whole = scan(&after, Address::new(0), 1);
        let starts =
            whole.batches.iter().skip(1).map(|batch| usize::try_from(batch.address().get()).unwrap());
        starts.chain([whole.end]).collect()
    };
    assert_eq!(ends.len(), 5);
    assert!(*ends.last().unwrap() > 5 * SECTOR_BYTES);

    let mut bare_markers = 0;
    for reached in 0..1_u32 << (after.len() / SECTOR_BYTES) {
        let mut bytes = before.clone();
        for (index, sector) in after.chunks(SECTOR_BYTES).enumerate() {
            if reached & (1 << index) != 0 {
                bytes[index * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(sector);
            }
        }
        let found = scan(&bytes, Address::new(0), 1);
        let whole = ends.iter().take_while(|end| bytes[..**end] == after[..**end]).count();
        assert_eq!(found.batches.len(), whole, "{reached:b}");
        assert!(matches!(found.tail, Tail::Clean | Tail::Torn { .. }), "{reached:b}: {:?}", found.tail);
        let marker = ends[whole.min(4)] - 40..ends[whole.min(4)];
        bare_markers += u32::from(whole < 5 && bytes[marker.clone()] == after[marker]);
    }
    assert!(bare_markers > 0, "no marker was there without its records");
}

/// The same through the front door: the log is cut before the group, or has whole batches of it.
#[test]
fn a_group_that_the_power_cut_short_is_there_in_whole_batches() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let disk = SimulatedDisk::new(Dice::new(seed));
        let open = || open_with(Path::new(DIR), Options::new(LOG_ID), Arc::new(disk.clone())).unwrap();
        let (Opened { mut writer, .. }, _) = open();
        stage(&mut writer, &["acknowledged"]);
        writer.commit().unwrap();
        for text in ["a", "b", "c"] {
            stage(&mut writer, &[&long(text)]);
        }
        disk.stop_after(dice.below(2));
        writer.commit().unwrap_err();
        drop(writer);
        disk.restart(Crash::PowerLoss(&mut dice));
        let (_, replayed) = open();
        let found: Vec<String> = texts(&replayed).into_iter().map(|batch| batch.concat()).collect();
        let all = ["acknowledged".to_owned(), long("a"), long("b"), long("c")];
        assert!(!found.is_empty() && all.starts_with(&found), "{seed}");
        seen.insert(found.len());
    }
    assert_eq!(seen, BTreeSet::from([1, 2, 3, 4]), "not every outcome was tried");
}

/// A process is killed before its flush, and the flush that finds this out fails as well. The next opening must not
/// show what only the kernel's cache has, however clean it says that is.
#[test]
fn what_a_failed_opening_has_seen_is_made_durable_before_it_is_shown() {
    for seed in 0..50 {
        let disk = SimulatedDisk::new(Dice::new(seed));
        let open = || open_with(Path::new(DIR), Options::new(LOG_ID), Arc::new(disk.clone()));
        let (Opened { mut writer, .. }, _) = open().unwrap();
        let texts_then = |groups: &[&str]| groups.iter().map(|text| vec![long(text)]).collect::<Vec<_>>();
        stage(&mut writer, &[&long("a")]);
        writer.commit().unwrap();
        stage(&mut writer, &[&long("b")]);
        disk.stop_after(1);
        writer.commit().unwrap_err();
        drop(writer);
        disk.restart(Crash::Kill);
        disk.fail(Fault::Sync);
        open().unwrap_err();
        disk.restart(Crash::Kill);
        let (opened, replayed) = open().unwrap();
        assert_eq!(texts(&replayed), texts_then(&["a", "b"]));
        drop(opened);
        disk.restart(Crash::PowerLoss(&mut Dice::new(seed)));
        assert_eq!(texts(&open().unwrap().1), texts_then(&["a", "b"]), "{seed}");
    }
}

/// A segment that has no group yet is as good as its header.
#[test]
fn the_header_of_a_new_segment_is_made_durable_by_the_next_opening() {
    for seed in 0..50 {
        let disk = SimulatedDisk::new(Dice::new(seed));
        let open = || open_with(Path::new(DIR), Options::new(LOG_ID), Arc::new(disk.clone()));
        disk.fail(Fault::Sync);
        open().unwrap_err();
        disk.restart(Crash::Kill);
        let (Opened { mut writer, .. }, _) = open().unwrap();
        stage(&mut writer, &[&long("a")]);
        disk.stop_after(1);
        writer.commit().unwrap_err();
        drop(writer);
        disk.restart(Crash::PowerLoss(&mut Dice::new(seed)));
        assert!(open().is_ok(), "{seed}");
    }
}
