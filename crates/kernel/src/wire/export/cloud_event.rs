//! An event as CloudEvents 1.0 has it, in the JSON format. Everything that leaves for other programs goes through here.
//!
//! What CloudEvents has no word for are extension attributes: lower-case letters, and no number that a 32-bit integer
//! could not hold, so versions and positions are texts.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{BroughtEvent, Unreadable, parse};
use crate::command::CommandId;
use crate::event::{Checksum, Event, EventId, Metadata, NewEvent};
use crate::ids::{Epoch, StreamName, Tenant, UserId, Version};
use crate::time::Timestamp;

const SPEC_VERSION: &str = "1.0";
const JSON: &str = "application/json";

/// An event for other programs. Attributes that are not known are passed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloudEvent<'a> {
    /// The version of CloudEvents.
    #[serde(borrow)]
    pub specversion: Cow<'a, str>,
    /// The identity of the event; together with `source` it is unique in the world.
    pub id: EventId,
    /// Where it happened: the tenant. It outlives a restored log, so that an event that is sent again is known again.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// What kind of fact.
    #[serde(rename = "type", borrow)]
    pub event_type: Cow<'a, str>,
    /// The stream.
    pub subject: StreamName,
    /// When the log took it.
    pub time: Timestamp,
    /// JSON, however it is carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<Cow<'a, str>>,
    /// Extension: whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Extension: its number in the stream.
    #[serde(with = "decimal")]
    pub version: Version,
    /// Extension: `epoch:position`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Cow<'a, str>>,
    /// Extension: the number of the shape of the data; 1, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u16>,
    /// Extension: the command that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commandid: Option<CommandId>,
    /// Extension: what the whole chain of causes began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<Uuid>,
    /// Extension: the event that it came of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<Uuid>,
    /// Extension: whoever acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userid: Option<UserId>,
    /// The extension of distributed tracing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Cow<'a, str>>,
    /// Extension: its link to all that came before it in its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Extension: the stored text of the metadata, where what stands above does not give it to the byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Cow<'a, str>>,
    /// What happened.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
    /// The same, where the stored text does not fit a line to the byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<Cow<'a, str>>,
}

impl<'a> CloudEvent<'a> {
    /// An event of the log of that epoch, for other programs.
    pub fn of(event: &'a Event, epoch: &Epoch) -> Self {
        let Event {
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
        } = event;
        let Metadata { command_id, correlation_id, causation_id, user_id, schema, traceparent } = metadata;
        let plain: Option<&RawValue> = serde_json::from_str(data).ok();
        let plain = plain.filter(|raw| raw.get() == &**data && !data.contains(['\n', '\r']));
        Self {
            specversion: SPEC_VERSION.into(),
            id: *id,
            source: source(tenant).into(),
            event_type: Cow::Borrowed(event_type),
            subject: stream.clone(),
            time: *recorded_at,
            datacontenttype: Some(JSON.into()),
            tenant: Some(tenant.clone()),
            version: *version,
            position: Some(format!("{epoch}:{position}").into()),
            schema: Some(*schema),
            commandid: *command_id,
            correlationid: *correlation_id,
            causationid: *causation_id,
            userid: user_id.clone(),
            traceparent: traceparent.as_deref().map(Cow::Borrowed),
            checksum: Some(*checksum),
            metadata: (metadata.encode() != **metadata_json).then_some(Cow::Borrowed(metadata_json)),
            data: plain,
            data_base64: plain.is_none().then(|| BASE64.encode(data.as_bytes()).into()),
        }
    }

    /// What it is to be in a log; of `tenant`, if it names none.
    pub fn brought(self, tenant: &Tenant) -> Result<BroughtEvent, Unreadable> {
        let data = self.data_text()?;
        let Self { specversion, id, event_type, subject, time, version, checksum, metadata, .. } = self;
        if specversion != SPEC_VERSION {
            return Err(Unreadable(format!("specversion must be {SPEC_VERSION}")));
        }
        if event_type.is_empty() {
            return Err(Unreadable("type must not be empty".into()));
        }
        let event = match metadata {
            Some(text) => {
                let metadata =
                    parse(&text).map_err(|Unreadable(what)| Unreadable(format!("metadata: {what}")))?;
                NewEvent::kept(id, &event_type, data, metadata, text.into_owned())
            }
            None => {
                let metadata = Metadata {
                    command_id: self.commandid,
                    correlation_id: self.correlationid,
                    causation_id: self.causationid,
                    user_id: self.userid,
                    schema: self.schema.unwrap_or(1),
                    traceparent: self.traceparent.map(|text| text.as_ref().into()),
                };
                NewEvent::new(id, &event_type, data, metadata)
            }
        };
        let tenant = self.tenant.unwrap_or_else(|| tenant.clone());
        Ok(BroughtEvent { tenant, stream: subject, version, event, recorded_at: time, checksum })
    }

    /// The text of the data. Without any it is `null`, as JSON cannot tell the two apart.
    fn data_text(&self) -> Result<String, Unreadable> {
        let kind = self.datacontenttype.as_deref().unwrap_or(JSON);
        if kind != JSON && !kind.ends_with("+json") {
            return Err(Unreadable(format!("datacontenttype must be {JSON}")));
        }
        match (self.data, &self.data_base64) {
            (Some(_), Some(_)) => Err(Unreadable("it has both data and data_base64".into())),
            (data, None) => Ok(data.map_or("null", RawValue::get).to_owned()),
            (None, Some(encoded)) => {
                let wrong = || Unreadable("data_base64 must be JSON in Base64".into());
                let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| wrong())?;
                let text = String::from_utf8(bytes).map_err(|_| wrong())?;
                serde_json::from_str::<&RawValue>(&text).map_err(|_| wrong())?;
                Ok(text)
            }
        }
    }
}

/// A tenant as the reference of a URI.
fn source(tenant: &Tenant) -> String {
    let mut source = String::from("/tenants/");
    for byte in tenant.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => source.push(byte.into()),
            _ => write!(source, "%{byte:02X}").expect("a text takes what is written to it"),
        }
    }
    source
}

/// A version as a text.
mod decimal {
    use std::borrow::Cow;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::ids::Version;

    pub(super) fn serialize<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let number: u64 = text.parse().map_err(|_| Error::custom("version must be a number as a text"))?;
        Version::try_from(number).map_err(Error::custom)
    }
}
