//! The OpenAPI document: what is common to all routes, and what completes it once they are known.

use serde_json::{Map, Value, json};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, SecurityRequirement, tag::TagBuilder,
};

use super::schemas;
use crate::codes::Code;

/// The parts of the gateway, in the order in which they are shown.
const TAGS: [(&str, &str); 7] = [
    ("sign-in", "A token for whoever has none."),
    ("commands", "What somebody wants, and what became of it."),
    ("feeds", "What happened, as it happens."),
    (
        "log",
        "Streams and the log as they are, for programs that have their own rules. By scope: `log:read`, `log:append`.",
    ),
    ("operation", "For operators: a token with the scope `operate`."),
    ("health", "Whether the node is well. No token is needed."),
    ("descriptions", "What you are reading. No token is needed."),
];

/// The document before any route.
pub(crate) fn base() -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The token in the header `Authorization`."))
        .build();
    let token = ApiKeyValue::with_description(
        "token",
        "The token in the query, for a browser's `WebSocket` and `EventSource`, which can set no header. \
         Use short-lived ones; they are never logged.",
    );
    let components = ComponentsBuilder::new()
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("token", SecurityScheme::ApiKey(ApiKey::Query(token)))
        .build();
    let info = InfoBuilder::new()
        .title("Sillage")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(include_str!("openapi.md").trim_end()));
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    let either = ["bearer", "token"].map(|name| SecurityRequirement::new(name, [""; 0]));
    OpenApiBuilder::new()
        .info(info.build())
        .components(Some(components))
        .tags(Some(tags))
        .security(Some(either))
        .build()
}

/// The document with the schemas of the wire and the table of codes.
pub(super) fn complete(routes: &OpenApi) -> Value {
    let mut document = serde_json::to_value(routes).expect("a document has only string keys");
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    schemas.expect("some route has a body").extend(schemas::wire());
    if let Some(document) = document.as_object_mut() {
        document.insert("x-error-codes".to_owned(), codes());
    }
    document
}

/// The table of codes.
pub(super) fn codes() -> Value {
    let row = |code: &Code| {
        let (status, advice) = (code.status().as_u16(), code.advice());
        json!({"code": code.word(), "status": status, "advice": advice, "about": code.about()})
    };
    Code::ALL.iter().map(row).collect()
}

/// The components that the names lead to, and those that they lead to in turn, out of `all`.
pub(super) fn reachable(all: &Map<String, Value>, names: Vec<String>) -> Map<String, Value> {
    let mut found = Map::new();
    let mut wanted = names;
    while let Some(name) = wanted.pop() {
        if let (Some(schema), false) = (all.get(&name), found.contains_key(&name)) {
            references(schema, &mut wanted);
            found.insert(name, schema.clone());
        }
    }
    found
}

/// Adds the names of the components that a schema refers to.
fn references(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            names.extend(reference.and_then(|path| path.rsplit('/').next()).map(str::to_owned));
            fields.values().for_each(|field| references(field, names));
        }
        _ => {}
    }
}
