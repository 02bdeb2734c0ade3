//! How events and ledger entries are written as the payload of a journal record: little endian, lengths
//! before texts. Golden files hold the bytes; a change of shape needs a new record kind.

use std::sync::Arc;

use sillage_kernel::{
    Checksum, CommandId, ContentHash, Event, EventId, Metadata, Outcome, Position, Receipt, Rejection,
    StreamName, Tenant, Timestamp, UserId, Version,
};
use uuid::Uuid;

use super::{LedgerEntry, LedgerKey};

/// A payload that is not what its record kind promises, although its checksum was right: the log was written
/// by another program, or the code is wrong.
#[derive(Debug, thiserror::Error)]
#[error("a record cannot be read: {0}")]
pub struct Malformed(pub(super) &'static str);

/// Appends the payload of an event record to `out`.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    let Event {
        position,
        tenant,
        stream,
        version,
        id,
        event_type,
        data,
        metadata: _,
        metadata_json,
        recorded_at,
        checksum,
    } = event;
    out.extend(position.get().to_le_bytes());
    out.extend(version.get().to_le_bytes());
    out.extend(recorded_at.as_micros().to_le_bytes());
    out.extend(id.0.as_bytes());
    out.extend(checksum.0);
    for text in [tenant.as_str(), stream.as_str(), event_type, metadata_json, data] {
        put_text(text, out);
    }
}

/// The event that [`encode_event`] wrote.
pub fn decode_event(payload: &[u8]) -> Result<Event, Malformed> {
    decode_event_after(None, payload)
}

/// The same; what it has in common with the event before it, names or metadata, is taken from that.
pub fn decode_event_after(before: Option<&Event>, payload: &[u8]) -> Result<Event, Malformed> {
    decode(before, payload, |rest| {
        let metadata_json = rest.text()?;
        let data = Arc::from(rest.text()?);
        let metadata: Metadata = match before.filter(|before| *before.metadata_json == *metadata_json) {
            Some(same) => same.metadata.clone(),
            None => {
                serde_json::from_str(metadata_json).map_err(|_| Malformed("metadata that is not JSON"))?
            }
        };
        Ok(Contents { metadata_json: metadata_json.into(), metadata, data })
    })
}

/// The payload of the record that stands in the place of an event that was dropped: what that of the event begins with.
pub fn without_contents(payload: &[u8]) -> Result<&[u8], Malformed> {
    let mut rest = Fields(payload);
    rest.take(FIXED_BYTES)?;
    // Tenant, stream and type.
    for _ in 0..3 {
        rest.text()?;
    }
    payload.get(..payload.len() - rest.0.len()).ok_or(Malformed("it is too short"))
}

/// Whose an event is, its version and its position.
pub(super) fn decode_place(payload: &[u8]) -> Result<((Tenant, StreamName), Version, Position), Malformed> {
    let mut rest = Fields(payload);
    let position = Position::new(u64::from_le_bytes(rest.bytes()?));
    let version = Version::new(u64::from_le_bytes(rest.bytes()?));
    rest.take(FIXED_BYTES - 2 * 8)?;
    Ok(((rest.name()?, rest.name()?), version, position))
}

/// An event that was dropped, from what [`without_contents`] has left of it: data and metadata are empty.
pub fn decode_dropped(payload: &[u8]) -> Result<Event, Malformed> {
    let nothing = |_: &mut Fields<'_>| {
        Ok(Contents { metadata_json: Box::default(), metadata: Metadata::default(), data: "".into() })
    };
    decode(None, payload, nothing)
}

/// Whether an event stands for one that was dropped. Metadata is never empty otherwise: it is JSON.
#[cfg(feature = "postgres")]
pub(crate) fn is_dropped(event: &Event) -> bool {
    event.metadata_json.is_empty()
}

/// What the numbers, the id and the checksum of an event take.
const FIXED_BYTES: usize = 3 * 8 + 16 + 32;

/// What may be dropped of an event.
struct Contents {
    metadata_json: Box<str>,
    metadata: Metadata,
    data: Arc<str>,
}

