//! `GET /api/outbox`: the log seen as an outbox. An event is PENDING for a destination until its cursor has
//! passed it, then SENT, or PARKED if it could not be delivered.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sillage_kernel::{EventId, Filter, Position, StreamName, Timestamp, Version};
use sillage_runtime::{ReactorHandle, ReactorStatus};
use sillage_store::Mode;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::session::Operator;

/// How many events are shown at most, the newest.
const RECENT: usize = 50;

#[derive(Serialize)]
pub(super) struct Outbox {
    head: Position,
    destinations: Vec<Destination>,
    events: Vec<OutboxEvent>,
}

/// Somebody to whom events go.
#[derive(Serialize)]
pub(super) struct Destination {
    name: &'static str,
    position: Position,
    mode: Mode,
    retrying: usize,
    parked: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<Arc<str>>,
}

#[derive(Serialize)]
struct OutboxEvent {
    position: Position,
    id: EventId,
    feed: StreamName,
    sequence_number: Version,
    event_type: Arc<str>,
    timestamp: Timestamp,
    status: BTreeMap<&'static str, Delivery>,
}

/// How an event stands for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
