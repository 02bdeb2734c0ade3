//! Reading: a stream both ways, the log through a filter, each in pages.

use std::sync::Arc;

use futures_util::FutureExt;
use sillage_kernel::{Event, Expected, Filter, Position, StreamName, Version};
use sillage_store::event_store::MAX_PAGE_BYTES;
use sillage_store::{Append, Direction, EventStore};

use super::Fixture;
use super::things::{
    add, append, append_one, entry, heavy, look_up, main_tenant, new_command, pages, tenant, thing, user,
    whole_log, whole_stream,
};

/// A stream is read from any version, forward or backward, up to a limit; each page tells the stream's head;
/// a stream without events is an empty page.
pub async fn a_stream_is_read_both_ways_in_pages(fixture: impl Fixture) {
    use Direction::{Backward, Forward};
    const ALL: usize = usize::MAX;
    let store = &*fixture.store();
    let stream = thing("a");
    for _ in 0..3 {
        add(store, &thing("other"), 1).await;
        add(store, &stream, 2).await;
    }
    let events = whole_stream(store, &stream).await;
    let rows: &[(Direction, u64, usize, &[u64])] = &[
        (Forward, 0, ALL, &[1, 2, 3, 4, 5, 6]),
        (Forward, 1, 6, &[1, 2, 3, 4, 5, 6]),
        (Forward, 0, 1, &[1]),
        (Forward, 1, 2, &[1, 2]),
        (Forward, 3, 2, &[3, 4]),
        (Forward, 5, 10, &[5, 6]),
        (Forward, 6, 10, &[6]),
        (Forward, 7, 10, &[]),
        (Forward, u64::MAX, 10, &[]),
        (Forward, 1, 0, &[]),
        (Backward, u64::MAX, ALL, &[6, 5, 4, 3, 2, 1]),
        (Backward, u64::MAX, 1, &[6]),
        (Backward, 7, 2, &[6, 5]),
        (Backward, 6, 6, &[6, 5, 4, 3, 2, 1]),
        (Backward, 4, 2, &[4, 3]),
        (Backward, 2, 10, &[2, 1]),
        (Backward, 1, 10, &[1]),
        (Backward, 0, 10, &[]),
        (Backward, 6, 0, &[]),
    ];
    for (direction, from, limit, versions) in rows {
        let page = store
            .read_stream(&main_tenant(), &stream, Version::new(*from), *direction, *limit)
            .await
            .unwrap();
        let row = format!("{direction:?} from {from}, {limit}");
        let of = |version: &u64| events.iter().find(|event| event.version.get() == *version).unwrap().clone();
        let wanted: Vec<Arc<Event>> = versions.iter().map(of).collect();
        assert_eq!(page.events, wanted, "{row}");
        assert_eq!(page.head.get(), 6, "{row}");
        let page = store
            .read_stream(&main_tenant(), &thing("absent"), Version::new(*from), *direction, *limit)
            .await;
        let page = page.unwrap();
        assert_eq!((page.events.len(), page.head), (0, Version::ZERO), "{row}");
    }
}

/// A log of several tenants and categories, with streams of the system, and with some at its end that only
/// few want.
async fn mixed_log(store: &dyn EventStore) -> Vec<Arc<Event>> {
    let outcomes = StreamName::outcomes_of(&user("anna"));
    let streams = [
        "thing-a",
        "thing-a-b",
        "things-a",
        "other-thing",
        "$thing-a",
        outcomes.as_str(),
        "other-b",
        "other-b",
    ];
    for (round, stream) in streams.iter().cycle().take(24).enumerate() {
        let tenant = tenant(["north", "south"][round / 2 % 2]);
        let entries = [entry(&stream.parse().unwrap(), Expected::Any, 1 + round % 3)];
        append_one(store, Append { tenant, ..append(entries) }).await.unwrap();
    }
    whole_log(store).await
}

fn filters() -> [Filter; 6] {
    let category = |name: &'static str| Filter::Category(name.into());
    [
        Filter::Everything,
        Filter::People,
        category("thing"),
        category("things"),
        category("$outcomes"),
        category("absent"),
    ]
}

/// Page by page, whatever their size, each filter finds exactly the wanted events of every tenant, in the
/// order of the log, and comes to the end of the log even where nothing is wanted.
pub async fn the_log_is_read_in_pages_through_each_filter(fixture: impl Fixture) {
    let store = &*fixture.store();
    let log = mixed_log(store).await;
    for filter in filters() {
        let wanted: Vec<Arc<Event>> = log.iter().filter(|event| filter.admits(event)).cloned().collect();
        for limit in [1, 2, 3, 7, 1_000, usize::MAX] {
            let found = pages(store, Position::ZERO, store.head(), &filter, limit).await;
            assert!(found == wanted, "{filter:?} in pages of {limit}");
        }
    }
}

