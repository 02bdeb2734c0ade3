//! Cursors: where reactors stand, beside the log and not in it.

use std::collections::BTreeMap;

use sillage_kernel::{Position, Timestamp};
use sillage_store::event_store::{MAX_CURSOR_BYTES, MAX_CURSOR_CHANGES};
use sillage_store::{CursorError, CursorState, CursorUpdate, Mode, Parked, ParkedBecause};

use super::Fixture;
use super::things::{add, assert_follows, assert_kept, kept, main_tenant, thing};

/// A cursor that was never written is at the start, runs, and has nothing parked.
pub async fn a_reactor_never_heard_of_stands_before_the_first_event(fixture: impl Fixture) {
    let store = &*fixture.store();
    add(store, &thing("a"), 1).await;
    assert_eq!(store.read_cursor("unheard").await.unwrap(), CursorState::default());
}

/// An event that waits because it failed.
fn failed(position: u64, error: &str) -> Parked {
    let because = ParkedBecause::Failed { error: error.to_owned(), attempts: 3 };
    Parked { because, ..behind(position) }
}

/// An event that waits behind one that failed.
fn behind(position: u64) -> Parked {
    let since = Timestamp::from_micros(1_768_000_000_000_001);
    let (position, key) = (Position::new(position), "thing-a".into());
    Parked { position, tenant: main_tenant(), key, because: ParkedBecause::Behind, since }
}

/// Steps that together do all that a step can, for a reactor of that name.
pub(super) fn steps(reactor: &str) -> Vec<CursorUpdate> {
    let step = CursorUpdate { reactor: reactor.into(), ..CursorUpdate::default() };
    let at = |n| Some(Position::new(n));
    vec![
        CursorUpdate { position: at(3), ..step.clone() },
        CursorUpdate { mode: Some(Mode::Paused), ..step.clone() },
        CursorUpdate {
            position: at(9),
            park: vec![failed(7, "„no“\n"), behind(8), behind(9)],
            ..step.clone()
        },
        step.clone(),
        CursorUpdate { unpark: vec![Position::new(8)], mode: Some(Mode::Running), ..step.clone() },
        CursorUpdate { unpark: vec![Position::new(7)], park: vec![failed(7, "again")], ..step.clone() },
        CursorUpdate { unpark: vec![Position::new(1)], park: vec![failed(9, "too")], ..step.clone() },
        CursorUpdate { position: at(2), mode: Some(Mode::Paused), ..step },
    ]
}

/// A step moves what it names and leaves the rest: the position, also back; the mode; what is parked, with
/// what is unparked taken out first. Reactors do not touch each other.
pub async fn a_cursor_takes_its_steps(fixture: impl Fixture) {
    let store = &*fixture.store();
    let mut wanted = CursorState::default();
    for (n, step) in steps("one").into_iter().enumerate() {
        store.write_cursor(step.clone()).await.unwrap();
        wanted.apply(&step);
        assert_eq!(store.read_cursor("one").await.unwrap(), wanted, "step {n}");
        assert_eq!(store.read_cursor("another").await.unwrap(), CursorState::default(), "step {n}");
    }
    let parked = [(Position::new(7), failed(7, "again")), (Position::new(9), failed(9, "too"))];
    let end = CursorState { position: Position::new(2), mode: Mode::Paused, parked: BTreeMap::from(parked) };
    assert_eq!(wanted, end);

    let step = CursorUpdate {
        reactor: "another".into(),
        position: Some(Position::new(5)),
        ..CursorUpdate::default()
    };
    store.write_cursor(step).await.unwrap();
    assert_eq!(store.read_cursor("one").await.unwrap(), end);
    assert_eq!(store.read_cursor("another").await.unwrap().position, Position::new(5));
}

