//! Commands over HTTP. Void: the answer says that the command is settled, not how; that comes by the stream.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use sillage_kernel::CommandId;
use sillage_kernel::wire::{ClientMessage, ReceiptMessage};
use sillage_store::LedgerKey;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::journey::Journey;
use crate::receive::{Incoming, JsonBody, action, read_message, traceparent};
use crate::session::Session;
use crate::tokens::Identity;

/// `POST /api/commands`.
pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, Refusal> {
    let mut journey = gateway.sampler.command(traceparent(&headers));
    let message = journey.checked(read(&body))?;
    let incoming = journey.checked(action(&message))?;
    gateway.settle(&identity, journey, incoming).await
}

fn read(body: &[u8]) -> Result<ClientMessage<'_>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::new(Code::Malformed, "This is not UTF-8."))?;
    let message = read_message(text)?;
    if message.kind != "action" {
        return Err(Refusal::field("type", "must be \"action\""));
    }
    Ok(message)
}

impl Gateway {
    /// Takes a command and answers once its outcome is durable, whatever it is.
    pub async fn settle(
        &self,
        identity: &Identity,
        mut journey: Journey,
        incoming: Incoming<'_>,
    ) -> Result<StatusCode, Refusal> {
        let command = self.receive(identity, &mut journey, incoming)?;
        journey.settled(self.bus.dispatch(command).await)?;
        Ok(StatusCode::ACCEPTED)
    }
}

/// `GET /api/commands/{command_id}`: what became of a command of one's own.
pub(super) async fn receipt(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    Path(command_id): Path<String>,
) -> Result<Json<ReceiptMessage>, Refusal> {
    let command_id =
        command_id.parse().map(CommandId).map_err(|_| Refusal::field("command_id", "must be a UUID"))?;
    let key = LedgerKey { tenant: identity.tenant, principal: identity.actor.user_id, command_id };
    let known = gateway.store.look_up(vec![key]).await;
    let known = known.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
    let entry = known.into_iter().flatten().next().ok_or_else(Refusal::not_found)?;
    Ok(Json(ReceiptMessage::from(&entry.receipt)))
}
