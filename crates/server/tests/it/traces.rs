//! Traces as a collector gets them, against the arrows n1 to n19 of the CQRS diagram.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Client, Process, action, moderation, until, within};

/// What the guide prints, and what the spans are held against.
const GUIDE: &str = include_str!("../../../../docs/guides/traces.md");

/// A collector that keeps what it gets.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let router = axum::Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, spans }
    }

    /// The spans of a trace in the order of their beginning, once there are so many.
    async fn trace(&self, trace_id: &str, count: usize) -> Vec<Span> {
        let found = || {
            let spans = self.spans.lock().unwrap();
            let mut found: Vec<_> =
                spans.iter().filter(|span| hex(&span.trace_id) == trace_id).cloned().collect();
            found.sort_by_key(|span| span.start_time_unix_nano);
            found
        };
        until(&format!("{count} spans of {trace_id}"), || {
            let found = found();
            std::future::ready((found.len() >= count).then_some(found))
        })
        .await
    }
}

async fn take(State(spans): State<Arc<Mutex<Vec<Span>>>>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        assert!(attributes.iter().any(|attribute| attribute.key == "service.name"), "{attributes:?}");
        spans.lock().unwrap().extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

/// A row of the guide: which requests walk an arrow, from which station to which.
struct Arrow {
    name: String,
    from: String,
    to: String,
    walked_by: Vec<String>,
}

/// The rows of the guide's table.
fn arrows() -> Vec<Arrow> {
    let rows = GUIDE.lines().filter(|line| line.starts_with("| n"));
    let arrows = rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _label, stations, walked_by] = cells[..] else { panic!("{row}") };
        let (from, to) = stations.split_once(" → ").unwrap();
        let station = |text: &str| text.trim_matches('`').to_owned();
        let walked_by = walked_by.split(", ").map(str::to_owned).collect();
        Arrow { name: name.to_owned(), from: station(from), to: station(to), walked_by }
    });
    arrows.collect()
}

/// The arrows of the diagram; those between n1 and n5 and behind n6 lie in the client.
const DIAGRAM: &str = "n4 → n8, n5 → n16, n8 → n9, n9 → n10, n9 → n13, n10 → n11, n11 → n12, n12 → n14, n12 → n6, \
    n13 → n6, n14 → n15, n15 → n16, n16 → n17, n17 → n18, n18 → n19, n19 → n6";

/// A request whose trace its client has begun.
struct Traced {
    trace_id: String,
    parent: &'static str,
}

impl Traced {
    fn new() -> Self {
        Self { trace_id: Uuid::new_v4().simple().to_string(), parent: "00f067aa0ba902b7" }
    }

    fn header(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.parent)
    }

    async fn like(&self, client: &Client, token: &str, body: String) -> u16 {
        let request =
            reqwest::Client::new().post(client.url("/api/social/likes")).bearer_auth(token).body(body);
        let request = request.header("content-type", "application/json").header("traceparent", self.header());
        request.send().await.unwrap().status().as_u16()
    }

    async fn get(&self, client: &Client, token: &str, path: &str) -> u16 {
        let request = reqwest::Client::new().get(client.url(path)).bearer_auth(token);
        request.header("traceparent", self.header()).send().await.unwrap().status().as_u16()
    }

    /// Its spans by station, once they are all there: each station of its walk once, in the order of the arrows,
    /// and the first a child of the client's span.
    async fn check(&self, collector: &Collector, request: &str) -> BTreeMap<String, Span> {
        let walked: Vec<_> =
            arrows().into_iter().filter(|arrow| arrow.walked_by.iter().any(|by| by == request)).collect();
        let expected: BTreeSet<_> =
            walked.iter().flat_map(|arrow| [&arrow.from, &arrow.to]).cloned().collect();
        let spans = collector.trace(&self.trace_id, expected.len()).await;
        let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        assert_eq!(names.iter().cloned().collect::<BTreeSet<_>>(), expected, "{request}");
        assert_eq!(names.len(), expected.len(), "{request}: {names:?}");
        let spans: BTreeMap<_, _> = spans.into_iter().map(|span| (span.name.clone(), span)).collect();
        for Arrow { name, from, to, .. } in &walked {
            let [begins, ends] = [from, to].map(|station| spans[station].start_time_unix_nano);
            assert!(begins <= ends, "{request}: {name}, from {from} to {to}, in {names:?}");
        }
        assert_eq!(hex(&spans["receive"].parent_span_id), self.parent);
        check_tree(spans.values());
        spans
    }
}

