//! What the server says about itself is what it does, and is what `protocol/` has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sillage_conformance::schema::{assert_fits, assert_fits_schema};
use sillage_domains::likes::{LikeSetEvent, LikesClosedEvent, LikesCommand};
use sillage_gateway::receive::FlatCommand;
use sillage_gateway::routes;
use sillage_kernel::{Actor, DomainCommand, Envelope};
use sillage_server::systems;

use crate::support::{Running, start};

fn protocol() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol")
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(protocol().join(format!("golden/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A node, and somebody who does not follow where an answer leads.
struct Asked {
    running: Running,
    http: reqwest::Client,
}

impl Asked {
    async fn start() -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("the options are good");
        Self { running: start(|_| ()).await, http }
    }

    async fn ask(&self, method: Method, path: &str, token: &str) -> reqwest::Response {
        let request = self.http.request(method, self.running.client.url(path));
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        request.send().await.expect("the node answers")
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.ask(Method::GET, path, "").await
    }

    async fn document(&self, path: &str) -> Value {
        self.get(path).await.json().await.expect("a document is JSON")
    }
}

/// The path with the examples of its parameters in their places.
fn filled(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters.filter(|parameter| parameter["in"] == "path").fold(path.to_owned(), |path, parameter| {
        let name = parameter["name"].as_str().unwrap();
        path.replace(&format!("{{{name}}}"), parameter["example"].as_str().unwrap())
    })
}

/// The paths that the router knows: only its debug output tells them.
fn routed(node: &Asked) -> BTreeSet<String> {
    let router = routes::router(Arc::clone(node.running.node.gateway()), systems::all().routes);
    let text = format!("{router:?}");
    let (_, paths) = text.split_once("paths: {").expect("the debug output of a router names its paths");
    let (paths, _) = paths.split_once("} }").unwrap();
    paths
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|path| !path.contains("__private"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_a_route() {
    let node = Asked::start().await;
    let openapi = node.document("/openapi.json").await;
    let described = openapi["paths"].as_object().unwrap();
    assert_eq!(routed(&node), described.keys().cloned().collect::<BTreeSet<_>>());
    for (path, item) in described {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let operation = &item[method.as_str().to_lowercase()];
            let answer = node.ask(method.clone(), &filled(path, operation), "").await;
            let status = answer.status();
            if operation.is_null() {
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} is not described");
                continue;
            }
            let is_free = operation["security"] == json!([{}]);
            match status {
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => panic!("{method} {path}: {status}"),
                // A socket opens, and says on itself that there is no token.
                StatusCode::BAD_REQUEST if path == "/ws" => {}
                StatusCode::UNAUTHORIZED => assert!(!is_free, "{method} {path} needs a token"),
                _ => assert!(is_free, "{method} {path} needs no token"),
            }
            assert!(!operation["responses"][status.as_str()].is_null(), "{method} {path}: {status}");
        }
    }
}

/// Adds every `$ref` below a value.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_stored_documents_are_the_ones_that_are_served() {
    let node = Asked::start().await;
    for name in ["openapi.json", "asyncapi.json"] {
        let served = node.get(&format!("/{name}")).await.text().await.unwrap();
        let document: Value = serde_json::from_str(&served).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let target = reference.strip_prefix('#').and_then(|path| document.pointer(path));
            assert!(target.is_some(), "{name}: {reference} leads nowhere");
        }
        let path = protocol().join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &served).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == served,
            "protocol/{name} is not what the server serves. If that is what you wanted, run\n\
             UPDATE_GOLDEN=1 cargo nextest run -p sillage-server descriptions\nand look at the difference."
        );
    }
}

#[tokio::test]
async fn the_page_is_served_and_asks_nobody_else() {
    let node = Asked::start().await;
    let page = node.get("/docs").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
    let page = page.text().await.unwrap();
    for outside in
        ["http:", "https:", "ws:", "wss:", "\"//", "'//", "src=", " url(", ":url(", "@import", "import("]
    {
        assert!(!page.contains(outside), "the page says {outside}");
    }
}

