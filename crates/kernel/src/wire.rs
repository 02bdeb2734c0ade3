//! What travels between a client and the gateway, as `PROTOCOL.md` decides it: the shapes alone.
//!
//! `D` is how the `data` of an event is held: borrowed text on the way out, a value of its own on the way in.

pub mod export;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::command::{CommandId, Outcome, Receipt};
use crate::ids::{Epoch, Position, StreamName, UserId, Version};
use crate::time::Timestamp;

/// Any message of a client, before its type is looked at. Fields of later protocols are passed over.
#[derive(Debug, Deserialize)]
pub struct ClientMessage<'a> {
    /// What the message is: see [`ClientMessage::TYPES`].
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// The feed that it is about.
    #[serde(borrow, default)]
    pub feed: Option<Cow<'a, str>>,
    /// `action`: the name of the command.
    #[serde(borrow, default)]
    pub event_type: Option<Cow<'a, str>>,
    /// `action`: the identity of the command.
    #[serde(default)]
    pub command_id: Option<CommandId>,
    /// `action`: the data of the command.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    /// `subscribe`: the log that `last_sequence` belongs to.
    #[serde(default)]
    pub epoch: Option<Epoch>,
    /// `subscribe`, `sync`: the last number that the client has.
    #[serde(default)]
    pub last_sequence: Option<Version>,
    /// `subscribe`: `now` leaves out what was before.
    #[serde(borrow, default)]
    pub from: Option<Cow<'a, str>>,
    /// `refresh_token`: the new token.
    #[serde(borrow, default)]
    pub token: Option<Cow<'a, str>>,
}

impl ClientMessage<'_> {
    /// The values of `type` that mean something.
    pub const TYPES: &'static [&'static str] =
        &["subscribe", "unsubscribe", "action", "sync", "refresh_token", "ping"];
}

/// A command on its way to the gateway: on a socket, or as the body of `POST /api/commands`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "action")]
pub struct ActionMessage {
    /// The stream that it is for.
    pub feed: StreamName,
    /// The name of the command.
    pub event_type: String,
    /// Its identity.
    pub command_id: CommandId,
    /// Its data.
    pub data: Value,
}

/// An event, the same on every transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "event", bound(deserialize = "D: Deserialize<'de>"))]
pub struct EventMessage<D> {
    /// The stream.
    pub feed: StreamName,
    /// The log.
    pub epoch: Epoch,
    /// The number in the stream.
    pub sequence_number: Version,
    /// The number in the log.
    pub position: Position,
    /// What kind of fact.
    pub event_type: Cow<'static, str>,
    /// The fact.
    pub data: D,
    /// Whoever acted; empty for the system.
    pub user_id: Option<UserId>,
    /// What to call them.
    pub username: Option<String>,
    /// When the log took it.
    pub timestamp: Timestamp,
    /// The command that it came of.
    pub command_id: Option<CommandId>,
}

/// The state of a feed, which stands for its events up to a number: take it for what there was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "snapshot")]
pub struct SnapshotMessage {
    /// The stream.
    pub feed: StreamName,
    /// The log.
    pub epoch: Epoch,
    /// The number of the last event in it.
    pub sequence_number: Version,
    /// What the rules of the stream have made of its events.
    pub state: Value,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "receipt")]
pub struct ReceiptMessage {
    /// The stream that decided it.
    pub feed: StreamName,
    /// Which command.
    pub command_id: CommandId,
    /// `applied`, `unchanged` or `rejected`.
    pub outcome: Cow<'static, str>,
    /// Rejected: a word that a program can act on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<Cow<'static, str>>,
    /// Rejected: a sentence for a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// Rejected: what the refusal rests on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
    /// Applied: the numbers of its events.
    #[serde(default)]
    pub sequence_numbers: Vec<Version>,
    /// The log reflects the outcome from here on.
    pub position: Position,
}

impl From<&Receipt> for ReceiptMessage {
    fn from(receipt: &Receipt) -> Self {
        let Receipt { stream, command_id, outcome, position } = receipt;
        let mut message = Self {
            feed: stream.clone(),
            command_id: *command_id,
            outcome: "unchanged".into(),
            code: None,
            message: None,
            details: None,
            sequence_numbers: Vec::new(),
            position: *position,
        };
        match outcome {
            Outcome::Unchanged => {}
            Outcome::Applied { versions } => {
                message.outcome = "applied".into();
                message.sequence_numbers.clone_from(versions);
            }
            Outcome::Rejected(rejection) => {
                message.outcome = "rejected".into();
                message.code = Some(rejection.code.clone());
                message.message = Some(rejection.message.clone());
                message.details = Some(rejection.details.clone()).filter(|details| !details.is_null());
            }
        }
        message
    }
}

/// A page of a feed that was asked for. `E` is a whole event message, or its finished text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "sync_batch")]
pub struct SyncBatchMessage<E> {
    /// Which feed.
    pub feed: StreamName,
    /// The events, in order.
    pub events: Vec<E>,
    /// The number of the feed's last event.
    pub current_sequence: Version,
    /// Whether more stands between the page and that.
    pub has_more: bool,
}

/// Every message of the server but those that have types of their own: events, receipts and pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The feed is followed from now on.
    Subscribed {
        /// Which.
        feed: StreamName,
        /// The log.
        epoch: Epoch,
        /// The number of its last event.
        current_sequence: Version,
    },
    /// The feed is no longer followed.
    Unsubscribed {
        /// Which.
        feed: StreamName,
    },
    /// What the client has is not of this log: forget it; the whole follows.
    Resync {
        /// Which.
        feed: StreamName,
        /// The log that it is of now.
        epoch: Epoch,
    },
    /// The new token holds.
    TokenRefreshed {},
    /// The answer to a ping.
    Pong {},
    /// Something was wrong with a message; the connection goes on.
    Error(ErrorMessage),
}

/// Something was wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// A word that a program can act on; the table of codes says how.
    pub code: Cow<'static, str>,
    /// A sentence for a person.
    pub message: String,
    /// The name of the field that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// In how many seconds to come back, if that helps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after: Option<u64>,
    /// What the client had sent, if it could be read.
    pub original_action: Option<Value>,
}
