//! The shapes in which events leave a log and come to another, one JSON object a line. Golden files lock them.
//!
//! As [CloudEvents](cloud_event) nothing is lost but the position: an event that is brought is the same to the byte,
//! and so its checksum is the same. The shapes of the founding documents ([`founding`]) have no place for some of it.

pub mod cloud_event;
pub mod founding;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use self::cloud_event::CloudEvent;
use self::founding::{PlaybookEvent, StoredEventRecord};
use crate::event::{Checksum, Event, NewEvent};
use crate::ids::{Epoch, InvalidName, StreamName, Tenant, Version};
use crate::time::Timestamp;

/// How an event is written on a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// CloudEvents 1.0 in JSON.
    #[default]
    CloudEvents,
    /// `StoredEventRecord`.
    StoredEventRecord,
    /// `PlaybookEvent`: the events of playbooks alone.
    PlaybookEvent,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CloudEvents, Self::StoredEventRecord, Self::PlaybookEvent];

    /// The name that the command line knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::StoredEventRecord => "stored-event-record",
            Self::PlaybookEvent => "playbook-event",
        }
    }

    /// Whether a line says which tenant the event is of.
    pub const fn names_tenant(self) -> bool {
        matches!(self, Self::CloudEvents)
    }

    /// The only category whose events can be written so; `None` if any can.
    pub const fn only_category(self) -> Option<&'static str> {
        match self {
            Self::CloudEvents | Self::StoredEventRecord => None,
            Self::PlaybookEvent => Some(founding::PLAYBOOK),
        }
    }

    /// The event as a line, without its end. Its category must be one that can be written so.
    pub fn write(self, event: &Event, epoch: &Epoch) -> String {
        let line = match self {
            Self::CloudEvents => serde_json::to_string(&CloudEvent::of(event, epoch)),
            Self::StoredEventRecord => serde_json::to_string(&StoredEventRecord::of(event, epoch)),
            Self::PlaybookEvent => serde_json::to_string(&PlaybookEvent::of(event)),
        };
        line.expect("a line has only string keys and no failing parts")
    }

    /// The event of a line, which is of `tenant` if the line names none.
    pub fn read(self, line: &str, tenant: &Tenant) -> Result<BroughtEvent, Unreadable> {
        match self {
            Self::CloudEvents => parse::<CloudEvent<'_>>(line)?.brought(tenant),
            Self::StoredEventRecord => parse::<StoredEventRecord<'_>>(line)?.brought(tenant),
            Self::PlaybookEvent => parse::<PlaybookEvent<'_>>(line)?.brought(tenant),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let format = Self::ALL.into_iter().find(|format| format.name() == text);
        format.ok_or_else(|| format!("the format must be one of {}", known()))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An event of another log: what it is to be in this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtEvent {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its stream.
    pub stream: StreamName,
    /// Its number there.
    pub version: Version,
    /// What happened.
    pub event: NewEvent,
    /// When.
    pub recorded_at: Timestamp,
    /// Its link to all that came before it in its stream, if that came along.
    pub checksum: Option<Checksum>,
}

/// A line that is not what its format promises; the text says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl From<InvalidName> for Unreadable {
    fn from(invalid: InvalidName) -> Self {
        Self(invalid.to_string())
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Unreadable> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = Some(error.path().to_string()).filter(|path| path != ".");
        unreadable(field.as_deref(), error.inner())
    })?;
    reader.end().map_err(|error| unreadable(None, &error))?;
    Ok(value)
}

/// What is wrong, and where on the line.
fn unreadable(field: Option<&str>, error: &serde_json::Error) -> Unreadable {
    let (text, column) = (error.to_string(), error.column());
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let place = match (error.is_data(), field) {
        (true, Some(field)) => format!("{field}: "),
        (true, None) => String::new(),
        (false, _) => "it is not JSON: ".to_owned(),
    };
    Unreadable(format!("{place}{what}, at column {column}"))
}
