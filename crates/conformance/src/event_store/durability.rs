//! Durability: what was answered is there when the log is opened again, and nothing is told before.
//!
//! An engine that lives as long as its process has nothing to keep here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sillage_kernel::{Epoch, Event, Expected, Filter, Position};
use sillage_store::event_store::{Durability, MAX_WAITING_APPENDS};
use sillage_store::{
    Append, AppendError, CursorError, CursorState, CursorUpdate, Entry, EventStore, Features, LedgerEntry,
    LedgerKey, StoreError, Verdict,
};

use super::contents::{assert_linked, odd_events};
use super::cursors::steps;
use super::leases::{LONG, assert_fenced, fence, take_over};
use super::ledger::{Settled, settle_each_way};
use super::things::{
    add, append, append_one, assert_follows, assert_is, conflict, entry, exactly, look_up, new_command,
    settling, tenant, thing, version_of, whole_log, whole_stream,
};
use super::{Fixture, HeldDisk};
use crate::wait::eventually;

/// Over before anybody else asks, or soon after.
const BRIEF: Duration = Duration::from_millis(1);

pub(super) fn is_durable(fixture: &impl Fixture) -> bool {
    fixture.store().features().durability != Durability::Process
}

/// All that can be seen of a store.
#[derive(Debug, PartialEq)]
struct Everything {
    features: Features,
    epoch: Epoch,
    head: Position,
    log: Vec<Arc<Event>>,
    ledger: Vec<Option<LedgerEntry>>,
    cursors: Vec<CursorState>,
}

async fn everything(store: &dyn EventStore, commands: &[LedgerKey]) -> Everything {
    let mut cursors = Vec::new();
    for reactor in ["one", "another", "unheard"] {
        cursors.push(store.read_cursor(reactor).await.unwrap());
    }
    Everything {
        features: store.features(),
        epoch: store.epoch(),
        head: store.head(),
        log: whole_log(store).await,
        ledger: store.look_up(commands.to_vec()).await.unwrap(),
        cursors,
    }
}

/// Writes something of every kind, and returns the commands that it settled.
async fn history(store: &dyn EventStore) -> Vec<LedgerKey> {
    let settled = settle_each_way(store, &thing("target")).await;
    let odd = Entry { stream: thing("odd"), expected: Expected::NoStream, events: odd_events() };
    append_one(store, append([odd])).await.unwrap();
    for round in 0..20 {
        let append = append([entry(&thing(round % 4), Expected::Any, 1 + round % 3)]);
        append_one(store, Append { tenant: tenant(["north", "south"][round % 2]), ..append }).await.unwrap();
    }
    for step in steps("one") {
        store.write_cursor(step).await.unwrap();
    }
    let step =
        CursorUpdate { reactor: "another".into(), position: Some(store.head()), ..CursorUpdate::default() };
    store.write_cursor(step).await.unwrap();
    settled.into_iter().map(|Settled { key, .. }| key).chain([new_command()]).collect()
}

/// However often the log is opened, all is as it was: the identity of the log, events to the byte and the
/// links between them, the ledger with its outcomes, cursors with what is parked.
pub async fn reopening_changes_nothing(mut fixture: impl Fixture) {
    if !is_durable(&fixture) {
        return;
    }
    let commands = history(&*fixture.store()).await;
    let before = everything(&*fixture.store(), &commands).await;
    let remembered = fixture.store().remembers_since();
    assert_linked(&before.log);
    for _ in 0..2 {
        fixture = fixture.reopen().await;
        let after = everything(&*fixture.store(), &commands).await;
        assert!(after == before, "{after:#?} is not {before:#?}");
        assert_eq!(*fixture.store().watermark().borrow(), before.head);
        assert!(fixture.store().remembers_since() >= remembered);
    }
}

