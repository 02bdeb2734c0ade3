use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::command::CommandId;
use crate::event::{EventId, Metadata, Place};
use crate::ids::Position;

const EPOCH: &str = "9f1c2e7ab0d34c55a6e8107f3b2d4c91";

fn golden(format: Format) -> &'static str {
    match format {
        Format::CloudEvents => include_str!("../../../../../protocol/exports/cloudevents.jsonl"),
        Format::StoredEventRecord => {
            include_str!("../../../../../protocol/exports/stored-event-record.jsonl")
        }
        Format::PlaybookEvent => include_str!("../../../../../protocol/exports/playbook-event.jsonl"),
    }
}

fn uuid(number: u8) -> Uuid {
    Uuid::from_u128(0x019b_d64a_0800_7000_8000_0000_0000_0000 + u128::from(number))
}

fn full() -> Metadata {
    Metadata {
        command_id: Some(CommandId(uuid(10))),
        correlation_id: Some(uuid(11)),
        causation_id: Some(uuid(12)),
        user_id: Some("7".parse().unwrap()),
        schema: 2,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
    }
}

/// Events of one stream, from version 1, as a log has them.
fn log(stream: &str, events: Vec<NewEvent>) -> Vec<Event> {
    let (tenant, stream): (Tenant, StreamName) = ("acme/é".parse().unwrap(), stream.parse().unwrap());
    let mut previous = Checksum::START;
    let recorded = |(event, number): (NewEvent, u64)| {
        let recorded_at = Timestamp::from_micros(1_768_824_000_000_000 + i64::try_from(number).unwrap());
        let (position, version) = (Position::new(40 + number), Version::new(number));
        let place = Place { position, tenant: tenant.clone(), stream: stream.clone(), version, recorded_at };
        let event = event.recorded(place, &previous);
        previous = event.checksum;
        event
    };
    events.into_iter().zip(1..).map(recorded).collect()
}

