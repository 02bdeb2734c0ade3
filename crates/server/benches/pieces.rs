//! The pieces of the journey, each for itself: what a command costs where.
//!
//! `cargo bench -p sillage-server --bench pieces`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that panics has failed")]

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use sillage_domains::likes::{Likes, LikesView};
use sillage_gateway::receive::{action, read_message};
use sillage_kernel::event::{Link, Place};
use sillage_kernel::{
    Actor, Checksum, CommandId, ContentHash, Context, Decider, Digest, DomainCommand, DomainEvent, Envelope,
    Event, EventId, Expected, Metadata, NewEvent, Position, StreamName, Tenant, Timestamp, Version, View,
};
use sillage_runtime::{ContentKey, Deciders};
use sillage_server::systems;
use sillage_store::event_store::codec::{decode_event, encode_event};
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use sillage_store::views::{Baselines, Views};
use sillage_store::{Append, Entry, EventStore, LedgerKey, LedgerWrite, Verdict, clock};
use tempfile::TempDir;
use uuid::Uuid;

fn main() {
    divan::main();
}

const FRAME: &str = r#"{"type":"action","feed":"like-article-1","event_type":"LikeAdd","command_id":"019bd64a-0800-7000-8000-000000000001","data":{"likeId":"019bd64a-0800-7000-8000-000000000002","at":"2026-01-19T12:00:00Z"}}"#;

fn envelope(feed: Option<StreamName>) -> Envelope {
    let actor = Actor::user("alice".parse().unwrap());
    let command_id = CommandId(Uuid::from_u128(1));
    Envelope { tenant: "main".parse().unwrap(), actor, command_id, feed, traceparent: None }
}

/// From the text of a frame to a command with its content hash.
#[divan::bench]
fn frame_to_command(bencher: Bencher) {
    let deciders = Deciders::new(ContentKey([0; 32])).with::<Likes>();
    bencher.counter(BytesCount::of_str(FRAME)).bench(|| {
        let message = read_message(black_box(FRAME)).unwrap();
        let incoming = action(&message).unwrap();
        deciders.decode(incoming.name, incoming.data, envelope(incoming.feed)).unwrap()
    });
}

/// The rules, and the event as JSON.
#[divan::bench]
fn decide_and_encode(bencher: Bencher) {
    let envelope = envelope(Some("like-article-1".parse().unwrap()));
    let data = r#"{"likeId":"l-1","at":"2026-01-19T12:00:00Z"}"#;
    let command = <Likes as Decider>::Command::decode("LikeAdd", data, &envelope).unwrap();
    let state = <Likes as Decider>::State::default();
    let context =
        Context { now: Timestamp::default(), actor: &envelope.actor, command_id: envelope.command_id };
    bencher.bench(|| Likes::decide(black_box(&state), &command, &context).unwrap().events[0].encode());
}

/// An event as the log has it; its data and metadata are about 400 bytes.
fn event(position: u64, target: u64) -> Event {
    let (tenant, stream): (Tenant, _) = ("main".parse().unwrap(), format!("like-t{target}").parse().unwrap());
    let data = format!(
        r#"{{"commandId":"019bd64a-0800-7000-8000-{position:012}","likeId":"019bd64a-0800-7000-8000-000000000002","targetId":"t{target}","userId":"u{}","active":true,"count":1,"version":1,"at":"2026-01-19T12:00:00Z"}}"#,
        position % 64
    );
    let metadata = Metadata {
        command_id: Some(CommandId(Uuid::from_u128(position.into()))),
        schema: 1,
        ..Metadata::default()
    };
    let new = NewEvent::new(EventId(Uuid::from_u128(position.into())), "LikeSetEvent", data, metadata);
    let (position, version, recorded_at) = (Position::new(position), Version::new(1), Timestamp::default());
    new.recorded(Place { position, tenant, stream, version, recorded_at }, &Checksum::START)
}

/// The two hashes of an event.
#[divan::bench]
fn digest_and_checksum(bencher: Bencher) {
    let Event { tenant, stream, version, id, recorded_at, event_type, data, metadata_json, .. } = event(1, 1);
    bencher.bench(|| {
        let digest = Digest::of(black_box(&event_type), &data, &metadata_json);
        Checksum::START.next(&Link { tenant: &tenant, stream: &stream, version, id, recorded_at, digest })
    });
}

/// An event to the bytes of its record, and back.
#[divan::bench]
fn record_and_back(bencher: Bencher) {
    let event = event(1, 1);
    let mut payload = Vec::new();
    bencher.bench_local(|| {
        payload.clear();
        encode_event(black_box(&event), &mut payload);
        decode_event(&payload).unwrap()
    });
}

fn appends(batch: u64, count: u64) -> Vec<Append> {
    let append = |n| {
        let number = u128::from(batch * 1_000_000 + n);
        let tenant: Tenant = "main".parse().unwrap();
        let stream: StreamName = format!("like-t{}", number % 10_000).parse().unwrap();
        let metadata =
            Metadata { command_id: Some(CommandId(Uuid::from_u128(number))), ..Metadata::default() };
        let data = event(1, 1).data.as_ref().to_owned();
        let new = NewEvent::new(EventId(Uuid::from_u128(number)), "LikeSetEvent", data, metadata);
        let principal = "alice".parse().unwrap();
        let key =
            LedgerKey { tenant: tenant.clone(), principal, command_id: CommandId(Uuid::from_u128(number)) };
        let (content, verdict) = (ContentHash([0; 16]), Verdict::Applied);
        let ledger = Some(LedgerWrite { key, content, stream: stream.clone(), verdict });
        Append {
            tenant,
            entries: vec![Entry { stream, expected: Expected::Any, events: vec![new] }],
            ledger,
            fence: None,
            recorded_at: None,
        }
    };
    (0..count).map(append).collect()
}

/// Durable appends with their ledger, that many in one call, one call at a time.
#[divan::bench(args = [1, 8, 64, 512], max_time = 2)]
fn durable_appends(bencher: Bencher, waiting: u64) {
    // Beside the build, since a folder of temporary files may be in memory.
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (store, _) = JournalStore::open(folder.path(), 1, JournalOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut batch = 0;
    bencher
        .counter(ItemsCount::new(waiting))
        .with_inputs(|| {
            batch += 1;
            appends(batch, waiting)
        })
        .bench_local_values(|appends| {
            let results = runtime.block_on(store.append(appends));
            assert!(results.iter().all(Result::is_ok));
        });
}

/// The view of the likes, that many events in one transaction, over ten thousand targets.
#[divan::bench(args = [64, 1_024, 8_192], max_time = 2)]
fn fold(bencher: Bencher, events: u64) {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let epoch = sillage_kernel::Epoch::from_log_id(1);
    let file = folder.path().join("views.sqlite");
    let mut views: Views =
        systems::all().views.open(&file, &epoch, Position::ZERO, Baselines::default()).unwrap();
    let mut last = 0;
    let mut seed = clock::now().as_millis();
    bencher
        .counter(ItemsCount::new(events))
        .with_inputs(|| {
            let positions = last + 1..=last + events;
            last += events;
            let target = |position: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(position);
                (seed >> 33) % 10_000
            };
            let mut target = target;
            positions.map(|position| Arc::new(event(position, target(position)))).collect::<Vec<_>>()
        })
        .bench_local_refs(|events| {
            let through = events.last().unwrap().position;
            views.fold(events, through).unwrap();
        });
    assert_eq!(views.reader().statuses()[0].name, LikesView::NAME);
}
