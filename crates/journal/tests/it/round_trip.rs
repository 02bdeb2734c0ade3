//! Whatever is committed, in whatever pieces, comes back: from the readers at once, from the replay later.

use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;
use sillage_journal::{Address, Opened, Options, RealDisk, Record, RecordRef};
use tempfile::TempDir;

use crate::{LOG_ID, Replayed, faulty_disk::FaultyDisk, open_with};

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Record>),
    Discard(Vec<Record>),
    Commit,
    Reopen { segment_bytes: u64 },
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let payload = prop_oneof![
        9 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0_usize..3000).prop_map(|len| vec![1; len]),
    ];
    let record = (1_u8.., any::<u16>(), any::<u32>(), payload)
        .prop_map(|(kind, flags, key_id, payload)| Record { kind, flags, key_id, payload });
    prop::collection::vec(record, 0..5)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => records().prop_map(Step::Batch),
        1 => records().prop_map(Step::Discard),
        3 => Just(Step::Commit),
        1 => (0_u64..3000).prop_map(|segment_bytes| Step::Reopen { segment_bytes }),
    ]
}

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, ..Options::new(LOG_ID) }
}

/// Pushes the records and returns them with their addresses.
fn push(opened: &mut Opened, records: Vec<Record>) -> Vec<(Address, Record)> {
    let push = |record: Record| {
        let Record { kind, flags, key_id, payload } = &record;
        (opened.writer.push(*kind, *flags, *key_id, payload).unwrap(), record)
    };
    records.into_iter().map(push).collect()
}

fn check_reads(opened: &Opened, committed: &Replayed) {
    for (first, records) in committed {
        for (address, record) in records {
            assert_eq!(opened.reader.read(*address).unwrap(), *record);
        }
        let batch: Vec<_> = records.iter().map(|(_, record)| record.clone()).collect();
        assert_eq!(opened.reader.read_batch(*first).unwrap(), batch);
    }
    let mut all: Vec<_> = committed.iter().flat_map(|(_, batch)| batch).cloned().collect();
    for _ in 0..2 {
        let addresses: Vec<_> = all.iter().map(|(address, _)| *address).collect();
        let mut read = Vec::new();
        let shown = opened.reader.read_each(&addresses, |record| {
            let RecordRef { address, kind, flags, key_id, payload } = record;
            read.push((address, Record { kind, flags, key_id, payload: payload.to_vec() }));
            ControlFlow::<()>::Continue(())
        });
        assert!(shown.unwrap().is_continue());
        assert_eq!(read, all);
        let first = opened.reader.read_each(&addresses, |record| ControlFlow::Break(record.address));
        assert_eq!(first.unwrap().break_value(), addresses.first().copied());
        all.reverse();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_committed_comes_back(steps in prop::collection::vec(step(), 0..40), segment_bytes in 0_u64..2000) {
        let dir = TempDir::new().unwrap();
        let (mut opened, _) =
            open_with(dir.path(), options(segment_bytes), Arc::new(FaultyDisk::default())).unwrap();
        let (mut committed, mut staged) = (Replayed::new(), Replayed::new());
        for step in steps.into_iter().chain([Step::Commit, Step::Reopen { segment_bytes }]) {
            match step {
                Step::Batch(records) => {
                    let batch = push(&mut opened, records);
                    opened.writer.end_batch().unwrap();
                    staged.extend(batch.first().map(|(first, _)| (*first, batch.clone())));
                }
                Step::Discard(records) => {
                    push(&mut opened, records);
                    opened.writer.discard_batch();
                }
                Step::Commit => {
                    opened.writer.commit().unwrap();
                    committed.append(&mut staged);
                    check_reads(&opened, &committed);
                }
                Step::Reopen { segment_bytes } => {
                    staged.clear();
                    drop(opened);
                    let (again, replayed) =
                        open_with(dir.path(), options(segment_bytes), Arc::new(RealDisk)).unwrap();
                    prop_assert_eq!(&replayed, &committed);
                    prop_assert_eq!(again.recovered.cut_bytes, 0);
                    check_reads(&again, &committed);
                    opened = again;
                }
            }
        }
    }
}

/// More segments than may be open at once are all still read.
#[test]
fn segments_beyond_the_bound_are_opened_again() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::default();
    let (mut opened, _) = open_with(dir.path(), options(0), Arc::new(disk.clone())).unwrap();
    let mut committed = Replayed::new();
    for number in 0..sillage_journal::MAX_OPEN_SEGMENTS + 20 {
        let payload = number.to_string().into_bytes();
        let batch = push(&mut opened, vec![Record { kind: 1, flags: 0, key_id: 0, payload }]);
        opened.writer.end_batch().unwrap();
        opened.writer.commit().unwrap();
        committed.push((batch[0].0, batch));
    }
    check_reads(&opened, &committed);
    committed.reverse();
    check_reads(&opened, &committed);
    assert_eq!(
        disk.open_files(),
        sillage_journal::MAX_OPEN_SEGMENTS + 1,
        "those of the readers, and the writer's"
    );
}
