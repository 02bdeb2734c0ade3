//! The payloads of the journal's records, locked by golden files.

use std::path::Path;

use sillage_kernel::event::Place;
use sillage_kernel::{
    Checksum, CommandId, ContentHash, Event, EventId, Metadata, NewEvent, Outcome, Position, Receipt,
    Rejection, Timestamp, Version,
};
use sillage_store::event_store::codec::{
    decode_dropped, decode_event, decode_forgotten, decode_ledger, encode_event, encode_forgotten,
    encode_ledger, without_contents,
};
use sillage_store::{LedgerEntry, LedgerKey};
use uuid::Uuid;

fn event() -> Event {
    let command_id = Some(CommandId(Uuid::from_u128(2)));
    let metadata =
        Metadata { command_id, user_id: Some("alice".parse().unwrap()), schema: 1, ..Metadata::default() };
    let id = EventId(Uuid::from_u128(0x019b_d64a_0800_7000_8000_0000_0000_0001));
    let new = NewEvent::new(id, "LikeSetEvent", r#"{"count":1}"#, metadata);
    let (tenant, stream) = ("main".parse().unwrap(), "like-é".parse().unwrap());
    let recorded_at = Timestamp::from_micros(1_768_826_734_592_001);
    let (position, version) = (Position::new(7), Version::new(1));
    new.recorded(Place { position, tenant, stream, version, recorded_at }, &Checksum::START)
}

fn ledger(outcome: Outcome) -> (LedgerKey, LedgerEntry, Timestamp) {
    let command_id = CommandId(Uuid::from_u128(2));
    let key = LedgerKey { tenant: "main".parse().unwrap(), principal: "alice".parse().unwrap(), command_id };
    let receipt =
        Receipt { stream: "like-é".parse().unwrap(), command_id, outcome, position: Position::new(7) };
    (
        key,
        LedgerEntry { content: ContentHash([9; 16]), receipt },
        Timestamp::from_micros(1_768_826_734_592_001),
    )
}

/// Compares with a golden file of hexadecimal; `UPDATE_GOLDEN=1` writes it.
fn check(name: &str, payload: &[u8]) {
    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, format!("{hex}\n")).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), hex, "the format of {name} has changed");
}

#[test]
fn an_event_is_stored_as_ever() {
    let mut payload = Vec::new();
    encode_event(&event(), &mut payload);
    check("event.hex", &payload);
    assert_eq!(decode_event(&payload).unwrap(), event());
    for cut in 0..payload.len() {
        assert!(decode_event(&payload[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn what_is_left_of_a_dropped_event_is_stored_as_ever() {
    let mut payload = Vec::new();
    encode_event(&event(), &mut payload);
    let place = without_contents(&payload).unwrap();
    check("event-dropped.hex", place);
    let nothing =
        Event { data: "".into(), metadata_json: "".into(), metadata: Metadata::default(), ..event() };
    assert_eq!(decode_dropped(place).unwrap(), nothing);
    assert_eq!(without_contents(place).unwrap(), place);
    for cut in 0..place.len() {
        assert!(
            decode_dropped(&place[..cut]).is_err() && without_contents(&payload[..cut]).is_err(),
            "{cut}"
        );
    }
}

#[test]
fn until_when_commands_are_forgotten_is_stored_as_ever() {
    let (mut payload, until) = (Vec::new(), Timestamp::from_micros(1_768_826_734_592_001));
    encode_forgotten(until, &mut payload);
    check("forgotten.hex", &payload);
    assert_eq!(decode_forgotten(&payload).unwrap(), until);
    assert!(decode_forgotten(&payload[..7]).is_err());
}

#[test]
fn a_ledger_entry_is_stored_as_ever() {
    let details = serde_json::json!({"closedBy": "mo"});
    let rejection = Rejection { details, ..Rejection::new("likes_closed", "No more.") };
    for (name, outcome) in [
        ("ledger-applied.hex", Outcome::Applied { versions: vec![Version::new(1), Version::new(2)] }),
        ("ledger-unchanged.hex", Outcome::Unchanged),
        ("ledger-rejected.hex", Outcome::Rejected(rejection)),
    ] {
        let (key, entry, at) = ledger(outcome);
        let mut payload = Vec::new();
        encode_ledger(&key, &entry, at, &mut payload);
        check(name, &payload);
        assert_eq!(decode_ledger(&payload).unwrap(), (key, entry, at));
    }
}
