//! Whether the node is well, for those who look after it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sillage_kernel::{Epoch, Position};
use utoipa::ToSchema;

use crate::Gateway;
use crate::description::schemas;

/// How the node stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether nothing has failed, and the views have caught up with the log as it was at the start.
    ready: bool,
    /// What has failed in the background, if something has; only a new start mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What keeps the log.
    #[schema(examples("journal"))]
    engine: &'static str,
    #[schema(schema_with = schemas::epoch)]
    epoch: Epoch,
    /// The last event of the log.
    #[schema(schema_with = schemas::position)]
    head: Position,
    /// How many sockets and streams are open.
    connections: usize,
    views: Vec<View>,
}

/// How a view stands.
#[derive(Serialize, ToSchema)]
#[schema(as = ViewStatus)]
struct View {
    #[schema(examples("likes"))]
    name: &'static str,
    /// The log up to here is in the view.
    #[schema(schema_with = schemas::position)]
    position: Position,
    /// Why the view has stopped, if it has; its answers are stale then.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "alive", security(()),
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain")))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether the node is ready.
///
/// It is once the views have caught up with the log as it was at the start, and until something in the
/// background has failed: the process ends then, with an error. A view that has stopped does not
/// keep the node from serving all others, and is named.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "ready", security(()),
    responses(
        (status = 200, description = "It is.", body = Readiness),
        (status = 503, description = "Not yet, or no longer.", body = Readiness),
    ))]
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Json<Readiness>) {
    let statuses = gateway.views.statuses();
    let failure = gateway.supervisor.failure();
    let caught_up = statuses.iter().all(|view| view.stopped.is_some() || view.position >= gateway.ready_at);
    let ready = caught_up && failure.is_none();
    let view = |status: sillage_store::views::ViewStatus| View {
        name: status.name,
        position: status.position,
        stopped: status.stopped.map(|reason| reason.to_string()),
    };
    let readiness = Readiness {
        ready,
        failure: failure.map(|failure| failure.to_string()),
        engine: gateway.store.features().engine,
        epoch: gateway.store.epoch(),
        head: gateway.store.head(),
        connections: gateway.hub.connections(),
        views: statuses.into_iter().map(view).collect(),
    };
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(readiness))
}

/// Metrics, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics", security(()),
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> String {
    metrics::gauge!("sillage_connections").set(count(gateway.hub.connections()));
    let head = gateway.store.head();
    metrics::gauge!("sillage_log_head").set(number(head));
    for view in gateway.views.statuses() {
        metrics::gauge!("sillage_view_position", "view" => view.name).set(number(view.position));
        let stopped = if view.stopped.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!("sillage_view_stopped", "view" => view.name).set(stopped);
    }
    for status in gateway.reactors.iter().map(sillage_runtime::ReactorHandle::status) {
        metrics::gauge!("sillage_reactor_position", "reactor" => status.name).set(number(status.position));
        metrics::gauge!("sillage_reactor_parked", "reactor" => status.name).set(count(status.waiting()));
        metrics::gauge!("sillage_reactor_retrying", "reactor" => status.name).set(count(status.retrying));
    }
    gateway.metrics.render()
}

fn number(position: Position) -> f64 {
    // Exact below 2^53, which is also the limit on the wire.
    #[allow(clippy::cast_precision_loss, reason = "positions stay below 2^53")]
    let number = position.get() as f64;
    number
}

fn count(n: usize) -> f64 {
    number(Position::new(n as u64))
}
