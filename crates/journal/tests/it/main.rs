//! The journal through its public door: a real directory, a disk that can fail, the locked bytes.

#![cfg(test)]

mod archive;
mod compaction;
mod faults;
mod faulty_disk;
mod golden;
mod open;
mod power;
mod round_trip;
mod start;
mod walk;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sillage_journal::{Address, Disk, Error, Journal, Opened, Options, RealDisk, Record, Writer};

const LOG_ID: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

/// What the replay gave: each batch as its address and its records with theirs.
type Replayed = Vec<(Address, Vec<(Address, Record)>)>;

fn open_with(dir: &Path, options: Options, disk: Arc<dyn Disk>) -> Result<(Opened, Replayed), Error> {
    let mut replayed = Replayed::new();
    let opened = Journal::open(dir, options, disk, |batch| {
        assert_eq!(batch.number(), replayed.len() as u64 + 1);
        let records = batch.records().map(|r| {
            let record =
                Record { kind: r.kind, flags: r.flags, key_id: r.key_id, payload: r.payload.to_vec() };
            (r.address, record)
        });
        replayed.push((batch.address(), records.collect()));
        Ok(())
    })?;
    assert_eq!(opened.recovered.batches, replayed.len() as u64);
    Ok((opened, replayed))
}

fn open(dir: &Path) -> (Opened, Replayed) {
    open_with(dir, Options::new(LOG_ID), Arc::new(RealDisk)).unwrap()
}

fn open_small(dir: &Path, disk: Arc<dyn Disk>) -> (Opened, Replayed) {
    open_with(dir, Options { segment_bytes: 200, ..Options::new(LOG_ID) }, disk).unwrap()
}

/// Stages one batch with these payloads.
fn stage(writer: &mut Writer, payloads: &[&str]) -> Address {
    let addresses: Vec<_> =
        payloads.iter().map(|payload| writer.push(1, 0, 0, payload.as_bytes()).unwrap()).collect();
    writer.end_batch().unwrap();
    addresses[0]
}

fn texts(replayed: &Replayed) -> Vec<Vec<String>> {
    let text = |record: &Record| String::from_utf8(record.payload.clone()).unwrap();
    replayed.iter().map(|(_, records)| records.iter().map(|(_, record)| text(record)).collect()).collect()
}

/// The names in the directory with this ending, sorted.
fn names(dir: &Path, ending: &str) -> Vec<String> {
    let mut names = RealDisk.list(dir).unwrap();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}

/// The files of a log, in their order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    names(dir, ".seg").into_iter().map(|name| dir.join(name)).collect()
}

/// Damages one byte of a file.
fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 0x40;
    fs::write(file, bytes).unwrap();
}
