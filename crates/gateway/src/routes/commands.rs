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
use crate::description::{CommandProblems, ReceiptProblems};
use crate::extract::Checked;
use crate::journey::Journey;
use crate::receive::{Incoming, JsonBody, action, read_json, traceparent};
use crate::session::Session;
use crate::tokens::Identity;

/// Sends a command.
///
/// **Void**: the answer says that the command is settled, not how. What became of it comes by the stream: as
/// events that carry the `command_id`, and as a receipt on all connections of the sender. Sent again with the
/// same id, the command counts once and its receipt comes again; the same id with another content is a
/// `conflict`. What the rules refuse is answered 202, too: its receipt says `rejected`.
#[utoipa::path(post, path = "/api/commands", tag = "commands", operation_id = "send_command",
    request_body(content = ref("#/components/schemas/Action"), content_type = "application/json"),
    responses(
        (status = 202, description = "Received and settled, whatever became of it. The body is empty."),
        CommandProblems,
    ))]
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
    let message: ClientMessage<'_> = read_json(body)?;
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

/// Tells what became of a command of one's own.
///
/// For whoever missed the receipt. The ledger remembers 30 days.
#[utoipa::path(get, path = "/api/commands/{command_id}", tag = "commands", operation_id = "receipt",
    params(("command_id" = String, Path, description = "The id that the command was sent with, a UUID.",
        example = "019bd64a-0800-4000-8000-000000000001")),
    responses(
        (status = 200, description = "The receipt, the same each time.", content_type = "application/json",
            body = ref("#/components/schemas/Receipt")),
        ReceiptProblems,
    ))]
pub(super) async fn receipt(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    Checked(Path(command_id)): Checked<Path<String>>,
) -> Result<Json<ReceiptMessage>, Refusal> {
    let command_id =
        command_id.parse().map(CommandId).map_err(|_| Refusal::field("command_id", "must be a UUID"))?;
    gateway.limits.query(&identity)?;
    let key = LedgerKey { tenant: identity.tenant, principal: identity.actor.user_id, command_id };
    let known = gateway.store.look_up(vec![key]).await;
    let known = known.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))?;
    let entry = known.into_iter().flatten().next().ok_or_else(Refusal::not_found)?;
    Ok(Json(ReceiptMessage::from(&entry.receipt)))
}
