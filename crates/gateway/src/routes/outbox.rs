//! The log seen as an outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sillage_kernel::{Event, EventId, Filter, Position, StreamName, Tenant, Timestamp, Version};
use sillage_runtime::{ReactorHandle, ReactorStatus, Runs};
use sillage_store::{EventStore, Mode, StoreError};
use utoipa::ToSchema;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::{OutboxProblems, schemas};
use crate::session::Operator;

/// How many events are shown at most, the newest.
const RECENT: usize = 50;
/// How many events of the log, of all tenants, are looked through for them at most.
const LOOKED_THROUGH: u64 = 10_000;
/// How many of these are read at once.
const PAGE: usize = 500;

/// The newest events of a tenant, and how they stand for each destination.
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
    /// Whether it runs on another node that shares the log. Then what is told of it is what its cursor says.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    elsewhere: bool,
    /// What that node is called: its `--name`, else its host and port. Left out while none runs it.
    #[schema(value_type = Option<String>, examples("app-2:4000"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Arc<str>>,
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
        match destination.parked.iter().find(|parked| parked.position == position) {
            Some(parked) if parked.waits() => Self::Parked,
            // An operator has skipped it: the cursor counts it as passed, and so does this.
            Some(_) => Self::Sent,
            None if position <= destination.position => Self::Sent,
            None => Self::Pending,
        }
    }
}

impl From<&ReactorStatus> for Destination {
    fn from(status: &ReactorStatus) -> Self {
        let ReactorStatus { name, runs, node, position, mode, retrying, parked: _, last_error } = status;
        let (parked, node, last_error) = (status.waiting(), node.clone(), last_error.clone());
        let (elsewhere, retrying) = (*runs == Runs::Elsewhere, *retrying);
        Self { name, position: *position, mode: *mode, retrying, parked, elsewhere, node, last_error }
    }
}

/// Shows the newest events of one's own tenant and where they have got to.
///
/// The newest 10,000 events of all tenants are looked through for them.
///
/// An event is `PENDING` for a destination until its cursor has passed it, then `SENT`, or `PARKED` if it could
/// not be delivered. One that an operator has skipped counts as passed.
#[utoipa::path(get, path = "/api/outbox", tag = "operation", operation_id = "outbox",
    responses((status = 200, description = "The newest 50 events, or as many as were found.", body = Outbox), OutboxProblems))]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Operator(identity): Operator,
) -> Result<Json<Outbox>, Refusal> {
    // The destinations first: what they had not passed then may be shown as PENDING though it is SENT by now,
    // but never the other way round.
    let statuses: Vec<_> = gateway.reactors.iter().map(ReactorHandle::status).collect();
    let head = gateway.store.head();
    let newest = newest(gateway.store.as_ref(), &identity.tenant, head).await;
    let newest = newest.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
    let events = newest.iter().map(|event| OutboxEvent {
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

/// The newest events of a tenant up to `head`, in the order of the log: it is walked back by pages until there are
/// enough.
async fn newest(
    store: &dyn EventStore,
    tenant: &Tenant,
    head: Position,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let oldest = head.get().saturating_sub(LOOKED_THROUGH);
    let (mut found, mut end) = (Vec::new(), head.get());
    while found.len() < RECENT && end > oldest {
        let start = end.saturating_sub(PAGE as u64).max(oldest);
        let mut earlier = between(store, tenant, Position::new(start), Position::new(end)).await?;
        earlier.append(&mut found);
        (found, end) = (earlier, start);
    }
    Ok(found.split_off(found.len().saturating_sub(RECENT)))
}

/// The events of a tenant after one position and up to another.
async fn between(
    store: &dyn EventStore,
    tenant: &Tenant,
    mut after: Position,
    through: Position,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let mut found = Vec::new();
    while after < through {
        let page = store.read_all(after, Filter::People, PAGE).await?;
        let own = |event: &Arc<Event>| event.position <= through && event.tenant == *tenant;
        found.extend(page.events.into_iter().filter(own));
        if page.through <= after {
            break;
        }
        after = page.through;
    }
    Ok(found)
}
