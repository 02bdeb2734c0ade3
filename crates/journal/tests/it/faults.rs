//! A failing disk: nothing acknowledged is lost, nothing half-written is seen, and nobody builds on a guess.

use std::{fs, io::ErrorKind, sync::Arc};

use sillage_journal::{Error, Opened, Options, Writer};
use tempfile::TempDir;

use crate::{
    LOG_ID,
    faulty_disk::{
        EIO, ENOSPC, FaultyDisk,
        Op::{self, Create, Sync, SyncDir, Truncate, Write},
    },
    open, open_small, open_with, stage, texts,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// Nothing kept, the writer goes on.
    Kept,
    /// Nothing kept, the writer is poisoned.
    Poisoned,
    /// Nobody knows, the writer is poisoned.
    Unknown,
}

/// A group is acknowledged; the faults strike the next one, in the same segment or in a new one.
#[track_caller]
fn check(faults: &[(Op, i32)], first_payload: &str, answer: Answer, log: &[Op]) {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::default();
    let (Opened { mut writer, reader, .. }, _) = open_small(dir.path(), Arc::new(disk.clone()));
    let first = stage(&mut writer, &[first_payload]);
    writer.commit().unwrap();
    let durable = reader.durable_end();
    disk.take_log();

    for (op, error) in faults {
        disk.fail(*op, *error);
    }
    let second = stage(&mut writer, &["b", "c"]);
    stage(&mut writer, &["d"]);
    let error = writer.commit().unwrap_err();
    match answer {
        Answer::Unknown => assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}"),
        _ => assert!(matches!(error, Error::Io { .. }), "{error:?}"),
    }
    assert_eq!(disk.take_log(), log);
    assert_eq!(reader.durable_end(), durable);
    assert!(matches!(reader.read(second), Err(Error::BeyondEnd { .. })));
    assert_eq!(reader.read(first).unwrap().payload, first_payload.as_bytes());
    assert_eq!(writer.staged_bytes(), 0);

    let mut expected = vec![vec![first_payload.to_owned()]];
    if answer == Answer::Kept {
        assert_eq!(stage(&mut writer, &["e"]), second, "the address is given out again");
        writer.commit().unwrap();
        assert_eq!(reader.read(second).unwrap().payload, b"e");
        expected.push(vec!["e".to_owned()]);
    } else {
        check_poisoned(&mut writer);
    }
    drop(writer);
    let (Opened { mut writer, reader, recovered, .. }, replayed) = open(dir.path());
    if answer == Answer::Unknown {
        // Either way of an unknown outcome is right, as long as batches are whole.
        let replayed = texts(&replayed);
        let all = [expected[0].clone(), vec!["b".into(), "c".into()], vec!["d".into()]];
        assert!((1..=3).contains(&replayed.len()) && all.starts_with(&replayed), "{replayed:?}");
    } else {
        assert_eq!((texts(&replayed), recovered.lost), (expected, None));
    }
    let next = stage(&mut writer, &["f"]);
    writer.commit().unwrap();
    assert_eq!(reader.read(next).unwrap().payload, b"f");
}

#[track_caller]
fn check_poisoned(writer: &mut Writer) {
    assert!(matches!(writer.push(1, 0, 0, b"x"), Err(Error::Poisoned)));
    assert!(matches!(writer.end_batch(), Err(Error::Poisoned)));
    assert!(matches!(writer.commit(), Err(Error::Poisoned)));
}

#[test]
fn a_failing_disk_while_a_group_is_written() {
    let rewound = &[Write, Truncate, Sync];
    check(&[(Write, ENOSPC)], "a", Answer::Kept, rewound);
    check(&[(Write, EIO)], "a", Answer::Kept, rewound);
    check(&[(Write, EIO), (Truncate, EIO)], "a", Answer::Unknown, &[Write, Truncate]);
    check(&[(Write, EIO), (Sync, EIO)], "a", Answer::Unknown, rewound);
    check(&[(Sync, EIO)], "a", Answer::Unknown, &[Write, Sync, Truncate]);
    check(&[(Sync, ENOSPC), (Truncate, EIO)], "a", Answer::Unknown, &[Write, Sync, Truncate]);
}

