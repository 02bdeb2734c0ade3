//! Who follows what, and how news reaches them: a destination of the log like any other.
//!
//! Each followed feed keeps its newest events as finished frames, shared by all who follow it. A connection
//! holds no events, only the number of the next one it wants; it is woken, takes from the feed what it has
//! not had, and reads from the log what the feed no longer holds. So a slow reader costs nothing and loses
//! nothing, and there is no seam between catching up and being live.

mod connection;
mod elsewhere;
mod feed;
mod follower;
mod sweep;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use sillage_kernel::wire::{EventMessage, ReceiptMessage, SnapshotMessage};
use sillage_kernel::{
    Baseline, Epoch, Event, Filter, Reach, Reaction, Reactor, StreamName, Tenant, UserId, Version,
};
use sillage_runtime::{ReceiptSink, ReplayError, Settled, last_baseline, station};
use sillage_store::event_store::hints::Hints;
use sillage_store::{EventStore, StoreError};

pub use self::connection::{Closing, Connection, MAX_DIRECT_BYTES, MAX_DIRECT_MESSAGES};
pub use self::elsewhere::hear;
use self::feed::{Feed, Frame};
pub use self::follower::{Follower, MAX_FEEDS, Outgoing, Since};
pub use self::sweep::{PING_AFTER, SILENCE_LIMIT, sweep};
use crate::directory::Directory;
use crate::limits::Bounds;

/// The name of the socket destination.
pub const SOCKETS: &str = "sockets";
/// Over how many locks feeds and connections are dealt out.
const SHARDS: usize = 64;
/// The most bytes of frames that all feeds together hold; beyond it each keeps only its newest few.
pub const MAX_FRAME_BYTES: usize = 256 << 20;

type FeedKey = (Tenant, StreamName);
type Principal = (Tenant, UserId);

/// Everybody who is connected to this node.
pub struct Hub {
    store: Arc<dyn EventStore>,
    /// The way to the other nodes, if there may be any.
    others: Option<Arc<dyn Hints>>,
    epoch: Epoch,
    directory: Arc<Directory>,
    feeds: Shards<HashMap<FeedKey, Arc<Feed>>>,
    connections: Shards<HashMap<u64, Arc<Connection>>>,
    by_principal: Shards<HashMap<Principal, Vec<Arc<Connection>>>>,
    next_connection: AtomicU64,
    /// How many connections there are, which `bounds` limits.
    open: AtomicUsize,
    bounds: Bounds,
    frame_bytes: Arc<AtomicUsize>,
}

/// Whether somebody has connections to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connected {
    Yes,
    No,
}

/// One value for each shard of a key.
struct Shards<T> {
    shards: Box<[Mutex<T>]>,
    hasher: RandomState,
}

impl<T: Default> Shards<T> {
    fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    fn of(&self, key: &impl std::hash::Hash) -> MutexGuard<'_, T> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).expect("there are 64");
        lock(self.shards.get(at).expect("the remainder is below the number of shards"))
    }

    fn each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.shards.iter().map(lock)
    }
}

