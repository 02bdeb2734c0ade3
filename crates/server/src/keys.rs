//! The keys that the nodes of a log have in common.
//!
//! Invariant: while a node runs, none with other keys begins to, on the same log. Each would refuse the tokens of the
//! other, and take a command that is sent again to it for another one. It is a lease that sees to this, whose owner is no
//! node: the keys are, so that all nodes which have them hold it together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sillage_gateway::tokens::Keys;
use sillage_runtime::Supervisor;
use sillage_store::{EventStore, Nodes};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::node::NodeError;

/// The name of the lease.
const LEASE: &str = "keys";
/// For how long after the last sign of a node with some keys none with others begins.
pub const KEYS_TTL: Duration = Duration::from_secs(60);
/// How often a node gives a sign.
const PROLONG_EVERY: Duration = Duration::from_secs(5);

/// Makes sure that the nodes which share a log have these keys, and none with others begins within [`KEYS_TTL`].
///
/// # Errors
/// [`NodeError::OtherKeys`] if they have others, [`NodeError::KeysUnknown`] if the log cannot be asked.
pub async fn hold(store: &dyn EventStore, keys: &Keys, file: &Path) -> Result<(), NodeError> {
    if store.features().nodes == Nodes::One {
        return Ok(());
    }
    let fingerprint = keys.fingerprint();
    match store.acquire_lease(LEASE, &fingerprint, KEYS_TTL).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(NodeError::OtherKeys { path: file.to_owned(), fingerprint }),
        Err(error) => Err(NodeError::KeysUnknown(error)),
    }
}

/// Holds on to them for as long as the task runs. A log that was away for long may have passed to other keys: this is
/// the failure of the node then.
pub(crate) fn keep(
    store: &Arc<dyn EventStore>,
    keys: &Arc<Keys>,
    file: &Path,
    supervisor: &Supervisor,
) -> JoinHandle<()> {
    let (store, keys, file, reporting) =
        (Arc::clone(store), Arc::clone(keys), file.to_owned(), supervisor.clone());
    supervisor.spawn("lease of the keys", async move {
        loop {
            sleep(PROLONG_EVERY).await;
            match hold(store.as_ref(), &keys, &file).await {
                Ok(()) => {}
                Err(error @ NodeError::OtherKeys { .. }) => return reporting.report(&error.to_string()),
                Err(error) => tracing::warn!(%error, "the lease of the keys is not prolonged"),
            }
        }
    })
}
