//! Opening: creation, the lock, crashes, damage, and what readers and the writer refuse.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    sync::Arc,
};

use sillage_journal::{
    AcceptLoss, Address, Error, Journal, Lost, MAX_GROUP_BYTES, MAX_PAYLOAD_BYTES, Opened, Options, RealDisk,
    Reason,
};
use tempfile::TempDir;

use crate::{
    LOG_ID,
    faulty_disk::{EIO, FaultyDisk, Op},
    flip, names, open, open_small, open_with, stage, texts,
};

/// Three groups in three segments, each with one batch of two records.
fn three_segments(dir: &Path) -> Vec<String> {
    let (Opened { mut writer, .. }, _) = open_small(dir, Arc::new(RealDisk));
    for text in ["a", "b", "c"] {
        stage(&mut writer, &[&text.repeat(200), text]);
        writer.commit().unwrap();
    }
    let segments = names(dir, ".seg");
    assert_eq!(segments.len(), 3);
    segments
}

fn cut_file(path: &Path, by: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

fn accepting() -> Options {
    Options { accept_loss: AcceptLoss::Yes, ..Options::new(LOG_ID) }
}

#[test]
fn a_log_keeps_its_id_and_its_batches() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deep/down");
    let (Opened { mut writer, reader, recovered, .. }, replayed) = open(&path);
    assert_eq!((recovered.batches, replayed.len(), reader.durable_end().get()), (0, 0, 40));
    let first = stage(&mut writer, &["a", "b"]);
    writer.commit().unwrap();
    writer.push(1, 0, 0, b"never ended").unwrap();
    drop(writer);

    let (Opened { reader, recovered, .. }, replayed) =
        open_with(&path, Options::new(99), Arc::new(RealDisk)).unwrap();
    assert_eq!((reader.log_id(), recovered.cut_bytes), (LOG_ID, 0));
    assert_eq!(texts(&replayed), [["a", "b"]]);
    assert_eq!(reader.read_batch(first).unwrap().len(), 2);
}

#[test]
fn one_writer_at_a_time() {
    let dir = TempDir::new().unwrap();
    let (first, _) = open(dir.path());
    let second = open_with(dir.path(), Options::new(LOG_ID), Arc::new(RealDisk));
    assert!(matches!(second, Err(Error::Locked)));
    drop(first.writer);
    open(dir.path());
}

#[test]
fn a_torn_tail_is_cut_for_good() {
    let dir = TempDir::new().unwrap();
    let (Opened { mut writer, reader, .. }, _) = open(dir.path());
    for text in ["a", "b"] {
        stage(&mut writer, &[text]);
        writer.commit().unwrap();
    }
    drop(writer);
    let segment = dir.path().join(&names(dir.path(), ".seg")[0]);
    let torn = OpenOptions::new().write(true).open(&segment).unwrap();
    torn.set_len(reader.durable_end().get() - 1).unwrap();
    let (Opened { mut writer, reader, recovered, .. }, replayed) = open(dir.path());
    assert_eq!((texts(&replayed), recovered.cut_bytes), (vec![vec!["a".to_owned()]], 56));
    assert_eq!(recovered.lost, None);
    assert_eq!(fs::metadata(&segment).unwrap().len(), reader.durable_end().get(), "no remains");
    stage(&mut writer, &["c"]);
    writer.commit().unwrap();
    drop(writer);
    let (opened, replayed) = open(dir.path());
    assert_eq!((texts(&replayed).concat(), opened.recovered.cut_bytes), (vec!["a".into(), "c".into()], 0));
}

/// A crash while a segment is begun leaves any part of its header.
#[test]
fn a_torn_segment_header_is_written_again() {
    for kept in [0, 1, 39, 40] {
        let dir = TempDir::new().unwrap();
        let segments = three_segments(dir.path());
        let last = dir.path().join(&segments[2]);
        let file = OpenOptions::new().write(true).open(&last).unwrap();
        file.set_len(kept).unwrap();
        let (Opened { mut writer, reader, .. }, replayed) = open(dir.path());
        assert_eq!(replayed.len(), 2, "{kept}");
        let next = stage(&mut writer, &["d"]);
        writer.commit().unwrap();
        assert_eq!(reader.read(next).unwrap().payload, b"d");
        drop(writer);
        assert_eq!(open(dir.path()).1.len(), 3);
    }
}