fn decode<'a>(
    before: Option<&Event>,
    payload: &'a [u8],
    contents: impl FnOnce(&mut Fields<'a>) -> Result<Contents, Malformed>,
) -> Result<Event, Malformed> {
    let mut rest = Fields(payload);
    let position = Position::new(u64::from_le_bytes(rest.bytes()?));
    let version = Version::new(u64::from_le_bytes(rest.bytes()?));
    let recorded_at = Timestamp::from_micros(i64::from_le_bytes(rest.bytes()?));
    let id = EventId(Uuid::from_bytes(rest.bytes()?));
    let checksum = Checksum(rest.bytes()?);
    let tenant = rest.name_like(before.map(|before| &before.tenant), Tenant::as_str)?;
    let stream = rest.name_like(before.map(|before| &before.stream), StreamName::as_str)?;
    let event_type = rest.text()?;
    let event_type = match before.map(|before| &before.event_type).filter(|same| ***same == *event_type) {
        Some(same) => Arc::clone(same),
        None => Arc::from(event_type),
    };
    let Contents { metadata_json, metadata, data } = contents(&mut rest)?;
    Ok(Event {
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
    })
}

/// Appends the payload of a ledger record to `out`.
pub fn encode_ledger(key: &LedgerKey, entry: &LedgerEntry, at: Timestamp, out: &mut Vec<u8>) {
    let LedgerKey { tenant, principal, command_id } = key;
    let LedgerEntry { content, receipt: Receipt { stream, command_id: _, outcome, position } } = entry;
    out.extend(at.as_micros().to_le_bytes());
    out.extend(command_id.0.as_bytes());
    out.extend(content.0);
    out.extend(position.get().to_le_bytes());
    for text in [tenant.as_str(), principal.as_str(), stream.as_str()] {
        put_text(text, out);
    }
    match outcome {
        Outcome::Applied { versions } => {
            out.push(1);
            versions.iter().for_each(|version| out.extend(version.get().to_le_bytes()));
        }
        Outcome::Unchanged => out.push(2),
        Outcome::Rejected(rejection) => {
            out.push(3);
            let json = serde_json::to_string(rejection).expect("a rejection has only string keys");
            put_text(&json, out);
        }
    }
}

/// The key, entry and time that [`encode_ledger`] wrote.
pub fn decode_ledger(payload: &[u8]) -> Result<(LedgerKey, LedgerEntry, Timestamp), Malformed> {
    let mut rest = Fields(payload);
    let at = Timestamp::from_micros(i64::from_le_bytes(rest.bytes()?));
    let command_id = CommandId(Uuid::from_bytes(rest.bytes()?));
    let content = ContentHash(rest.bytes()?);
    let position = Position::new(u64::from_le_bytes(rest.bytes()?));
    let (tenant, principal) = (rest.name::<Tenant>()?, rest.name::<UserId>()?);
    let stream = rest.name::<StreamName>()?;
    let outcome = match rest.bytes::<1>()? {
        [1] => {
            let mut versions = Vec::with_capacity(rest.0.len() / 8);
            while !rest.0.is_empty() {
                versions.push(Version::new(u64::from_le_bytes(rest.bytes()?)));
            }
            Outcome::Applied { versions }
        }
        [2] => Outcome::Unchanged,
        [3] => {
            let rejection: Rejection =
                serde_json::from_str(rest.text()?).map_err(|_| Malformed("a rejection that is not JSON"))?;
            Outcome::Rejected(rejection)
        }
        _ => return Err(Malformed("an unknown outcome")),
    };
    let receipt = Receipt { stream, command_id, outcome, position };
    Ok((LedgerKey { tenant, principal, command_id }, LedgerEntry { content, receipt }, at))
}

/// Appends the payload of the record that stands in the place of commands that the ledger has forgotten: what was minted
/// before this moment may be one of them.
pub fn encode_forgotten(until: Timestamp, out: &mut Vec<u8>) {
    out.extend(until.as_micros().to_le_bytes());
}

/// The moment that [`encode_forgotten`] wrote.
pub fn decode_forgotten(payload: &[u8]) -> Result<Timestamp, Malformed> {
    Ok(Timestamp::from_micros(i64::from_le_bytes(Fields(payload).bytes()?)))
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    let len = u32::try_from(text.len()).expect("an append is held to 4 MiB");
    out.extend(len.to_le_bytes());
    out.extend(text.as_bytes());
}

/// What is left of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("it is too short"))
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = u32::from_le_bytes(self.bytes()?);
        let len = usize::try_from(len).map_err(|_| Malformed("a text is too long"))?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// A name, which is perhaps the one before.
    fn name_like<N: std::str::FromStr + Clone>(
        &mut self,
        before: Option<&N>,
        as_str: fn(&N) -> &str,
    ) -> Result<N, Malformed> {
        let text = self.text()?;
        match before.filter(|before| as_str(before) == text) {
            Some(same) => Ok(same.clone()),
            None => text.parse().map_err(|_| Malformed("a name that is none")),
        }
    }

    fn name<N: std::str::FromStr>(&mut self) -> Result<N, Malformed> {
        self.text()?.parse().map_err(|_| Malformed("a name that is none"))
    }
}
