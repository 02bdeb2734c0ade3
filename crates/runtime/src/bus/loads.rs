//! The streams that a shard reads, and the commands that wait for them.
//!
//! Invariant: the commands to a stream wait in the order in which they came, and whatever comes for it later
//! joins them, until all are taken together with what was read. So nothing overtakes, and a long stream holds
//! up nobody but those who need it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sillage_store::event_store::BoxFuture;
use sillage_store::{EventStore, SnapshotOf, Snapshots};

use super::outcome::not_replayed;
use super::shard::Pending;
use super::{DispatchError, StreamKey};
use crate::deciders::Rules;
use crate::replay::{Last, Replayed, Until, due_after, replay, snapshot_of};

/// How many streams are read at the same time; the next ones wait until one of them is done.
const LOADS_AT_ONCE: usize = 32;
/// How many commands wait for streams; at that number the shard takes no more, until some are read.
const WAITING_FOR_LOADS: usize = 4_096;

/// A stream as it was read.
type Read = Result<Replayed, DispatchError>;

/// A stream that was read, or could not be, and the commands that waited for it.
pub(super) struct Loaded {
    pub(super) stream: StreamKey,
    pub(super) read: Read,
    pub(super) waited: Vec<Pending>,
}

/// The reading of a shard. A stream is in `waiting` and in one of `queued`, `reading` and `done`, or nowhere.
pub(super) struct Loads {
    store: Arc<dyn EventStore>,
    snapshots: Option<Arc<Snapshots>>,
    waiting: HashMap<StreamKey, Vec<Pending>>,
    /// How many commands are in `waiting`.
    commands: usize,
    queued: VecDeque<(StreamKey, Arc<dyn Rules>)>,
    reading: FuturesUnordered<BoxFuture<(StreamKey, Read)>>,
    done: Vec<(StreamKey, Read)>,
}

impl Loads {
    pub(super) fn new(store: Arc<dyn EventStore>, snapshots: Option<Arc<Snapshots>>) -> Self {
        Self {
            store,
            snapshots,
            waiting: HashMap::new(),
            commands: 0,
            queued: VecDeque::new(),
            reading: FuturesUnordered::new(),
            done: Vec::new(),
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether so many wait that no more may come.
    pub(super) fn is_full(&self) -> bool {
        self.commands >= WAITING_FOR_LOADS
    }

    /// Lets a command wait until its stream is read.
    pub(super) fn wait(&mut self, stream: StreamKey, pending: Pending) {
        self.commands += 1;
        match self.waiting.entry(stream) {
            Entry::Occupied(waiting) => waiting.into_mut().push(pending),
            Entry::Vacant(first) => {
                self.queued.push_back((first.key().clone(), Arc::clone(&pending.command.rules)));
                first.insert(vec![pending]);
            }
        }
    }

    /// Reads until there is something to take; all that is ready comes together, so that it becomes one turn.
    /// May be dropped and asked again.
    pub(super) async fn read(&mut self) {
        poll_fn(|context| {
            let before = self.done.len();
            loop {
                self.start();
                match self.reading.poll_next_unpin(context) {
                    Poll::Ready(Some(done)) => self.done.push(done),
                    Poll::Ready(None) | Poll::Pending if self.done.len() > before => return Poll::Ready(()),
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    fn start(&mut self) {
        while self.reading.len() < LOADS_AT_ONCE
            && let Some((stream, rules)) = self.queued.pop_front()
        {
            let (store, snapshots) = (Arc::clone(&self.store), self.snapshots.clone());
            self.reading.push(Box::pin(async move {
                let read = load(store.as_ref(), snapshots.as_deref(), &stream, rules.as_ref()).await;
                (stream, read)
            }));
        }
    }

    /// What was read since it was last asked.
    pub(super) fn take(&mut self) -> Vec<Loaded> {
        let Self { waiting, commands, done, .. } = self;
        let loaded = |(stream, read)| {
            let waited = waiting.remove(&stream).expect("a stream is read because a command waits for it");
            *commands -= waited.len();
            Loaded { stream, read, waited }
        };
        done.drain(..).map(loaded).collect()
    }
}

/// The state of a stream, of which a snapshot is kept if one was due.
async fn load(
    store: &dyn EventStore,
    snapshots: Option<&Snapshots>,
    key: &StreamKey,
    rules: &dyn Rules,
) -> Read {
    let replayed = replay(store, snapshots, key, rules, Until::End).await;
    let mut replayed = replayed.map_err(|error| not_replayed(&error))?;
    if let Some(snapshots) = snapshots
        && let Some(Last { version, event, .. }) = replayed.last
        && version >= replayed.snapshot_due
        && snapshots.has_room()
        && let Some(snapshot) = snapshot_of(rules, &replayed.state, version, event)
    {
        replayed.snapshot_due = due_after(rules, version, snapshot.state.len());
        let (tenant, stream) = key.clone();
        snapshots.offer(SnapshotOf { tenant, stream, revision: rules.revision() }, snapshot);
    }
    Ok(replayed)
}
