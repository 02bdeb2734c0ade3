//! The format, byte by byte. A change of the golden file is a change of the format: it needs a new version.

use std::{fmt::Write, fs, ops::ControlFlow, path::Path, sync::Arc};

use sillage_journal::{Address, Compaction, Fate, Opened, Options, RealDisk, RecordRef, Sieve};
use tempfile::TempDir;

use crate::{LOG_ID, open, open_with, texts};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment-v1.hex");
const COMPACTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment-v2.hex");

/// A log of two groups, the first with two batches.
fn write(dir: &Path) {
    let (Opened { mut writer, .. }, _) = open(dir);
    writer.push(1, 0, 0, b"one").unwrap();
    writer.push(255, 0x0102, 0xa0b0_c0d0, b"").unwrap();
    writer.end_batch().unwrap();
    writer.push(2, 0, 0, "deux, \u{e9}".as_bytes()).unwrap();
    writer.end_batch().unwrap();
    writer.commit().unwrap();
    writer.push(3, 0, 0, &[0; 5]).unwrap();
    writer.end_batch().unwrap();
    writer.commit().unwrap();
}

#[test]
fn the_bytes_of_a_segment() {
    let dir = TempDir::new().unwrap();
    write(dir.path());
    let bytes = fs::read(dir.path().join("0000000000000000.seg")).unwrap();
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    // What was written ahead is not part of the log.
    let (bytes, ahead) = bytes.split_at(golden.bytes().filter(u8::is_ascii_hexdigit).count() / 2);
    assert!(ahead.iter().all(|byte| *byte == 0));
    check(bytes, &golden);
}

#[track_caller]
fn check(bytes: &[u8], golden: &str) {
    let mut hex = String::new();
    for line in bytes.chunks(16) {
        line.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
        hex.push('\n');
    }
    assert!(hex == golden, "{hex}");
}

/// The bytes that a golden file spells.
fn bytes_of(golden: &str) -> Vec<u8> {
    let hex: Vec<u8> = fs::read_to_string(golden).unwrap().bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.chunks(2).map(byte).collect()
}

/// What an earlier build wrote is read, whatever this one would write.
#[test]
fn the_golden_segment_is_read() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("0000000000000000.seg"), bytes_of(GOLDEN)).unwrap();
    let (Opened { reader, .. }, replayed) = open(dir.path());
    assert_eq!(reader.log_id(), LOG_ID);
    assert_eq!(texts(&replayed), [vec!["one", ""], vec!["deux, é"], vec!["\0\0\0\0\0"]]);
    let record = &replayed[0].1[1].1;
    assert_eq!((record.kind, record.flags, record.key_id), (255, 0x0102, 0xa0b0_c0d0));
}

/// Leaves out what is of kind 1, and puts two bytes in the place of what is of kind 2.
struct Golden;

impl Sieve for Golden {
    fn look(&mut self, _: &RecordRef<'_>) {}
    fn judge(&mut self, record: &RecordRef<'_>) -> Fate {
        match record.kind {
            1 => Fate::Leave,
            2 => Fate::Replace { kind: 6, payload: b"no".to_vec() },
            _ => Fate::Keep,
        }
    }
    fn pause(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Batches of which all, a part and nothing is left.
#[test]
fn the_bytes_of_a_compacted_segment() {
    let dir = TempDir::new().unwrap();
    let options = Options { segment_bytes: 200, ..Options::new(LOG_ID) };
    let Opened { mut writer, mut keeper, .. } = open_with(dir.path(), options, Arc::new(RealDisk)).unwrap().0;
    for (kind, text) in
        [(3, "three"), (1, &"one".repeat(99)), (2, &"two".repeat(99)), (4, "in the next segment")]
    {
        writer.push(kind, 0x0102, 7, text.as_bytes()).unwrap();
        if kind == 2 {
            writer.push(255, 0, 0, b"last").unwrap();
            writer.push(1, 0, 0, b"and this").unwrap();
        }
        writer.end_batch().unwrap();
        if kind != 1 && kind != 3 {
            writer.commit().unwrap();
        }
    }
    assert!(matches!(keeper.compact(Address::new(0), &mut Golden).unwrap(), Compaction::Done { .. }));
    let bytes = fs::read(dir.path().join("0000000000000000.seg")).unwrap();
    check(&bytes, &fs::read_to_string(COMPACTED).unwrap_or_default());
}

#[test]
fn the_golden_compacted_segment_is_read() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("0000000000000000.seg"), bytes_of(COMPACTED)).unwrap();
    let (Opened { reader, .. }, replayed) = open(dir.path());
    assert_eq!(reader.log_id(), LOG_ID);
    assert_eq!(texts(&replayed), [vec!["three"], vec![], vec!["no", "last"]]);
    for (address, record) in replayed.iter().flat_map(|(_, records)| records) {
        assert_eq!(&reader.read(*address).unwrap(), record);
    }
    let kinds: Vec<_> =
        replayed[2].1.iter().map(|(at, record)| (at.get(), record.kind, record.flags)).collect();
    assert_eq!(kinds, [(454, 6, 0x0102), (767, 255, 0)]);
}