/// Spoils a log of three segments, expects the refusal, then accepts the loss and goes on.
#[track_caller]
fn check_damage(spoil: impl FnOnce(&Path, &[String]), segment: usize, reason: Reason, kept: usize) {
    let dir = TempDir::new().unwrap();
    let segments = three_segments(dir.path());
    spoil(dir.path(), &segments);
    let before: u64 = sizes(dir.path(), ".seg");

    let refused = open_with(dir.path(), Options::new(LOG_ID), Arc::new(RealDisk)).unwrap_err();
    let Error::Damaged { segment: found, at, reason: why } = refused else { panic!("{refused:?}") };
    assert_eq!((format!("{found}.seg"), why), (segments[segment].clone(), reason));
    assert_eq!(sizes(dir.path(), ".seg"), before, "a refusal changes nothing");

    let (Opened { mut writer, reader, recovered, .. }, replayed) =
        open_with(dir.path(), accepting(), Arc::new(RealDisk)).unwrap();
    assert_eq!(replayed.len(), kept);
    assert_eq!(recovered.lost, Some(Lost { at, reason }));
    assert_eq!(sizes(dir.path(), ".lost"), recovered.cut_bytes, "what was cut is kept");
    let next = stage(&mut writer, &["d"]);
    writer.commit().unwrap();
    assert_eq!(reader.read(next).unwrap().payload, b"d");
    drop(writer);
    let (opened, replayed) = open(dir.path());
    assert_eq!((replayed.len(), opened.recovered.cut_bytes), (kept + 1, 0));
}

fn sizes(dir: &Path, ending: &str) -> u64 {
    names(dir, ending).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum()
}

#[test]
fn damage_is_refused_or_cut_with_consent() {
    check_damage(|dir, names| flip(&dir.join(&names[1]), 60), 1, Reason::RecordChecksum, 1);
    check_damage(|dir, names| flip(&dir.join(&names[1]), 30), 1, Reason::SegmentHeader, 1);
    check_damage(|dir, names| flip(&dir.join(&names[2]), 30), 2, Reason::SegmentHeader, 2);
    check_damage(|dir, names| flip(&dir.join(&names[0]), 0), 0, Reason::SegmentHeader, 0);
    check_damage(|dir, names| cut_file(&dir.join(&names[1]), 1), 1, Reason::CutShort, 1);
    // A whole group missing at the end of a sealed segment, or a whole segment, shows only at the next one.
    check_damage(|dir, names| cut_file(&dir.join(&names[1]), 273), 2, Reason::Gap, 1);
    check_damage(|dir, names| fs::remove_file(dir.join(&names[1])).unwrap(), 2, Reason::Gap, 1);
    let exchange = |dir: &Path, names: &[String]| {
        fs::copy(dir.join(&names[0]), dir.join(&names[1])).unwrap();
    };
    check_damage(exchange, 1, Reason::ForeignSegment, 1);
}

/// What is lost is saved before it is cut.
#[test]
fn an_accepted_loss_survives_a_failing_disk() {
    let dir = TempDir::new().unwrap();
    let segments = three_segments(dir.path());
    flip(&dir.path().join(&segments[1]), 60);
    let disk = FaultyDisk::default();
    disk.fail(Op::Truncate, EIO);
    let failed = open_with(dir.path(), accepting(), Arc::new(disk)).unwrap_err();
    assert!(matches!(failed, Error::Io { .. }));
    let aside = names(dir.path(), ".lost");
    assert_eq!(aside.len(), 2, "the rest of the second segment, and the third");
    let lost = sizes(dir.path(), ".lost");

    let (opened, replayed) = open_with(dir.path(), accepting(), Arc::new(RealDisk)).unwrap();
    assert_eq!((replayed.len(), opened.recovered.batches), (1, 1));
    assert!(sizes(dir.path(), ".lost") >= lost);
    for name in aside {
        assert!(names(dir.path(), ".lost").contains(&name));
    }
}

