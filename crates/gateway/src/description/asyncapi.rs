//! The AsyncAPI document of `/ws`: all messages both ways, and what the closing codes mean.

use serde_json::{Map, Value, json};

use super::{FEEDS, openapi};
use crate::codes::Close;
use crate::hub::MAX_FEEDS;
use crate::receive::{MAX_IN_FLIGHT, MAX_MESSAGE_BYTES};

/// What a client may send: the type of the message, its schema, and the types of what may be the answer.
const CLIENT: &[(&str, &str, &[&str])] = &[
    ("action", "Action", &["receipt", "event", "error"]),
    ("subscribe", "Subscribe", &["resync", "subscribed", "snapshot", "event", "error"]),
    ("unsubscribe", "Unsubscribe", &["unsubscribed", "error"]),
    ("sync", "Sync", &["resync", "snapshot", "sync_batch", "error"]),
    ("refresh_token", "RefreshToken", &["token_refreshed", "error"]),
    ("ping", "Ping", &["pong"]),
];

/// What the server may send: the type of the message and its schema.
const SERVER: &[(&str, &str)] = &[
    ("event", "Event"),
    ("snapshot", "Snapshot"),
    ("receipt", "Receipt"),
    ("subscribed", "Subscribed"),
    ("unsubscribed", "Unsubscribed"),
    ("resync", "Resync"),
    ("sync_batch", "SyncBatch"),
    ("token_refreshed", "TokenRefreshed"),
    ("pong", "Pong"),
    ("error", "Error"),
];

/// What the server sends without being asked at that moment: events of feeds that are followed, snapshots where a
/// follower is too slow for what is compacted, receipts of commands that another connection of the sender sent, and
/// that the token runs out.
const UNASKED: &[&str] = &["event", "snapshot", "receipt", "error"];

/// Closing codes of the protocol that this server never sends. A client that knows them is ready for one that does.
const RESERVED_CLOSES: &[(u16, &str)] = &[
    (4403, "Reserved: the token was revoked. Sign in again."),
    (4404, "Reserved: there is no such feed for you, where the path names it. Do not repeat it."),
    (4409, "Reserved: another connection has taken over. Do not reconnect."),
];

/// The document, with the schemas that stand in the one of HTTP.
pub(super) fn of(openapi: &Value) -> Value {
    let feeds = feeds(openapi);
    let events = feeds.iter().filter_map(|feed| feed.get("events")?.as_array()).flatten();
    let names = CLIENT.iter().map(|(_, schema, _)| schema).chain(SERVER.iter().map(|(_, schema)| schema));
    let names = names.map(|&name| name.to_owned());
    let names = names.chain(events.filter_map(|event| Some(event.as_str()?.to_owned()))).collect();
    let all = openapi.pointer("/components/schemas").and_then(Value::as_object);
    let schemas = openapi::reachable(all.expect("the document of HTTP has schemas"), names);
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:sillage:ws",
        "info": {
            "title": "Sillage: the socket",
            "version": env!("CARGO_PKG_VERSION"),
            "description": include_str!("asyncapi.md").trim_end(),
        },
        "defaultContentType": "application/json",
        "servers": {
            "node": {
                "host": "{address}",
                "protocol": "ws",
                "description": "The node that served this document.",
                "variables": { "address": { "default": "127.0.0.1:4000" } },
                "security": [
                    { "$ref": "#/components/securitySchemes/bearer" },
                    { "$ref": "#/components/securitySchemes/token" },
                ],
            }
        },
        "channels": { "ws": channel() },
        "operations": operations(),
        "components": {
            "messages": messages(&schemas),
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "token": { "type": "httpApiKey", "name": "token", "in": "query" },
            },
        },
        FEEDS: feeds,
        "x-close-codes": closes(),
        "x-error-codes": openapi::codes(),
        "x-limits": { "message_bytes": MAX_MESSAGE_BYTES, "feeds_per_connection": MAX_FEEDS,
            "commands_in_flight": MAX_IN_FLIGHT },
    })
}

/// The feeds of all systems, as their tags name them.
fn feeds(openapi: &Value) -> Vec<Value> {
    let tags = openapi.get("tags").and_then(Value::as_array);
    tags.into_iter().flatten().filter_map(|tag| tag.get(FEEDS)).cloned().collect()
}

fn channel() -> Value {
    let query = json!({
        "type": "object",
        "properties": { "token": { "type": "string", "description": "A token, if the header has none." } },
    });
    json!({
        "address": "/ws",
        "title": "One socket, many feeds",
        "description": "Text frames. A frame holds one message or several, one a line.",
        "messages": names().map(|name| (name.to_owned(), component("messages", name))).collect::<Map<_, _>>(),
        "bindings": { "ws": { "method": "GET", "query": query, "bindingVersion": "0.1.0" } },
    })
}

fn names() -> impl Iterator<Item = &'static str> {
    CLIENT.iter().map(|(name, ..)| *name).chain(SERVER.iter().map(|(name, _)| *name))
}

fn component(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// One operation for each message of a client, with its answers, and one for what the server sends unasked.
fn operations() -> Map<String, Value> {
    let channel = json!({ "$ref": "#/channels/ws" });
    let of_channel = |names: &[&str]| -> Value {
        names.iter().map(|name| json!({ "$ref": format!("#/channels/ws/messages/{name}") })).collect()
    };
    let asked = CLIENT.iter().map(|(name, _, answers)| {
        let reply = json!({ "channel": channel, "messages": of_channel(answers) });
        let operation = json!({
            "action": "receive", "channel": channel, "messages": of_channel(&[name]), "reply": reply,
        });
        ((*name).to_owned(), operation)
    });
    let unasked = json!({ "action": "send", "channel": channel, "messages": of_channel(UNASKED) });
    asked.chain([("deliver".to_owned(), unasked)]).collect()
}

fn messages(schemas: &Map<String, Value>) -> Map<String, Value> {
    let client = CLIENT.iter().map(|(name, schema, _)| (*name, *schema));
    let message = |(name, schema): (&str, &str)| {
        let described = schemas.get(schema);
        let field = |key: &str| described.and_then(|schema| schema.get(key)).cloned().unwrap_or_default();
        let examples = field("examples").as_array().cloned().unwrap_or_default();
        let message = json!({
            "name": name,
            "summary": field("description"),
            "payload": component("schemas", schema),
            "examples": examples.into_iter().map(|payload| json!({ "payload": payload })).collect::<Value>(),
        });
        (name.to_owned(), message)
    };
    client.chain(SERVER.iter().copied()).map(message).collect()
}

/// Why a socket is closed, and what the client does.
fn closes() -> Value {
    let own = Close::ALL.iter().map(|close| {
        let (code, reason) = close.frame();
        json!({ "code": code, "reason": reason, "about": close.about(), "sent_by_ws": true })
    });
    let reserved = RESERVED_CLOSES
        .iter()
        .map(|(code, about)| json!({ "code": code, "about": about, "sent_by_ws": false }));
    own.chain(reserved).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sillage_kernel::wire::ClientMessage;

    use super::*;

    #[test]
    fn every_message_of_a_client_is_described() {
        let described: BTreeSet<_> = CLIENT.iter().map(|(name, ..)| *name).collect();
        assert_eq!(described, ClientMessage::TYPES.iter().copied().collect());
    }

    #[test]
    fn every_answer_is_a_message_of_the_server() {
        for name in CLIENT.iter().flat_map(|(.., answers)| *answers).chain(UNASKED) {
            assert!(SERVER.iter().any(|(known, _)| known == name), "{name}");
        }
    }
}