/// All are children of the first, which is the server's end of a request.
fn check_tree<'a>(spans: impl Iterator<Item = &'a Span>) {
    let (receive, others): (Vec<_>, Vec<_>) = spans.partition(|span| span.name == "receive");
    assert_eq!(receive.len(), 1);
    assert_eq!(receive[0].kind(), SpanKind::Server);
    for span in others {
        assert_eq!(span.parent_span_id, receive[0].span_id, "{}", span.name);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    }
}

fn like(target: &str) -> String {
    json!({"type": "LikeAdd", "commandId": Uuid::now_v7(), "likeId": "l-1", "targetId": target,
        "at": "2026-01-19T12:00:00Z"})
    .to_string()
}

#[tokio::test]
async fn the_stations_of_four_requests_are_those_of_the_diagram() {
    let named: BTreeSet<_> = arrows().into_iter().map(|arrow| arrow.name).collect();
    assert_eq!(named, DIAGRAM.split(", ").map(str::to_owned).collect());

    let (collector, folder) = (Collector::start().await, TempDir::new().unwrap());
    let server =
        Process::start_with(folder.path(), &["--otlp", &collector.url, "--traces-per-second", "1000"]);
    let client = &server.client;
    let (alice, moderator) = (client.token("alice", &[]), client.token("mo", &["moderate"]));
    let mut follower = client.socket(&client.token("bob", &[])).await;
    follower.subscribe("like-open").await;
    let close = moderation("LikesClose", "closed").to_string();
    assert_eq!(client.post("/api/commands", &moderator, close).await.0, 202);

    let [accepted, refused, malformed, query] = [(); 4].map(|()| Traced::new());
    assert_eq!(accepted.like(client, &alice, like("open")).await, 202);
    let position = follower.next_of("event").await["position"].clone();
    assert_eq!(refused.like(client, &alice, like("closed")).await, 202);
    assert_eq!(malformed.like(client, &alice, "{\"type\":\"LikeAdd\",".to_owned()).await, 400);
    assert_eq!(query.get(client, &alice, &format!("/api/social/likes/open?at_least={position}")).await, 200);

    let accepted = accepted.check(&collector, "accepted").await;
    assert_eq!(attribute(&accepted["answer"], "outcome"), Some("applied"));
    let refused = refused.check(&collector, "refused").await;
    assert_eq!(attribute(&refused["decide"], "rejection"), Some("likes_closed"));
    assert_eq!(attribute(&refused["answer"], "outcome"), Some("rejected"));
    let malformed = malformed.check(&collector, "malformed").await;
    assert_eq!(malformed["validate"].status.as_ref().unwrap().message, "malformed");
    assert_eq!(attribute(&malformed["refuse"], "code"), Some("malformed"));
    let query = query.check(&collector, "query").await;
    // n15 → n16: the query has waited for the view.
    assert!(accepted["fold"].start_time_unix_nano <= query["query"].end_time_unix_nano);

    // The moderator brought no context: the first station is a root.
    let is_root = |span: &&Span| span.name == "receive" && span.parent_span_id.is_empty();
    let minted =
        until("a root", || std::future::ready(collector.spans.lock().unwrap().iter().find(is_root).cloned()))
            .await;
    check_tree(collector.trace(&hex(&minted.trace_id), 6).await.iter());
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_server_ends() {
    let (collector, folder) = (Collector::start().await, TempDir::new().unwrap());
    let server = Process::start_with(folder.path(), &["--otlp", &collector.url]);
    let (token, query) = (server.client.token("alice", &[]), Traced::new());
    assert_eq!(query.get(&server.client, &token, "/api/social/likes/a").await, 200);
    tokio::task::spawn_blocking(move || server.terminate()).await.unwrap();
    query.check(&collector, "query").await;
}

#[tokio::test]
async fn a_collector_that_is_gone_stops_nothing() {
    // Somebody had this address, and nobody has it now.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let url = format!("http://{gone}");
    let server = Process::start_with(folder.path(), &["--otlp", &url, "--traces-per-second", "1000000"]);
    let token = server.client.token("alice", &[]);
    let dropped = || async {
        let body = action("LikeAdd", "a", Uuid::now_v7()).to_string();
        let answered = within("an answer", server.client.post("/api/commands", &token, body)).await;
        assert_eq!(answered.0, 202);
        let (_, metrics) = server.client.get("/metrics", "").await;
        metrics.as_str().unwrap().contains("sillage_trace_spans_dropped_total").then_some(())
    };
    until("a dropped span", dropped).await;
}
