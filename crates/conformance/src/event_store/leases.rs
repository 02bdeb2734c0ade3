//! Leases: one holder at a time, and nothing is written by whoever held it before.

use std::time::{Duration, Instant};

use sillage_kernel::{Expected, Position, Version};
use sillage_store::{
    Append, AppendError, CursorError, CursorState, CursorUpdate, EventStore, Fence, Lease, Nodes, Verdict,
};
use tokio::task::JoinSet;

use super::Fixture;
use super::things::{
    add, append, append_one, assert_follows, assert_kept, entry, kept, look_up, new_command, settling, thing,
    version_of,
};
use crate::wait::eventually;

/// Longer than any test.
pub(super) const LONG: Duration = Duration::from_secs(3_600);
/// Over before the next look at it, or soon after.
const SHORT: Duration = Duration::from_millis(20);

async fn acquire(store: &dyn EventStore, lease: &str, owner: &str, ttl: Duration) -> Option<Lease> {
    store.acquire_lease(lease, owner, ttl).await.unwrap()
}

/// The lease, taken from a holder whose time is up or will soon be.
pub(super) async fn take_over(store: &dyn EventStore, lease: &str, owner: &str, ttl: Duration) -> Lease {
    eventually("the lease is free", async || acquire(store, lease, owner, ttl).await).await
}

pub(super) fn fence(lease: &str, held: Lease) -> Fence {
    Fence { lease: lease.into(), held }
}

/// While somebody holds a lease, nobody else gets it, and whoever holds it keeps its token. Leases do not
/// touch each other.
pub async fn a_lease_has_one_holder(fixture: impl Fixture) {
    let store = &*fixture.store();
    let held = acquire(store, "one", "anna", LONG).await.unwrap();
    for _ in 0..3 {
        assert_eq!(acquire(store, "one", "bert", LONG).await, None);
        assert_eq!(acquire(store, "one", "anna", LONG).await, Some(held), "its holder keeps it");
    }
    assert!(acquire(store, "another", "bert", LONG).await.is_some());
    assert_eq!(acquire(store, "another", "anna", LONG).await, None);
    assert_eq!(acquire(store, "one", "bert", LONG).await, None);
}

/// However many ask for a lease at the same time, one gets it.
pub async fn one_of_many_gets_a_lease(fixture: impl Fixture) {
    let store = fixture.store();
    let mut owners = JoinSet::new();
    for n in 0..16 {
        let store = store.clone();
        owners.spawn(async move { acquire(&*store, "one", &format!("owner-{n}"), LONG).await });
    }
    let held = owners.join_all().await;
    assert_eq!(held.iter().flatten().count(), 1, "{held:?}");
}

/// When its time is up, and not before, a lease passes to whoever asks, with a higher token each time, also
/// when it comes back to somebody who held it before.
pub async fn a_lease_passes_on_when_its_time_is_up(fixture: impl Fixture) {
    let store = &*fixture.store();
    let asked = Instant::now();
    let mut last = acquire(store, "one", "anna", SHORT).await.unwrap();
    for owner in ["bert", "anna", "bert"] {
        let next = take_over(store, "one", owner, SHORT).await;
        assert!(next.token > last.token, "{next:?} after {last:?}");
        last = next;
    }
    // The clock of the engine need not run exactly like that of the test.
    let terms = 3 * SHORT * 9 / 10;
    assert!(asked.elapsed() >= terms, "a lease has passed on before its time");
}

/// A lease that its holder prolongs is held although its first time is up.
pub async fn a_prolonged_lease_is_held_for_longer(fixture: impl Fixture) {
    let store = &*fixture.store();
    acquire(store, "one", "anna", SHORT).await.unwrap();
    let held = acquire(store, "one", "anna", LONG).await;
    let prolonged = Instant::now();
    assert!(held.is_some());
    eventually("the first time is up", async || (prolonged.elapsed() > 2 * SHORT).then_some(())).await;
    assert_eq!(acquire(store, "one", "bert", LONG).await, None);
    assert_eq!(acquire(store, "one", "anna", LONG).await, held);
}

