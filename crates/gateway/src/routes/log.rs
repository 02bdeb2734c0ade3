//! The log as it is: the events of one's own tenant, in their order.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sillage_kernel::{Epoch, Event, Filter, LogPosition, Position, Tenant};
use sillage_store::{EventStore, StoreError, Subscription, clock};
use utoipa::ToSchema;

use super::streams::{PAGE, checked_limit, wants_events};
use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::{LogProblems, schemas};
use crate::extract::Checked;
use crate::hub::Follower;
use crate::session::LogReader;
use crate::sse;

/// How many events of the log, of all tenants, are looked through for one page at most.
const LOOKED_THROUGH: u64 = 10_000;
/// How many events are read at once while the log is followed.
const FOLLOWED_PAGE: usize = 256;

/// Which part of the log.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Part {
    from: Option<String>,
    limit: u16,
    category: Option<String>,
}

impl Default for Part {
    fn default() -> Self {
        Self { from: None, limit: PAGE, category: None }
    }
}

/// A page of the log.
#[derive(Serialize, ToSchema)]
pub(super) struct LogPart {
    #[schema(schema_with = schemas::epoch)]
    epoch: Epoch,
    /// In the order of the log.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Box<RawValue>>,
    /// Where the next page begins.
    #[schema(schema_with = schemas::position)]
    next: Position,
    /// The last event of the log. There may be more as long as `next` is not beyond it.
    #[schema(schema_with = schemas::position)]
    head: Position,
}

/// Reads the log, or follows it.
///
/// A page may be short, or even empty, with more behind it: go on from `next`. With `Accept: text/event-stream` the
/// log is followed from there on, one event in each `data:`, with the id `epoch:position`; `Last-Event-ID` resumes.
#[utoipa::path(get, path = "/api/log", tag = "log", operation_id = "read_log",
    params(
        ("from" = Option<String>, Query, description = "The position of the first event, as `epoch:position` or \
            bare; the beginning unless given.", example = "1"),
        ("limit" = Option<u16>, Query, description = "How many events at most, up to 1,000; 100 unless given."),
        ("category" = Option<String>, Query, description = "Only those of the streams of this category.",
            example = "like"),
    ),
    responses(
        (status = 200, description = "Some events, the oldest first.",
            content((LogPart = "application/json"), (String = "text/event-stream"))),
        LogProblems,
    ))]
pub(super) async fn read(
    State(gateway): State<Arc<Gateway>>,
    LogReader(identity): LogReader,
    Checked(Query(Part { from, limit, category })): Checked<Query<Part>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    gateway.limits.query(&identity)?;
    let filter = category.map_or(Filter::People, |category| Filter::Category(category.into()));
    if let Filter::Category(category) = &filter
        && category.starts_with('$')
    {
        return Err(Refusal::field("category", "is one of the system"));
    }
    let resumed = sse::last_event_id(&headers).parse::<LogPosition>().ok();
    let resumed = resumed.filter(|_| wants_events(&headers)).map(|seen| (seen.epoch, seen.position));
    let from = from.map(|from| from.parse::<LogPosition>()).transpose();
    let from = from.map_err(|error| Refusal::field("from", error.problem))?;
    let asked = from.map(|from| (from.epoch, Position::new(from.position.get().saturating_sub(1))));
    let (epoch, after) = resumed.or(asked).unwrap_or_default();
    let current = gateway.store.epoch();
    if epoch.is_some_and(|epoch| epoch != current) {
        let refusal = Refusal::new(Code::EpochChanged, "The position belongs to another log.");
        return Err(Refusal { detail: Some(("epoch", current.as_str().into())), ..refusal });
    }
    if wants_events(&headers) {
        return follow(&gateway, &identity, after, filter);
    }
    let limit = checked_limit(limit)?;
    let page = page(gateway.store.as_ref(), &identity.tenant, after, &filter, limit).await;
    let (events, through) = page.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
    let (events, head) = (gateway.messages_of(&events), gateway.store.head());
    Ok(Json(LogPart { epoch: current, events, next: through.next(), head }).into_response())
}

/// Up to `limit` events of a tenant after a position, and how far was looked.
async fn page(
    store: &dyn EventStore,
    tenant: &Tenant,
    after: Position,
    filter: &Filter,
    limit: usize,
) -> Result<(Vec<Arc<Event>>, Position), StoreError> {
    let (mut found, mut through) = (Vec::new(), after);
    while found.len() < limit && through < store.head() && through.get() - after.get() < LOOKED_THROUGH {
        let page = store.read_all(through, filter.clone(), limit - found.len()).await?;
        found.extend(page.events.into_iter().filter(|event| event.tenant == *tenant));
        through = page.through;
    }
    Ok((found, through))
}

/// Somebody who follows the log.
struct Following {
    gateway: Arc<Gateway>,
    /// Counts as a connection, and knows when it is to end.
    follower: Follower,
    tenant: Tenant,
    log: Subscription,
}

fn follow(
    gateway: &Arc<Gateway>,
    identity: &crate::tokens::Identity,
    after: Position,
    filter: Filter,
) -> Result<Response, Refusal> {
    gateway.limits.subscription(identity)?;
    let state = Following {
        follower: gateway.connect(identity)?,
        tenant: identity.tenant.clone(),
        log: Subscription::new(Arc::clone(&gateway.store), after, filter),
        gateway: Arc::clone(gateway),
    };
    let first = stream::iter([sse::retry_line()]);
    Ok(sse::response(stream::StreamExt::chain(
        first,
        stream::unfold(state, |mut state| async move {
            let chunk = state.next().await?;
            Some((chunk, state))
        }),
    )))
}

impl Following {
    /// What to write next; nothing when it is to end.
    async fn next(&mut self) -> Option<String> {
        let connection = Arc::clone(self.follower.connection());
        loop {
            // Something was taken by the other side, or this would not be called.
            connection.heard(clock::now());
            if connection.closing().is_some() {
                return None;
            }
            if connection.ping_is_due() {
                return Some(": ping\n\n".to_owned());
            }
            let page = tokio::select! {
                page = self.log.next(FOLLOWED_PAGE) => page,
                () = connection.woken() => continue,
            };
            let page =
                page.inspect_err(|error| tracing::error!(%error, "the log cannot be followed")).ok()?;
            let mut text = String::new();
            for event in page.events.iter().filter(|event| event.tenant == self.tenant) {
                let (epoch, frame) = (self.gateway.hub.epoch(), self.gateway.hub.frame(event));
                text.push_str(&format!("id: {epoch}:{}\ndata: {}\n\n", event.position, frame.text));
            }
            if !text.is_empty() {
                return Some(text);
            }
        }
    }
}
