//! The pages of `web/studio`, carried in the binary as they were when it was built.
//!
//! A binary that was built without them serves everything else, and leads from `/` to the descriptions.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// What the build of the studio has made, each text also as `.gz`.
#[derive(RustEmbed)]
#[folder = "../../web/studio/dist"]
#[allow_missing = true]
struct Studio;

/// The paths that are pages, as `web/studio/src/app/pages.ts` has them; the studio itself finds out which.
const PAGES: &[&str] = &["/", "/likes"];
/// The file that is every page.
const SHELL: &str = "index.html";
/// Files in here carry a hash of their content in their name.
const HASHED: &str = "assets/";
/// Pages may load and ask for what is on this server, and nothing else.
const PAGE_POLICY: &str = include_str!("../../../web/studio/content-security-policy.txt").trim_ascii();

/// The pages, and behind them everything else.
pub(crate) fn before(rest: Router) -> Router {
    let mut router = Router::new();
    if Studio::get(SHELL).is_some() {
        for page in PAGES {
            router = router.route(page, get(|headers: HeaderMap| async move { file(SHELL, &headers) }));
        }
        for name in Studio::iter().filter(|name| name != SHELL && !name.ends_with(".gz")) {
            let path = format!("/{name}");
            router = router.route(&path, get(async move |headers: HeaderMap| file(&name, &headers)));
        }
    } else {
        router = router.route("/", get(|| async { Redirect::to("/docs") }));
    }
    router.fallback_service(rest.layer(middleware::from_fn(show)))
}

/// Whoever looks for a page that there is not gets one that says so, in the studio's words.
async fn show(request: Request, next: Next) -> Response {
    let asked = request.headers().clone();
    let accepts = asked.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    let wants_page = request.method() == Method::GET && accepts.contains("text/html");
    let response = next.run(request).await;
    if wants_page && response.status() == StatusCode::NOT_FOUND && Studio::get(SHELL).is_some() {
        return (StatusCode::NOT_FOUND, file(SHELL, &asked)).into_response();
    }
    response
}

fn file(name: &str, asked: &HeaderMap) -> Response {
    let Some(plain) = Studio::get(name) else { return StatusCode::NOT_FOUND.into_response() };
    let mut headers = headers_of(name, &plain);
    if asked.get(IF_NONE_MATCH) == headers.get(ETAG) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let compressed = asked
        .get(ACCEPT_ENCODING)
        .and_then(|accepted| accepted.to_str().ok())
        .filter(|accepted| accepted.split(',').any(|one| one.trim().starts_with("gzip")))
        .and_then(|_| Studio::get(&format!("{name}.gz")));
    let EmbeddedFile { data, .. } = match compressed {
        Some(compressed) => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            compressed
        }
        None => plain,
    };
    (headers, data).into_response()
}

fn headers_of(name: &str, file: &EmbeddedFile) -> HeaderMap {
    let content_type = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "webmanifest" => "application/json",
        "wasm" => "application/wasm",
        "png" => "image/png",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    };
    let cache = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let fixed = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, cache),
        (VARY, "Accept-Encoding"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
    ];
    let mut headers: HeaderMap =
        fixed.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
    let hash: String = file.metadata.sha256_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::try_from(format!("\"{hash}\"")).expect("a quoted hexadecimal number is a header");
    headers.insert(ETAG, tag);
    headers
}

#[cfg(test)]
mod tests {
    use super::PAGES;

    #[test]
    fn the_pages_are_those_of_the_studio() {
        let source = include_str!("../../../web/studio/src/app/pages.ts");
        let entries = source.split("{ path: \"").skip(1);
        let paths: Vec<_> = entries.filter_map(|entry| entry.split('"').next()).collect();
        assert_eq!(paths, PAGES);
    }
}