/// One with all that metadata can hold, one of the system, and one that nobody would write like that today.
fn examples() -> Vec<Event> {
    let renamed = |number, data: &str, metadata| {
        NewEvent::new(EventId(uuid(number)), "playbook_rename", data.to_owned(), metadata)
    };
    let anna = Metadata { user_id: Some("anna".parse().unwrap()), schema: 1, ..Metadata::default() };
    let spaced = anna.encode().replace(',', ",\n ");
    let (id, data) = (EventId(uuid(3)), "{\n  \"name\": \"c\"\n}");
    let events = vec![
        renamed(1, r#"{"name":"été / \"a\"","size":1.0}"#, full()),
        renamed(2, r#"{"name":"b"}"#, Metadata { schema: 1, ..Metadata::default() }),
        NewEvent::kept(id, "playbook_rename", data.to_owned(), anna, spaced),
    ];
    log("playbook-42", events)
}

fn new_of(event: &Event) -> NewEvent {
    let Event { id, event_type, data, metadata, metadata_json, .. } = event.clone();
    NewEvent::kept(id, &event_type, data.as_ref().to_owned(), metadata, metadata_json.into())
}

fn read(format: Format, line: &str) -> Result<BroughtEvent, String> {
    format.read(line, &"other".parse().unwrap()).map_err(|error| error.to_string())
}

#[test]
fn each_format_is_as_its_golden_file_says() {
    let epoch = Epoch::parse(EPOCH).unwrap();
    for format in Format::ALL {
        let lines: Vec<_> = examples().iter().map(|event| format.write(event, &epoch)).collect();
        let golden: Vec<_> = golden(format).lines().collect();
        assert_eq!(lines, golden, "{format}\n{}", lines.join("\n"));
        assert_eq!(format.name().parse(), Ok(format));
    }
}

/// What other programs need to be told: the attributes that the specification demands, and no name that it forbids.
#[test]
fn a_cloud_event_is_one() {
    for line in golden(Format::CloudEvents).lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        for required in ["specversion", "id", "source", "type"] {
            assert!(event[required].as_str().is_some_and(|text| !text.is_empty()), "{required}");
        }
        for (name, value) in event.as_object().unwrap() {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            assert!(name == "data_base64" || (name.chars().all(allowed) && name.len() <= 20), "{name}");
            let plain = value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
            assert!(name == "data" || plain, "{name}: {value}");
        }
        assert_eq!(event["source"], "/tenants/acme%2F%C3%A9");
    }
}

#[test]
fn a_cloud_event_brings_the_same_event() {
    let data = [
        "{ \"b\" : 1 ,\n\t\"a\":2,\"b\":3}",
        "{ \"b\" : 1 , \t\"a\":2,\"b\":3}",
        "[1.0,1e0,1E+00,0.1,-0,123456789012345678901234567890,4.9e-324]",
        "\"\\u00e9é\\/\\ud83d\\ude00😀\\u0000\"",
        "null",
        " [ ] ",
        "\r0",
        "0",
    ];
    let odd = |data: &str| NewEvent::new(EventId(Uuid::nil()), "T/·é", data.to_owned(), full());
    let mut events = log("$thing-ä/.. -x".replace(' ', "").as_str(), data.into_iter().map(odd).collect());
    events.extend(examples());
    for event in events {
        let line = Format::CloudEvents.write(&event, &Epoch::parse(EPOCH).unwrap());
        assert!(!line.contains(['\n', '\r']), "{line}");
        let brought = read(Format::CloudEvents, &line).unwrap();
        let Event { tenant, stream, version, recorded_at, checksum, .. } = event.clone();
        let (event, checksum) = (new_of(&event), Some(checksum));
        assert_eq!(brought, BroughtEvent { tenant, stream, version, event, recorded_at, checksum });
    }
}

/// What other programs write: less than we do, and things that we do not know.
#[test]
fn a_cloud_event_of_another_program_is_read() {
    let line = r#"{"specversion":"1.0","id":"019bd64a-0800-7000-8000-000000000001","source":"x","type":"T",
        "subject":"thing-a","time":"2026-01-19T13:00:00+01:00","version":"1","unknown":true,"data":null}"#;
    let brought = read(Format::CloudEvents, line).unwrap();
    assert_eq!((brought.tenant.as_str(), brought.stream.as_str()), ("other", "thing-a"));
    assert_eq!((&*brought.event.data, brought.event.metadata.schema, brought.checksum), ("null", 1, None));
    assert_eq!(brought.recorded_at.to_string(), "2026-01-19T12:00:00Z");
}

