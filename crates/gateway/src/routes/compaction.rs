//! `/api/compaction`: an operator has the log compacted now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sillage_runtime::Compacted;
use sillage_store::Dropped;
use utoipa::ToSchema;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::CompactionProblems;
use crate::session::Operator;

/// What a round of compaction has done.
#[derive(Serialize, ToSchema)]
pub(super) struct CompactionDone {
    /// How many baselines were taken.
    baselines: u64,
    /// Of how many events the contents were dropped.
    dropped_events: u64,
    /// How many bytes that were.
    dropped_bytes: u64,
}

/// Compacts the log now.
///
/// It is done by itself every minute, as the server was told to with `--keep`; this does one round at once, and answers
/// when it is over. Streams of a category that does not keep everything get a baseline every 1,000 events, and lose what
/// it stands for once every view and every destination has passed it; so what is new may need another round. A log may
/// drop a part of what it is asked to, or nothing yet: the rest goes in a later round.
#[utoipa::path(post, path = "/api/compaction", tag = "operation", operation_id = "compact",
    responses((status = 200, description = "What was done.", body = CompactionDone), CompactionProblems))]
pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    Operator(_): Operator,
) -> Result<Json<CompactionDone>, Refusal> {
    let done = gateway.compactor.compact().await;
    let done = done.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
    let Compacted { baselines, dropped: Dropped { events, bytes } } = done;
    Ok(Json(CompactionDone { baselines, dropped_events: events, dropped_bytes: bytes }))
}
