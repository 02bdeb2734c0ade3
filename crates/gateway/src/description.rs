//! What the server says about itself, so that nobody has to read its code to speak to it: `/openapi.json`,
//! `/asyncapi.json`, and the page `/docs` that shows both.
//!
//! What always holds: a route is registered together with its description, so neither is there without the
//! other; the shapes of messages stand once, in `description/wire.json`, for both documents; and the example
//! of every message is a file of `protocol/golden`, which is also what the tests of both languages read.

mod asyncapi;
mod openapi;
mod problems;
pub mod schemas;

use axum::body::Bytes;
use serde_json::Value;
use utoipa::openapi::OpenApi;

pub(crate) use self::openapi::base;
pub use self::problems::{
    AppendProblems, CommandProblems, CompactionProblems, ControlProblems, GuestProblems, LogProblems,
    OperatorProblems, OutboxProblems, ParkedProblems, QueryProblems, ReceiptProblems, StreamProblems,
};

/// The page `/docs`: one file, which asks this server for both documents and nobody for anything else.
pub(crate) const PAGE: &str = include_str!("description/docs.html");

/// The category of a system's feeds, the commands that they take and the events that they carry: an extension
/// of the tag of the system. The schema of an event's `data` is a component with the name of its type.
pub const FEEDS: &str = "x-feeds";

/// The descriptions as they are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// Of HTTP: OpenAPI 3.1.
    pub openapi: Bytes,
    /// Of the socket: AsyncAPI 3.0.
    pub asyncapi: Bytes,
}

impl Documents {
    /// Completes what the routes say about themselves.
    pub(crate) fn of(routes: &OpenApi) -> Self {
        let openapi = openapi::complete(routes);
        let asyncapi = asyncapi::of(&openapi);
        Self { openapi: text(&openapi), asyncapi: text(&asyncapi) }
    }
}

fn text(document: &Value) -> Bytes {
    let text = serde_json::to_string_pretty(document).expect("a value has only string keys");
    format!("{text}\n").into()
}
