//! Facts: what happened, in the past tense, immutable.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::command::CommandId;
use crate::ids::{Position, StreamName, Tenant, UserId, Version};
use crate::time::Timestamp;
use crate::upcasting::Upcaster;

/// The identity of an event: a UUIDv7, minted after deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

/// What is known about an event beside what happened. Ids only, never names or addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// The command that decided the event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command_id: Option<CommandId>,
    /// What the whole chain of causes began with; without one, the command itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub correlation_id: Option<Uuid>,
    /// The event that the command was sent because of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub causation_id: Option<Uuid>,
    /// Whoever acted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<UserId>,
    /// The number of the shape of `data`, from 1.
    #[serde(default = "first_schema")]
    pub schema: u16,
    /// The W3C trace context of the request, when it was sampled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<Box<str>>,
}

impl Metadata {
    /// The text that is stored.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("metadata has only string keys and no failing parts")
    }
}

fn first_schema() -> u16 {
    1
}

/// SHA-256 over an event's type, stored data and stored metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// The link of an event to all that came before it in its stream; see [`Checksum::next`].
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum(pub [u8; 32]);

impl Digest {
    /// The digest of what is stored. Each part is preceded by its length, so that no two contents run together.
    pub fn of(event_type: &str, data: &str, metadata: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [event_type, data, metadata] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl Checksum {
    /// What stands before the first event of a stream.
    pub const START: Self = Self([0; 32]);

    /// The checksum of an event whose predecessor in the stream has the checksum `self`.
    #[must_use]
    pub fn next(&self, link: &Link<'_>) -> Self {
        let Link { tenant, stream, version, id, recorded_at, digest } = link;
        let mut hash = Sha256::new();
        hash.update(self.0);
        for name in [tenant.as_str(), stream.as_str()] {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
        }
        hash.update(version.get().to_le_bytes());
        hash.update(id.0.as_bytes());
        hash.update(recorded_at.as_micros().to_le_bytes());
        hash.update(digest.0);
        Self(hash.finalize().into())
    }
}

/// What a checksum binds beside its predecessor.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// Whose event it is.
    pub tenant: &'a Tenant,
    /// Its stream.
    pub stream: &'a StreamName,
    /// Its number in the stream.
    pub version: Version,
    /// Its identity.
    pub id: EventId,
    /// When it became durable.
    pub recorded_at: Timestamp,
    /// The digest of its contents.
    pub digest: Digest,
}

/// Writes a hash as hexadecimal.
macro_rules! hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex!(Digest);
hex!(Checksum);

impl FromStr for Checksum {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let digits = text.get(at..at + 2).ok_or(WRONG)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| WRONG)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An event that was decided but is not in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its identity.
    pub id: EventId,
    /// Its type, in the past tense.
    pub event_type: Arc<str>,
    /// What happened, as JSON; kept to the byte.
    pub data: Arc<str>,
    /// What is known about it, as it was when [`NewEvent::new`] encoded it.
    pub metadata: Metadata,
    /// The metadata as JSON; kept to the byte.
    pub metadata_json: Box<str>,
    /// Over the type and both texts, computed by the caller so that the writer does one short hash.
    pub digest: Digest,
}

impl NewEvent {
    /// Encodes the metadata and computes the digest. `data` must be one JSON value.
    pub fn new(id: EventId, event_type: &str, data: impl Into<Arc<str>>, metadata: Metadata) -> Self {
        let metadata_json = metadata.encode();
        Self::kept(id, event_type, data, metadata, metadata_json)
    }

    /// As [`Self::new`], with the text of the metadata as it was stored before.
    pub fn kept(
        id: EventId,
        event_type: &str,
        data: impl Into<Arc<str>>,
        metadata: Metadata,
        metadata_json: String,
    ) -> Self {
        let data = data.into();
        let digest = Digest::of(event_type, &data, &metadata_json);
        let event_type = event_type.into();
        Self { id, event_type, data, metadata, metadata_json: metadata_json.into(), digest }
    }
}

/// Where and when the log takes an event.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its number in the whole log.
    pub position: Position,
    /// Whose event it is.
    pub tenant: Tenant,
    /// Its stream.
    pub stream: StreamName,
    /// Its number in the stream.
    pub version: Version,
    /// When.
    pub recorded_at: Timestamp,
}

impl NewEvent {
    /// The event as it is in the log, linked to the one before it in its stream.
    pub fn recorded(self, place: Place, previous: &Checksum) -> Event {
        let Self { id, event_type, data, metadata, metadata_json, digest } = self;
        let Place { position, tenant, stream, version, recorded_at } = place;
        let link = Link { tenant: &tenant, stream: &stream, version, id, recorded_at, digest };
        let checksum = previous.next(&link);
        Event {
            position,
            tenant,
            stream,
            version,
            id,
            event_type,
            data,
            metadata,
            metadata_json,
            recorded_at,
            checksum,
        }
    }
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number in the whole log.
    pub position: Position,
    /// Whose event it is.
    pub tenant: Tenant,
    /// Its stream.
    pub stream: StreamName,
    /// Its number in the stream.
    pub version: Version,
    /// Its identity.
    pub id: EventId,
    /// Its type.
    pub event_type: Arc<str>,
    /// What happened, as JSON; the stored text.
    pub data: Arc<str>,
    /// What is known about it.
    pub metadata: Metadata,
    /// The stored text of the metadata.
    pub metadata_json: Box<str>,
    /// When the log took it.
    pub recorded_at: Timestamp,
    /// Its link to all that came before it in its stream.
    pub checksum: Checksum,
}

