//! Following the log: what was and what comes, without a seam.

use std::sync::Arc;

use futures_util::FutureExt;
use sillage_kernel::{Event, Expected, Filter, Position};
use sillage_store::{Append, EventStore, Subscription};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Fixture;
use super::things::{add, append, append_one, entry, tenant, thing, whole_log};

const WRITERS: usize = 6;
const APPENDS: usize = 40;
const FOLLOWERS: usize = 12;

/// While many write, many begin to follow, each at another moment, some from the start and some from the
/// head, with pages of any size, and with calls that are given up on the way. Each sees exactly the log: in
/// order, nothing left out, nothing twice.
pub async fn following_the_log_has_no_seam(fixture: impl Fixture) {
    let store = fixture.store();
    let (end, _) = watch::channel(None);
    let mut followers = JoinSet::new();
    for n in 0..FOLLOWERS {
        followers.spawn(follow(store.clone(), n, end.subscribe()));
    }
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(store.clone(), n));
    }
    writers.join_all().await;
    end.send_replace(Some(store.head()));
    let log = whole_log(&*store).await;
    for Followed { after, filter, events } in followers.join_all().await {
        let wanted = log.iter().filter(|event| event.position > after && filter.admits(event)).cloned();
        assert!(
            events == Vec::from_iter(wanted),
            "whoever followed {filter:?} after {after} has not seen the log"
        );
    }
}

/// Some appends of one, two or many streams, one or several in a call.
async fn write(store: Arc<dyn EventStore>, writer: usize) {
    for n in 0..APPENDS {
        let one = |stream, events| Append {
            tenant: tenant(["north", "south"][n % 2]),
            ..append([
                entry(&stream, Expected::Any, events),
                entry(&thing(format_args!("shared-{}", n % 3)), Expected::Any, n % 2),
            ])
        };
        let system = "$system-a".parse().unwrap();
        let results = store.append(vec![one(thing(writer), 1 + n % 3), one(system, 1)]);
        // Now and then a writer does not wait for its answer.
        if n % 5 == 4 {
            drop(results);
        } else {
            assert!(results.await.iter().all(Result::is_ok));
        }
    }
    append_one(&*store, append([entry(&thing(writer), Expected::Any, 1)])).await.unwrap();
}

struct Followed {
    after: Position,
    filter: Filter,
    events: Vec<Arc<Event>>,
}

/// Begins once the log has grown to a length of its own, and follows it until its end is known and reached.
async fn follow(
    store: Arc<dyn EventStore>,
    n: usize,
    mut end: watch::Receiver<Option<Position>>,
) -> Followed {
    let begin = Position::new((n * WRITERS * APPENDS * 2 / FOLLOWERS) as u64);
    store.watermark().wait_for(|head| *head >= begin).await.unwrap();
    let after = if n.is_multiple_of(2) { Position::ZERO } else { store.head() };
    let filter = [Filter::Everything, Filter::People, Filter::Category("thing".into())][n % 3].clone();
    let limit = [1, 2, 7, 1_000][n % 4];
    let mut subscription = Subscription::new(store, after, filter.clone());
    let mut events = Vec::new();
    loop {
        let last = *end.borrow_and_update();
        if last.is_some_and(|last| subscription.cursor() >= last) {
            return Followed { after, filter, events };
        }
        let cursor = subscription.cursor();
        // A call that is given up before it has come to anything must not have moved the cursor.
        let page = match subscription.next(limit).now_or_never() {
            Some(page) => page,
            None => tokio::select! {
                page = subscription.next(limit) => page,
                _ = end.changed() => continue,
            },
        };
        let page = page.unwrap();
        assert!(page.through > cursor, "the page after {cursor} comes no further");
        events.extend(page.events);
    }
}

/// Whoever has come to the end waits, and gets what is new when it comes.
pub async fn following_waits_for_what_is_new(fixture: impl Fixture) {
    let store = fixture.store();
    let mut subscription = Subscription::new(store.clone(), Position::ZERO, Filter::Everything);
    let mut cursor = Position::ZERO;
    for round in 0..10 {
        assert!(subscription.next(10).now_or_never().is_none(), "nothing is new");
        assert_eq!(subscription.cursor(), cursor, "waiting moves nothing");
        let new = tokio::spawn(async move {
            let page = subscription.next(10).await.unwrap();
            (page, subscription)
        });
        let appended = add(&*store, &thing(round), 2).await;
        let (page, followed) = new.await.unwrap();
        assert_eq!(page.events.len(), 2);
        assert_eq!((page.through, followed.cursor()), (appended.position, appended.position));
        (subscription, cursor) = (followed, appended.position);
    }
}

/// No wake-up is lost: each event comes as soon as everybody has seen the one before it, while some are about
/// to wait, and everybody gets it without another that would wake them.
pub async fn following_loses_no_wake_up(fixture: impl Fixture) {
    const ROUNDS: usize = 300;
    let store = fixture.store();
    let (seen, mut all_seen) = mpsc::channel(FOLLOWERS);
    let mut followers = JoinSet::new();
    for _ in 0..4 {
        let mut subscription = Subscription::new(store.clone(), Position::ZERO, Filter::Everything);
        let seen = seen.clone();
        followers.spawn(async move {
            for _ in 0..ROUNDS {
                assert_eq!(subscription.next(10).await.unwrap().events.len(), 1);
                seen.send(()).await.unwrap();
            }
        });
    }
    for _ in 0..ROUNDS {
        add(&*store, &thing("a"), 1).await;
        for _ in 0..followers.len() {
            all_seen.recv().await.unwrap();
        }
    }
    followers.join_all().await;
}

/// Whoever wants nothing of what comes still gets on, and is at the head when what it wants comes.
pub async fn following_passes_what_is_not_wanted(fixture: impl Fixture) {
    let store = fixture.store();
    let wanted = "wanted-a".parse().unwrap();
    let mut subscription =
        Subscription::new(store.clone(), Position::ZERO, Filter::Category("wanted".into()));
    for _ in 0..3 {
        let unwanted = add(&*store, &thing("a"), 300).await.position;
        while subscription.cursor() < unwanted {
            let cursor = subscription.cursor();
            let page = subscription.next(7).await.unwrap();
            assert_eq!(page.events, []);
            assert!(page.through > cursor, "the page after {cursor} comes no further");
        }
        let appended = add(&*store, &wanted, 1).await;
        let page = subscription.next(7).await.unwrap();
        assert_eq!((page.events.len(), page.through), (1, appended.position));
    }
}
