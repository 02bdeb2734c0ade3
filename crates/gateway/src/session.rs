//! Who is asking: the token of a request, from its header or its query.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use sillage_store::clock;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::tokens::Identity;

/// The scope of those who look after the node. What they ask of a reactor is asked of the whole node, for all
/// tenants; what they see of events is of their own.
pub const OPERATE: &str = "operate";

/// The scope of programs that read streams and the log of their tenant as they are.
pub const READ_LOG: &str = "log:read";
/// The scope of programs that append to streams which no system of this server owns.
pub const APPEND_LOG: &str = "log:append";

/// Whoever has signed in; others are answered 401.
pub struct Session(pub Identity);

/// Whoever has signed in, or why nobody has: for routes that answer in their own way.
pub struct MaybeSession(pub Result<Identity, Refusal>);

/// Whoever may operate the node; others are answered 401 or 403.
pub struct Operator(pub Identity);

/// Whoever may read the log; others are answered 401 or 403.
pub struct LogReader(pub Identity);

/// Whoever may append to streams of their own; others are answered 401 or 403.
pub struct LogWriter(pub Identity);

impl FromRequestParts<Arc<Gateway>> for MaybeSession {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Infallible> {
        Ok(Self(token_of(parts).ok_or_else(missing).and_then(|token| gateway.sign_in(&token))))
    }
}

impl FromRequestParts<Arc<Gateway>> for Session {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refusal> {
        let Ok(MaybeSession(identity)) = MaybeSession::from_request_parts(parts, gateway).await;
        identity.map(Self)
    }
}

macro_rules! scoped {
    ($($name:ident: $scope:expr;)*) => {
        $(impl FromRequestParts<Arc<Gateway>> for $name {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refusal> {
                let Session(identity) = Session::from_request_parts(parts, gateway).await?;
                if identity.actor.has($scope) {
                    return Ok(Self(identity));
                }
                Err(Refusal::new(Code::Forbidden, format!("This needs a token with the scope `{}`.", $scope)))
            }
        })*
    };
}

scoped! {
    Operator: OPERATE;
    LogReader: READ_LOG;
    LogWriter: APPEND_LOG;
}

impl Gateway {
    /// Whoever the token speaks for.
    pub fn sign_in(&self, token: &str) -> Result<Identity, Refusal> {
        let identity = self
            .keys
            .verify(token, clock::now())
            .map_err(|error| Refusal::new(Code::Unauthorized, error.to_string()))?;
        self.directory.remember(&identity.tenant, &identity.actor.user_id, &identity.username);
        Ok(identity)
    }
}

fn missing() -> Refusal {
    Refusal::new(Code::Unauthorized, "Send a token: `Authorization: Bearer …`, or `?token=…`.")
}

fn token_of(parts: &Parts) -> Option<String> {
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(bearer) = bearer {
        let (scheme, token) = bearer.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    let query = parts.uri.query().unwrap_or_default();
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    // A token consists of letters that need no escaping.
    Some(token.to_owned())
}
