//! One open connection, as everybody but its own task sees it: something that can be woken, told and closed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::ws::Utf8Bytes;
use sillage_kernel::Timestamp;
use tokio::sync::Notify;

use super::{Hub, Principal, lock};
use crate::codes::{Close, Code, RETRY_AFTER_SECONDS, Refusal};
use crate::tokens::{Allowance, Identity};

/// How many messages that are for one connection alone may wait for it.
pub const MAX_DIRECT_MESSAGES: usize = 4_096;
/// When so many bytes of such messages wait for one connection, it is given no more.
pub const MAX_DIRECT_BYTES: usize = 1 << 20;

/// Why a connection is to close.
pub type Closing = Close;

/// An open connection.
pub struct Connection {
    id: u64,
    principal: Principal,
    notify: Notify,
    dirty: AtomicBool,
    direct: Mutex<VecDeque<Direct>>,
    direct_bytes: AtomicUsize,
    closing: Mutex<Option<Close>>,
    last_heard: AtomicI64,
    expires_at: AtomicI64,
    warned: AtomicBool,
    chores: AtomicU8,
}

/// A message for one connection alone.
#[derive(Debug, Clone)]
pub(super) enum Direct {
    /// What became of a command.
    Receipt(Utf8Bytes),
    /// Anything else.
    Answer(Utf8Bytes),
}

impl Direct {
    fn text(&self) -> &Utf8Bytes {
        let (Self::Receipt(text) | Self::Answer(text)) = self;
        text
    }
}

/// Whether a message found room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Enough,
    None,
}

/// What the sweep asks a connection's task to do.
const CHORE_PING: u8 = 1;

impl Connection {
    /// One more connection, unless its user or everybody together has as many as there may be.
    pub(super) fn open(hub: &Hub, identity: &Identity, now: Timestamp) -> Result<Arc<Self>, Refusal> {
        let principal = (identity.tenant.clone(), identity.actor.user_id.clone());
        let mut by_principal = hub.by_principal.of(&principal);
        let own = match identity.allowance {
            Allowance::Full => hub.bounds.of_one_user,
            Allowance::Limited => hub.bounds.of_one_guest,
        };
        if by_principal.get(&principal).map_or(0, Vec::len) >= own {
            let message = format!("There may be {own} connections of one user.");
            return Err(Refusal { message, ..Refusal::too_many(RETRY_AFTER_SECONDS) });
        }
        let one_more = |open| (open < hub.bounds.connections).then_some(open + 1);
        if hub.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            let refusal = Refusal::new(Code::Overloaded, "There are as many connections as there may be.");
            return Err(Refusal { retry_after: Some(RETRY_AFTER_SECONDS), ..refusal });
        }
        let id = hub.next_connection.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Self {
            id,
            principal: principal.clone(),
            notify: Notify::new(),
            dirty: AtomicBool::new(false),
            direct: Mutex::default(),
            direct_bytes: AtomicUsize::new(0),
            closing: Mutex::default(),
            last_heard: AtomicI64::new(now.as_micros()),
            expires_at: AtomicI64::new(identity.expires_at.as_micros()),
            warned: AtomicBool::new(false),
            chores: AtomicU8::new(0),
        });
        by_principal.entry(principal).or_default().push(Arc::clone(&connection));
        drop(by_principal);
        hub.connections.of(&id).insert(id, Arc::clone(&connection));
        Ok(connection)
    }

    pub(super) fn forget(&self, hub: &Hub) {
        hub.connections.of(&self.id).remove(&self.id);
        let mut by_principal = hub.by_principal.of(&self.principal);
        if let Some(connections) = by_principal.get_mut(&self.principal) {
            connections.retain(|other| other.id != self.id);
            if connections.is_empty() {
                by_principal.remove(&self.principal);
            }
        }
        hub.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Has its task look for news; costs nothing if it is about to anyway.
    pub fn wake(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Waits until there may be news. May be dropped and called again.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// From here on, news wakes it again.
    pub(super) fn clean(&self) {
        // An exchange, not a store: a store could be delayed past the looking that follows, and a wake-up that
        // falls between the two would be lost.
        self.dirty.swap(false, Ordering::AcqRel);
    }

    /// Gives a receipt to this connection. When too much waits, it is dropped: it is given again when the
    /// command is.
    pub fn give_receipt(&self, receipt: Utf8Bytes) {
        if self.push(Direct::Receipt(receipt)) == Room::None {
            metrics::counter!("sillage_receipts_dropped_total").increment(1);
        }
    }

    /// Tells this connection something that it must not miss. When too much waits, it is closed instead.
    pub fn tell(&self, message: Utf8Bytes) {
        if self.push(Direct::Answer(message)) == Room::None {
            self.close(Close::Overloaded);
        }
    }

    fn push(&self, message: Direct) -> Room {
        let mut direct = lock(&self.direct);
        // One that is larger than the bound alone, as a snapshot may be, would else never be told.
        let waiting = self.direct_bytes.load(Ordering::Relaxed);
        if direct.len() >= MAX_DIRECT_MESSAGES || waiting >= MAX_DIRECT_BYTES {
            return Room::None;
        }
        self.direct_bytes.store(waiting + message.text().len(), Ordering::Relaxed);
        direct.push_back(message);
        drop(direct);
        self.wake();
        Room::Enough
    }

    /// Whether so much waits that it should be written before more is asked for.
    pub fn is_crowded(&self) -> bool {
        self.direct_bytes.load(Ordering::Relaxed) > MAX_DIRECT_BYTES / 2
            || lock(&self.direct).len() > MAX_DIRECT_MESSAGES / 2
    }

    /// The next message for this connection alone.
    pub(super) fn next_direct(&self) -> Option<Direct> {
        // Looked at without the lock, since there is mostly nothing.
        if self.direct_bytes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut direct = lock(&self.direct);
        let message = direct.pop_front()?;
        self.direct_bytes.fetch_sub(message.text().len(), Ordering::Relaxed);
        if direct.is_empty() {
            // An idle connection keeps no buffer.
            *direct = VecDeque::new();
        }
        Some(message)
    }

    /// Asks its task to close.
    pub fn close(&self, closing: Closing) {
        lock(&self.closing).get_or_insert(closing);
        self.notify.notify_one();
    }

    /// Why it is to close, if it is.
    pub fn closing(&self) -> Option<Closing> {
        *lock(&self.closing)
    }

    /// Something came from the other side.
    pub fn heard(&self, now: Timestamp) {
        self.last_heard.store(now.as_micros(), Ordering::Relaxed);
    }

    pub(super) fn last_heard(&self) -> Timestamp {
        Timestamp::from_micros(self.last_heard.load(Ordering::Relaxed))
    }

    /// A new token holds.
    pub fn renew(&self, expires_at: Timestamp) {
        self.expires_at.store(expires_at.as_micros(), Ordering::Relaxed);
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Whether it is still to be told that its token runs out; answers yes once for each token.
    pub(super) fn warning_is_due(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros(self.expires_at.load(Ordering::Relaxed))
    }

    pub(super) fn ask_for_ping(&self) {
        self.chores.fetch_or(CHORE_PING, Ordering::Relaxed);
        self.wake();
    }

    /// Whether a sign of life is to be sent; answers yes once.
    pub fn ping_is_due(&self) -> bool {
        self.chores.load(Ordering::Relaxed) != 0 && self.chores.swap(0, Ordering::Relaxed) & CHORE_PING != 0
    }
}