/// After reopening, positions, versions, times and links go on where they were, what was expected is judged
/// by what is there, and a command that was settled before is known.
pub async fn the_log_goes_on_after_reopening(mut fixture: impl Fixture) {
    if !is_durable(&fixture) {
        return;
    }
    let commands = history(&*fixture.store()).await;
    let stream = thing("target");
    for version in [3, 4] {
        let before = whole_log(&*fixture.store()).await;
        fixture = fixture.reopen().await;
        let store = &*fixture.store();
        let last = store.head();
        let refused = append_one(store, append([entry(&stream, Expected::NoStream, 1)])).await;
        assert_eq!(refused, Err(conflict(&stream, Expected::NoStream, version)));
        let repeated = settling(&commands[0], Verdict::Applied, [entry(&stream, Expected::Any, 1)]);
        assert!(matches!(append_one(store, repeated).await, Err(AppendError::Known(_))));
        let appended = append_one(store, append([entry(&stream, exactly(version), 1)])).await.unwrap();
        assert_follows(store, last, appended.position, 1);
        assert_eq!(version_of(store, &stream).await, version + 1);
        let log = whole_log(store).await;
        assert!(log.starts_with(&before) && log.len() == before.len() + 1, "the log was changed");
        assert!(log.is_sorted_by_key(|event| event.recorded_at));
        assert_linked(&log);
    }
}

/// A lease is still held after reopening, the token of whoever lost it before is still refused, and no token
/// is given out twice.
pub async fn leases_outlive_reopening(mut fixture: impl Fixture) {
    if !is_durable(&fixture) {
        return;
    }
    let lost = take_over(&*fixture.store(), "kept", "anna", BRIEF).await;
    let held = take_over(&*fixture.store(), "kept", "bert", LONG).await;
    let mut last = take_over(&*fixture.store(), "brief", "anna", BRIEF).await;
    for owner in ["bert", "anna"] {
        fixture = fixture.reopen().await;
        let store = &*fixture.store();
        assert_fenced(store, &fence("kept", lost)).await;
        let fenced = append([entry(&thing("a"), Expected::Any, 1)]);
        append_one(store, Append { fence: Some(fence("kept", held)), ..fenced }).await.unwrap();
        assert_eq!(store.acquire_lease("kept", "anna", LONG).await.unwrap(), None);
        assert_eq!(store.acquire_lease("kept", "bert", LONG).await.unwrap(), Some(held));

        let next = take_over(store, "brief", owner, BRIEF).await;
        assert!(next.token > last.token, "{next:?} after {last:?}");
        assert_fenced(store, &fence("brief", last)).await;
        last = next;
    }
}

/// A log has its identity from its birth, not from its first event.
pub async fn an_empty_log_keeps_its_epoch(fixture: impl Fixture) {
    if !is_durable(&fixture) {
        return;
    }
    let epoch = fixture.store().epoch();
    let fixture = fixture.reopen().await;
    let store = &*fixture.store();
    assert_eq!((store.epoch(), store.head()), (epoch, Position::ZERO));
    assert_eq!(whole_log(store).await, []);
    let first = add(store, &thing("a"), 1).await;
    assert_follows(store, Position::ZERO, first.position, 1);
}

/// While the disk has not confirmed what is written, nobody is answered and nobody can see any of it; then
/// everybody can.
pub async fn nothing_is_told_before_it_is_durable(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    let last = add(store, &stream, 1).await.position;
    let Some(held) = fixture.hold_disk() else { return };
    let mut watermark = store.watermark();
    watermark.borrow_and_update();
    let key = new_command();
    let write = settling(&key, Verdict::Applied, [entry(&stream, exactly(1), 1)]);
    let new = write.entries[0].events[0].clone();
    let mut answer = store.append(vec![write]);
    let step = CursorUpdate { reactor: "one".into(), position: Some(last), ..CursorUpdate::default() };
    let mut moved = store.write_cursor(step);
    let mut lease = store.acquire_lease("one", "anna", LONG);
    awaited(&*held).await;

    assert!((&mut answer).now_or_never().is_none(), "an append is answered");
    assert!((&mut moved).now_or_never().is_none(), "a step of a cursor is answered");
    assert!((&mut lease).now_or_never().is_none(), "a lease is given");
    assert_eq!(store.head(), last, "the head has moved");
    assert!(!watermark.has_changed().unwrap(), "the watermark has moved");
    assert_eq!(store.read_all(last, Filter::Everything, 10).await.unwrap().through, last);
    assert_eq!(whole_stream(store, &stream).await.len(), 1);
    assert_eq!(look_up(store, &key).await, None);
    assert_eq!(store.read_cursor("one").await.unwrap(), CursorState::default());

    drop(held);
    let appended = answer.await.remove(0).unwrap();
    assert_eq!(store.head(), appended.position);
    assert!(watermark.has_changed().unwrap());
    assert_is(&whole_stream(store, &stream).await[1], &new);
    moved.await.unwrap();
    assert_eq!(store.read_cursor("one").await.unwrap().position, last);
    assert!(lease.await.unwrap().is_some());
}

