//! From a decision to what is appended.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use sillage_kernel::{
    CommandId, EventId, Expected, Metadata, NewEvent, Rejection, SideEntry, StreamName, Timestamp, Version,
};
use sillage_store::{Append, Entry, LedgerKey, LedgerWrite, StoreError, Verdict};
use uuid::Builder;

use super::DispatchError;
use crate::deciders::{Command, Decided, DecidedEvent};
use crate::replay::ReplayError;

/// The shape of what is not an event of a decider's own streams.
const FIRST_SCHEMA: u16 = 1;

/// Mints event ids: UUIDv7 of a time, with random bits that only need to differ.
pub(crate) struct EventIds {
    random: [RandomState; 2],
    count: u64,
}

impl EventIds {
    pub(crate) fn new() -> Self {
        Self { random: [RandomState::new(), RandomState::new()], count: 0 }
    }

    pub(crate) fn next(&mut self, now: Timestamp) -> EventId {
        self.count += 1;
        let mut bits = [0; 10];
        let random = self.random.iter().flat_map(|random| random.hash_one(self.count).to_le_bytes());
        bits.iter_mut().zip(random).for_each(|(bit, random)| *bit = random);
        EventId(Builder::from_unix_timestamp_millis(now.as_millis(), &bits).into_uuid())
    }
}

/// What names the command in the ledger.
pub(super) fn ledger_key(command: &Command) -> LedgerKey {
    let envelope = &command.envelope;
    let (tenant, principal) = (envelope.tenant.clone(), envelope.actor.user_id.clone());
    LedgerKey { tenant, principal, command_id: envelope.command_id }
}

/// The event of a command that had none, in the stream of its sender's outcomes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeData<'a> {
    command_id: CommandId,
    feed: &'a StreamName,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

/// The append of a decision that was taken when its stream was at `version`. Without events it only checks
/// that version, so that nothing is refused because of a state that never became durable.
pub(super) fn append_of(
    command: &Command,
    decided: Result<Decided, Rejection>,
    version: Version,
    now: Timestamp,
    ids: &mut EventIds,
) -> Append {
    let envelope = &command.envelope;
    let metadata = Metadata {
        command_id: Some(envelope.command_id),
        user_id: Some(envelope.actor.user_id.clone()),
        schema: FIRST_SCHEMA,
        traceparent: envelope.traceparent.clone(),
        ..Metadata::default()
    };
    let mut event = |event_type: &str, schema: u16, data: String| {
        NewEvent::new(ids.next(now), event_type, data, Metadata { schema, ..metadata.clone() })
    };
    let mut entries = Vec::with_capacity(2);
    let verdict = match decided {
        Ok(Decided { events, others }) if !(events.is_empty() && others.is_empty()) => {
            let own = |DecidedEvent { event_type, schema, data }| event(event_type, schema, data);
            let events = events.into_iter().map(own).collect();
            entries.push(Entry {
                stream: command.stream.clone(),
                expected: Expected::Exactly(version),
                events,
            });
            entries.extend(others.into_iter().map(|SideEntry { stream, expected, otherwise: _, events }| {
                let events = events
                    .into_iter()
                    .map(|(event_type, data)| event(&event_type, FIRST_SCHEMA, data.as_ref().to_owned()));
                Entry { stream, expected, events: events.collect() }
            }));
            Verdict::Applied
        }
        without_events => {
            let rejection = without_events.err();
            let outcome = event(
                if rejection.is_some() { "CommandRejectedEvent" } else { "CommandUnchangedEvent" },
                FIRST_SCHEMA,
                outcome_data(command, rejection.as_ref()),
            );
            let stream = StreamName::outcomes_of(&envelope.actor.user_id);
            let expected = Expected::Exactly(version);
            entries.push(Entry { stream: command.stream.clone(), expected, events: Vec::new() });
            entries.push(Entry { stream, expected: Expected::Any, events: vec![outcome] });
            rejection.map_or(Verdict::Unchanged, Verdict::Rejected)
        }
    };
    let (key, content, stream) = (ledger_key(command), command.content, command.stream.clone());
    let ledger = Some(LedgerWrite { key, content, stream, verdict });
    Append { tenant: envelope.tenant.clone(), entries, ledger, fence: None, recorded_at: None }
}

fn outcome_data(command: &Command, rejection: Option<&Rejection>) -> String {
    let data = OutcomeData {
        command_id: command.envelope.command_id,
        feed: &command.stream,
        code: rejection.map(|rejection| rejection.code.as_ref()),
        message: rejection.map(|rejection| rejection.message.as_str()),
        details: rejection.map(|rejection| &rejection.details).filter(|details| !details.is_null()),
    };
    serde_json::to_string(&data).expect("an outcome has only string keys")
}

/// What an error of a broken rule or log is called.
pub(super) fn broken(what: impl std::fmt::Display) -> Arc<str> {
    what.to_string().into()
}

/// What is answered when a stream cannot be replayed.
pub(super) fn not_replayed(error: &ReplayError) -> DispatchError {
    match error {
        ReplayError::Store(error) => unreadable(error),
        ReplayError::Broken(_) | ReplayError::Compacted { .. } => DispatchError::Broken(broken(error)),
    }
}

/// What is answered when the log cannot be read.
pub(super) fn unreadable(error: &StoreError) -> DispatchError {
    DispatchError::Unavailable(broken(error))
}
