//! Streams as they are, for programs that have their own rules or none. Everything here is of one's own tenant.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sillage_kernel::wire::{ReceiptMessage, SyncBatchMessage};
use sillage_kernel::{CommandId, Event, Expected, StreamName, Timestamp, Version};
use sillage_runtime::history::state_at;
use sillage_runtime::raw::{RawAppend, RawError, append_raw};
use sillage_runtime::{HistoryError, ReplayError, Until};
use sillage_store::Direction;
use utoipa::ToSchema;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::{AppendProblems, LogProblems, schemas};
use crate::extract::Checked;
use crate::receive::{JsonBody, read_json};
use crate::session::{LogReader, LogWriter};
use crate::sse::{self, Receipts};

/// How many events a page has unless more or fewer are asked for.
pub(super) const PAGE: u16 = 100;
/// How many events a page has at most.
pub(super) const MAX_PAGE: u16 = 1_000;
/// The longest type of an event, in characters.
const MAX_TYPE_CHARS: usize = 200;

/// Events that a program has decided.
#[derive(Deserialize, ToSchema)]
pub(super) struct RawAppendBody<'a> {
    /// What the stream must be like: `any`, `no_stream`, `exists`, or the number of its last event.
    #[serde(borrow)]
    #[schema(value_type = Object, examples("no_stream", 3))]
    expected: &'a RawValue,
    /// What makes a repetition known, a UUID.
    #[schema(value_type = String, examples("019bd64a-0800-4000-8000-000000000001"))]
    command_id: CommandId,
    /// 1 to 1,000 events.
    #[serde(borrow)]
    events: Vec<RawEvent<'a>>,
}

/// One of them.
#[derive(Deserialize, ToSchema)]
struct RawEvent<'a> {
    /// The type, in the past tense.
    #[serde(borrow, rename = "type")]
    #[schema(value_type = String, examples("ParcelWeighed"))]
    event_type: Cow<'a, str>,
    /// What happened; kept to the byte.
    #[serde(borrow)]
    #[schema(value_type = Object, examples(json!({"grams": 420})))]
    data: &'a RawValue,
}

/// Appends events to a stream that no system of this server owns.
///
/// All of them or none, durable before the answer. Sent again with the same `command_id` they count once, and the same
/// receipt comes again. A stream that is not as expected is a `conflict`, with its `actual` version.
#[utoipa::path(post, path = "/api/streams/{stream}", tag = "log", operation_id = "append",
    params(("stream" = String, Path, description = "The stream, `category-id`.", example = "parcel-7")),
    request_body(content = RawAppendBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Appended, now or before.", content_type = "application/json",
            body = ref("#/components/schemas/Receipt")),
        AppendProblems,
    ))]
pub(super) async fn append(
    State(gateway): State<Arc<Gateway>>,
    LogWriter(identity): LogWriter,
    Checked(Path(stream)): Checked<Path<String>>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ReceiptMessage>), Refusal> {
    gateway.limits.command(&identity)?;
    let stream = name_of(&stream)?;
    let RawAppendBody { expected, command_id, events } = read_json(&body)?;
    let expected = expectation(expected)?;
    if events.is_empty() {
        return Err(Refusal::field("events", "must have at least one event"));
    }
    let events = events.into_iter().map(|RawEvent { event_type, data }| {
        let good = (1..=MAX_TYPE_CHARS).contains(&event_type.chars().count());
        if !good || event_type.chars().any(char::is_control) {
            return Err(Refusal::field(
                "type",
                format!("must have 1 to {MAX_TYPE_CHARS} printable characters"),
            ));
        }
        Ok((event_type.into_owned(), data.get().to_owned()))
    });
    let events = events.collect::<Result<_, _>>()?;
    let (tenant, user_id) = (identity.tenant, identity.actor.user_id);
    let raw = RawAppend { tenant, user_id, command_id, stream, expected, events };
    let receipt = append_raw(&gateway.deciders, gateway.store.as_ref(), raw).await?;
    Ok((StatusCode::CREATED, Json(ReceiptMessage::from(&receipt))))
}

fn expectation(expected: &RawValue) -> Result<Expected, Refusal> {
    match expected.get() {
        r#""any""# => Ok(Expected::Any),
        r#""no_stream""# => Ok(Expected::NoStream),
        r#""exists""# => Ok(Expected::Exists),
        number => serde_json::from_str(number).map(Expected::Exactly).map_err(|_| {
            Refusal::field("expected", "must be \"any\", \"no_stream\", \"exists\" or the number of an event")
        }),
    }
}

pub(super) fn name_of(stream: &str) -> Result<StreamName, Refusal> {
    stream.parse().map_err(|error: sillage_kernel::InvalidName| Refusal::field("stream", error.problem))
}

/// Which part of a stream.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Part {
    from: Version,
    limit: u16,
}

impl Default for Part {
    fn default() -> Self {
        Self { from: Version::new(1), limit: PAGE }
    }
}

/// Reads a stream, or follows it.
///
/// With `Accept: text/event-stream` it is followed as `/api/stream` follows a feed: what was, then what comes,
/// resumed by `Last-Event-ID`. A page that would begin with events that were dropped is `compacted`: read on from
/// `kept_from`, or begin with the state.
#[utoipa::path(get, path = "/api/streams/{stream}", tag = "log", operation_id = "read_stream",
    params(
        ("stream" = String, Path, description = "The stream, `category-id`.", example = "parcel-7"),
        ("from" = Option<u64>, Query, description = "The number of the first event; 1 unless given."),
        ("limit" = Option<u16>, Query, description = "How many events at most, up to 1,000; 100 unless given."),
    ),
    responses(
        (status = 200, description = "Some events, the oldest first. A stream without events is empty.",
            content(
                (ref("#/components/schemas/SyncBatch") = "application/json"),
                (String = "text/event-stream"),
            )),
        LogProblems,
    ))]
