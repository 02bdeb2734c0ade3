//! A log that begins a new epoch keeps everything else, and is never without one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sillage_journal::testing::{Crash, Dice, SimulatedDisk};
use sillage_kernel::{Epoch, Position, Timestamp};
use sillage_store::event_store::journal::backup::begin_epoch;
use sillage_store::event_store::journal::{
    AcceptLoss, EpochRecord, IndexLimits, JournalOptions, JournalStore, LogError, NewEpoch,
};
use sillage_store::{CursorUpdate, EventStore, Mode};

use crate::verify::{APPENDS, append, files, flip, log, look, open};

fn options(new_epoch: NewEpoch) -> JournalOptions {
    JournalOptions { new_epoch, segment_bytes: 4_000, ..JournalOptions::default() }
}

async fn set_mode(store: &JournalStore, reactor: &str, mode: Mode) {
    let update = CursorUpdate { reactor: reactor.into(), mode: Some(mode), ..CursorUpdate::default() };
    store.write_cursor(update).await.unwrap();
}

async fn mode(store: &JournalStore, reactor: &str) -> Mode {
    store.read_cursor(reactor).await.unwrap().mode
}

#[tokio::test]
async fn a_new_epoch_holds_the_reactors_and_outlives_starts_and_the_index() {
    let dir = log().await;
    let store = open(dir.path());
    let (head, old) = (store.head(), store.epoch());
    set_mode(&store, "paused", Mode::Paused).await;
    assert!(matches!(begin_epoch(dir.path(), 5), Err(LogError::Locked)), "it is open");
    drop(store);
    assert_eq!(begin_epoch(dir.path(), 5).unwrap(), (old, Epoch::from_log_id(5)));

    let store = open(dir.path());
    assert_eq!((store.epoch(), store.head()), (Epoch::from_log_id(5), head));
    assert_eq!(
        store.read_cursor("r").await.unwrap().position,
        Position::new(APPENDS - 1),
        "it stands where it was"
    );
    let modes = [mode(&store, "r").await, mode(&store, "unknown").await, mode(&store, "paused").await];
    assert_eq!(modes, [Mode::Held, Mode::Held, Mode::Paused]);
    set_mode(&store, "r", Mode::Running).await;
    let position = Some(Position::new(1));
    store
        .write_cursor(CursorUpdate { reactor: "new".into(), position, ..CursorUpdate::default() })
        .await
        .unwrap();

    // Enough that what was said is covered by runs.
    for n in APPENDS..2 * APPENDS {
        store.append(vec![append(n)]).await.remove(0).unwrap();
    }
    drop(store);
    for change in ["nothing", "the index"] {
        if change == "the index" {
            fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let store = open(dir.path());
        assert_eq!(store.epoch(), Epoch::from_log_id(5), "without {change}");
        let modes = [mode(&store, "r").await, mode(&store, "new").await, mode(&store, "other").await];
        assert_eq!(modes, [Mode::Running, Mode::Held, Mode::Held], "without {change}");
    }
    assert_eq!(begin_epoch(dir.path(), 6).unwrap(), (Epoch::from_log_id(5), Epoch::from_log_id(6)));
    assert_eq!(mode(&open(dir.path()), "r").await, Mode::Held);
    let (verified, defects) = look(dir.path());
    assert_eq!((verified.epoch, defects), (Some(Epoch::from_log_id(6)), vec![]));
}

/// The power goes at each operation in turn: then it is the old epoch or the new one, and nothing is lost.
#[tokio::test]
async fn wherever_a_crash_strikes_the_log_has_the_old_epoch_or_the_new() {
    let dir = Path::new("/log");
    let (mut olds, mut news) = (0, 0);
    for operations in 0.. {
        let disk = SimulatedDisk::new(Dice::new(operations));
        let index = IndexLimits { tail_entries: 4, ..IndexLimits::default() };
        let on = |new_epoch, id| {
            let options = JournalOptions { index, ..options(new_epoch) };
            JournalStore::open_on(dir, id, options, Arc::new(disk.clone())).map(|(store, _)| store)
        };
        let store = on(NewEpoch::AfterLoss, 1).unwrap();
        for n in 0..4 {
            store.append(vec![append(n)]).await.remove(0).unwrap();
        }
        set_mode(&store, "r", Mode::Running).await;
        drop(store);

        disk.stop_after(usize::try_from(operations).unwrap());
        let begun = on(NewEpoch::Now, 2);
        let (answered, went_through) = (begun.is_ok(), !disk.has_stopped());
        drop(begun);
        disk.restart(Crash::PowerLoss(&mut Dice::new(operations)));

        let store = on(NewEpoch::AfterLoss, 3).unwrap();
        assert_eq!(store.head(), Position::new(8), "after {operations} operations");
        let (epoch, mode) = (store.epoch(), mode(&store, "r").await);
        let is_new = epoch == Epoch::from_log_id(2);
        assert!(is_new || epoch == Epoch::from_log_id(1), "{epoch} after {operations} operations");
        assert!(is_new || !answered, "the new epoch was lost after {operations} operations");
        assert_eq!(mode, if is_new { Mode::Held } else { Mode::Running });
        *(if is_new { &mut news } else { &mut olds }) += 1;
        if went_through {
            break;
        }
    }
    assert!(olds > 3 && news > 1, "{olds} old, {news} new");
}

#[tokio::test]
async fn loss_that_was_accepted_begins_a_new_epoch() {
    let dir = log().await;
    let old = open(dir.path()).epoch();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    flip(&files(dir.path(), "seg")[2], 700);
    let opened = |accept_loss| {
        let options = JournalOptions { accept_loss, ..options(NewEpoch::AfterLoss) };
        JournalStore::open(dir.path(), 8, options)
    };
    assert!(matches!(opened(AcceptLoss::No), Err(LogError::Damaged { .. })));
    let (store, recovered) = opened(AcceptLoss::Yes).unwrap();
    assert!(recovered.lost.is_some() && store.epoch() != old);
    assert_eq!(store.epoch(), Epoch::from_log_id(8));
    assert_eq!(mode(&store, "r").await, Mode::Held);
    drop(store);
    let (store, _) = opened(AcceptLoss::Yes).unwrap();
    assert_eq!(store.epoch(), Epoch::from_log_id(8), "nothing was lost any more");
}

#[test]
fn the_shape_of_the_record_is_locked() {
    let record =
        EpochRecord { epoch: Epoch::from_log_id(1), since: Timestamp::from_micros(1_768_824_000_000_000) };
    let json = r#"{"epoch":"00000000000000000000000000000001","since":"2026-01-19T12:00:00Z"}"#;
    assert_eq!(serde_json::to_string(&record).unwrap(), json);
    assert_eq!(serde_json::from_str::<EpochRecord>(json).unwrap(), record);
}
