//! The shapes of what travels. The kernel, whose types they are, knows nothing of descriptions: a test
//! serialises a value of each of its types and holds it against the schema.

use serde_json::{Map, Value};
use utoipa::openapi::{Ref, RefOr, Schema};

use crate::codes::Code;

/// The schemas of the wire, by name, as JSON Schema 2020-12 writes them.
const WIRE: &str = include_str!("wire.json");

/// The text of a file of `protocol/golden`.
macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/golden/", $name, ".json"))
    };
}

/// The golden messages of each schema; they are its examples.
const GOLDEN: &[(&str, &[&str])] = &[
    ("Action", &[golden!("client-action")]),
    (
        "Subscribe",
        &[golden!("client-subscribe"), golden!("client-subscribe-resume"), golden!("client-subscribe-now")],
    ),
    ("Unsubscribe", &[golden!("client-unsubscribe")]),
    ("Sync", &[golden!("client-sync")]),
    ("RefreshToken", &[golden!("client-refresh-token")]),
    ("Ping", &[golden!("client-ping")]),
    ("Event", &[golden!("server-event"), golden!("server-event-of-the-system")]),
    (
        "Receipt",
        &[
            golden!("server-receipt-applied"),
            golden!("server-receipt-unchanged"),
            golden!("server-receipt-rejected"),
            golden!("server-receipt-rejected-with-details"),
        ],
    ),
    ("Subscribed", &[golden!("server-subscribed")]),
    ("Unsubscribed", &[golden!("server-unsubscribed")]),
    ("Resync", &[golden!("server-resync")]),
    ("Snapshot", &[golden!("server-snapshot")]),
    ("SyncBatch", &[golden!("server-sync-batch")]),
    ("Error", &[golden!("server-error"), golden!("server-error-rate-limited")]),
    ("TokenRefreshed", &[golden!("server-token-refreshed")]),
    ("Pong", &[golden!("server-pong")]),
    (
        "Problem",
        &[golden!("http-problem"), golden!("http-problem-view-behind"), golden!("http-problem-compacted")],
    ),
];

/// The schemas of the wire with their examples, by name.
pub fn wire() -> Map<String, Value> {
    let mut schemas: Map<String, Value> = serde_json::from_str(WIRE).expect("the file is compiled in");
    for (name, texts) in GOLDEN {
        let examples = texts.iter().map(|text| example(text)).collect();
        set(&mut schemas, name, "examples", Value::Array(examples));
    }
    let words = Code::ALL.iter().map(|code| code.word().into()).collect();
    set(&mut schemas, "Code", "enum", Value::Array(words));
    schemas
}

fn set(schemas: &mut Map<String, Value>, name: &str, key: &str, value: Value) {
    let schema = schemas.get_mut(name).and_then(Value::as_object_mut);
    schema.expect("a schema of the table stands in the file").insert(key.to_owned(), value);
}

/// The value that a file of `protocol/golden` holds.
pub fn example(golden: &str) -> Value {
    serde_json::from_str(golden).expect("a golden file is JSON, and is compiled in")
}

macro_rules! references {
    ($($(#[$doc:meta])* $function:ident = $name:literal;)*) => {
        $(
            $(#[$doc])*
            pub fn $function() -> RefOr<Schema> {
                RefOr::Ref(Ref::from_schema_name($name))
            }
        )*
    };
}

references! {
    /// A [`Position`](sillage_kernel::Position), for `#[schema(schema_with = …)]`.
    position = "Position";
    /// A [`Version`](sillage_kernel::Version).
    sequence_number = "SequenceNumber";
    /// An [`Epoch`](sillage_kernel::Epoch).
    epoch = "Epoch";
    /// A [`StreamName`](sillage_kernel::StreamName).
    feed = "Feed";
    /// A [`UserId`](sillage_kernel::UserId).
    user_id = "UserId";
    /// A [`CommandId`](sillage_kernel::CommandId).
    command_id = "CommandId";
    /// A [`Timestamp`](sillage_kernel::Timestamp).
    timestamp = "Timestamp";
    /// A [`Mode`](sillage_store::Mode).
    mode = "Mode";
}
