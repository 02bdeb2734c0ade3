//! The one table of what can be wrong: its word on the wire, its HTTP status, and what a client does about it.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use sillage_kernel::InvalidField;
use sillage_kernel::wire::ErrorMessage;
use sillage_runtime::{DecodeCommandError, DispatchError};
use sillage_store::StoreError;

/// What a client does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Send it again later, with the same command id.
    Retry,
    /// Mend it before sending it again.
    Fix,
    /// Get a new token first.
    SignIn,
    /// It will not work, whatever is done.
    GiveUp,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal, $status:ident, $advice:ident;)*) => {
        /// Everything that can be wrong with what a client sends. Refusals of the rules are not here: they
        /// are receipts, and bring their own words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word on the wire.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
            /// The status of an HTTP answer.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
            /// What a client does about it.
            pub const fn advice(self) -> Advice {
                match self { $(Self::$name => Advice::$advice,)* }
            }
            /// What it means, as a sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

codes! {
    /// The text is not JSON, or not of the shape of any message.
    Malformed = "malformed", BAD_REQUEST, Fix;
    /// There is no message of that type.
    UnknownType = "unknown_type", UNPROCESSABLE_ENTITY, Fix;
    /// There is no command of that name.
    UnknownCommand = "unknown_command", UNPROCESSABLE_ENTITY, Fix;
    /// A field is wrong; it is named.
    InvalidField = "invalid_field", UNPROCESSABLE_ENTITY, Fix;
    /// There is no such thing, or not for this user.
    NotFound = "not_found", NOT_FOUND, GiveUp;
    /// The method is not for this path.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Fix;
    /// Something of that identity is there already, with another content.
    Conflict = "conflict", CONFLICT, Fix;
    /// The position belongs to another log.
    EpochChanged = "epoch_changed", CONFLICT, Fix;
    /// What was asked for was compacted: `kept_from` tells what can still be had.
    Compacted = "compacted", GONE, Fix;
    /// The message is larger than allowed.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, Fix;
    /// The body has another type than JSON.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, Fix;
    /// No token, or none that holds.
    Unauthorized = "unauthorized", UNAUTHORIZED, SignIn;
    /// The token runs out within a minute.
    TokenExpired = "token_expired", UNAUTHORIZED, SignIn;
    /// The token does not carry the scope that this needs.
    Forbidden = "forbidden", FORBIDDEN, GiveUp;
    /// Too many requests, subscriptions or connections.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, Retry;
    /// The view did not come to the wanted position in time.
    ViewBehind = "view_behind", GATEWAY_TIMEOUT, Retry;
    /// More is going on than this node can take.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Retry;
    /// The log or a view cannot be reached.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, Retry;
    /// A mistake of the server.
    Internal = "internal", INTERNAL_SERVER_ERROR, Retry;
}

/// Why something a client sent was not taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What kind of thing is wrong.
    pub code: Code,
    /// A sentence for a person.
    pub message: String,
    /// The field that is wrong, if it is one.
    pub field: Option<String>,
    /// In how many seconds to come back, if that helps.
    pub retry_after: Option<u64>,
    /// What else belongs into the body of an HTTP answer, as a name and a value.
    pub detail: Option<(&'static str, Value)>,
}

impl Refusal {
    /// A refusal with a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, retry_after: None, detail: None }
    }

    /// Nothing of that name, or not for this user, who is not to learn which.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is no such thing, or not for you.")
    }

    /// A wrong field.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::InvalidField, problem) }
    }

    /// Come back in so many seconds.
    pub fn too_many(retry_after: u64) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Code::RateLimited, "Too many requests.") }
    }

    /// What was asked for is no longer there, but what has this number is.
    pub fn compacted(kept_from: u64, message: impl Into<String>) -> Self {
        Self { detail: Some(("kept_from", kept_from.into())), ..Self::new(Code::Compacted, message) }
    }

    /// The message that a socket gets.
    pub fn on_socket(self, original_action: Option<Value>) -> ErrorMessage {
        let Self { code, message, field, retry_after, detail: _ } = self;
        ErrorMessage { code: Cow::Borrowed(code.word()), message, field, retry_after, original_action }
    }
}

impl From<InvalidField> for Refusal {
    fn from(InvalidField { field, problem }: InvalidField) -> Self {
        Self::field(field, problem)
    }
}

impl From<DecodeCommandError> for Refusal {
    fn from(error: DecodeCommandError) -> Self {
        match error {
            DecodeCommandError::UnknownCommand(_) => Self::new(Code::UnknownCommand, error.to_string()),
            DecodeCommandError::InvalidField(field) => field.into(),
        }
    }
}

impl From<DispatchError> for Refusal {
    fn from(error: DispatchError) -> Self {
        let (code, retry_after) = match error {
            DispatchError::ContentDiffers => (Code::Conflict, None),
            DispatchError::Overloaded => (Code::Overloaded, Some(1)),
            DispatchError::Unavailable(_) => (Code::Unavailable, Some(5)),
            DispatchError::Broken(_) => (Code::Internal, None),
        };
        Self { retry_after, ..Self::new(code, error.to_string()) }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Dropped { kept_from } => Self::compacted(kept_from.get(), message),
            StoreError::Invalid(_) => Self::new(Code::Internal, message),
            StoreError::Unavailable(_) => Self::new(Code::Unavailable, message),
        }
    }
}

/// A refusal as RFC 9457 writes it.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    advice: Advice,
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { code, message, field, retry_after, detail } = self;
        let status = code.status();
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: code.word(),
            detail: &message,
            field: field.as_deref(),
            advice: code.advice(),
            more: detail.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// When to come back to a node that is full, in seconds; as a macro, since a reason is a literal that holds it.
macro_rules! retry_after {
    () => {
        5
    };
}

/// In how many seconds whoever found no room is to come back.
pub const RETRY_AFTER_SECONDS: u64 = retry_after!();

macro_rules! closes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $reason:expr;)*) => {
        /// Why the server closes a socket. The number tells the client whether to come back.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Close { $($(#[doc = $doc])* $name,)* }

        impl Close {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number and the word that the closing frame carries.
            pub const fn frame(self) -> (u16, &'static str) {
                match self { $(Self::$name => ($code, $reason),)* }
            }
            /// What it means and what the client does, as a sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

closes! {
    /// The server goes away: reconnect with jitter.
    GoingAway = 1001, "going away";
    /// A message was too large: reconnect, and do not repeat it.
    TooLarge = 1009, "too large";
    /// A binary frame or broken UTF-8: give up.
    NotText = 4400, "not text";
    /// There is no good token, or it has run out: sign in again.
    SignIn = 4401, "sign in again";
    /// Nothing was heard for too long: reconnect.
    NoLife = 4408, "no life";
    /// Too many connections, or too many new ones: reconnect after `retry_after` seconds, which the reason carries.
    TooMany = 4429, concat!("retry_after=", retry_after!());
    /// Too much is going on: reconnect after `retry_after` seconds, which the reason carries.
    Overloaded = 4503, concat!("retry_after=", retry_after!());
}
