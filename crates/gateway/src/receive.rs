//! The one door for commands: whichever way a message came, here it becomes a command or is refused.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;
use sillage_kernel::wire::ClientMessage;
use sillage_kernel::{CommandId, Envelope, InvalidField, StreamName};
use sillage_runtime::Command;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::journey::Journey;
use crate::tokens::Identity;

/// The largest body or frame that is taken, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// How long the body of a request may take.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How many commands of one socket are on their way at most, each held with its text; resends count, too. A socket
/// that sends more is not read until there is room.
pub const MAX_IN_FLIGHT: usize = 1_024;
/// A command on its way counts once more for each so many bytes of its text.
pub(crate) const IN_FLIGHT_BYTES: usize = 1 << 10;
// Otherwise the longest message would wait for ever.
const _: () = assert!(MAX_MESSAGE_BYTES / IN_FLIGHT_BYTES < MAX_IN_FLIGHT);

/// A command as a message carries it.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The feed that it names.
    pub feed: Option<StreamName>,
    /// The name of the command.
    pub name: &'a str,
    /// Its identity.
    pub command_id: CommandId,
    /// Its data, one JSON value.
    pub data: &'a str,
}

impl Gateway {
    /// Counts a command against its sender's rate, reads it and checks its shape and whether its sender may
    /// reach its stream. What the rules say of it is seen later. Nothing is kept of what is refused.
    pub fn receive(
        &self,
        identity: &Identity,
        journey: &mut Journey,
        incoming: Incoming<'_>,
    ) -> Result<Command, Refusal> {
        let command = journey.checked(self.validate(identity, journey.context(), incoming))?;
        journey.leave();
        Ok(command)
    }

    fn validate(
        &self,
        identity: &Identity,
        traceparent: Option<&str>,
        incoming: Incoming<'_>,
    ) -> Result<Command, Refusal> {
        let Incoming { feed, name, command_id, data } = incoming;
        self.limits.command(identity)?;
        if let Some(feed) = &feed {
            self.check_reach(identity, feed)?;
        }
        let envelope = Envelope {
            tenant: identity.tenant.clone(),
            actor: identity.actor.clone(),
            command_id,
            feed,
            traceparent: traceparent.map(Into::into),
        };
        let command = self.deciders.decode(name, data, envelope)?;
        self.check_reach(identity, &command.stream)?;
        Ok(command)
    }
}

/// The trace context that a request brings.
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent")?.to_str().ok()
}

/// Reads a message of a client, so far as its type and the fields that all have.
pub fn read_message(text: &str) -> Result<ClientMessage<'_>, Refusal> {
    read_text(text)
}

/// Reads a body of JSON.
pub fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::new(Code::Malformed, "This is not UTF-8."))?;
    read_text(text)
}

fn read_text<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    // Serde would take a list for the fields in the order of the struct, which nobody has promised to keep.
    if text.trim_start().starts_with('[') {
        return Err(not_an_object());
    }
    serde_json::from_str(text).map_err(|error| unreadable::<T>(&error, text))
}

fn not_an_object() -> Refusal {
    Refusal::new(Code::Malformed, "This is not a JSON object.")
}

/// What is wrong with a text that is not the message it should be.
fn unreadable<'a, T: Deserialize<'a>>(error: &serde_json::Error, text: &'a str) -> Refusal {
    if !error.is_data() {
        return Refusal::new(Code::Malformed, format!("This is not JSON: {error}"));
    }
    // Read once more, to learn which field it is.
    match InvalidField::read::<T>(text) {
        Err(InvalidField { field, problem }) if field != "data" => Refusal::field(field, problem),
        _ => Refusal::new(Code::Malformed, format!("This is not a message: {error}")),
    }
}

/// The command that an action carries.
pub fn action<'a>(message: &'a ClientMessage<'a>) -> Result<Incoming<'a>, Refusal> {
    let missing = |field: &str| Refusal::field(field, "is missing");
    let ClientMessage { feed, event_type, command_id, data, .. } = message;
    Ok(Incoming {
        feed: Some(feed_of(feed.as_deref())?),
        name: event_type.as_deref().ok_or_else(|| missing("event_type"))?,
        command_id: command_id.ok_or_else(|| missing("command_id"))?,
        data: data.map_or("{}", serde_json::value::RawValue::get),
    })
}

/// The feed that a message names.
pub fn feed_of(feed: Option<&str>) -> Result<StreamName, Refusal> {
    let feed = feed.ok_or_else(|| Refusal::field("feed", "is missing"))?;
    feed.parse().map_err(|error: sillage_kernel::InvalidName| Refusal::field("feed", error.problem))
}

/// A command as some documents print it: `{"type": name, "commandId": …, the data …}`.
#[derive(Debug)]
pub struct FlatCommand {
    name: String,
    command_id: CommandId,
    data: String,
}

impl FlatCommand {
    /// Reads such a body. Its names are those that `names` lists.
    pub fn read(body: &[u8], names: &[&str]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::new(Code::Malformed, format!("This is not JSON: {error}")))?;
        let Value::Object(mut fields) = value else {
            return Err(not_an_object());
        };
        let name = match fields.remove("type") {
            Some(Value::String(name)) if names.contains(&name.as_str()) => name,
            Some(Value::String(name)) => {
                return Err(Refusal::new(
                    Code::UnknownCommand,
                    format!("The command {name} is not known here."),
                ));
            }
            _ => return Err(Refusal::field("type", "must be the name of a command")),
        };
        let command_id = match fields.get("commandId") {
            Some(Value::String(id)) => {
                id.parse().map(CommandId).map_err(|_| Refusal::field("commandId", "must be a UUID"))?
            }
            _ => return Err(Refusal::field("commandId", "must be a UUID")),
        };
        Ok(Self { name, command_id, data: Value::Object(fields).to_string() })
    }

    /// The command that it carries.
    pub fn incoming(&self) -> Incoming<'_> {
        let Self { name, command_id, data } = self;
        Incoming { feed: None, name, command_id: *command_id, data }
    }
}

/// The body of a request that must be JSON, not read yet.
pub struct JsonBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        let is_json = |essence: &str| essence.eq_ignore_ascii_case("application/json");
        if !essence.is_none_or(is_json) {
            return Err(Refusal::new(
                Code::UnsupportedMediaType,
                "Send JSON: `Content-Type: application/json`.",
            ));
        }
        body_within(BODY_PATIENCE, request, state).await.map(Self)
    }
}

async fn body_within<S: Send + Sync>(
    patience: Duration,
    request: Request,
    state: &S,
) -> Result<Bytes, Refusal> {
    let malformed = |problem: String| Refusal::new(Code::Malformed, problem);
    let body = tokio::time::timeout(patience, Bytes::from_request(request, state)).await;
    body.map_err(|_| malformed("The body did not come in time.".to_owned()))?.map_err(|error| {
        if error.status() == Code::TooLarge.status() {
            Refusal::new(Code::TooLarge, format!("The body may have {MAX_MESSAGE_BYTES} bytes."))
        } else {
            malformed(error.to_string())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    #[test]
    fn a_list_is_no_message_even_with_the_fields_in_their_order() {
        for text in [r#"["ping"]"#, r#" ["action", "like-a", "LikeAdd"]"#, "["] {
            assert_eq!(read_message(text).err().map(|refusal| refusal.code), Some(Code::Malformed), "{text}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let refused = body_within(Duration::from_millis(1), Request::new(body), &()).await.err();
        assert_eq!(refused.map(|refusal| refusal.code), Some(Code::Malformed));
    }
}
