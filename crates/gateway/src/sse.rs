//! `GET /api/stream?feed=…`: the same feeds for whoever cannot open a socket, as server-sent events.
//!
//! The id of each event holds how far every numbered feed has come, so that a browser resumes by itself:
//! `epoch:sequence` for one feed, `epoch:feed=sequence,feed=sequence` for several. Receipts have no id.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use sillage_kernel::{Epoch, StreamName, Version};

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::StreamProblems;
use crate::hub::{Follower, MAX_FEEDS, Outgoing, Since};
use crate::receive::feed_of;
use crate::session::Session;
use crate::tokens::Identity;
use sillage_store::clock;

/// The name of the feed of a sender's own receipts.
const OWN_RECEIPTS: &str = "commands-me";
/// How long a browser waits before it reconnects, in milliseconds.
const RETRY_MILLIS: u32 = 2_000;

/// How a stream begins.
const EXAMPLE: &str = r#"retry: 2000

data: {"type":"subscribed","feed":"like-article-1","epoch":"9f1c…","current_sequence":1}

id: 9f1c…:1
data: {"type":"event","feed":"like-article-1","epoch":"9f1c…","sequence_number":1,"position":1,"event_type":"LikeSetEvent","data":{…},…}

data: {"type":"receipt","feed":"like-article-1","command_id":"…","outcome":"applied","sequence_numbers":[1],"position":1}

"#;

