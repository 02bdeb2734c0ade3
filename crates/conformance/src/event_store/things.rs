//! What the properties are told with: things, and what happens to them.

use std::fmt::Display;
use std::sync::Arc;

use sillage_kernel::{
    CommandId, ContentHash, Event, EventId, Expected, Filter, Metadata, NewEvent, Position, StreamName,
    Tenant, UserId, Version,
};
use sillage_store::event_store::Positions;
use sillage_store::{
    Append, AppendError, Appended, Direction, Entry, EventStore, LedgerEntry, LedgerKey, LedgerWrite, Verdict,
};
use uuid::Uuid;

/// The tenant of whatever names no other.
pub(crate) fn main_tenant() -> Tenant {
    "main".parse().unwrap()
}

pub(super) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

pub(super) fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

/// A stream of the category `thing`.
pub(crate) fn thing(id: impl Display) -> StreamName {
    StreamName::new("thing", &id.to_string()).unwrap()
}

/// An event that is unlike any other.
pub(super) fn happened() -> NewEvent {
    let id = EventId(Uuid::now_v7());
    let metadata = Metadata { user_id: Some(user("anna")), schema: 1, ..Metadata::default() };
    NewEvent::new(id, "ThingHappened", format!(r#"{{"thing":"{}"}}"#, id.0), metadata)
}

pub(crate) fn entry(stream: &StreamName, expected: Expected, events: usize) -> Entry {
    let events = std::iter::repeat_with(happened).take(events).collect();
    Entry { stream: stream.clone(), expected, events }
}

/// An event of so many bytes of data and metadata, in a stream of such.
pub(super) fn heavy(bytes: usize) -> Entry {
    let NewEvent { id, event_type, data: _, metadata, metadata_json, digest: _ } = happened();
    let quotes = 2;
    let data = format!("\"{}\"", "x".repeat(bytes - metadata_json.len() - quotes));
    let event = NewEvent::new(id, &event_type, data, metadata);
    Entry { stream: thing("heavy"), expected: Expected::Any, events: vec![event] }
}

/// An append of the main tenant that settles no command and rests on no lease.
pub(crate) fn append(entries: impl Into<Vec<Entry>>) -> Append {
    Append { tenant: main_tenant(), entries: entries.into(), ledger: None, fence: None, recorded_at: None }
}

pub(super) fn exactly(version: u64) -> Expected {
    Expected::Exactly(Version::new(version))
}

pub(super) fn conflict(stream: &StreamName, expected: Expected, actual: u64) -> AppendError {
    AppendError::Conflict { stream: stream.clone(), expected, actual: Version::new(actual) }
}

/// A command of anna's that nobody has sent yet.
pub(crate) fn new_command() -> LedgerKey {
    LedgerKey { tenant: main_tenant(), principal: user("anna"), command_id: CommandId(Uuid::now_v7()) }
}

pub(super) const CONTENT: ContentHash = ContentHash([7; 16]);

/// The append as the one that settles a command which was decided in its first stream. It goes to the tenant
/// of the command.
pub(crate) fn settling(key: &LedgerKey, verdict: Verdict, entries: impl Into<Vec<Entry>>) -> Append {
    let append = append(entries);
    let stream = append.entries[0].stream.clone();
    let ledger = Some(LedgerWrite { key: key.clone(), content: CONTENT, stream, verdict });
    Append { tenant: key.tenant.clone(), ledger, ..append }
}

pub(super) async fn append_one(store: &dyn EventStore, append: Append) -> Result<Appended, AppendError> {
    let results = store.append(vec![append]).await;
    let [result] = <[_; 1]>::try_from(results).expect("one append has one answer");
    result
}

/// Adds events to a stream, whatever it is like.
pub(super) async fn add(store: &dyn EventStore, stream: &StreamName, events: usize) -> Appended {
    append_one(store, append([entry(stream, Expected::Any, events)])).await.expect("nothing was expected")
}

pub(crate) async fn look_up(store: &dyn EventStore, key: &LedgerKey) -> Option<LedgerEntry> {
    let [entry] = <[_; 1]>::try_from(store.look_up(vec![key.clone()]).await.unwrap()).unwrap();
    entry
}

/// All events of a stream of the main tenant.
pub(crate) async fn whole_stream(store: &dyn EventStore, stream: &StreamName) -> Vec<Arc<Event>> {
    stream_of(store, &main_tenant(), stream).await
}

/// All events of a stream, read page by page.
pub(super) async fn stream_of(
    store: &dyn EventStore,
    tenant: &Tenant,
    stream: &StreamName,
) -> Vec<Arc<Event>> {
    let (mut read, mut events) = (Version::ZERO, Vec::new());
    loop {
        let from = read.next();
        let page = store.read_stream(tenant, stream, from, Direction::Forward, usize::MAX).await.unwrap();
        events.extend(page.events);
        let last = events.last().map_or(Version::ZERO, |event: &Arc<Event>| event.version);
        if last == page.head {
            return events;
        }
        assert!(read < last, "the page after {read} of {} comes no further", page.head);
        read = last;
    }
}

/// The version of the last event of a stream of the main tenant.
pub(crate) async fn version_of(store: &dyn EventStore, stream: &StreamName) -> u64 {
    let newest = Version::new(u64::MAX);
    let page = store.read_stream(&main_tenant(), stream, newest, Direction::Backward, 1).await.unwrap();
    page.head.get()
}

/// All wanted events after `after` and up to `end`, read page by page. Each page must keep its promise: its
/// events are wanted and in order, it is no longer than asked for, and it comes further.
pub(super) async fn pages(
    store: &dyn EventStore,
    after: Position,
    end: Position,
    filter: &Filter,
    limit: usize,
) -> Vec<Arc<Event>> {
    let (mut cursor, mut found) = (after, Vec::new());
    while cursor < end {
        let page = store.read_all(cursor, filter.clone(), limit).await.unwrap();
        assert!(page.through > cursor, "the page after {cursor} of {end} comes no further");
        assert!(page.events.len() <= limit, "the page after {cursor} is longer than {limit}");
        for event in page.events {
            assert!(filter.admits(&event), "nobody wanted {event:?}");
            assert!(cursor < event.position && event.position <= page.through, "{event:?} is out of order");
            cursor = event.position;
            found.push(event);
        }
        cursor = page.through;
    }
    found.retain(|event| event.position <= end);
    found
}

/// All events up to the head.
pub(crate) async fn whole_log(store: &dyn EventStore) -> Vec<Arc<Event>> {
    pages(store, Position::ZERO, store.head(), &Filter::Everything, 256).await
}

/// What an append that was refused must have left as it was.
#[derive(PartialEq)]
pub(super) struct Kept {
    head: Position,
    log: Vec<Arc<Event>>,
}

pub(super) async fn kept(store: &dyn EventStore) -> Kept {
    Kept { head: store.head(), log: whole_log(store).await }
}

/// Asserts that the log stands where it stood.
pub(super) async fn assert_kept(store: &dyn EventStore, before: &Kept, row: impl Display) {
    assert_eq!(store.head(), before.head, "{row}: the head has moved");
    assert!(kept(store).await == *before, "{row}: the log has changed");
}

/// Asserts that `after` is the position of the last of so many events that follow `before` directly.
pub(super) fn assert_follows(store: &dyn EventStore, before: Position, after: Position, events: usize) {
    match store.features().positions {
        _ if events == 0 => assert_eq!(after, before, "without events the position stays"),
        Positions::Gapless => assert_eq!(after.get(), before.get() + events as u64, "positions have a gap"),
        Positions::Growing => {
            assert!(after.get() >= before.get() + events as u64, "positions are used twice")
        }
    }
}

/// Asserts that the log has kept the event to the byte.
pub(super) fn assert_is(event: &Event, new: &NewEvent) {
    let NewEvent { id, event_type, data, metadata, metadata_json, digest: _ } = new;
    assert_eq!(event.id, *id);
    assert_eq!(event.event_type, *event_type);
    assert!(event.data == *data, "the data of {id:?} is another");
    assert_eq!(event.metadata, *metadata);
    assert_eq!(event.metadata_json, *metadata_json);
}