/// What was skipped is remembered until the position has come to it, with this step or a later one; what waits
/// is remembered longer. It can be taken back.
pub async fn what_was_skipped_is_forgotten_once_it_is_passed(fixture: impl Fixture) {
    let store = &*fixture.store();
    let skipped = |position| Parked { because: ParkedBecause::Skipped, ..behind(position) };
    let to = |position| Some(Position::new(position));
    let step = CursorUpdate { reactor: "one".into(), ..CursorUpdate::default() };
    let rows: &[(CursorUpdate, &[u64])] = &[
        (CursorUpdate { position: to(3), park: vec![behind(2), skipped(3)], ..step.clone() }, &[2]),
        (
            CursorUpdate { park: vec![skipped(5), skipped(6), behind(7), skipped(8)], ..step.clone() },
            &[2, 5, 6, 7, 8],
        ),
        (CursorUpdate { position: to(4), ..step.clone() }, &[2, 5, 6, 7, 8]),
        (CursorUpdate { position: to(5), unpark: vec![Position::new(8)], ..step.clone() }, &[2, 6, 7]),
        (CursorUpdate { park: vec![skipped(7)], ..step.clone() }, &[2, 6, 7]),
        (CursorUpdate { position: to(9), ..step }, &[2]),
    ];
    for (row, (step, parked)) in rows.iter().enumerate() {
        store.write_cursor(step.clone()).await.unwrap();
        let state = store.read_cursor("one").await.unwrap();
        assert!(
            state.parked.keys().map(|position| position.get()).eq(parked.iter().copied()),
            "row {row}: {state:?}"
        );
    }
}

/// What is just within a limit is taken; what is just beyond is invalid and changes nothing.
pub async fn a_step_beyond_the_limits_is_invalid(fixture: impl Fixture) {
    let store = &*fixture.store();
    let step = CursorUpdate { reactor: "one".into(), ..CursorUpdate::default() };
    let changes = |park: usize, unpark: usize| CursorUpdate {
        park: (1..).map(behind).take(park).collect(),
        unpark: (1..).map(Position::new).take(unpark).collect(),
        ..step.clone()
    };
    // Control characters, which are longest where they are escaped.
    let room = MAX_CURSOR_BYTES - "one".len() - behind(1).bytes();
    let bytes = |bytes| CursorUpdate { park: vec![failed(1, &"\u{1}".repeat(bytes))], ..step.clone() };
    for fits in [
        changes(MAX_CURSOR_CHANGES, 0),
        changes(0, MAX_CURSOR_CHANGES),
        changes(1, MAX_CURSOR_CHANGES - 1),
        bytes(room),
    ] {
        store.write_cursor(fits).await.unwrap();
    }
    let before = store.read_cursor("one").await.unwrap();
    for (row, exceeds) in [
        changes(MAX_CURSOR_CHANGES + 1, 0),
        changes(0, MAX_CURSOR_CHANGES + 1),
        changes(2, MAX_CURSOR_CHANGES - 1),
        bytes(room + 1),
    ]
    .into_iter()
    .enumerate()
    {
        let exceeds = CursorUpdate { position: Some(Position::new(1)), ..exceeds };
        let result = store.write_cursor(exceeds).await;
        assert!(matches!(result, Err(CursorError::Invalid(_))), "row {row}: {result:?}");
        assert!(store.read_cursor("one").await.unwrap() == before, "row {row}: the cursor has changed");
    }
}

/// A step takes no position, adds nothing to the log, and wakes nobody who waits for the watermark.
pub async fn a_cursor_takes_no_position(fixture: impl Fixture) {
    let store = &*fixture.store();
    let last = add(store, &thing("a"), 2).await.position;
    let before = kept(store).await;
    let mut watermark = store.watermark();
    watermark.borrow_and_update();
    for step in steps("one") {
        store.write_cursor(step).await.unwrap();
    }
    assert!(!watermark.has_changed().unwrap(), "the watermark has moved");
    assert_kept(store, &before, "cursors").await;
    let next = add(store, &thing("a"), 1).await.position;
    assert_follows(store, last, next, 1);
}