#[test]
fn a_failing_disk_while_a_segment_is_begun() {
    let full = &"a".repeat(200);
    check(&[(Create, ENOSPC)], full, Answer::Kept, &[Create]);
    check(&[(Write, ENOSPC)], full, Answer::Kept, &[Create, Write, Truncate, Sync]);
    check(&[(Write, EIO), (Truncate, EIO)], full, Answer::Poisoned, &[Create, Write, Truncate]);
    check(&[(Sync, EIO)], full, Answer::Poisoned, &[Create, Write, Sync]);
    check(&[(SyncDir, EIO)], full, Answer::Poisoned, &[Create, Write, Sync, SyncDir]);
}

/// Nothing is acknowledged before the flush, and a group costs one write and one flush. Where there is room behind
/// it, zeros are written ahead, in the same flush.
#[test]
fn a_group_is_one_write_and_one_flush() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::default();
    let (Opened { mut writer, .. }, _) = open_small(dir.path(), Arc::new(disk.clone()));
    assert_eq!(disk.take_log(), [Create, Write, Sync, Write, Sync, SyncDir]);
    for _ in 0..3 {
        stage(&mut writer, &["a", "b"]);
    }
    writer.commit().unwrap();
    assert_eq!(disk.take_log(), [Write, Sync]);
    writer.commit().unwrap();
    assert_eq!(disk.take_log(), []);
    stage(&mut writer, &["c"]);
    writer.commit().unwrap();
    assert_eq!(disk.take_log(), [Create, Write, Sync, SyncDir, Write, Write, Sync]);
    stage(&mut writer, &["d"]);
    writer.commit().unwrap();
    assert_eq!(disk.take_log(), [Write, Sync], "the space is there");
}

/// A log on a disk where a file may have this many bytes.
fn on_a_disk_with_room_for(bytes: u64, dir: &TempDir) -> (FaultyDisk, Opened) {
    let disk = FaultyDisk::default();
    let (opened, _) = open_with(dir.path(), Options::new(LOG_ID), Arc::new(disk.clone())).unwrap();
    disk.limit(bytes);
    disk.take_log();
    (disk, opened)
}

/// Zeros ahead are only there to be quick: a group that has room itself is as durable without them.
#[test]
fn zeros_that_cannot_be_written_ahead_cost_no_group() {
    let dir = TempDir::new().unwrap();
    let (disk, Opened { mut writer, reader, .. }) = on_a_disk_with_room_for(1_000, &dir);
    for payload in ["a", "b", "c"] {
        let at = stage(&mut writer, &[payload]);
        writer.commit().unwrap();
        assert_eq!(disk.take_log(), [Write, Write, Sync], "{payload}: the group, then zeros, then one flush");
        assert!(reader.durable_end() > at);
        assert_eq!(reader.read(at).unwrap().payload, payload.as_bytes());
    }
    drop(writer);
    let (Opened { recovered, .. }, replayed) = open(dir.path());
    assert_eq!(
        (texts(&replayed), recovered.lost),
        (vec![vec!["a".into()], vec!["b".into()], vec!["c".into()]], None)
    );
}

/// What does not fit is refused and given back, so that what fits is still taken.
#[test]
fn a_full_disk_refuses_a_group_and_takes_the_next_that_has_room() {
    let dir = TempDir::new().unwrap();
    let (disk, Opened { mut writer, reader, .. }) = on_a_disk_with_room_for(1_000, &dir);
    stage(&mut writer, &["a"]);
    writer.commit().unwrap();
    let durable = reader.durable_end();
    let large = "b".repeat(1_000);
    disk.take_log();

    let refused = stage(&mut writer, &[&large]);
    assert!(
        matches!(writer.commit(), Err(Error::Io { source, .. }) if source.kind() == ErrorKind::StorageFull)
    );
    assert_eq!(disk.take_log(), [Write, Truncate, Sync]);
    assert_eq!(reader.durable_end(), durable);
    let path = dir.path().join("0000000000000000.seg");
    assert_eq!(fs::metadata(path).unwrap().len(), durable.get(), "its bytes are given back");

    assert_eq!(stage(&mut writer, &["c"]), refused, "the address is given out again");
    writer.commit().unwrap();
    assert_eq!(disk.take_log(), [Write, Write, Sync], "nothing is ahead any more");
    disk.limit(u64::MAX);
    let at = stage(&mut writer, &[&large]);
    writer.commit().unwrap();
    assert_eq!(reader.read(at).unwrap().payload, large.as_bytes());
    drop(writer);
    let (Opened { recovered, .. }, replayed) = open(dir.path());
    assert_eq!(
        (texts(&replayed), recovered.lost),
        (vec![vec!["a".into()], vec!["c".into()], vec![large]], None)
    );
}
