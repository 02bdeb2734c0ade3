//! Appends by programs that have their own rules, in whatever language: they decide, the store checks.
//!
//! Invariants: no decider owns the stream, so nothing bypasses the rules of a system; and such an append is a command
//! like any other: it counts once, its receipt is in the ledger, and the ledger judges its age.

use std::sync::Arc;

use sillage_kernel::{CommandId, Expected, Metadata, NewEvent, Receipt, StreamName, Tenant, UserId, Version};
use sillage_store::{
    Append, AppendError, Entry, EventStore, LedgerEntry, LedgerKey, LedgerWrite, Verdict, clock,
};

use crate::bus::EventIds;
use crate::deciders::{Deciders, MAX_CLOCK_AHEAD};

/// What a program wants to append to one stream.
#[derive(Debug, Clone)]
pub struct RawAppend {
    /// Whose log.
    pub tenant: Tenant,
    /// Whoever appends.
    pub user_id: UserId,
    /// What makes a repetition known.
    pub command_id: CommandId,
    /// Which stream.
    pub stream: StreamName,
    /// What it must be like.
    pub expected: Expected,
    /// Type and data of the events, at least one.
    pub events: Vec<(String, String)>,
}

/// Why nothing was appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RawError {
    /// A system owns the streams of that category: send it a command.
    #[error("the streams of {0} belong to a system of this server")]
    Owned(String),
    /// The stream is not as expected: read it again and decide again.
    #[error("the stream is at version {actual}")]
    Conflict {
        /// The version of its last event.
        actual: Version,
    },
    /// The id belongs to another command: use a new one.
    #[error("the command id was used for another command")]
    ContentDiffers,
    /// The id is older than the memory of the ledger, or newer than the clock: use a new one.
    #[error("the command id was minted too long ago, or in the future")]
    Expired,
    /// It breaks a limit.
    #[error("it cannot be appended: {0}")]
    Invalid(&'static str),
    /// Too much is going on: come back later with the same id.
    #[error("too many appends are waiting")]
    Overloaded,
    /// The log cannot be reached: come back later with the same id.
    #[error("the log cannot be reached: {0}")]
    Unavailable(Arc<str>),
}

/// Appends once, and answers with the receipt, the same each time.
pub async fn append_raw(
    deciders: &Deciders,
    store: &dyn EventStore,
    raw: RawAppend,
) -> Result<Receipt, RawError> {
    let RawAppend { tenant, user_id, command_id, stream, expected, events } = raw;
    let category = stream.category();
    if category.starts_with('$') || deciders.owns(category) {
        return Err(RawError::Owned(category.to_owned()));
    }
    let (now, minted) = (clock::now(), command_id.minted_at());
    if minted.is_some_and(|minted| minted > clock::later(now, MAX_CLOCK_AHEAD)) {
        return Err(RawError::Expired);
    }
    let asked = serde_json::to_string(&(word(expected), &events)).expect("texts can be written");
    let content = deciders.content_hash(&stream, &asked);
    let key = LedgerKey { tenant: tenant.clone(), principal: user_id.clone(), command_id };
    let known = |LedgerEntry { content: first, receipt }| {
        if first == content { Ok(receipt) } else { Err(RawError::ContentDiffers) }
    };
    let found = store.look_up(vec![key.clone()]).await;
    let found = found.map_err(|error| RawError::Unavailable(error.to_string().into()))?;
    if let Some(entry) = found.into_iter().flatten().next() {
        return known(entry);
    }
    if minted.is_some_and(|minted| minted < store.remembers_since()) {
        return Err(RawError::Expired);
    }
    let metadata =
        Metadata { command_id: Some(command_id), user_id: Some(user_id), schema: 1, ..Metadata::default() };
    let mut ids = EventIds::new();
    let event = |(event_type, data): (String, String)| {
        NewEvent::new(ids.next(now), &event_type, data, metadata.clone())
    };
    let entries =
        vec![Entry { stream: stream.clone(), expected, events: events.into_iter().map(event).collect() }];
    let ledger = Some(LedgerWrite { key, content, stream, verdict: Verdict::Applied });
    let answers =
        store.append(vec![Append { tenant, entries, ledger, fence: None, recorded_at: None }]).await;
    match answers.into_iter().next().expect("each append is answered") {
        Ok(appended) => Ok(appended.receipt.expect("every command is written to the ledger")),
        Err(AppendError::Known(entry)) => known(*entry),
        Err(AppendError::Conflict { actual, .. }) => Err(RawError::Conflict { actual }),
        Err(AppendError::Invalid(why)) => Err(RawError::Invalid(why)),
        Err(AppendError::Overloaded) => Err(RawError::Overloaded),
        Err(AppendError::Unavailable(why)) => Err(RawError::Unavailable(why)),
        Err(AppendError::Fenced) => unreachable!("it rests on no lease"),
    }
}

/// What is expected, as one word: part of what tells two appends apart.
fn word(expected: Expected) -> String {
    match expected {
        Expected::Any => "any".to_owned(),
        Expected::NoStream => "no_stream".to_owned(),
        Expected::Exists => "exists".to_owned(),
        Expected::Exactly(version) => version.to_string(),
    }
}