/// What a panic left behind in the hub is whole: nothing in it is changed in steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub without connections, for the feeds of a store.
    pub fn new(store: Arc<dyn EventStore>, directory: Arc<Directory>, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            epoch: store.epoch(),
            others: store.hints(),
            store,
            directory,
            feeds: Shards::new(),
            connections: Shards::new(),
            by_principal: Shards::new(),
            next_connection: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            bounds,
            frame_bytes: Arc::default(),
        })
    }

    /// The identity of the log behind the feeds.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many bytes of frames all feeds together hold.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes.load(Ordering::Relaxed)
    }

    /// Asks every connection to close, and answers how many there are.
    pub fn close_all(&self, closing: Closing) -> usize {
        let all: Vec<_> = self
            .connections
            .each()
            .flat_map(|connections| connections.values().cloned().collect::<Vec<_>>())
            .collect();
        all.iter().for_each(|connection| connection.close(closing));
        all.len()
    }

    /// The finished message of an event.
    pub fn frame(&self, event: &Event) -> Frame {
        let text = message_of(event, &self.epoch, &self.directory);
        let trace = event.metadata.traceparent.as_deref().map(feed::FrameTrace::new);
        Frame { version: event.version, text: Utf8Bytes::from(text), trace }
    }

    /// The state that stands for events which were dropped, as a finished message; the one at `wanted` must be in it.
    pub(crate) async fn snapshot(
        &self,
        (tenant, feed): &FeedKey,
        wanted: Version,
    ) -> Result<Frame, StoreError> {
        let unreadable = |error: ReplayError| match error {
            ReplayError::Store(error) => error,
            error => StoreError::Unavailable(error.to_string().into()),
        };
        let last = last_baseline(self.store.as_ref(), tenant, feed).await.map_err(unreadable)?;
        let last = last.filter(|baseline| baseline.version >= wanted);
        let lost = || StoreError::Unavailable(format!("nothing stands for what {feed} has lost").into());
        let Baseline { version, state, .. } = last.ok_or_else(lost)?;
        let (feed, epoch) = (feed.clone(), self.epoch.clone());
        let message = SnapshotMessage { feed, epoch, sequence_number: version, state };
        let text =
            serde_json::to_string(&message).expect("a message has only string keys and no failing parts");
        Ok(Frame { version, text: text.into(), trace: None })
    }

    /// The feed, if anybody follows it.
    fn followed(&self, event: &Event) -> Option<Arc<Feed>> {
        let key = (event.tenant.clone(), event.stream.clone());
        self.feeds.of(&key).get(&key).cloned()
    }

    fn follow(&self, key: &FeedKey, connection: &Arc<Connection>) -> Arc<Feed> {
        let mut feeds = self.feeds.of(key);
        let new = || Arc::new(Feed::new(Arc::clone(&self.frame_bytes)));
        let feed = feeds.entry(key.clone()).or_insert_with(new);
        feed.add(connection);
        Arc::clone(feed)
    }

    fn unfollow(&self, key: &FeedKey, connection: &Connection) {
        let mut feeds = self.feeds.of(key);
        if let Some(feed) = feeds.get(key)
            && feed.remove(connection) == 0
        {
            feeds.remove(key);
        }
    }
}

/// The text of an event on every transport.
fn message_of(event: &Event, epoch: &Epoch, directory: &Directory) -> String {
    let data: &serde_json::value::RawValue =
        serde_json::from_str(&event.data).expect("what is stored was JSON when it was appended");
    let user_id = event.metadata.user_id.clone();
    let username = user_id.as_ref().map(|user| directory.username(&event.tenant, user));
    let message = EventMessage {
        feed: event.stream.clone(),
        epoch: epoch.clone(),
        sequence_number: event.version,
        position: event.position,
        event_type: event.event_type.to_string().into(),
        data,
        user_id,
        username,
        timestamp: event.recorded_at,
        command_id: event.metadata.command_id,
    };
    serde_json::to_string(&message).expect("a message has only string keys and no failing parts")
}

impl Reactor for Hub {
    fn name(&self) -> &'static str {
        SOCKETS
    }

    fn filter(&self) -> Filter {
        Filter::People
    }

    fn reach(&self) -> Reach {
        Reach::Inside
    }

    /// Confirms an event when its feed holds it and everybody who follows has been woken. Whoever is slow is
    /// behind then, and will read it from the log.
    fn react<'a>(&'a self, events: &'a [Arc<Event>]) -> Reaction<'a> {
        let mut touched: Vec<Arc<Feed>> = Vec::new();
        for event in events {
            let Some(feed) = self.followed(event) else { continue };
            let _span = station!("publish", event.metadata.traceparent.as_deref()).entered();
            let crowded = self.frame_bytes.load(Ordering::Relaxed) > MAX_FRAME_BYTES;
            let limit = if crowded { feed::CROWDED_BYTES } else { feed::MAX_BYTES };
            feed.push(self.frame(event), limit);
            if !touched.iter().any(|other| Arc::ptr_eq(other, &feed)) {
                touched.push(feed);
            }
        }
        touched.iter().for_each(|feed| feed.wake_all());
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Hub {
    /// Gives a receipt to all connections of its sender.
    fn give(&self, Settled { tenant, principal, receipt }: &Settled) -> Connected {
        let key = (tenant.clone(), principal.clone());
        let connections = self.by_principal.of(&key);
        let Some(connections) = connections.get(&key) else { return Connected::No };
        let message = serde_json::to_string(&ReceiptMessage::from(receipt))
            .expect("a receipt has only string keys and no failing parts");
        let message = Utf8Bytes::from(message);
        connections.iter().for_each(|connection| connection.give_receipt(message.clone()));
        Connected::Yes
    }
}

impl ReceiptSink for Hub {
    fn deliver(&self, settled: &[Settled]) {
        let given = settled.iter().map(|settled| (settled, self.give(settled)));
        let Some(others) = &self.others else { return given.for_each(drop) };
        let hints: Vec<_> = given.filter_map(|(settled, here)| elsewhere::hint(settled, here)).collect();
        if !hints.is_empty() {
            others.tell(hints);
        }
    }
}