#[test]
fn the_founding_shapes_bring_what_they_have_a_place_for() {
    for (event, line) in examples().iter().zip(golden(Format::StoredEventRecord).lines()) {
        let brought = read(Format::StoredEventRecord, line).unwrap();
        let place = (brought.tenant.as_str(), &brought.stream, brought.version, brought.recorded_at);
        assert_eq!(place, ("other", &event.stream, event.version, event.recorded_at));
        let metadata = Metadata { schema: 1, ..Metadata::default() };
        assert_eq!((brought.event.id, &brought.event.metadata), (event.id, &metadata));
        assert_eq!(brought.event.data.replace(' ', ""), event.data.replace([' ', '\n'], ""));
    }
    let mut ids = Vec::new();
    for (event, line) in examples().iter().zip(golden(Format::PlaybookEvent).lines()) {
        let brought = read(Format::PlaybookEvent, line).unwrap();
        assert_eq!(brought, read(Format::PlaybookEvent, line).unwrap(), "it is known again");
        let place = (&brought.stream, brought.version, brought.recorded_at);
        assert_eq!(place, (&event.stream, event.version, event.recorded_at));
        assert_eq!(brought.event.metadata.user_id, event.metadata.user_id);
        ids.push(brought.event.id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has an id of its own");
}

#[test]
fn a_bad_line_is_refused_with_what_is_wrong() {
    let [cloud, stored, playbook] = Format::ALL.map(|format| golden(format).lines().next().unwrap());
    let changed = |line: &str, from: &str, to: &str| {
        assert!(line.contains(from), "{from} is not in {line}");
        line.replacen(from, to, 1)
    };
    let rows = [
        (Format::CloudEvents, "no".to_owned(), "it is not JSON"),
        (Format::CloudEvents, cloud[..40].to_owned(), "it is not JSON"),
        (Format::CloudEvents, "[]".to_owned(), "invalid length"),
        (Format::CloudEvents, "{}".to_owned(), "missing field `specversion`"),
        (Format::CloudEvents, format!("{cloud}{cloud}"), "it is not JSON: trailing"),
        (Format::CloudEvents, changed(cloud, "\"subject\"", "\"topic\""), "missing field `subject`"),
        (Format::CloudEvents, changed(cloud, "\"version\":\"1\"", "\"version\":1"), "version: invalid type"),
        (Format::CloudEvents, changed(cloud, "\"version\":\"1\"", "\"version\":\"-1\""), "must be a number"),
        (Format::CloudEvents, changed(cloud, "\"1.0\"", "\"0.3\""), "specversion must be 1.0"),
        (Format::CloudEvents, changed(cloud, "playbook-42", "playbook"), "stream must be a category"),
        (Format::CloudEvents, changed(cloud, "2026-01-19", "yesterday "), "must be a time"),
        (Format::CloudEvents, changed(cloud, "application/json", "text/plain"), "datacontenttype"),
        (Format::CloudEvents, changed(cloud, "\"checksum\":\"", "\"checksum\":\"0"), "64 hexadecimal"),
        (Format::CloudEvents, changed(cloud, "\"schema\":2", "\"schema\":-2"), "invalid value"),
        (Format::CloudEvents, changed(cloud, "\"data\":", "\"data_base64\":\"e30\",\"data\":"), "both data"),
        (Format::CloudEvents, changed(cloud, "\"tenant\":", "\"id\":1,\"tenant\":"), "duplicate field `id`"),
        (
            Format::CloudEvents,
            changed(cloud, "\"checksum\":", "\"metadata\":\"{\",\"checksum\":"),
            "metadata: ",
        ),
        (Format::CloudEvents, changed(cloud, "playbook_rename", ""), "type must not be empty"),
        (Format::StoredEventRecord, playbook.to_owned(), "invalid type"),
        (
            Format::StoredEventRecord,
            changed(stored, "\"version\":1", "\"version\":\"1\""),
            "version: invalid type",
        ),
        (Format::StoredEventRecord, changed(stored, "\"playbook\"", "\"play-book\""), "without a hyphen"),
        (Format::StoredEventRecord, changed(stored, "019b", "x"), "UUID"),
        (Format::PlaybookEvent, cloud.to_owned(), "invalid type"),
        (
            Format::PlaybookEvent,
            changed(playbook, "\"sequence_number\"", "\"number\""),
            "missing field `sequence_number`",
        ),
        (
            Format::PlaybookEvent,
            changed(playbook, "\"playbook_id\":42", "\"playbook_id\":{}"),
            "data did not",
        ),
        (
            Format::PlaybookEvent,
            changed(playbook, "\"playbook_id\":42", "\"playbook_id\":\"\""),
            "stream must",
        ),
        (Format::PlaybookEvent, changed(playbook, "playbook_rename", ""), "event_type must not be empty"),
    ];
    for (format, line, what) in rows {
        let error = read(format, &line).expect_err(what);
        assert!(error.contains(what) && !error.contains(" line "), "{error:?} instead of {what:?}: {line}");
    }
    assert!(
        "xml".parse::<Format>().unwrap_err().ends_with("cloudevents, stored-event-record, playbook-event")
    );
}
