//! Intentions, and what became of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::ids::{Position, StreamName, Tenant, UserId, Version};
use crate::time::Timestamp;

/// The identity of a command, minted by whoever has the intention. Sent again with the same id, the command
/// gets the same receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub Uuid);

impl CommandId {
    /// The namespace of ids that are derived from something that is not a UUID.
    const DERIVED: Uuid = Uuid::from_u128(0x51_11a6_e000_5000_8000_0000_0000_0001);

    /// When the id was minted, if it says so: only a UUIDv7 does. To the millisecond.
    pub fn minted_at(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)? + i64::from(nanos / 1_000);
        (self.0.get_version_num() == 7).then(|| Timestamp::from_micros(micros))
    }

    /// The id that an `Idempotency-Key` means: the UUID that it is, or else one derived from it (UUIDv5).
    pub fn from_idempotency_key(key: &str) -> Self {
        Self(key.parse().unwrap_or_else(|_| Uuid::new_v5(&Self::DERIVED, key.as_bytes())))
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whoever acts, as the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The account.
    pub user_id: UserId,
    /// What it may do beyond an ordinary user.
    pub scopes: BTreeSet<String>,
}

impl Actor {
    /// An ordinary user.
    pub fn user(user_id: UserId) -> Self {
        Self { user_id, scopes: BTreeSet::new() }
    }

    /// Whether the token carries that scope.
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }
}

/// What is known of a command beside its data, before and after it is decoded.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Whose log it is for.
    pub tenant: Tenant,
    /// Whoever sent it.
    pub actor: Actor,
    /// Its identity.
    pub command_id: CommandId,
    /// The feed that it was sent to, if the sender named one.
    pub feed: Option<StreamName>,
    /// The W3C trace context of the request, when it is sampled.
    pub traceparent: Option<Box<str>>,
}

impl Envelope {
    /// Refuses a command id in the data that is not the command's.
    pub fn same_command_id(&self, in_data: Option<CommandId>) -> Result<(), InvalidField> {
        match in_data {
            Some(id) if id != self.command_id => {
                Err(InvalidField::new("commandId", "is not the command_id of the message"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a user in the data who is not the one of the token.
    pub fn same_user(&self, in_data: Option<&UserId>) -> Result<(), InvalidField> {
        match in_data {
            Some(user) if *user != self.actor.user_id => {
                Err(InvalidField::new("userId", "is not the user of the token"))
            }
            _ => Ok(()),
        }
    }

    /// The id of the thing that the command is for: what the data says, or what follows `category-` in the
    /// feed. They may not differ, and one of them must be there.
    pub fn target(
        &self,
        category: &str,
        field: &'static str,
        in_data: Option<String>,
    ) -> Result<String, InvalidField> {
        let in_feed = match &self.feed {
            Some(feed) if feed.category() != category => {
                return Err(InvalidField::new("feed", "is not a feed that this command is for"));
            }
            feed => feed.as_ref().map(StreamName::id),
        };
        match (in_data, in_feed) {
            (Some(id), Some(feed)) if id != feed => {
                Err(InvalidField::new(field, "is not the one of the feed"))
            }
            (Some(id), _) => Ok(id),
            (None, Some(feed)) => Ok(feed.to_owned()),
            (None, None) => Err(InvalidField::new(field, "is missing")),
        }
    }
}

/// A command whose shape is wrong: answered at once, and nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The path of the field, as `size.width`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidField {
    /// What is wrong with which field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// Reads a command's data, an object, naming the field that is wrong.
    pub fn read<'de, T: Deserialize<'de>>(data: &'de str) -> Result<T, Self> {
        // Serde would take a list for the fields in the order of the struct, which nobody has promised to keep.
        if data.trim_start().starts_with('[') {
            return Err(Self::new("data", "must be an object"));
        }
        // The path is only tracked on a second reading, since good data is the common case.
        serde_json::from_str(data).or_else(|_| {
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(data))
                .map_err(Self::from)
        })
    }
}

impl From<serde_path_to_error::Error<serde_json::Error>> for InvalidField {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let message = error.inner().to_string();
        let problem = message.split(" at line ").next().unwrap_or_default();
        let path = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        for (start, says) in [("missing field `", "is missing"), ("unknown field `", "is not known here")] {
            if let Some(field) = problem.strip_prefix(start).and_then(|rest| rest.split('`').next()) {
                let parent = path.strip_suffix(field).unwrap_or(&path).trim_end_matches('.');
                let dot = if parent.is_empty() { "" } else { "." };
                return Self::new(format!("{parent}{dot}{field}"), says);
            }
        }
        Self::new(if path.is_empty() { "data".to_owned() } else { path }, problem)
    }
}

/// A business refusal: the rules say no. Not an error of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// A word that a program can act on.
    pub code: Cow<'static, str>,
    /// A sentence for a person.
    pub message: String,
    /// What the refusal rests on, for whoever wants to explain it better.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Rejection {
    /// A refusal without details.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: Value::Null }
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was decided into events.
    Applied {
        /// The numbers of its events in its stream.
        versions: Vec<Version>,
    },
    /// Everything was already as it asked for.
    Unchanged,
    /// The rules refused it.
    Rejected(Rejection),
}

/// The terminal answer to a command, kept in the ledger and given again whenever the command is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The stream that the command was decided in.
    pub stream: StreamName,
    /// Which command.
    pub command_id: CommandId,
    /// What became of it.
    pub outcome: Outcome,
    /// The log reflects the outcome from here on.
    pub position: Position,
}

/// A keyed hash of a decoded command, which tells whether the same id came with another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 16]);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Size {
        #[allow(dead_code)]
        width: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Data {
        #[allow(dead_code)]
        module_id: String,
        #[allow(dead_code)]
        size: Option<Size>,
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (data, field) in [
            ("{}", "moduleId"),
            (r#"{"moduleId":1}"#, "moduleId"),
            (r#"{"moduleId":"a","x":1}"#, "x"),
            (r#"{"moduleId":"a","size":{}}"#, "size.width"),
            (r#"{"moduleId":"a","size":{"width":-1}}"#, "size.width"),
            ("[]", "data"),
            (r#" ["a",null]"#, "data"),
        ] {
            assert_eq!(InvalidField::read::<Data>(data).unwrap_err().field, field, "{data}");
        }
    }

    #[test]
    fn only_a_uuid_v7_tells_when_it_was_minted() {
        let id = CommandId("019bd64a-0800-7000-8000-000000000000".parse().unwrap());
        assert_eq!(id.minted_at().unwrap().to_string(), "2026-01-19T12:45:34.592Z");
        assert_eq!(CommandId(Uuid::nil()).minted_at(), None);
        assert_eq!(CommandId::from_idempotency_key("order 7").minted_at(), None);
        assert_eq!(CommandId::from_idempotency_key(&id.to_string()), id);
    }
}
