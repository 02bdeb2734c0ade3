//! The format, byte by byte. A change of the golden file is a change of the format: it needs a new version.

use std::{fmt::Write, fs, path::Path};

use sillage_journal::Opened;
use tempfile::TempDir;

use crate::{open, texts};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/segment-v1.hex");

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
    let mut hex = String::new();
    for line in bytes.chunks(16) {
        line.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
        hex.push('\n');
    }
    assert!(hex == golden, "{hex}");
}

/// What an earlier build wrote is read, whatever this one would write.
#[test]
fn the_golden_segment_is_read() {
    let hex: Vec<u8> = fs::read_to_string(GOLDEN).unwrap().bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = hex.chunks(2).map(byte).collect();
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("0000000000000000.seg"), bytes).unwrap();
    let (Opened { reader, .. }, replayed) = open(dir.path());
    assert_eq!(reader.log_id(), crate::LOG_ID);
    assert_eq!(texts(&replayed), [vec!["one", ""], vec!["deux, é"], vec!["\0\0\0\0\0"]]);
    let record = &replayed[0].1[1].1;
    assert_eq!((record.kind, record.flags, record.key_id), (255, 0x0102, 0xa0b0_c0d0));
}
