//! One pass over all connections, now and then, instead of a timer for each.

use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::Timestamp;
use sillage_kernel::wire::ServerMessage;
use sillage_store::clock;

use super::Hub;
use crate::codes::{Close, Code, Refusal};
use crate::tokens::LEEWAY;

/// How often connections are looked at.
const EVERY: Duration = Duration::from_secs(5);
/// A connection that was silent for so long is asked for a sign of life.
pub const PING_AFTER: Duration = Duration::from_secs(15);
/// A connection that was silent for so long is closed.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// A token that runs out within this time is told so.
const WARN_BEFORE: Duration = Duration::from_secs(60);

/// Looks after all connections until the task is ended: asks the silent for a sign of life, closes the dead,
/// warns and closes those whose token runs out.
pub async fn sweep(hub: Arc<Hub>) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        hub.sweep_once(clock::now());
    }
}

impl Hub {
    /// Looks once, as if it were that moment.
    pub fn sweep_once(&self, now: Timestamp) {
        for connections in self.connections.each() {
            for connection in connections.values() {
                let silent_since = |limit| clock::later(connection.last_heard(), limit) <= now;
                let expires_at = connection.expires_at();
                // The same leeway as for a token that is shown anew.
                if clock::later(expires_at, LEEWAY) <= now {
                    connection.close(Close::SignIn);
                } else if silent_since(SILENCE_LIMIT) {
                    connection.close(Close::NoLife);
                } else if silent_since(PING_AFTER) {
                    connection.ask_for_ping();
                }
                if expires_at <= clock::later(now, WARN_BEFORE) && connection.warning_is_due() {
                    connection.tell(expiry_warning());
                }
            }
        }
    }
}

fn expiry_warning() -> axum::extract::ws::Utf8Bytes {
    let refusal = Refusal::new(Code::TokenExpired, "The token runs out within a minute: send refresh_token.");
    let message = ServerMessage::Error(refusal.on_socket(None));
    serde_json::to_string(&message).expect("a message has only string keys and no failing parts").into()
}

#[cfg(test)]
pub(super) mod tests {
    use sillage_kernel::Actor;
    use sillage_store::event_store::memory::MemoryStore;
    use uuid::Uuid;

    use super::*;
    use crate::directory::Directory;
    use crate::hub::{Follower, Outgoing};
    use crate::limits::Bounds;
    use crate::tokens::{Allowance, Identity};

    fn identity(expires_at: Timestamp) -> Identity {
        Identity {
            actor: Actor::user("alice".parse().unwrap()),
            username: "alice".into(),
            tenant: "main".parse().unwrap(),
            allowance: Allowance::Full,
            expires_at,
            token_id: Uuid::nil(),
        }
    }

    /// A connection that was opened now and whose token holds for so many seconds.
    pub(in crate::hub) fn open(seconds: u64) -> (Arc<Hub>, Follower, Timestamp) {
        let hub = Hub::new(Arc::new(MemoryStore::new(1)), Arc::new(Directory::default()), Bounds::default());
        let now = clock::now();
        let follower =
            Follower::open(&hub, &identity(clock::later(now, Duration::from_secs(seconds)))).unwrap();
        (hub, follower, now)
    }

    #[test]
    fn the_silent_are_asked_and_then_closed() {
        let (hub, follower, now) = open(3_600);
        let connection = follower.connection();
        let after = |limit: Duration| clock::later(now, limit + Duration::from_millis(100));
        hub.sweep_once(now);
        assert!(!connection.ping_is_due() && connection.closing().is_none());
        hub.sweep_once(after(PING_AFTER));
        assert!(connection.ping_is_due() && !connection.ping_is_due() && connection.closing().is_none());
        connection.heard(after(PING_AFTER));
        hub.sweep_once(after(SILENCE_LIMIT));
        assert_eq!(connection.closing(), None, "it was heard meanwhile");
        hub.sweep_once(after(PING_AFTER + SILENCE_LIMIT));
        assert_eq!(connection.closing(), Some(Close::NoLife));
    }

    #[tokio::test]
    async fn a_token_that_runs_out_is_told_and_then_its_connection_closed() {
        let (hub, mut follower, now) = open(100);
        let after = |seconds| clock::later(now, Duration::from_secs(seconds));
        // The other side is heard all the time.
        for second in (0..100 + LEEWAY.as_secs()).step_by(5) {
            follower.connection().heard(after(second));
            hub.sweep_once(after(second));
        }
        let mut told = Vec::new();
        follower.next(&mut told).await.unwrap();
        let [Outgoing::Answer(warning)] = told.as_slice() else { panic!("{told:?}") };
        assert!(warning.contains("token_expired"), "{warning}");
        assert_eq!(follower.connection().closing(), None);
        hub.sweep_once(after(100 + LEEWAY.as_secs()));
        assert_eq!(follower.connection().closing(), Some(Close::SignIn));
    }

    #[tokio::test]
    async fn whoever_gets_more_than_it_reads_holds_no_more_than_the_bound() {
        let (_hub, mut follower, _) = open(3_600);
        let message = "x".repeat(1_000);
        for _ in 0..100_000 {
            follower.connection().give_receipt(message.as_str().into());
        }
        let mut bytes = 0;
        loop {
            let mut told = Vec::new();
            follower.next(&mut told).await.unwrap();
            if told.is_empty() {
                break;
            }
            bytes += told.iter().map(|outgoing| outgoing.text().len()).sum::<usize>();
        }
        assert!((500_000..crate::hub::MAX_DIRECT_BYTES + message.len()).contains(&bytes), "{bytes}");
        assert_eq!(follower.connection().closing(), None, "receipts may be dropped");
        for _ in 0..2_000 {
            follower.connection().tell(message.as_str().into());
        }
        assert_eq!(follower.connection().closing(), Some(Close::Overloaded), "answers may not");
    }

    #[tokio::test]
    async fn an_answer_that_is_larger_than_the_bound_is_told_all_the_same() {
        let (_hub, mut follower, _) = open(3_600);
        let large = "x".repeat(2 * crate::hub::MAX_DIRECT_BYTES);
        follower.connection().give_receipt("{}".into());
        follower.connection().tell(large.as_str().into());
        assert_eq!(follower.connection().closing(), None);
        let mut told = Vec::new();
        follower.next(&mut told).await.unwrap();
        assert_eq!(told.last().map(|last| last.text().len()), Some(large.len()));
    }
}
