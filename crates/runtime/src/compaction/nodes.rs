//! Who shares the log, and how far each of them has come: what a living node has not seen is not dropped.
//!
//! Each node holds one of a few places, by a lease that runs out, and writes beside it how far it has come. So nothing
//! is dropped before its eyes as long as it gives a sign of life. What a node misses that gave none for longer it
//! notices by the log itself ([`may_lack_events`](sillage_store::views::may_lack_events)), whatever its clock says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use sillage_kernel::Position;
use sillage_store::views::ViewReader;
use sillage_store::{CursorError, CursorUpdate, EventStore, Fence, Lease, Nodes, Parked, StoreError};
use uuid::Uuid;

use super::CompactionError;
use crate::reactors::ReactorHandle;

/// How many nodes may share a log.
pub const MAX_NODES: usize = 32;
/// How long a node that gives no sign of life keeps others from dropping what it has not seen.
pub const PLACE_TTL: Duration = Duration::from_secs(15);
/// How often it gives one.
const SIGN_EVERY: Duration = PLACE_TTL.checked_div(3).expect("three is not zero");

/// A node among those that share a log.
pub struct Neighbour {
    store: Arc<dyn EventStore>,
    /// Which node this is, and which of its lives.
    owner: Box<str>,
    held: Mutex<Held>,
}

/// The place that this node has.
#[derive(Clone, Copy)]
struct Held {
    place: usize,
    lease: Lease,
}

/// Why a node cannot share the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoPlace {
    /// Stop one of the others.
    #[error("the log is shared by {MAX_NODES} nodes already, which is as many as may")]
    Full,
    /// The log cannot be reached: come back later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be written: come back later.
    #[error(transparent)]
    Cursor(#[from] CursorError),
}

impl Neighbour {
    /// Takes a place among those who share the log; none where nobody else can. Until it says more, this node has seen
    /// nothing: what is missing is to be looked for after this.
    pub async fn join(store: &Arc<dyn EventStore>) -> Result<Option<Arc<Self>>, NoPlace> {
        if store.features().nodes == Nodes::One {
            return Ok(None);
        }
        let (store, owner) = (Arc::clone(store), Box::<str>::from(Uuid::new_v4().to_string()));
        let held = take_place(store.as_ref(), &owner).await?;
        let this = Self { store, owner, held: Mutex::new(held) };
        this.write(held, Position::ZERO).await?;
        Ok(Some(Arc::new(this)))
    }

    /// Says how far this node has come, again and again.
    pub(super) async fn tell(&self, seen: SeenHere) {
        loop {
            if let Err(error) = self.tell_once(&seen).await {
                tracing::warn!(%error, "the other nodes cannot be told how far this one has come");
            }
            tokio::time::sleep(SIGN_EVERY).await;
        }
    }

    async fn tell_once(&self, seen: &SeenHere) -> Result<(), NoPlace> {
        let mut held = self.held();
        let prolonged = self.store.acquire_lease(&lease_of(held.place), &self.owner, PLACE_TTL).await?;
        if prolonged != Some(held.lease) {
            held = take_place(self.store.as_ref(), &self.owner).await?;
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        }
        Ok(self.write(held, seen.position(self.store.head())).await?)
    }

    /// Up to where all others have come that live. Whoever does not loses its place.
    pub(super) async fn seen_by_others(&self) -> Result<Position, CompactionError> {
        let own = self.held().place;
        let others = (0..MAX_NODES).filter(|place| *place != own).map(async |place| {
            let free = self.store.acquire_lease(&lease_of(place), &self.owner, Duration::ZERO).await?;
            if free.is_some() {
                return Ok(Position::new(u64::MAX));
            }
            Ok::<_, StoreError>(self.store.read_cursor(&cursor_of(place)).await?.position)
        });
        let seen: Result<Vec<_>, _> = join_all(others).await.into_iter().collect();
        Ok(seen?.into_iter().min().unwrap_or(Position::new(u64::MAX)))
    }

    /// The lease of that name, if nobody else has it.
    pub(super) async fn hold(&self, lease: &str, ttl: Duration) -> Result<Option<Fence>, StoreError> {
        let held = self.store.acquire_lease(lease, &self.owner, ttl).await?;
        Ok(held.map(|held| Fence { lease: lease.into(), held }))
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, Held { place, lease }: Held, seen: Position) -> Result<(), CursorError> {
        let fence = Some(Fence { lease: lease_of(place).into(), held: lease });
        let (reactor, position) = (cursor_of(place).into(), Some(seen));
        self.store.write_cursor(CursorUpdate { reactor, fence, position, ..CursorUpdate::default() }).await
    }
}

/// The first place that is free.
async fn take_place(store: &dyn EventStore, owner: &str) -> Result<Held, NoPlace> {
    for place in 0..MAX_NODES {
        if let Some(lease) = store.acquire_lease(&lease_of(place), owner, PLACE_TTL).await? {
            return Ok(Held { place, lease });
        }
    }
    Err(NoPlace::Full)
}

fn lease_of(place: usize) -> String {
    format!("$node-{place}")
}

fn cursor_of(place: usize) -> String {
    format!("$seen-{place}")
}

/// How far this node has come with all that it keeps for itself.
#[derive(Clone)]
pub struct SeenHere {
    /// Those that keep their cursors in the log are not asked.
    pub reactors: Vec<ReactorHandle>,
    /// The views of this node.
    pub views: ViewReader,
}

impl SeenHere {
    /// Up to where all of it has come, at most to `head`.
    pub(super) fn position(&self, head: Position) -> Position {
        let views = self.views.statuses().into_iter().map(|view| view.position);
        let own = self.reactors.iter().filter(|reactor| !reactor.is_kept_in_the_log());
        let reactors = own.map(|reactor| {
            let status = reactor.status();
            let waiting = status.parked.iter().filter(|parked| parked.waits());
            waiting.map(|parked: &Parked| parked.position.previous()).fold(status.position, Position::min)
        });
        views.chain(reactors).fold(head, Position::min)
    }
}