/// Follows feeds as server-sent events.
///
/// The messages are those of `/ws`, one in each `data:`, without an `event:` name. First comes `subscribed` for
/// each feed, then what was missed, then what is live; every 15 quiet seconds a comment.
///
/// **Resuming.** The `id:` of an event holds how far every feed has come: `epoch:sequence` for one feed,
/// `epoch:feed=sequence,…` for several. A browser sends it back as `Last-Event-ID` by itself. If it is of
/// another log, `resync` comes, and then the whole.
///
/// **Receipts** have no `id:`. They come to every connection of their sender; name `commands-me` as a feed to
/// hear of your own commands alone.
#[utoipa::path(get, path = "/api/stream", tag = "feeds", operation_id = "stream",
    params(
        ("feed" = Vec<String>, Query, description = "What to follow: repeat it for several feeds, 100 at most. \
            `commands-me` stands for one's own receipts.", example = json!(["like-article-1", "commands-me"])),
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` that was seen.",
            example = "9f1c2e7ab0d34c55a6e8107f3b2d4c91:42"),
    ),
    responses(
        (status = 200, description = "A stream without an end.", body = String,
            content_type = "text/event-stream", example = json!(EXAMPLE)),
        StreamProblems,
    ))]
pub(crate) async fn open(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.unwrap_or_default();
    let (wanted, receipts) = wanted_feeds(&query)?;
    wanted.iter().try_for_each(|feed| gateway.check_reach(&identity, feed))?;
    follow(&gateway, &identity, wanted, receipts, &headers).await
}

/// A stream of these feeds, which their follower may reach.
pub(crate) async fn follow(
    gateway: &Gateway,
    identity: &Identity,
    wanted: Vec<StreamName>,
    receipts: Receipts,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let resume = Resume::read(last_event_id(headers));
    let mut follower = gateway.connect(identity)?;
    let single = if wanted.len() == 1 { Feeds::One } else { Feeds::Several };
    for feed in wanted {
        gateway.limits.subscription(identity)?;
        let since = resume.since(&feed, single);
        let subscribed = follower.subscribe(feed, since).await;
        subscribed.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
    }
    let epoch = gateway.hub.epoch().clone();
    let ready = VecDeque::from([retry_line()]);
    let state = Stream { follower, epoch, feeds: single, receipts, ready };
    Ok(response(stream::unfold(state, |mut state| async move {
        let chunk = state.next().await?;
        Some((chunk, state))
    })))
}

/// The last `id:` that a browser has seen.
pub(crate) fn last_event_id(headers: &HeaderMap) -> &str {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_default()
}

/// What a stream begins with.
pub(crate) fn retry_line() -> String {
    format!("retry: {RETRY_MILLIS}\n\n")
}

/// An answer that is written chunk by chunk.
pub(crate) fn response(chunks: impl futures_util::Stream<Item = String> + Send + 'static) -> Response {
    let chunks = chunks.map(|chunk| Ok::<_, Infallible>(Bytes::from(chunk)));
    let mut response = Body::from_stream(chunks).into_response();
    for (name, value) in [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The numbered feeds that the query names, and whether it names that of the user's own receipts.
fn wanted_feeds(query: &str) -> Result<(Vec<StreamName>, Receipts), Refusal> {
    let (mut feeds, mut receipts) = (Vec::new(), Receipts::LeftOut);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "feed" {
            let feed = feed_of(Some(&value))?;
            if feed.as_str() == OWN_RECEIPTS {
                receipts = Receipts::Wanted;
            } else if !feeds.contains(&feed) {
                feeds.push(feed);
            }
        }
    }
    if feeds.is_empty() && receipts == Receipts::LeftOut {
        return Err(Refusal::field("feed", "is missing"));
    }
    if feeds.len() > MAX_FEEDS {
        return Err(Refusal::field("feed", format!("may be there at most {MAX_FEEDS} times")));
    }
    Ok((feeds, receipts))
}

/// Whether a stream carries the receipts of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipts {
    Wanted,
    LeftOut,
}

/// A feed's name as an id has it: no comma or equals sign is left in it, nor anything that a header cannot carry.
fn in_id(feed: &StreamName) -> String {
    form_urlencoded::byte_serialize(feed.as_str().as_bytes()).collect()
}

/// How many feeds a stream follows, as far as its ids are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feeds {
    One,
    Several,
}

/// How far a browser had come.
struct Resume<'a> {
    epoch: Option<Epoch>,
    sequences: &'a str,
}

impl<'a> Resume<'a> {
    fn read(id: &'a str) -> Self {
        let (epoch, sequences) = id.split_once(':').unwrap_or(("", ""));
        Self { epoch: Epoch::parse(epoch), sequences }
    }

    fn since(&self, feed: &StreamName, feeds: Feeds) -> Since {
        let number = |text: &str| text.parse().map(Version::new).ok();
        let name = in_id(feed);
        let by_name = |pair: &str| {
            pair.split_once('=').filter(|(found, _)| *found == name).and_then(|(_, n)| number(n))
        };
        // A bare number does not say which feed it is of, when there are several.
        let bare = number(self.sequences).filter(|_| feeds == Feeds::One);
        let last = bare.or_else(|| self.sequences.split(',').find_map(by_name));
        match (&self.epoch, last) {
            (Some(epoch), Some(last)) => Since::After(Some(epoch.clone()), last),
            _ => Since::Start,
        }
    }
}

/// An open stream.
struct Stream {
    follower: Follower,
    epoch: Epoch,
    feeds: Feeds,
    receipts: Receipts,
    ready: VecDeque<String>,
}

impl Stream {
    /// What to write next; nothing when it is to end.
    async fn next(&mut self) -> Option<String> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        let connection = Arc::clone(self.follower.connection());
        let mut out = Vec::new();
        loop {
            // Something was taken by the other side, or this would not be called.
            connection.heard(clock::now());
            if connection.closing().is_some() {
                return None;
            }
            let mut text = String::new();
            if connection.ping_is_due() {
                text.push_str(": ping\n\n");
            }
            // Counted by what is handed out, so the id of an event never speaks of a later one.
            let before: Vec<(StreamName, Version)> =
                self.follower.cursors().map(|(feed, last)| (feed.clone(), last)).collect();
            if let Err(error) = self.follower.next(&mut out).await {
                tracing::error!(%error, "a stream cannot read the log");
                return None;
            }
            self.write(&out, before, &mut text);
            out.clear();
            if !text.is_empty() {
                return Some(text);
            }
            connection.woken().await;
        }
    }

    fn write(&self, out: &[Outgoing], mut cursors: Vec<(StreamName, Version)>, text: &mut String) {
        for outgoing in out {
            if matches!(outgoing, Outgoing::Receipt(_)) && self.receipts == Receipts::LeftOut {
                continue;
            }
            if let Outgoing::Event(feed, frame) = outgoing {
                // The write itself is the server's below: this is as far as a stream can see.
                let _delivered = frame.deliver();
                if let Some((_, last)) = cursors.iter_mut().find(|(name, _)| name == feed) {
                    *last = frame.version;
                }
                text.push_str("id: ");
                text.push_str(&self.id(&cursors));
                text.push('\n');
            }
            text.push_str("data: ");
            text.push_str(outgoing.text());
            text.push_str("\n\n");
        }
    }

    fn id(&self, cursors: &[(StreamName, Version)]) -> String {
        let sequences = if self.feeds == Feeds::One {
            cursors.iter().map(|(_, last)| last.to_string()).collect::<Vec<_>>()
        } else {
            cursors.iter().map(|(feed, last)| format!("{}={last}", in_id(feed))).collect()
        };
        format!("{}:{}", self.epoch, sequences.join(","))
    }
}
