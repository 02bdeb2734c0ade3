//! What waits for the one writer of an engine, and the answers that wait for what it has written to be durable.
//!
//! Invariant: no more waits than was agreed. Whoever finds no room is refused at once, and has left nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::sequencer::weight;
use super::{
    Append, AppendError, Appended, BoxFuture, CursorError, CursorUpdate, Lease, MAX_WAITING_APPENDS,
    StoreError,
};

/// The most bytes that the appends of one call may hold, overheads included.
pub(crate) const MAX_CALL_BYTES: usize = 32 << 20;
/// How many bytes may wait for the disk; beyond that appends are refused as [`AppendError::Overloaded`].
const MAX_WAITING_BYTES: usize = 256 << 20;
/// What a record costs at most beside its texts.
const RECORD_OVERHEAD: usize = 512;
/// A group is closed when this many bytes are staged, even if more waits. With one more job of
/// [`MAX_CALL_BYTES`] it is still within what a log takes as one group.
pub(crate) const GROUP_BYTES: usize = 8 << 20;
/// A group is closed when it has this many jobs, even if more waits.
pub(crate) const GROUP_JOBS: usize = 4_096;

type AppendAnswers = Vec<Result<Appended, AppendError>>;

/// What a writer is asked to do.
pub(crate) enum Job {
    /// Append these, each for itself; so much they are.
    Append(Vec<Append>, Load, oneshot::Sender<AppendAnswers>),
    /// Move a cursor.
    Cursor(CursorUpdate, oneshot::Sender<Result<(), CursorError>>),
    /// Give or prolong a lease.
    Lease(LeaseRequest, oneshot::Sender<Result<Option<Lease>, StoreError>>),
}

#[cfg(feature = "postgres")]
impl Job {
    /// Tells everybody why nothing of it was kept. See [`Answer::refuse`].
    pub(crate) fn refuse(self, error: &AppendError) {
        match self {
            Self::Append(appends, _, reply) => drop(reply.send(vec![Err(error.clone()); appends.len()])),
            Self::Cursor(_, reply) => Answer::Cursor(Ok(()), reply).refuse(error),
            Self::Lease(_, reply) => Answer::Lease(Ok(None), reply).refuse(error),
        }
    }
}

/// Who wants which lease for how long.
pub(crate) struct LeaseRequest {
    pub(crate) name: Box<str>,
    pub(crate) owner: Box<str>,
    pub(crate) ttl: Duration,
}

/// An answer that is told once what it says is durable.
pub(crate) enum Answer {
    Append(AppendAnswers, oneshot::Sender<AppendAnswers>),
    Cursor(Result<(), CursorError>, oneshot::Sender<Result<(), CursorError>>),
    Lease(Result<Option<Lease>, StoreError>, oneshot::Sender<Result<Option<Lease>, StoreError>>),
}

impl Answer {
    /// A caller that no longer waits is not missed.
    pub(crate) fn send(self) {
        match self {
            Self::Append(results, reply) => drop(reply.send(results)),
            Self::Cursor(result, reply) => drop(reply.send(result)),
            Self::Lease(result, reply) => drop(reply.send(result)),
        }
    }

    /// Tells everybody why nothing of it was kept, whatever they were about to hear.
    pub(crate) fn refuse(self, error: &AppendError) {
        let reason = || match error {
            AppendError::Unavailable(reason) => Arc::clone(reason),
            other => other.to_string().into(),
        };
        match self {
            Self::Append(results, reply) => drop(reply.send(vec![Err(error.clone()); results.len()])),
            Self::Cursor(_, reply) => drop(reply.send(Err(CursorError::Unavailable(reason())))),
            Self::Lease(_, reply) => drop(reply.send(Err(StoreError::Unavailable(reason())))),
        }
    }
}

/// How much some appends are.
pub(crate) struct Load {
    appends: usize,
    bytes: usize,
}

impl Load {
    pub(crate) fn of(appends: &[Append]) -> Self {
        let records =
            |append: &Append| 1 + append.entries.iter().map(|entry| entry.events.len()).sum::<usize>();
        let bytes = |append: &Append| weight(append) + records(append) * RECORD_OVERHEAD;
        Self { appends: appends.len(), bytes: appends.iter().map(bytes).sum() }
    }

    /// Overheads included.
    #[cfg(feature = "postgres")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// How much waits.
#[derive(Default)]
pub(crate) struct Waiting {
    appends: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// Makes room in the queue, or says that there is none.
    pub(crate) fn reserve(&self, load: &Load) -> Result<(), AppendError> {
        let Load { appends, bytes } = load;
        let waiting_appends = self.appends.fetch_add(*appends, Ordering::Relaxed) + appends;
        let waiting_bytes = self.bytes.fetch_add(*bytes, Ordering::Relaxed) + bytes;
        if waiting_appends > MAX_WAITING_APPENDS
            || waiting_bytes > MAX_WAITING_BYTES
            || *bytes > MAX_CALL_BYTES
        {
            self.taken(load);
            return Err(AppendError::Overloaded);
        }
        Ok(())
    }

    /// How many appends wait.
    pub(crate) fn appends(&self) -> usize {
        self.appends.load(Ordering::Relaxed)
    }

    /// The writer has taken these from its queue.
    pub(crate) fn taken(&self, Load { appends, bytes }: &Load) {
        self.appends.fetch_sub(*appends, Ordering::Relaxed);
        self.bytes.fetch_sub(*bytes, Ordering::Relaxed);
    }
}

/// Resolves once it is told why an engine can write no more.
pub(crate) fn told(failure: &watch::Sender<Option<Arc<str>>>) -> BoxFuture<Arc<str>> {
    let mut failure = failure.subscribe();
    Box::pin(async move {
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match failed {
            Some(reason) => reason,
            // A store that was dropped did not fail.
            None => std::future::pending().await,
        }
    })
}
