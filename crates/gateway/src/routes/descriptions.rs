//! What the server says about itself: two documents, and a page that shows them.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::response::IntoResponse;

use crate::description::{Documents, PAGE};

/// The page is one file, may ask this server for the documents, and may do nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The documents, once all routes are known.
type Written = Extension<Arc<OnceLock<Documents>>>;

/// The page that shows these descriptions.
#[utoipa::path(get, path = "/docs", tag = "descriptions", operation_id = "docs", security(()),
    responses((status = 200, description = "One page that asks nobody but this server for anything.",
        body = String, content_type = "text/html")))]
pub(super) async fn docs() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

/// The description of all paths, as OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "descriptions", operation_id = "openapi", security(()),
    responses((status = 200, description = "The document.", content_type = "application/json",
        body = Object)))]
pub(super) async fn openapi(Extension(written): Written) -> impl IntoResponse {
    json(&written, |documents| &documents.openapi)
}

/// The description of the socket, as AsyncAPI 3.0.
#[utoipa::path(get, path = "/asyncapi.json", tag = "descriptions", operation_id = "asyncapi", security(()),
    responses((status = 200, description = "The document.", content_type = "application/json",
        body = Object)))]
pub(super) async fn asyncapi(Extension(written): Written) -> impl IntoResponse {
    json(&written, |documents| &documents.asyncapi)
}

fn json(
    written: &OnceLock<Documents>,
    which: fn(&Documents) -> &axum::body::Bytes,
) -> impl IntoResponse + use<> {
    let documents = written.get().expect("the router is only handed out once it is described");
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, which(documents).clone())
}