impl Event {
    /// Whether the checksum is right, given that of the event before it in the stream.
    pub fn follows(&self, previous: &Checksum) -> bool {
        let digest = Digest::of(&self.event_type, &self.data, &self.metadata_json);
        let Self { tenant, stream, version, id, recorded_at, .. } = self;
        let link = Link { tenant, stream, version: *version, id: *id, recorded_at: *recorded_at, digest };
        previous.next(&link) == self.checksum
    }
}

/// Stored data that is not what its type promises. The log or the code is wrong; nobody's input is.
#[derive(Debug, thiserror::Error)]
#[error("the stored {event_type} cannot be read: {reason}")]
pub struct DecodeError {
    /// The type that stands in the log.
    pub event_type: String,
    /// What is wrong.
    pub reason: String,
}

/// The events of one kind of stream; [`domain_events!`](crate::domain_events) writes this.
pub trait DomainEvent: Sized + Send + Sync + 'static {
    /// All types of this kind of stream.
    const TYPES: &'static [&'static str];

    /// The name of the type in the log and on the wire.
    fn event_type(&self) -> &'static str;
    /// What happened, as JSON.
    fn encode(&self) -> String;
    /// What happened, from its newest shape. A type that this kind of stream does not know is an error.
    fn decode(event_type: &str, data: &str) -> Result<Self, DecodeError>;

    /// How the data of older programs becomes that of this one.
    fn upcasters() -> &'static [Upcaster] {
        &[]
    }

    /// The number of the shape that a type has now.
    fn schema(event_type: &str) -> u16 {
        let own = Self::upcasters().iter().find(|upcaster| upcaster.event_type == event_type);
        1 + own.map_or(0, |own| u16::try_from(own.steps.len()).expect("a type has few schemas"))
    }

    /// The event that stands in the log. One of another shape than the newest is an error: older ones have been
    /// upcast before they come here, so it is from a newer program.
    fn read(event: &Event) -> Result<Self, DecodeError> {
        let Event { event_type, data, metadata, .. } = event;
        let newest = Self::schema(event_type);
        if metadata.schema == newest {
            return Self::decode(event_type, data);
        }
        let reason = format!("it has schema {}, and this program knows {newest}", metadata.schema);
        Err(DecodeError { event_type: event_type.as_ref().into(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Event {
        let id = EventId(Uuid::from_u128(1));
        let new = NewEvent::new(id, "LikeSetEvent", data.to_owned(), Metadata::default());
        let (tenant, stream): (Tenant, StreamName) = ("main".parse().unwrap(), "like-a".parse().unwrap());
        let recorded_at = Timestamp::from_micros(5);
        new.recorded(
            Place { position: Position::new(9), tenant, stream, version: Version::new(1), recorded_at },
            &Checksum::START,
        )
    }

    #[test]
    fn a_checksum_is_read_as_it_is_written() {
        let checksum = event("{}").checksum;
        let text = serde_json::to_string(&checksum).unwrap();
        assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), checksum);
        let digits = text.trim_matches('"');
        for bad in
            [format!("0{digits}"), format!("+{}", &digits[1..]), format!("é{}", &digits[2..]), String::new()]
        {
            let bad = format!("{bad:?}");
            assert!(serde_json::from_str::<Checksum>(&bad).is_err(), "{bad}");
        }
    }

    /// Else a state would be another on whichever side has read it from JSON once more.
    #[test]
    fn a_fraction_is_read_as_it_was_written() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..1_000 {
            bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let written = f64::from_bits(bits);
            if written.is_finite() {
                let text = serde_json::to_string(&written).unwrap();
                let read: f64 = serde_json::from_str(&text).unwrap();
                assert_eq!(read.to_bits(), written.to_bits(), "{text}");
            }
        }
    }

    #[test]
    fn a_changed_event_no_longer_follows() {
        let good = event(r#"{"count":1}"#);
        assert!(good.follows(&Checksum::START));
        assert!(!good.follows(&good.checksum), "another predecessor");
        let changes: [fn(&mut Event); 8] = [
            |e| e.data = r#"{"count":2}"#.into(),
            |e| e.event_type = "LikeSetEven".into(),
            |e| e.version = Version::new(2),
            |e| e.recorded_at = Timestamp::from_micros(6),
            |e| e.stream = "like-b".parse().unwrap(),
            |e| e.tenant = "mainly".parse().unwrap(),
            |e| e.id = EventId(Uuid::from_u128(2)),
            |e| e.metadata_json = r#"{"schema":2}"#.into(),
        ];
        for (row, change) in changes.into_iter().enumerate() {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!bad.follows(&Checksum::START), "row {row}");
        }
        let moved = Event { position: Position::new(10), ..good };
        assert!(moved.follows(&Checksum::START), "the position is not in it");
    }
}
