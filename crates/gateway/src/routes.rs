//! Every path of the gateway, each registered together with its description. Systems bring their own, and are
//! merged in by the composition root.

mod commands;
mod descriptions;
mod guests;
mod health;
mod outbox;
mod reactors;

use std::sync::{Arc, OnceLock};

use axum::extract::DefaultBodyLimit;
use axum::{Extension, Router};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::codes::{Code, Refusal};
use crate::description::{self, Documents};
use crate::receive::MAX_MESSAGE_BYTES;
use crate::{Gateway, sse, ws};

/// The server's routes: those of the gateway, and `systems`.
pub fn router(gateway: Arc<Gateway>, systems: OpenApiRouter<Arc<Gateway>>) -> Router {
    // The documents describe the routes that serve them, too, and so are written once all routes are known.
    let documents = Arc::new(OnceLock::new());
    let (router, described) = OpenApiRouter::with_openapi(description::base())
        .routes(routes!(ws::open))
        .routes(routes!(sse::open))
        .routes(routes!(commands::post))
        .routes(routes!(commands::receipt))
        .routes(routes!(guests::post))
        .routes(routes!(outbox::list))
        .routes(routes!(reactors::list))
        .routes(routes!(reactors::parked))
        .routes(routes!(reactors::order))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(descriptions::home))
        .routes(routes!(descriptions::docs))
        .routes(routes!(descriptions::openapi).layer(Extension(Arc::clone(&documents))))
        .routes(routes!(descriptions::asyncapi).layer(Extension(Arc::clone(&documents))))
        .merge(systems)
        .split_for_parts();
    documents.get_or_init(|| Documents::of(&described));
    router
        .fallback(|| async { Refusal::new(Code::NotFound, "There is no such path.") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(Code::MethodNotAllowed, "This path has other methods.")
        })
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(gateway)
}
