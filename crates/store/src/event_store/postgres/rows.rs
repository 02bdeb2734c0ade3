//! How events, receipts and what is parked stand in the tables, and how they are read back to the byte.

use std::sync::Arc;

use sillage_kernel::{
    Checksum, CommandId, ContentHash, Event, EventId, Metadata, Position, Receipt, Timestamp, Version,
};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::link::Failed;
use crate::event_store::{CursorState, LedgerEntry, LedgerKey, Mode, Parked};

/// Where the log is: its identity, its last event, what is forgotten, and what time it is. The clock is that of the
/// database, one for all nodes.
pub(super) const STATE: &str = "
    SELECT log.log_id, coalesce(last.position, 0), coalesce(last.recorded_at, 0), log.forgotten_until,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, log.renewed
    FROM sillage.log
    LEFT JOIN LATERAL (
        SELECT position, recorded_at FROM sillage.events ORDER BY position DESC LIMIT 1
    ) AS last ON true";

/// What is known of some commands: the place of each that is known among them, and its entry.
pub(super) const LEDGER: &str = "
    SELECT wanted.place, ledger.content, ledger.stream, ledger.outcome, ledger.position
    FROM unnest($1::text[], $2::text[], $3::uuid[])
        WITH ORDINALITY AS wanted (tenant, principal, command_id, place)
    JOIN sillage.ledger USING (tenant, principal, command_id)";

/// The columns that [`event`] reads, in its order.
macro_rules! columns {
    () => {
        "position, version, recorded_at, id, tenant, stream, type, data, metadata, checksum"
    };
}
pub(super) use columns;

/// What [`STATE`] tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) log_id: Uuid,
    pub(super) position: Position,
    pub(super) recorded_at: Timestamp,
    pub(super) forgotten_until: Timestamp,
    pub(super) now: Timestamp,
    /// Whether a reactor runs that was never heard of.
    pub(super) unknown: Mode,
}

impl State {
    /// How a reactor stands that was never heard of.
    pub(super) fn unknown_cursor(&self) -> CursorState {
        CursorState { mode: self.unknown, ..CursorState::default() }
    }
}

/// A number of ours as a column. No log comes near the end of either.
pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(column: i64) -> Result<u64, Failed> {
    column.try_into().map_err(|_| malformed("a number is negative"))
}

pub(super) fn malformed(what: impl std::fmt::Display) -> Failed {
    Failed::Refused(format!("a row cannot be read: {what}").into())
}

/// A column of a row.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Failed> {
    row.try_get(at).map_err(malformed)
}

pub(super) fn state(row: &Row) -> Result<State, Failed> {
    Ok(State {
        log_id: get(row, 0)?,
        position: Position::new(number(get(row, 1)?)?),
        recorded_at: Timestamp::from_micros(get(row, 2)?),
        forgotten_until: Timestamp::from_micros(get(row, 3)?),
        now: Timestamp::from_micros(get(row, 4)?),
        unknown: if get(row, 5)? { Mode::Held } else { Mode::Running },
    })
}

/// The end of a stream, from a version and a checksum.
pub(super) fn head(row: &Row, at: usize) -> Result<(Version, Checksum), Failed> {
    Ok((version(row, at)?, Checksum(bytes(row, at + 1)?)))
}

pub(super) fn version(row: &Row, at: usize) -> Result<Version, Failed> {
    Ok(Version::new(number(get(row, at)?)?))
}

/// The event of a row that begins with [`columns`] at `at`. Names that it has in common with the event before it are
/// shared with that. If its contents were dropped, they are empty.
pub(super) fn event(before: Option<&Event>, row: &Row, at: usize) -> Result<Event, Failed> {
    let tenant: &str = get(row, at + 4)?;
    let stream: &str = get(row, at + 5)?;
    let event_type: &str = get(row, at + 6)?;
    let before_type = before.map(|before| &before.event_type).filter(|same| ***same == *event_type);
    let metadata_json = text(row, at + 8)?;
    let metadata: Metadata = match is_dropped(row, at)? {
        true => Metadata::default(),
        false => serde_json::from_str(metadata_json).map_err(malformed)?,
    };
    Ok(Event {
        position: Position::new(number(get(row, at)?)?),
        version: version(row, at + 1)?,
        recorded_at: Timestamp::from_micros(get(row, at + 2)?),
        id: EventId(get(row, at + 3)?),
        tenant: match before.filter(|before| before.tenant.as_str() == tenant) {
            Some(before) => before.tenant.clone(),
            None => tenant.parse().map_err(malformed)?,
        },
        stream: match before.filter(|before| before.stream.as_str() == stream) {
            Some(before) => before.stream.clone(),
            None => stream.parse().map_err(malformed)?,
        },
        event_type: before_type.map_or_else(|| event_type.into(), Arc::clone),
        data: text(row, at + 7)?.into(),
        metadata,
        metadata_json: metadata_json.into(),
        checksum: Checksum(bytes(row, at + 9)?),
    })
}