pub(super) async fn read(
    State(gateway): State<Arc<Gateway>>,
    LogReader(identity): LogReader,
    Checked(Path(stream)): Checked<Path<String>>,
    Checked(Query(Part { from, limit })): Checked<Query<Part>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let stream = name_of(&stream)?;
    if wants_events(&headers) {
        return sse::follow(&gateway, &identity, vec![stream], Receipts::LeftOut, &headers).await;
    }
    gateway.limits.query(&identity)?;
    let limit = checked_limit(limit)?;
    let from = from.max(Version::new(1));
    let page = gateway.store.read_stream(&identity.tenant, &stream, from, Direction::Forward, limit).await;
    let page = page?;
    let last = page.events.last().map_or(Version::new(from.get() - 1), |event| event.version);
    let batch = SyncBatchMessage {
        feed: stream,
        events: gateway.messages_of(&page.events),
        current_sequence: page.head,
        has_more: last < page.head,
    };
    Ok(Json(batch).into_response())
}

pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}

pub(super) fn checked_limit(limit: u16) -> Result<usize, Refusal> {
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(limit.into());
    }
    Err(Refusal::field("limit", format!("must be between 1 and {MAX_PAGE}")))
}

impl Gateway {
    /// The events as every transport writes them.
    pub(super) fn messages_of(&self, events: &[Arc<Event>]) -> Vec<Box<RawValue>> {
        let message = |event: &Arc<Event>| {
            RawValue::from_string(self.hub.frame(event).text.to_string()).expect("a message is JSON")
        };
        events.iter().map(message).collect()
    }
}

/// At which point.
#[derive(Deserialize)]
pub(super) struct At {
    version: Option<Version>,
    at: Option<Timestamp>,
}

/// The state of a stream.
#[derive(Serialize, ToSchema)]
pub(super) struct StreamState {
    #[schema(schema_with = schemas::feed)]
    feed: StreamName,
    /// The number of the last event in it; 0 if there is none.
    #[schema(schema_with = schemas::sequence_number)]
    sequence_number: Version,
    /// When that event was recorded.
    #[schema(value_type = Option<String>)]
    timestamp: Option<Timestamp>,
    /// What the rules of the stream have made of its events.
    #[schema(value_type = Object)]
    state: Box<RawValue>,
}

/// Tells the state of a stream, now or as it was.
///
/// One whose events were dropped is `compacted`; `kept_from` is the first version whose state can be told.
#[utoipa::path(get, path = "/api/streams/{stream}/state", tag = "log", operation_id = "stream_state",
    params(
        ("stream" = String, Path, description = "The stream, `category-id`.", example = "like-article-1"),
        ("version" = Option<u64>, Query, description = "After this event; the last one unless given."),
        ("at" = Option<String>, Query, description = "At this time.", example = "2026-01-19T12:00:00Z"),
    ),
    responses((status = 200, description = "The state.", body = StreamState), LogProblems))]
pub(super) async fn state(
    State(gateway): State<Arc<Gateway>>,
    LogReader(identity): LogReader,
    Checked(Path(stream)): Checked<Path<String>>,
    Checked(Query(At { version, at })): Checked<Query<At>>,
) -> Result<Json<StreamState>, Refusal> {
    gateway.limits.query(&identity)?;
    let feed = name_of(&stream)?;
    let until = match (version, at) {
        (None, None) => Until::End,
        (Some(version), None) => Until::Version(version),
        (None, Some(time)) => Until::Time(time),
        (Some(_), Some(_)) => return Err(Refusal::field("at", "cannot be there together with `version`")),
    };
    let (store, snapshots) = (gateway.store.as_ref(), Some(gateway.snapshots.as_ref()));
    let then = state_at(&gateway.deciders, store, snapshots, (&identity.tenant, &feed), until).await?;
    let state = RawValue::from_string(then.state).expect("a state was written as JSON");
    Ok(Json(StreamState { feed, sequence_number: then.version, timestamp: then.recorded_at, state }))
}

impl From<RawError> for Refusal {
    fn from(error: RawError) -> Self {
        let message = error.to_string();
        match error {
            RawError::Owned(_) => Self::new(Code::Forbidden, message),
            RawError::Conflict { actual } => {
                Self { detail: Some(("actual", actual.get().into())), ..Self::new(Code::Conflict, message) }
            }
            RawError::ContentDiffers => Self::new(Code::Conflict, message),
            RawError::Expired => Self::field("command_id", message),
            RawError::Invalid(_) => Self::field("events", message),
            RawError::Overloaded => Self { retry_after: Some(1), ..Self::new(Code::Overloaded, message) },
            RawError::Unavailable(_) => {
                Self { retry_after: Some(5), ..Self::new(Code::Unavailable, message) }
            }
        }
    }
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Self {
        let message = error.to_string();
        match error {
            HistoryError::NoRules(_) => Self::new(Code::NotFound, message),
            HistoryError::NotYet(_) => Self::field("version", message),
            HistoryError::Compacted { kept_from } => Self::compacted(kept_from.get(), message),
            HistoryError::Replay(ReplayError::Store(_)) => Self::new(Code::Unavailable, message),
            HistoryError::Replay(ReplayError::Compacted { .. } | ReplayError::Broken(_)) => {
                Self::new(Code::Internal, message)
            }
        }
    }
}