/// It is told who holds a lease, as long as somebody does, where that may be another node.
pub async fn whoever_asks_is_told_who_holds_a_lease(fixture: impl Fixture) {
    let store = &*fixture.store();
    let holder = async || store.lease_holder("one").await.unwrap();
    assert_eq!(holder().await, None);
    acquire(store, "one", "anna", SHORT).await.unwrap();
    take_over(store, "one", "bert", LONG).await;
    assert_eq!(acquire(store, "one", "anna", LONG).await, None);
    if store.features().nodes == Nodes::Several {
        assert_eq!(holder().await.as_deref(), Some("bert"));
    }
    acquire(store, "one", "bert", Duration::ZERO).await.unwrap();
    eventually("nobody holds it", async || holder().await.is_none().then_some(())).await;
}

/// A write that rests on a lease is taken from its holder, before and after it was prolonged.
pub async fn whoever_holds_a_lease_may_write(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    let held = acquire(store, "one", "anna", LONG).await.unwrap();
    for round in 1..=2 {
        let fence = Some(fence("one", held));
        let fenced = Append { fence: fence.clone(), ..append([entry(&stream, Expected::Any, 1)]) };
        append_one(store, fenced).await.unwrap();
        let position = Some(Position::new(round));
        let step = CursorUpdate { reactor: "r".into(), fence, position, ..CursorUpdate::default() };
        store.write_cursor(step).await.unwrap();
        assert_eq!(store.read_cursor("r").await.unwrap().position.get(), round);
        acquire(store, "one", "anna", LONG).await.unwrap();
    }
    assert_eq!(version_of(store, &stream).await, 2);
}

/// A write that rests on a lease which has passed on, which was not given out yet, or which nobody ever held
/// is refused and keeps nothing: no event, no command, no step of a cursor. What stands beside it in a call
/// is taken.
pub async fn whoever_has_lost_a_lease_may_not_write(fixture: impl Fixture) {
    let store = &*fixture.store();
    let stream = thing("a");
    add(store, &stream, 1).await;
    let lost = acquire(store, "one", "anna", SHORT).await.unwrap();
    take_over(store, "one", "bert", SHORT).await;
    let held = take_over(store, "one", "anna", LONG).await;
    let of_another = take_over(store, "another", "bert", LONG).await;
    let to_come = Lease { token: held.token + 1 };
    let mut version = 1;
    for stale in
        [fence("one", lost), fence("one", to_come), fence("another", to_come), fence("unheard", of_another)]
    {
        let before = kept(store).await;
        assert_fenced(store, &stale).await;
        assert_kept(store, &before, format_args!("{stale:?}")).await;

        let fenced = Append { fence: Some(stale.clone()), ..append([entry(&stream, Expected::Any, 1)]) };
        let exactly = |version| append([entry(&stream, Expected::Exactly(Version::new(version)), 1)]);
        let results = store.append(vec![exactly(version), fenced, exactly(version + 1)]).await;
        assert!(matches!(&results[..], [Ok(_), Err(AppendError::Fenced), Ok(_)]), "{stale:?}: {results:?}");
        version += 2;
    }
}

/// Asserts that neither an append nor a step of a cursor is taken.
pub(super) async fn assert_fenced(store: &dyn EventStore, stale: &Fence) {
    let key = new_command();
    let fenced = settling(&key, Verdict::Applied, [entry(&thing("fenced"), Expected::Any, 1)]);
    let result = append_one(store, Append { fence: Some(stale.clone()), ..fenced }).await;
    assert_eq!(result, Err(AppendError::Fenced), "{stale:?}");
    assert_eq!(look_up(store, &key).await, None, "{stale:?}");

    let (fence, position) = (Some(stale.clone()), Some(Position::new(1)));
    let step = CursorUpdate { reactor: "fenced".into(), fence, position, ..CursorUpdate::default() };
    assert_eq!(store.write_cursor(step).await, Err(CursorError::Fenced), "{stale:?}");
    assert_eq!(store.read_cursor("fenced").await.unwrap(), CursorState::default(), "{stale:?}");
}

/// A lease takes no position, adds nothing to the log, and wakes nobody who waits for the watermark.
pub async fn a_lease_takes_no_position(fixture: impl Fixture) {
    let store = &*fixture.store();
    let last = add(store, &thing("a"), 2).await.position;
    let before = kept(store).await;
    let mut watermark = store.watermark();
    watermark.borrow_and_update();
    for owner in ["anna", "bert", "anna"] {
        acquire(store, "one", owner, LONG).await;
    }
    assert!(!watermark.has_changed().unwrap(), "the watermark has moved");
    assert_kept(store, &before, "leases").await;
    let next = add(store, &thing("a"), 1).await.position;
    assert_follows(store, last, next, 1);
}
