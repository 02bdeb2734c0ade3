//! Forgets what is older than the memory of the ledger, and the ids of groups that nobody asks for any more.
//!
//! Invariant: what is deleted was minted before a moment that every node could read in the log since the round before.

use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Shared;
use crate::event_store::StoreError;

/// For how long the id of a group is kept: longer than anybody asks for it.
const GROUPS_KEPT: Duration = Duration::from_secs(900);
/// How many rows one statement deletes at most.
const PIECE: u64 = 10_000;

const MOVE: &str = "UPDATE sillage.log SET forgotten_until = $1 WHERE forgotten_until < $1";

/// Nodes that forget at the same time do not wait for each other.
const FORGET: &str = "
    DELETE FROM sillage.ledger WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM sillage.ledger WHERE at < $1 ORDER BY at LIMIT 10000 FOR UPDATE SKIP LOCKED))";

const FORGET_GROUPS: &str = "
    DELETE FROM sillage.groups WHERE id = ANY (ARRAY(
        SELECT id FROM sillage.groups WHERE id < $1 ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED))";

/// Forgets for as long as the store is there.
pub(super) async fn run(shared: Arc<Shared>, every: Duration) {
    let mut rounds = interval(every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        rounds.tick().await;
        match forget(&shared, told).await {
            Ok(until) => told = Some(until),
            Err(error) => tracing::warn!(%error, "nothing could be forgotten"),
        }
    }
}

/// One round: forgets what was told, and tells what is forgotten next.
async fn forget(shared: &Shared, told: Option<Timestamp>) -> Result<Timestamp, StoreError> {
    let now = shared.pool.read(|reader| async move { reader.state().await }).await?.now;
    if let Some(told) = told {
        while run_piece(shared, FORGET, told.as_micros()).await? == PIECE {}
    }
    let groups = first_id_at(before(now, GROUPS_KEPT));
    while run_piece(shared, FORGET_GROUPS, groups).await? == PIECE {}
    let next = before(now, shared.ledger_memory);
    run_piece(shared, MOVE, next.as_micros()).await?;
    Ok(next)
}

/// How many rows a statement with one value has changed.
async fn run_piece(
    shared: &Shared,
    statement: &'static str,
    value: impl ToSql + Sync + Send + Copy,
) -> Result<u64, StoreError> {
    shared.pool.read(|reader| async move { Ok(reader.client().execute(statement, &[&value]).await?) }).await
}

fn before(now: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(by))
}

/// The first of the ids that could be minted at that moment.
fn first_id_at(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.as_micros() / 1_000).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}
