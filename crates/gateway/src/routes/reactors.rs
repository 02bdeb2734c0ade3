//! `/api/reactors`: what an operator sees of the reactors, and what they may ask of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use sillage_kernel::Position;
use sillage_runtime::reactors::{Control, ControlError};
use sillage_runtime::{ReactorHandle, ReactorStatus};
use sillage_store::Parked;
use utoipa::ToSchema;

use super::outbox::Destination;
use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::{ControlProblems, OperatorProblems, ParkedProblems, schemas};
use crate::extract::Checked;
use crate::receive::{JsonBody, read_json};
use crate::session::Operator;

/// Lists the destinations of the log.
///
/// Where several nodes share a log, `sockets` is each node's own; any other runs on one of them at a time, and the others
/// say `elsewhere` of it, and what the node is called that runs it.
#[utoipa::path(get, path = "/api/reactors", tag = "operation", operation_id = "reactors",
    responses((status = 200, description = "How each stands.", body = Vec<Destination>), OperatorProblems))]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Operator(_): Operator,
) -> Json<Vec<Destination>> {
    Json(gateway.reactors.iter().map(|reactor| Destination::from(&reactor.status())).collect())
}

/// Lists what is parked for a destination.
///
/// Only the events of one's own tenant.
#[utoipa::path(get, path = "/api/reactors/{name}/parked", tag = "operation", operation_id = "parked",
    params(("name" = String, Path, description = "The name of the destination.", example = "sockets")),
    responses(
        (status = 200, description = "In the order of the log.", content_type = "application/json",
            body = ref("#/components/schemas/ParkedEvents")),
        ParkedProblems,
    ))]
pub(super) async fn parked(
    State(gateway): State<Arc<Gateway>>,
    Operator(identity): Operator,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Json<Vec<Parked>>, Refusal> {
    let ReactorStatus { parked, .. } = find(&gateway, &name)?.status();
    Ok(Json(parked.into_iter().filter(|parked| parked.waits() && parked.tenant == identity.tenant).collect()))
}

/// The body of an order; most need none.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    /// Of the parked event, or where to go back to.
    #[schema(schema_with = schemas::position, required = false)]
    position: Option<Position>,
}

/// Gives a destination an order.
///
/// * `pause` and `resume`: it waits until told to go on, even after a restart.
/// * `retry`: tries what is parked again: one event and what waits behind it, or without a position everything.
/// * `skip`: gives up a parked event, and tries what waits behind it. Needs its position.
/// * `rewind`: goes back to a position, and forgets what is parked after it. Everything after it goes out again.
///
/// A destination that runs on another node is finished there with what it acts on, and goes on at this one: that takes
/// some seconds.
#[utoipa::path(post, path = "/api/reactors/{name}/{order}", tag = "operation", operation_id = "order",
    params(
        ("name" = String, Path, description = "The name of the destination.", example = "sockets"),
        ("order" = String, Path, description = "`pause`, `resume`, `retry`, `skip` or `rewind`.",
            example = "pause"),
    ),
    request_body(content = Option<OrderBody>, description = "May be left out where no position is needed."),
    responses((status = 204, description = "It is done, durably."), ControlProblems))]
pub(super) async fn order(
    State(gateway): State<Arc<Gateway>>,
    Operator(_): Operator,
    Checked(Path((name, order))): Checked<Path<(String, String)>>,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, Refusal> {
    let reactor = find(&gateway, &name)?;
    let OrderBody { position } = if body.is_empty() { OrderBody::default() } else { read_json(&body)? };
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
