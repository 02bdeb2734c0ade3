//! Every path of the gateway. Systems bring their own, and are merged in by the composition root.

mod commands;
mod guests;
mod health;
mod outbox;
mod reactors;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::codes::{Code, Refusal};
use crate::receive::MAX_MESSAGE_BYTES;
use crate::{Gateway, sse, ws};

/// The server's routes: those of the gateway, and `systems`.
pub fn router(gateway: Arc<Gateway>, systems: Router<Arc<Gateway>>) -> Router {
    Router::new()
        .route("/ws", get(ws::open))
        .route("/api/stream", get(sse::open))
        .route("/api/commands", post(commands::post))
        .route("/api/commands/{command_id}", get(commands::receipt))
        .route("/api/auth/guest", post(guests::post))
        .route("/api/outbox", get(outbox::list))
        .route("/api/reactors", get(reactors::list))
        .route("/api/reactors/{name}/parked", get(reactors::parked))
        .route("/api/reactors/{name}/{order}", post(reactors::order))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .merge(systems)
        .fallback(|| async { Refusal::new(Code::NotFound, "There is no such path.") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(Code::MethodNotAllowed, "This path has other methods.")
        })
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(gateway)
}