/// Whether the contents of the event in such a row were dropped.
pub(super) fn is_dropped(row: &Row, at: usize) -> Result<bool, Failed> {
    Ok(get::<Option<&[u8]>>(row, at + 7)?.is_none())
}

fn text(row: &Row, at: usize) -> Result<&str, Failed> {
    std::str::from_utf8(get::<Option<&[u8]>>(row, at)?.unwrap_or_default()).map_err(malformed)
}

fn bytes<const N: usize>(row: &Row, at: usize) -> Result<[u8; N], Failed> {
    get::<&[u8]>(row, at)?.try_into().map_err(malformed)
}

/// The commands among these that are known, each by its place, as [`LEDGER`] finds them.
pub(super) async fn ledger(
    client: &Client,
    statement: &Statement,
    keys: &[LedgerKey],
) -> Result<Vec<(usize, LedgerEntry)>, Failed> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<&str> = keys.iter().map(|key| key.tenant.as_str()).collect();
    let principals: Vec<&str> = keys.iter().map(|key| key.principal.as_str()).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.command_id.0).collect();
    let rows = client.query(statement, &[&tenants, &principals, &ids]).await?;
    let entry = |row: &Row| {
        let place = place(row)?;
        let key = keys.get(place).ok_or_else(|| malformed("it was not asked for"))?;
        let receipt = Receipt {
            stream: get::<&str>(row, 2)?.parse().map_err(malformed)?,
            command_id: key.command_id,
            outcome: serde_json::from_str(get(row, 3)?).map_err(malformed)?,
            position: Position::new(number(get(row, 4)?)?),
        };
        Ok((place, LedgerEntry { content: ContentHash(bytes(row, 1)?), receipt }))
    };
    rows.iter().map(entry).collect()
}

/// What was settled and when, from a position, content, stream, outcome, moment, command, tenant and principal.
pub(super) fn settled(row: &Row) -> Result<(LedgerKey, LedgerEntry, Timestamp), Failed> {
    let command_id = CommandId(get(row, 5)?);
    let receipt = Receipt {
        stream: get::<&str>(row, 2)?.parse().map_err(malformed)?,
        command_id,
        outcome: serde_json::from_str(get(row, 3)?).map_err(malformed)?,
        position: position(row, 0)?,
    };
    let (tenant, principal) = (get::<&str>(row, 6)?, get::<&str>(row, 7)?);
    let key = LedgerKey {
        tenant: tenant.parse().map_err(malformed)?,
        principal: principal.parse().map_err(malformed)?,
        command_id,
    };
    let entry = LedgerEntry { content: ContentHash(bytes(row, 1)?), receipt };
    Ok((key, entry, Timestamp::from_micros(get(row, 4)?)))
}

pub(super) fn position(row: &Row, at: usize) -> Result<Position, Failed> {
    Ok(Position::new(number(get(row, at)?)?))
}

/// The place of a row among what was asked for, which the database counts from 1.
pub(super) fn place(row: &Row) -> Result<usize, Failed> {
    let place = number(get(row, 0)?)?;
    usize::try_from(place)
        .ok()
        .and_then(|place| place.checked_sub(1))
        .ok_or_else(|| malformed("it has no place"))
}

pub(super) const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Running => "running",
        Mode::Paused => "paused",
        Mode::Held => "held",
    }
}

/// A cursor without what is parked, from a position and a mode.
pub(super) fn cursor(row: &Row, at: usize) -> Result<CursorState, Failed> {
    let mode = [Mode::Running, Mode::Paused, Mode::Held];
    let word: &str = get(row, at + 1)?;
    let mode = mode.into_iter().find(|mode| mode_word(*mode) == word);
    Ok(CursorState {
        position: Position::new(number(get(row, at)?)?),
        mode: mode.ok_or_else(|| malformed("an unknown mode"))?,
        parked: std::collections::BTreeMap::new(),
    })
}

/// What is parked stands as JSON, which has a place for every character.
pub(super) fn parked_text(parked: &Parked) -> String {
    serde_json::to_string(parked).expect("what is parked has only string keys")
}

pub(super) fn parked(text: &str) -> Result<Parked, Failed> {
    serde_json::from_str(text).map_err(malformed)
}