/// What a route answers is as its description says.
async fn assert_is_described(openapi: &Value, route: &str, answer: reqwest::Response) {
    assert_operation_is_described(openapi, &openapi["paths"][route]["get"], route, answer).await;
}

async fn assert_operation_is_described(
    openapi: &Value,
    operation: &Value,
    route: &str,
    answer: reqwest::Response,
) {
    let status = answer.status();
    let responses = &operation["responses"];
    let content = &responses[status.as_str()]["content"];
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let schema = &content[kind.as_str()]["schema"];
    assert!(schema.is_object(), "{route} answers {status} {kind}, described is {responses:#}");
    assert_fits_schema(openapi, schema, &answer.json().await.unwrap());
}

#[tokio::test]
async fn answers_are_as_described() {
    let node = Asked::start().await;
    let openapi = node.document("/openapi.json").await;
    let (alice, operator) =
        (node.running.client.token("alice", &[]), node.running.client.token("olga", &["operate"]));
    let command = golden("client-action");
    assert_fits(&openapi, "Action", &command);
    assert_eq!(node.running.client.post("/api/commands", &alice, command.to_string()).await.0, 202);
    let (_, guest) = node.running.client.post("/api/auth/guest", "", "").await;
    assert_fits(&openapi, "Guest", &guest);
    let receipt = format!("/api/commands/{}", command["command_id"].as_str().unwrap());
    let unknown = "/api/commands/019bd64a-0800-4000-8000-000000000009";
    let likes = "/api/social/likes/article-1";
    for (path, route, token, status) in [
        (receipt.as_str(), "/api/commands/{command_id}", &alice, 200),
        ("/api/commands/1", "/api/commands/{command_id}", &alice, 422),
        (unknown, "/api/commands/{command_id}", &alice, 404),
        (&format!("{likes}?at_least=1"), "/api/social/likes/{target_id}", &alice, 200),
        (&format!("{likes}?at_least=9"), "/api/social/likes/{target_id}", &alice, 504),
        (&format!("{likes}?at_least=a:1"), "/api/social/likes/{target_id}", &alice, 409),
        ("/api/stream", "/api/stream", &alice, 422),
        ("/api/stream?feed=secret-1", "/api/stream", &alice, 404),
        ("/api/outbox", "/api/outbox", &alice, 403),
        ("/api/outbox", "/api/outbox", &operator, 200),
        ("/api/reactors", "/api/reactors", &operator, 200),
        ("/api/reactors/sockets/parked", "/api/reactors/{name}/parked", &operator, 200),
        ("/api/reactors/nobody/parked", "/api/reactors/{name}/parked", &operator, 404),
        ("/readyz", "/readyz", &alice, 200),
    ] {
        let answer = node.ask(Method::GET, path, token).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_is_described(&openapi, route, answer).await;
    }
}

/// Requests that are wrong in their path, query or body, as far as the operation has these.
fn spoiled(node: &Asked, method: &Method, path: &str, operation: &Value) -> Vec<reqwest::RequestBuilder> {
    let ask = |path: &str| node.http.request(method.clone(), node.running.client.url(path));
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let places: Vec<_> = parameters.clone().map(|parameter| parameter["in"].as_str().unwrap()).collect();
    let mut requests = Vec::new();
    if places.contains(&"path") {
        let bad = path.split('/').map(|part| if part.starts_with('{') { "%FF" } else { part });
        requests.push(ask(&bad.collect::<Vec<_>>().join("/")));
    }
    let path = filled(path, operation);
    for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
        let name = parameter["name"].as_str().unwrap();
        requests.extend(
            ["%FF".to_owned(), format!("1&{name}=2")].map(|value| ask(&format!("{path}?{name}={value}"))),
        );
    }
    if operation["requestBody"].is_object() {
        let bodies = [b"{".to_vec(), b"7".to_vec(), b"\xff".to_vec(), vec![b' '; 300_000]];
        requests.extend(bodies.map(|body| ask(&path).header("content-type", "application/json").body(body)));
        requests.push(ask(&path).header("content-type", "text/plain").body("{}"));
    }
    if path == "/ws" {
        requests.push(ask(&path));
        requests.push(ask(&path).header("connection", "upgrade").header("upgrade", "websocket"));
    }
    requests
}

