//! One pass over all connections, now and then, instead of a timer for each.

use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::Timestamp;
use sillage_kernel::wire::ServerMessage;
use sillage_store::clock;

use super::Hub;
use crate::codes::{Close, Code, Refusal};

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
    fn sweep_once(&self, now: Timestamp) {
        for connections in self.connections.each() {
            for connection in connections.values() {
                let silent_since = |limit| clock::later(connection.last_heard(), limit) <= now;
                let expires_at = connection.expires_at();
                if expires_at <= now {
                    connection.close(Close::SignIn);
                } else if silent_since(SILENCE_LIMIT) {
                    connection.close(Close::NoLife);
                } else if silent_since(PING_AFTER) {
                    connection.ask_for_ping();
                }
                let warn_at = clock::later(now, WARN_BEFORE);
                if expires_at <= warn_at && expires_at > clock::later(now, WARN_BEFORE.saturating_sub(EVERY))
                {
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
