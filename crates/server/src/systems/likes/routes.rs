//! The routes that the founding document prints.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sillage_domains::likes::{LikesCommand, LikesView, stream_of};
use sillage_gateway::Gateway;
use sillage_gateway::codes::Refusal;
use sillage_gateway::description::{CommandProblems, QueryProblems, schemas};
use sillage_gateway::extract::Checked;
use sillage_gateway::receive::{FlatCommand, JsonBody, traceparent};
use sillage_gateway::session::Session;
use sillage_kernel::{DomainCommand, LogPosition, Position, Version, View};
use sillage_runtime::station;
use sillage_store::views::{Answer, Freshness};
use tracing::field;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::description::{LikesBody, document, golden};
use super::views::{LikesOfTarget, likes_of};

/// Tells that an answer comes from a view that has stopped.
pub const STALE: HeaderName = HeaderName::from_static("sillage-stale");

pub(crate) fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::with_openapi(document()).routes(routes!(like)).routes(routes!(read))
}

/// Likes a target, or no longer does.
///
/// An alias that builds the same command as `POST /api/commands` with the feed `like-{targetId}`. **Void**: 202
/// says that the command is settled, not how. It is acknowledged by a `LikeSetEvent` with its `commandId`, and
/// by a receipt: `unchanged` if everything was so already, `rejected` with `likes_closed` while a moderator has
/// closed the target, or with `not_moderator` if somebody without the scope `moderate` closes or opens one.
#[utoipa::path(post, path = "/api/social/likes", tag = "likes", operation_id = "like",
    request_body = LikesBody,
    responses(
        (status = 202, description = "Received and settled, whatever became of it. The body is empty."),
        CommandProblems,
    ))]
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
    at: Option<String>,
}

/// Which state of the view is asked for.
enum Asked {
    /// That of now, or one that is at least so late.
    Live(Option<LogPosition>),
    /// The one at a position.
    At(LogPosition),
}

/// The likes of a target, as one user sees them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LikesOfTarget, examples(json!(golden!("likes-of-target"))))]
struct LikesDto {
    target_id: String,
    /// How many like it.
    count: u64,
    /// Whether I do.
    me: bool,
    /// The number of the last event of the target.
    #[schema(schema_with = schemas::sequence_number)]
    version: Version,
    #[schema(schema_with = schemas::position)]
    position: Position,
}

/// Tells how many like a target, and whether I do.
///
/// A target that nobody ever liked has none.
#[utoipa::path(get, path = "/api/social/likes/{target_id}", tag = "likes", operation_id = "likes_of_target",
    params(
        ("target_id" = String, Path, description = "What is liked: 1 to 200 printable characters without \
            spaces.", example = "article-1"),
        ("at_least" = Option<String>, Query, description = "The position that the answer shall reflect: \
            `epoch:position`, or a number for the current log, such as the `position` of a receipt. It is \
            waited for up to two seconds.", example = "1207"),
        ("at" = Option<String>, Query, description = "The position that the answer shall reflect, and none later: \
            the likes as they were. The view is replayed for it, which may take longer than an answer may: after \
            `view_behind` or `overloaded` ask again. Before `kept_from` of the answer `compacted` there is nothing \
            to be shown. Not for guests."),
    ),
    responses(
        (status = 200, description = "As the view has it.", body = LikesDto,
            headers(("sillage-stale" = String, description = "`true` if the view has stopped."))),
        QueryProblems,
    ))]
async fn read(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    Checked(Path(target_id)): Checked<Path<String>>,
    Checked(Query(wanted)): Checked<Query<Wanted>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut journey = gateway.sampler.query(traceparent(&headers));
    let asked = journey.checked(parse(&target_id, &wanted))?;
    let (tenant, user, target) = (identity.tenant.clone(), identity.actor.user_id.clone(), target_id.clone());
    journey.enter(station!("query", journey.context(), error = field::Empty));
    let ask = move |db: &Connection| likes_of(db, &tenant, &target, &user);
    let answer = match asked {
        Asked::Live(at_least) => gateway.query(&identity, LikesView::NAME, at_least, ask).await,
        Asked::At(at) => gateway.query_at(&identity, LikesView::NAME, at, ask).await,
    };
    let answer = journey.checked(answer)?;
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

fn parse(target_id: &str, Wanted { at_least, at }: &Wanted) -> Result<Asked, Refusal> {
    stream_of(target_id)?;
    let position = |name: &str, text: &Option<String>| {
        let position = text.as_ref().map(|text| text.parse::<LogPosition>()).transpose();
        position.map_err(|error| Refusal::field(name, error.problem))
    };
    match (position("at_least", at_least)?, position("at", at)?) {
        (Some(_), Some(_)) => Err(Refusal::field("at", "cannot be there together with `at_least`")),
        (None, Some(at)) => Ok(Asked::At(at)),
        (at_least, None) => Ok(Asked::Live(at_least)),
    }
}