async fn awaited(held: &dyn HeldDisk) {
    eventually("the disk is awaited", async || held.is_awaited().then_some(())).await;
}

/// While the disk refuses what is written, everybody is told so, and afterwards all is as it was: no event, no
/// command, no step of a cursor, and a lease was neither given, nor prolonged, nor taken from its holder.
pub async fn what_cannot_be_kept_never_was(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    let last = add(store, &stream, 1).await.position;
    let passing = take_over(store, "passing", "anna", Duration::ZERO).await;
    let prolonged = take_over(store, "prolonged", "anna", Duration::ZERO).await;
    let key = new_command();
    let before = everything(store, std::slice::from_ref(&key)).await;
    let Some(broken) = fixture.break_disk() else { return };
    let write = settling(&key, Verdict::Applied, [entry(&stream, exactly(1), 1)]);
    let refused = append_one(store, write.clone()).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    let step = CursorUpdate { reactor: "one".into(), position: Some(last), ..CursorUpdate::default() };
    let refused = store.write_cursor(step).await;
    assert!(matches!(refused, Err(CursorError::Unavailable(_))), "{refused:?}");
    for (lease, owner) in [("new", "anna"), ("passing", "bert"), ("prolonged", "anna")] {
        let refused = store.acquire_lease(lease, owner, LONG).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{lease}: {refused:?}");
    }
    drop(broken);

    assert!(everything(store, std::slice::from_ref(&key)).await == before, "something was kept");
    let held = Some(fence("passing", passing));
    append_one(store, Append { fence: held, ..write }).await.expect("its holder has lost the lease");
    assert!(store.acquire_lease("new", "bert", LONG).await.unwrap().is_some(), "the lease was given");
    let next = store.acquire_lease("prolonged", "bert", LONG).await.unwrap();
    assert!(next.is_some_and(|next| next.token > prolonged.token), "the lease was prolonged");
}

/// No more waits for the disk than was agreed; whoever comes then is refused, and nothing of what was taken
/// before is lost.
pub async fn a_full_queue_refuses_and_loses_nothing(fixture: impl Fixture) {
    let store = &*fixture.store();
    let Some(held) = fixture.hold_disk() else { return };
    let stream = thing("a");
    let first = store.append(vec![append([entry(&stream, exactly(0), 1)])]);
    awaited(&*held).await;
    let check = || append([entry(&stream, exactly(1), 0)]);
    let waiting = store.append(Vec::from_iter(std::iter::repeat_with(check).take(MAX_WAITING_APPENDS - 1)));
    let fits = store.append(vec![append([entry(&stream, exactly(1), 1)])]);
    let refused = store.append(vec![append([entry(&stream, Expected::Any, 1)])]).await;
    assert_eq!(refused, [Err(AppendError::Overloaded)]);
    drop(held);
    assert!(first.await[0].is_ok());
    assert!(waiting.await.iter().all(Result::is_ok));
    assert!(fits.await[0].is_ok());
    append_one(store, append([entry(&stream, exactly(2), 1)])).await.expect("there is room again");
    assert_eq!(whole_stream(store, &stream).await.len(), 3);
}