#[tokio::test]
async fn whatever_cannot_be_read_is_a_problem() {
    let node = Asked::start().await;
    let openapi = node.document("/openapi.json").await;
    let operator = node.running.client.token("olga", &["operate"]);
    let mut spoiled_routes = 0;
    for (path, item) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let requests = spoiled(&node, &method, path, operation);
            spoiled_routes += usize::from(!requests.is_empty());
            for request in requests {
                let answer = request.bearer_auth(&operator).send().await.unwrap();
                let status = answer.status();
                assert!(status.is_client_error(), "{method} {}: {status}", answer.url());
                assert_eq!(
                    answer.headers()["content-type"],
                    "application/problem+json",
                    "{method} {}",
                    answer.url()
                );
                assert_operation_is_described(&openapi, operation, path, answer).await;
            }
        }
    }
    assert!(spoiled_routes >= 8, "only {spoiled_routes}");
}

#[tokio::test]
async fn the_examples_fit_their_schemas() {
    let node = Asked::start().await;
    for path in ["/openapi.json", "/asyncapi.json"] {
        let document = node.document(path).await;
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            for example in schema["examples"].as_array().into_iter().flatten() {
                assert_fits(&document, name, example);
            }
        }
    }
}

#[tokio::test]
async fn every_event_of_a_feed_has_a_schema() {
    let node = Asked::start().await;
    let asyncapi = node.document("/asyncapi.json").await;
    let feeds = asyncapi["x-feeds"].as_array().unwrap();
    assert!(!feeds.is_empty());
    for event in feeds.iter().flat_map(|feed| feed["events"].as_array().unwrap()) {
        let schema = &asyncapi["components"]["schemas"][event.as_str().unwrap()];
        assert!(schema.is_object(), "{event} has none: give it one in the description.rs of its system");
    }
}

#[tokio::test]
async fn the_likes_are_as_their_rules_have_them() {
    let node = Asked::start().await;
    let openapi = node.document("/openapi.json").await;
    let mut names = BTreeSet::new();
    for name in ["likes-add", "likes-remove", "likes-close", "likes-open"] {
        let body = golden(name);
        assert_fits(&openapi, "LikesBody", &body);
        let command = FlatCommand::read(body.to_string().as_bytes(), LikesCommand::NAMES).unwrap();
        let incoming = command.incoming();
        let actor = Actor::user("alice".parse().unwrap());
        let (tenant, command_id) = ("main".parse().unwrap(), incoming.command_id);
        let envelope = Envelope { tenant, actor, command_id, feed: None, traceparent: None };
        let read = LikesCommand::decode(incoming.name, incoming.data, &envelope).unwrap();
        assert_eq!(read.target(), "article-1");
        names.insert(incoming.name.to_owned());
    }
    assert_eq!(names, LikesCommand::NAMES.iter().map(|&name| name.to_owned()).collect());
    assert_fits(&openapi, "LikesOfTarget", &golden("likes-of-target"));

    let set = golden("server-event")["data"].clone();
    let closed = golden("server-event-of-the-system")["data"].clone();
    assert_eq!(
        serde_json::to_value(serde_json::from_value::<LikeSetEvent>(set.clone()).unwrap()).unwrap(),
        set
    );
    let written = serde_json::from_value::<LikesClosedEvent>(closed.clone()).unwrap();
    assert_eq!(serde_json::to_value(written).unwrap(), closed);
    assert_fits(&openapi, "LikeSetEvent", &set);
    assert_fits(&openapi, "LikesClosedEvent", &closed);
}
