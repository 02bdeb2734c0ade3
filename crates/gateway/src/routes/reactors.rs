//! `/api/reactors`: what an operator sees of the reactors, and what they may ask of them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use sillage_kernel::Position;
use sillage_runtime::reactors::{Control, ControlError};
use sillage_runtime::{ReactorHandle, ReactorStatus};
use sillage_store::Parked;

use super::outbox::Destination;
use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::session::Operator;

/// `GET /api/reactors`.
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Operator(_): Operator,
) -> Json<Vec<Destination>> {
    Json(gateway.reactors.iter().map(|reactor| Destination::from(&reactor.status())).collect())
}

/// `GET /api/reactors/{name}/parked`.
pub(super) async fn parked(
    State(gateway): State<Arc<Gateway>>,
    Operator(identity): Operator,
    Path(name): Path<String>,
) -> Result<Json<Vec<Parked>>, Refusal> {
    let ReactorStatus { parked, .. } = find(&gateway, &name)?.status();
    Ok(Json(parked.into_iter().filter(|parked| parked.tenant == identity.tenant).collect()))
}

/// The body of an order; most need none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    position: Option<Position>,
}

/// `POST /api/reactors/{name}/{pause|resume|retry|skip|rewind}`. `skip` and `rewind` need a position; `retry`
/// without one tries everything.
pub(super) async fn order(
    State(gateway): State<Arc<Gateway>>,
    Operator(_): Operator,
    Path((name, order)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let reactor = find(&gateway, &name)?;
    let OrderBody { position } = if body.is_empty() {
        OrderBody::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| Refusal::field("position", error.to_string()))?
    };
    let needed = || position.ok_or_else(|| Refusal::field("position", "is missing"));
    let control = match order.as_str() {
        "pause" => Control::Pause,
        "resume" => Control::Resume,
        "retry" => Control::Retry(position),
        "skip" => Control::Skip(needed()?),
        "rewind" => Control::Rewind(needed()?),
        _ => return Err(Refusal::not_found()),
    };
    reactor.control(control).await.map_err(|error| match error {
        ControlError::NotParked(_) => Refusal::new(Code::NotFound, error.to_string()),
        ControlError::Behind(_) => Refusal::new(Code::Conflict, error.to_string()),
        ControlError::NotThereYet(_) => Refusal::field("position", error.to_string()),
        ControlError::Unavailable(_) => Refusal::new(Code::Unavailable, error.to_string()),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

fn find<'a>(gateway: &'a Gateway, name: &str) -> Result<&'a ReactorHandle, Refusal> {
    gateway.reactors.iter().find(|reactor| reactor.status().name == name).ok_or_else(Refusal::not_found)
}
