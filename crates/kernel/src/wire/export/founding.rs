//! The two shapes of events that the founding documents print, key by key. Neither has a place for all that an event
//! is; what is brought from them has only what they say.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::{BroughtEvent, Unreadable};
use crate::event::{Event, EventId, Metadata, NewEvent};
use crate::ids::{Epoch, MAX_NUMBER, StreamName, Tenant, UserId, Version};
use crate::time::Timestamp;

/// The category whose events a [`PlaybookEvent`] is about.
pub(super) const PLAYBOOK: &str = "playbook";

/// The ids of events that come without one are derived in this namespace.
const EVENTS_WITHOUT_ID: Uuid = Uuid::from_u128(0x5f0e_7b1c_58a4_4c9e_9d2b_3a6c_81f4_d07e);

/// `StoredEventRecord` of the shop. It has no place for the tenant and the metadata. The checksum is told, but cannot
/// be verified, since it covers those.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredEventRecord<'a> {
    /// The number in the log, `epoch:position`.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The identity of the event.
    pub event_id: EventId,
    /// What kind of fact.
    #[serde(borrow)]
    pub event_type: Cow<'a, str>,
    /// The stream's id.
    #[serde(borrow)]
    pub aggregate_id: Cow<'a, str>,
    /// The stream's category.
    #[serde(borrow)]
    pub aggregate_type: Cow<'a, str>,
    /// The fact.
    #[serde(borrow)]
    pub event_data: Cow<'a, RawValue>,
    /// The number in the stream.
    pub version: Version,
    /// When the log took it.
    pub occurred_at: Timestamp,
    /// The link to all that came before it in its stream.
    #[serde(borrow)]
    pub checksum: Cow<'a, str>,
}

impl<'a> StoredEventRecord<'a> {
    pub(super) fn of(event: &'a Event, epoch: &Epoch) -> Self {
        Self {
            id: format!("{epoch}:{}", event.position).into(),
            event_id: event.id,
            event_type: Cow::Borrowed(&event.event_type),
            aggregate_id: Cow::Borrowed(event.stream.id()),
            aggregate_type: Cow::Borrowed(event.stream.category()),
            event_data: on_one_line(&event.data),
            version: event.version,
            occurred_at: event.recorded_at,
            checksum: event.checksum.to_string().into(),
        }
    }

    pub(super) fn brought(self, tenant: &Tenant) -> Result<BroughtEvent, Unreadable> {
        let Self { id: _, event_id, event_type, aggregate_id, aggregate_type, event_data, version, .. } =
            self;
        let stream = StreamName::new(&aggregate_type, &aggregate_id)?;
        let event = new_event(event_id, &event_type, &event_data, None)?;
        let (tenant, recorded_at) = (tenant.clone(), self.occurred_at);
        Ok(BroughtEvent { tenant, stream, version, event, recorded_at, checksum: None })
    }
}

/// `PlaybookEvent` of the editor of playbooks. It has no place for the tenant, the identity of the event, the checksum
/// and the metadata, but for whoever acted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlaybookEvent<'a> {
    /// The number in the log.
    pub id: u64,
    /// Which playbook.
    pub playbook_id: NumberOrText,
    /// The number in its stream.
    pub sequence_number: Version,
    /// What kind of fact.
    #[serde(borrow)]
    pub event_type: Cow<'a, str>,
    /// The fact.
    #[serde(borrow)]
    pub event_data: Cow<'a, RawValue>,
    /// Whoever acted; `null` for the system.
    pub user_id: Option<NumberOrText>,
    /// What to call them: the log knows no names, so it is their id.
    pub username: Option<Cow<'a, str>>,
    /// When the log took it.
    pub created_at: Timestamp,
}

/// An id that the document has as a number. One that is none stays a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NumberOrText {
    /// A number, as the document has it.
    Number(u64),
    /// Any other id.
    Text(String),
}

impl From<&str> for NumberOrText {
    fn from(text: &str) -> Self {
        let number =
            text.parse().ok().filter(|number: &u64| *number <= MAX_NUMBER && number.to_string() == text);
        number.map_or_else(|| Self::Text(text.to_owned()), Self::Number)
    }
}

impl NumberOrText {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl<'a> PlaybookEvent<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        let user = event.metadata.user_id.as_ref().map(UserId::as_str);
        Self {
            id: event.position.get(),
            playbook_id: event.stream.id().into(),
            sequence_number: event.version,
            event_type: Cow::Borrowed(&event.event_type),
            event_data: on_one_line(&event.data),
            user_id: user.map(NumberOrText::from),
            username: user.map(Cow::Borrowed),
            created_at: event.recorded_at,
        }
    }

    pub(super) fn brought(self, tenant: &Tenant) -> Result<BroughtEvent, Unreadable> {
        let Self { id: _, playbook_id, sequence_number, event_type, event_data, user_id, .. } = self;
        let stream = StreamName::new(PLAYBOOK, &playbook_id.into_text())?;
        let user = user_id.map(|user| user.into_text().parse()).transpose()?;
        // No name has a space in it, so no two events have the same text.
        let place = format!("{tenant} {stream} {sequence_number}");
        let id = EventId(Uuid::new_v5(&EVENTS_WITHOUT_ID, place.as_bytes()));
        let event = new_event(id, &event_type, &event_data, user)?;
        let (tenant, recorded_at) = (tenant.clone(), self.created_at);
        Ok(BroughtEvent { tenant, stream, version: sequence_number, event, recorded_at, checksum: None })
    }
}

fn new_event(
    id: EventId,
    event_type: &str,
    data: &RawValue,
    user_id: Option<UserId>,
) -> Result<NewEvent, Unreadable> {
    if event_type.is_empty() {
        return Err(Unreadable("event_type must not be empty".into()));
    }
    let metadata = Metadata { user_id, schema: 1, ..Metadata::default() };
    Ok(NewEvent::new(id, event_type, data.get().to_owned(), metadata))
}

/// The data as a value on one line: between the parts of a value, an end of a line is as good as a space.
fn on_one_line(data: &str) -> Cow<'_, RawValue> {
    if !data.contains(['\n', '\r'])
        && let Ok(raw) = serde_json::from_str(data)
    {
        return Cow::Borrowed(raw);
    }
    let raw = RawValue::from_string(data.replace(['\n', '\r'], " ").trim().to_owned());
    let raw = raw.or_else(|_| to_raw_value(data)).expect("a text can be written as JSON");
    Cow::Owned(raw)
}
