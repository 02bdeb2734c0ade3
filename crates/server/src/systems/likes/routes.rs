//! The routes that the founding document prints.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sillage_domains::likes::{LikesCommand, LikesView, stream_of};
use sillage_gateway::Gateway;
use sillage_gateway::codes::Refusal;
use sillage_gateway::receive::{FlatCommand, JsonBody, traceparent};
use sillage_gateway::session::Session;
use sillage_kernel::{DomainCommand, LogPosition, Position, Version, View};
use sillage_runtime::station;
use sillage_store::views::{Answer, Freshness};
use tracing::field;

use super::views::{LikesOfTarget, likes_of};

/// Tells that an answer comes from a view that has stopped.
pub const STALE: HeaderName = HeaderName::from_static("sillage-stale");

pub(crate) fn routes() -> Router<Arc<Gateway>> {
    Router::new().route("/api/social/likes", post(like)).route("/api/social/likes/{target_id}", get(read))
}

/// `POST /api/social/likes`: an alias that builds the same command as `POST /api/commands`.
async fn like(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, Refusal> {
    let mut journey = gateway.sampler.command(traceparent(&headers));
    let command = journey.checked(FlatCommand::read(&body, LikesCommand::NAMES))?;
    gateway.settle(&identity, journey, command.incoming()).await
}

#[derive(Deserialize)]
struct Wanted {
    at_least: Option<String>,
}

/// The likes of a target, as one user sees them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LikesDto {
    target_id: String,
    count: u64,
    me: bool,
    version: Version,
    position: Position,
}

/// `GET /api/social/likes/{targetId}`.
async fn read(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    Path(target_id): Path<String>,
    wanted: Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut journey = gateway.sampler.query(traceparent(&headers));
    let at_least = journey.checked(parse(&target_id, &wanted))?;
    let (tenant, user, target) = (identity.tenant, identity.actor.user_id, target_id.clone());
    journey.enter(station!("query", journey.context(), error = field::Empty));
    let ask = move |db: &Connection| likes_of(db, &tenant, &target, &user);
    let answer = journey.checked(gateway.query(LikesView::NAME, at_least, ask).await)?;
    journey.enter(station!("transform", journey.context()));
    let Answer { value: LikesOfTarget { count, me, version }, position, freshness } = answer;
    let mut headers = HeaderMap::new();
    if freshness == Freshness::Stale {
        headers.insert(STALE, HeaderValue::from_static("true"));
    }
    let dto = LikesDto { target_id, count, me, version, position };
    journey.enter(station!("answer", journey.context()));
    Ok((headers, Json(dto)).into_response())
}

fn parse(target_id: &str, wanted: &Wanted) -> Result<Option<LogPosition>, Refusal> {
    stream_of(target_id)?;
    let at_least = wanted.at_least.as_ref().map(|text| text.parse::<LogPosition>()).transpose();
    at_least.map_err(|error| Refusal::field("at_least", error.problem))
}
