//! Every path of the gateway, each registered together with its description. Systems bring their own, and are
//! merged in by the composition root.

mod commands;
mod compaction;
mod descriptions;
mod guests;
mod health;
mod log;
mod outbox;
mod reactors;
mod streams;

use std::sync::{Arc, OnceLock};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
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
        .routes(routes!(streams::append, streams::read))
        .routes(routes!(streams::state))
        .routes(routes!(log::read))
        .routes(routes!(outbox::list))
        .routes(routes!(reactors::list))
        .routes(routes!(reactors::parked))
        .routes(routes!(reactors::order))
        .routes(routes!(compaction::post))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
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
        .layer(middleware::from_fn(count))
        .with_state(gateway)
}

/// Counts requests by what was asked for and how it was answered. What a client may make up is no label.
async fn count(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        _ => "other",
    };
    let response = next.run(request).await;
    let labels =
        [("method", method.to_owned()), ("route", route), ("status", response.status().as_str().to_owned())];
    metrics::counter!("sillage_http_requests_total", &labels).increment(1);
    response
}
