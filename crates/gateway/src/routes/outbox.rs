//! The log seen as an outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sillage_kernel::{EventId, Filter, Position, StreamName, Timestamp, Version};
use sillage_runtime::{ReactorHandle, ReactorStatus};
use sillage_store::Mode;
use utoipa::ToSchema;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::{OutboxProblems, schemas};
use crate::session::Operator;

/// How many events are shown at most, the newest.
const RECENT: usize = 50;

/// The newest events of the log, and how they stand for each destination.
#[derive(Serialize, ToSchema)]
pub(super) struct Outbox {
    /// The last event of the log.
    #[schema(schema_with = schemas::position)]
    head: Position,
    destinations: Vec<Destination>,
    /// In the order of the log.
    events: Vec<OutboxEvent>,
}

/// Somebody to whom events go.
#[derive(Serialize, ToSchema)]
pub(super) struct Destination {
    #[schema(examples("sockets"))]
    name: &'static str,
    /// Everything up to here is confirmed or parked.
    #[schema(schema_with = schemas::position)]
    position: Position,
    #[schema(schema_with = schemas::mode)]
    mode: Mode,
    /// How many events wait for a retry.
    #[schema(examples(0))]
    retrying: usize,
    /// How many events wait for an operator.
    #[schema(examples(0))]
    parked: usize,
    /// The last thing that went wrong.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<Arc<str>>,
}

/// An event, and how it stands for each destination.
#[derive(Serialize, ToSchema)]
struct OutboxEvent {
    #[schema(schema_with = schemas::position)]
    position: Position,
    /// The identity of the event, a UUIDv7.
    #[schema(value_type = String, examples("019bd64a-0800-7000-8000-00000000000a"))]
    id: EventId,
    #[schema(schema_with = schemas::feed)]
    feed: StreamName,
    #[schema(schema_with = schemas::sequence_number)]
    sequence_number: Version,
    #[schema(value_type = String, examples("LikeSetEvent"))]
    event_type: Arc<str>,
    #[schema(schema_with = schemas::timestamp)]
    timestamp: Timestamp,
    /// By the name of the destination.
    #[schema(value_type = BTreeMap<String, Delivery>)]
    status: BTreeMap<&'static str, Delivery>,
}

/// How an event stands for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Delivery {
    Pending,
    Sent,
    Parked,
}

impl Delivery {
    fn of(position: Position, destination: &ReactorStatus) -> Self {
        if destination.parked.iter().any(|parked| parked.position == position) {
            Self::Parked
        } else if position <= destination.position {
            Self::Sent
        } else {
            Self::Pending
        }
    }
}

impl From<&ReactorStatus> for Destination {
    fn from(status: &ReactorStatus) -> Self {
        let ReactorStatus { name, position, mode, retrying, parked, last_error } = status;
        let (parked, last_error) = (parked.len(), last_error.clone());
        Self { name, position: *position, mode: *mode, retrying: *retrying, parked, last_error }
    }
}

/// Shows the newest events and where they have got to.
///
/// An event is `PENDING` for a destination until its cursor has passed it, then `SENT`, or `PARKED` if it could
/// not be delivered.
#[utoipa::path(get, path = "/api/outbox", tag = "operation", operation_id = "outbox",
    responses((status = 200, description = "The newest 50 events.", body = Outbox), OutboxProblems))]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Operator(identity): Operator,
) -> Result<Json<Outbox>, Refusal> {
    // The destinations first: what they had not passed then may be shown as PENDING though it is SENT by now,
    // but never the other way round.
    let statuses: Vec<_> = gateway.reactors.iter().map(ReactorHandle::status).collect();
    let head = gateway.store.head();
    let after = Position::new(head.get().saturating_sub(RECENT as u64));
    let page = gateway.store.read_all(after, Filter::People, RECENT).await;
    let page = page.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
    let own = page.events.iter().filter(|event| event.tenant == identity.tenant);
    let events = own.map(|event| OutboxEvent {
        position: event.position,
        id: event.id,
        feed: event.stream.clone(),
        sequence_number: event.version,
        event_type: Arc::clone(&event.event_type),
        timestamp: event.recorded_at,
        status: statuses.iter().map(|status| (status.name, Delivery::of(event.position, status))).collect(),
    });
    let events = events.collect();
    Ok(Json(Outbox { head, destinations: statuses.iter().map(Destination::from).collect(), events }))
}
