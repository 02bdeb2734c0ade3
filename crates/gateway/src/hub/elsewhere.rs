//! Receipts of commands that another node has settled, for the connections that their senders have here.
//!
//! Invariant: what is given is what the ledger says. The other node tells only which command it is, and where that is
//! lost the sender hears when the command is sent again, or asks.

use std::sync::Arc;

use sillage_kernel::{CommandId, Outcome, Tenant, UserId};
use sillage_runtime::Settled;
use sillage_store::LedgerKey;
use sillage_store::event_store::hints::Hint;
use tokio::sync::broadcast::error::RecvError;

use super::{Connected, Hub};

/// What receipts are called among the nodes.
const TOPIC: &str = "receipts";
/// How many receipts are looked up at once.
const LOOK_UP: usize = 256;

/// What is told to the other nodes of a command that was settled on this one: nothing of one that they see by its events,
/// unless its sender is not connected here, and so may hear only there.
pub(super) fn hint(settled: &Settled, here: Connected) -> Option<Hint> {
    let Settled { tenant, principal, receipt } = settled;
    if here == Connected::Yes && matches!(receipt.outcome, Outcome::Applied { .. }) {
        return None;
    }
    let about = (tenant, principal, receipt.command_id);
    let key = serde_json::to_string(&about).expect("these are texts").into();
    Some(Hint { topic: TOPIC.into(), key, payload: "".into() })
}

/// The command that a hint is about, if it is a receipt.
fn settled(hint: &Hint) -> Option<LedgerKey> {
    if *hint.topic != *TOPIC {
        return None;
    }
    let about: (Tenant, UserId, CommandId) = serde_json::from_str(&hint.key).ok()?;
    let (tenant, principal, command_id) = about;
    Some(LedgerKey { tenant, principal, command_id })
}

/// Gives what other nodes have settled to those who are connected here, for as long as they tell.
pub async fn hear(hub: Arc<Hub>) {
    let Some(mut heard) = hub.others.as_ref().map(|others| others.heard()) else { return };
    loop {
        let first = match heard.recv().await {
            Ok(first) => first,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let more = std::iter::from_fn(|| heard.try_recv().ok());
        let hints = std::iter::once(first).chain(more).take(LOOK_UP);
        let wanted = hints.filter_map(|hint| settled(&hint)).filter(|command| hub.is_connected(command));
        hub.give_known(wanted.collect()).await;
    }
}

impl Hub {
    fn is_connected(&self, LedgerKey { tenant, principal, .. }: &LedgerKey) -> bool {
        let key = (tenant.clone(), principal.clone());
        self.by_principal.of(&key).contains_key(&key)
    }

    async fn give_known(&self, commands: Vec<LedgerKey>) {
        if commands.is_empty() {
            return;
        }
        match self.store.look_up(commands.clone()).await {
            Ok(known) => {
                for (LedgerKey { tenant, principal, .. }, known) in commands.into_iter().zip(known) {
                    if let Some(entry) = known {
                        self.give(&Settled { tenant, principal, receipt: entry.receipt });
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "receipts of other nodes cannot be read"),
        }
    }
}
