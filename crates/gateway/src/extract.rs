//! What routes take out of a request. What always holds: a request that cannot be read is refused as everything
//! else is. An extractor of axum by itself would answer in plain text, so routes take it [`Checked`].

use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::request::Parts;

use crate::codes::{Code, Refusal};

/// An extractor of axum whose rejections are refusals: `Checked(Path(name)): Checked<Path<String>>`.
pub struct Checked<E>(pub E);

impl<S, E> FromRequestParts<S> for Checked<E>
where
    S: Send + Sync,
    E: FromRequestParts<S>,
    Refusal: From<E::Rejection>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Ok(Self(E::from_request_parts(parts, state).await?))
    }
}

/// A path that cannot be read names nothing that there is.
impl From<PathRejection> for Refusal {
    fn from(_: PathRejection) -> Self {
        Self::not_found()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(error: QueryRejection) -> Self {
        Self::field("query", error.body_text())
    }
}

impl From<WebSocketUpgradeRejection> for Refusal {
    fn from(error: WebSocketUpgradeRejection) -> Self {
        Self::new(Code::Malformed, format!("This is not the opening of a WebSocket: {}", error.body_text()))
    }
}
