//! Appends while something goes wrong, and whether every answer agrees with what the log has in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sillage_kernel::{
    Checksum, CommandId, ContentHash, Event, EventId, Expected, Filter, Metadata, NewEvent, Position,
    StreamName, Tenant, Version,
};
use sillage_store::{
    Append, AppendError, Appended, Entry, EventStore, LedgerKey, LedgerWrite, Subscription, Verdict,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

pub(super) fn tenant() -> Tenant {
    "main".parse().unwrap()
}

pub(super) fn stream(name: &str) -> StreamName {
    StreamName::new("thing", name).unwrap()
}

pub(super) fn entry(stream: &StreamName, expected: Expected, events: usize) -> Entry {
    let happened =
        || NewEvent::new(EventId(Uuid::now_v7()), "Happened", "{}".to_owned(), Metadata::default());
    let events = std::iter::repeat_with(happened).take(events).collect();
    Entry { stream: stream.clone(), expected, events }
}

pub(super) fn new_command() -> LedgerKey {
    let principal = "anna".parse().unwrap();
    LedgerKey { tenant: tenant(), principal, command_id: CommandId(Uuid::now_v7()) }
}

/// An append that settles a command which is decided in its first stream.
pub(super) fn settling(key: &LedgerKey, entries: Vec<Entry>) -> Append {
    let (key, stream) = (key.clone(), entries[0].stream.clone());
    let ledger = LedgerWrite { key, content: ContentHash([7; 16]), stream, verdict: Verdict::Applied };
    Append { tenant: tenant(), entries, ledger: Some(ledger), fence: None, recorded_at: None }
}

pub(super) async fn append_one(store: &dyn EventStore, append: Append) -> Result<Appended, AppendError> {
    store.append(vec![append]).await.remove(0)
}

/// Adds one event, whatever the stream is like.
pub(super) async fn add(store: &dyn EventStore, name: &str) -> Result<Appended, AppendError> {
    append_one(store, settling(&new_command(), vec![entry(&stream(name), Expected::Any, 1)])).await
}

/// An append, and what was answered.
pub(super) struct Attempt {
    pub(super) append: Append,
    pub(super) answer: Result<Appended, AppendError>,
}

/// Several who write to several nodes, all to one stream and each to one of its own.
pub(super) struct Load {
    stop: watch::Sender<()>,
    writers: JoinSet<Vec<Attempt>>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    pub(super) fn start(stores: &[Arc<dyn EventStore>], writers: usize) -> Self {
        let mut load =
            Self { stop: watch::Sender::default(), writers: JoinSet::new(), acknowledged: Arc::default() };
        for (n, store) in stores.iter().cycle().take(writers).enumerate() {
            let (store, stop) = (Arc::clone(store), load.stop.subscribe());
            load.writers.spawn(write(store, n, stop, Arc::clone(&load.acknowledged)));
        }
        load
    }

    /// Waits until so many more were acknowledged.
    pub(super) async fn goes_on(&self, more: usize) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + more;
        super::eventually("more is acknowledged", async || {
            (self.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Lets everybody finish, and tells what they were answered.
    pub(super) async fn stop(self) -> Vec<Attempt> {
        drop(self.stop);
        self.writers.join_all().await.into_iter().flatten().collect()
    }
}

/// Writes one after the other. That the own stream is where the answers say is expected each time.
async fn write(
    store: Arc<dyn EventStore>,
    writer: usize,
    stop: watch::Receiver<()>,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<Attempt> {
    let (own, shared) = (stream(&format!("own-{writer}")), stream("shared"));
    let (mut version, mut attempts) = (Version::ZERO, Vec::new());
    while stop.has_changed().is_ok() {
        let entries = vec![entry(&own, Expected::Exactly(version), 1), entry(&shared, Expected::Any, 1)];
        let append = settling(&new_command(), entries);
        let answer = append_one(&*store, append.clone()).await;
        match &answer {
            Ok(_) => {
                version = version.next();
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(AppendError::Unavailable(_) | AppendError::Overloaded) => tokio::task::yield_now().await,
            Err(other) => panic!("nobody expected {other:?}"),
        }
        attempts.push(Attempt { append, answer });
    }
    attempts
}

/// Everything, as whoever follows sees it.
pub(super) async fn follow(store: Arc<dyn EventStore>, end: Position) -> Vec<Arc<Event>> {
    let mut subscription = Subscription::new(store, Position::ZERO, Filter::Everything);
    let mut seen = Vec::new();
    while subscription.cursor() < end {
        seen.extend(subscription.next(100).await.unwrap().events);
    }
    seen
}

/// The log has what was acknowledged, where it was said to be, once, and nothing else; so has the ledger.
pub(super) async fn assert_agrees(store: &Arc<dyn EventStore>, attempts: &[Attempt]) {
    let last = attempts.iter().filter_map(|attempt| Some(attempt.answer.as_ref().ok()?.position)).max();
    // Another node may have been the last to write.
    store.watermark().wait_for(|head| Some(*head) >= last).await.unwrap();
    let log = follow(Arc::clone(store), store.head()).await;
    assert_in_order(&log);
    let places: BTreeMap<EventId, usize> = log.iter().enumerate().map(|(at, event)| (event.id, at)).collect();
    assert_eq!(places.len(), log.len(), "an event is there twice");
    let keys: Vec<LedgerKey> =
        attempts.iter().map(|attempt| attempt.append.ledger.as_ref().unwrap().key.clone()).collect();
    let known = store.look_up(keys).await.unwrap();
    let mut acknowledged = BTreeSet::new();
    for (Attempt { append, answer }, known) in attempts.iter().zip(known) {
        let ids: Vec<EventId> = append.entries.iter().flat_map(|e| &e.events).map(|event| event.id).collect();
        match answer {
            Ok(Appended { position, receipt }) => {
                let last = usize::try_from(position.get()).unwrap();
                let there: Vec<EventId> = log[last - ids.len()..last].iter().map(|event| event.id).collect();
                assert_eq!(there, ids, "what was acknowledged is not where it was said to be");
                assert_eq!(known.map(|entry| entry.receipt), *receipt);
                acknowledged.extend(ids);
            }
            Err(refused) => {
                assert!(ids.iter().all(|id| !places.contains_key(id)), "it is there: {refused:?}");
                assert_eq!(known, None, "the ledger knows what was refused: {refused:?}");
            }
        }
    }
    assert_eq!(acknowledged.len(), log.len(), "there is what nobody was told of");
}

/// Positions have no gaps, time does not go back, and every stream is linked.
pub(super) fn assert_in_order(log: &[Arc<Event>]) {
    let mut ends: BTreeMap<StreamName, Checksum> = BTreeMap::new();
    for (position, event) in (1..).zip(log) {
        assert_eq!(event.position.get(), position, "positions have a gap");
        let end = ends.entry(event.stream.clone()).or_insert(Checksum::START);
        assert!(event.follows(end), "{} {} does not follow", event.stream, event.version);
        *end = event.checksum;
    }
    assert!(log.is_sorted_by_key(|event| event.recorded_at));
}