#[test]
fn a_second_loss_at_the_same_place_does_not_replace_the_first() {
    let dir = TempDir::new().unwrap();
    for round in 1..4 {
        let (Opened { mut writer, .. }, _) = open(dir.path());
        for _ in 0..2 {
            stage(&mut writer, &["a"]);
            writer.commit().unwrap();
        }
        drop(writer);
        flip(&dir.path().join(&names(dir.path(), ".seg")[0]), 50);
        open_with(dir.path(), accepting(), Arc::new(RealDisk)).unwrap();
        assert_eq!(names(dir.path(), ".lost").len(), round);
    }
}

#[test]
fn the_callback_can_refuse() {
    let dir = TempDir::new().unwrap();
    let (Opened { mut writer, .. }, _) = open(dir.path());
    let at = stage(&mut writer, &["a"]);
    writer.commit().unwrap();
    drop(writer);
    let refused = Journal::open(dir.path(), Options::new(LOG_ID), Arc::new(RealDisk), |_| Err("no".into()));
    assert!(matches!(refused, Err(Error::Replay { at: found, .. }) if found == at));
    assert_eq!(open(dir.path()).1.len(), 1);
}

#[test]
fn readers_stay_within_what_is_durable() {
    let dir = TempDir::new().unwrap();
    let (Opened { mut writer, reader, .. }, _) = open(dir.path());
    let first = stage(&mut writer, &["a", "b"]);
    assert!(matches!(reader.read(first), Err(Error::BeyondEnd { .. })));
    writer.commit().unwrap();
    let end = reader.durable_end();
    assert!(matches!(reader.read(end), Err(Error::BeyondEnd { at, .. }) if at == end));
    let no_record = |at| matches!(reader.read(at), Err(Error::Damaged { .. }));
    assert!(no_record(Address::new(0)), "a segment header");
    assert!(no_record(Address::new(first.get() + 3)), "inside a record");
    assert!(no_record(Address::new(end.get() - 40)), "a marker");
    let second = Address::new(first.get() + 17);
    assert_eq!(reader.read(second).unwrap().payload, b"b");
    assert!(reader.read_batch(second).is_err(), "not the first of its batch");

    flip(&dir.path().join(&names(dir.path(), ".seg")[0]), usize::try_from(first.get()).unwrap() + 16);
    let reason = match reader.read(first).unwrap_err() {
        Error::Damaged { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason, Reason::RecordChecksum);
}

#[test]
fn the_writer_refuses_what_cannot_be_written() {
    let dir = TempDir::new().unwrap();
    let (Opened { mut writer, reader, .. }, _) = open(dir.path());
    assert!(matches!(writer.push(0, 0, 0, b""), Err(Error::ReservedKind)));
    let large = vec![7; MAX_PAYLOAD_BYTES + 1];
    assert!(matches!(writer.push(1, 0, 0, &large), Err(Error::PayloadTooLarge { .. })));
    let at = writer.push(1, 0, 0, &large[1..]).unwrap();
    assert!(matches!(writer.commit(), Err(Error::BatchOpen)));
    writer.end_batch().unwrap();
    for _ in 0..2 {
        writer.push(1, 0, 0, &large[1..]).unwrap();
    }
    assert!(matches!(writer.push(1, 0, 0, &large[1..]), Err(Error::GroupFull)));
    assert!(writer.staged_bytes() < MAX_GROUP_BYTES);
    writer.discard_batch();
    writer.commit().unwrap();
    assert_eq!(reader.read(at).unwrap().payload.len(), MAX_PAYLOAD_BYTES);
    drop(writer);
    assert_eq!(open(dir.path()).1.len(), 1);
}