/// After any position comes what stands behind it; after the last there is nothing, and the page stays there.
pub async fn the_log_is_read_from_anywhere(fixture: impl Fixture) {
    let store = &*fixture.store();
    let empty = store.read_all(Position::ZERO, Filter::Everything, 10).await.unwrap();
    assert_eq!((empty.events.len(), empty.through), (0, Position::ZERO));
    let log = mixed_log(store).await;
    for (read, event) in log.iter().enumerate() {
        for filter in filters() {
            let rest = log[read + 1..].iter().filter(|event| filter.admits(event)).cloned();
            let found = pages(store, event.position, store.head(), &filter, 5).await;
            assert!(found == Vec::from_iter(rest), "{filter:?} after {}", event.position);
        }
    }
    for filter in filters() {
        let page = store.read_all(store.head(), filter, 10).await.unwrap();
        assert_eq!((page.events.len(), page.through), (0, store.head()));
    }
}

/// A page that has no room holds nothing, and so passes nothing that is wanted.
pub async fn a_page_without_room_passes_nothing(fixture: impl Fixture) {
    let store = &*fixture.store();
    let log = mixed_log(store).await;
    for filter in filters() {
        let page = store.read_all(Position::ZERO, filter.clone(), 0).await.unwrap();
        let passed =
            log.iter().filter(|event| filter.admits(event) && event.position <= page.through).count();
        assert_eq!((page.events.len(), passed), (0, 0), "{filter:?}");
    }
}

/// Whatever its limit, a page holds no more bytes than agreed, and at least one event. The rest is on the pages
/// behind it. So it is with the log, and with a stream in both directions.
pub async fn a_page_holds_so_many_bytes_and_no_more(fixture: impl Fixture) {
    const ALL: usize = usize::MAX;
    const ON_A_PAGE: usize = 3;
    const HEAVY: usize = MAX_PAGE_BYTES / ON_A_PAGE;
    let store = &*fixture.store();
    for _ in 0..2 * ON_A_PAGE + 1 {
        append_one(store, append([heavy(HEAVY)])).await.unwrap();
    }
    let bytes = |events: &[Arc<Event>]| -> usize {
        events.iter().map(|event| event.data.len() + event.metadata_json.len()).sum()
    };
    let log = whole_log(store).await;
    assert_eq!(bytes(&log), (2 * ON_A_PAGE + 1) * HEAVY);
    for filter in [Filter::Everything, Filter::Category("thing".into()), Filter::Category("absent".into())] {
        let page = store.read_all(Position::ZERO, filter.clone(), ALL).await.unwrap();
        assert!(bytes(&page.events) <= MAX_PAGE_BYTES, "{filter:?}");
        assert!(page.through > Position::ZERO, "{filter:?}");
        let found = pages(store, Position::ZERO, store.head(), &filter, ALL).await;
        assert_eq!(found.len(), log.iter().filter(|event| filter.admits(event)).count(), "{filter:?}");
    }

    let stream = thing("heavy");
    assert!(whole_stream(store, &stream).await == log);
    for (direction, from, versions) in
        [(Direction::Forward, 2, [2, 3, 4]), (Direction::Backward, u64::MAX, [7, 6, 5])]
    {
        let from = Version::new(from);
        let page = store.read_stream(&main_tenant(), &stream, from, direction, ALL).await.unwrap();
        let found: Vec<u64> = page.events.iter().map(|event| event.version.get()).collect();
        assert!(!found.is_empty() && versions.starts_with(&found), "{direction:?}: {found:?}");
        assert_eq!(page.head.get(), log.len() as u64, "{direction:?}");
    }
}

/// Whoever has asked for much, and looks at something else before the answers, gets that.
pub async fn an_answer_that_is_not_fetched_holds_nobody_up(fixture: impl Fixture) {
    const ASKED: usize = 100;
    const ALL: usize = usize::MAX;
    let store = &*fixture.store();
    add(store, &thing(0), 3).await;
    let ask = |_| store.read_stream(&main_tenant(), &thing(0), Version::new(1), Direction::Forward, ALL);
    let mut asked: Vec<_> = (0..ASKED).map(ask).collect();
    let early: Vec<_> = asked.iter_mut().map(|answer| answer.now_or_never()).collect();
    assert_eq!(look_up(store, &new_command()).await, None);
    for (early, answer) in early.into_iter().zip(asked) {
        let page = match early {
            Some(page) => page,
            None => answer.await,
        };
        assert_eq!(page.unwrap().events.len(), 3);
    }
}
