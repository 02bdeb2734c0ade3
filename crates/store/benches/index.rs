//! A large log in the embedded engine: how long a start takes, what stays in memory, how fast it is read.
//!
//! `cargo bench -p sillage-store --bench index` makes logs of ten million events of 400 bytes, over 10,000 and over
//! 1,000,000 streams, beside the build, and measures each in a process of its own. `EVENTS` asks for another number.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sillage_kernel::{
    CommandId, ContentHash, EventId, Expected, Filter, Metadata, NewEvent, Position, StreamName, Tenant,
    UserId, Version,
};
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use sillage_store::{Append, Direction, Entry, EventStore, LedgerKey, LedgerWrite, Verdict};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// That of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: u64 = 10_000_000;
/// How many appends are handed over at once.
const CALL: u64 = 4_096;
const SEARCHES: u64 = 2_000;
const STREAM_EVENTS: usize = 100;
/// How many fresh ids are looked up in one call, as the bus does, and in how many calls.
const IDS: u64 = 100;
const LOOK_UPS: u64 = 2_000;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [_, "make", folder, streams, events] => make(Path::new(folder), number(streams), number(events)),
        [_, "measure", folder, streams] => measure(Path::new(folder), number(streams)),
        _ => all(),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("it is a number")
}

fn all() {
    let events = std::env::var("EVENTS").unwrap_or_else(|_| EVENTS.to_string());
    let beside_the_build = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for streams in ["10000", "1000000"] {
        let folder = tempfile::TempDir::new_in(&beside_the_build).expect("a folder");
        let path = folder.path().to_str().expect("a path of text");
        for words in [&["make", path, streams, &events][..], &["measure", path, streams]] {
            let me = std::env::current_exe().expect("this program");
            let done = Command::new(me).args(words).status().expect("it starts");
            assert!(done.success(), "{words:?}");
        }
    }
}

fn open(folder: &Path) -> JournalStore {
    JournalStore::open(folder, Uuid::new_v4().as_u128(), JournalOptions::default()).expect("it opens").0
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime")
}

fn tenant() -> Tenant {
    "main".parse().expect("a name")
}

/// One stream in a thousand is of another category.
fn stream(n: u64) -> StreamName {
    let category = if n.is_multiple_of(1_000) { "rare" } else { "thing" };
    StreamName::new(category, &n.to_string()).expect("a name")
}

/// The next of a row of numbers without a pattern.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn fresh() -> LedgerKey {
    let principal: UserId = "anna".parse().expect("a name");
    LedgerKey { tenant: tenant(), principal, command_id: CommandId(Uuid::now_v7()) }
}

fn append(stream: StreamName) -> Append {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(310));
    let event = NewEvent::new(EventId(Uuid::now_v7()), "ThingHappened", data, Metadata::default());
    let (key, content, verdict) = (fresh(), ContentHash([0; 16]), Verdict::Applied);
    let ledger = Some(LedgerWrite { key, content, stream: stream.clone(), verdict });
    let entries = vec![Entry { stream, expected: Expected::Any, events: vec![event] }];
    Append { tenant: tenant(), entries, ledger, fence: None, recorded_at: None }
}

fn make(folder: &Path, streams: u64, events: u64) {
    let (store, runtime, mut seed) = (open(folder), runtime(), streams);
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    let mut made = 0;
    while made < events {
        let appends: Vec<_> = (0..CALL).map(|_| append(stream(random(&mut seed) % streams))).collect();
        let asked = Instant::now();
        let answers = runtime.block_on(store.append(appends));
        slowest = slowest.max(asked.elapsed());
        // What waits to be indexed is bounded; then the rest of the call is made up for.
        made += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
    }
    let rate = per_second(events, begun.elapsed());
    println!("{streams} streams: {events} events made at {rate:.0}/s, the slowest call {slowest:.1?}");
    println!("  memory at the end: {} MiB", resident_mib());
}

fn measure(folder: &Path, streams: u64) {
    let begun = Instant::now();
    let store = open(folder);
    println!(
        "  start: {:.3} s for {} events, {} MiB in memory",
        begun.elapsed().as_secs_f64(),
        store.head(),
        resident_mib()
    );
    let runtime = runtime();
    let mut seed = 1;
    for round in ["first", "warm"] {
        let (begun, mut events) = (Instant::now(), 0);
        for _ in 0..SEARCHES {
            let name = stream(random(&mut seed) % streams);
            let from = Version::new(1);
            let page = store.read_stream(&tenant(), &name, from, Direction::Forward, STREAM_EVENTS);
            events += runtime.block_on(page).expect("it is read").events.len() as u64;
        }
        let each = begun.elapsed().as_micros() / u128::from(SEARCHES);
        println!("  a stream, {round}: {each} µs, {} events each", events / SEARCHES);
        seed = 1;
    }
    let (begun, mut after) = (Instant::now(), Position::ZERO);
    while after < store.head() {
        let page = store.read_all(after, Filter::Everything, 1_000);
        after = runtime.block_on(page).expect("it is read").through;
    }
    println!("  whole scan: {:.0} events/s", per_second(after.get(), begun.elapsed()));
    let (begun, mut after) = (Instant::now(), Position::ZERO);
    while after < store.head() {
        let page = store.read_all(after, Filter::Category("rare".into()), 1_000);
        after = runtime.block_on(page).expect("it is read").through;
    }
    println!("  scan for one category: {:.0} events/s passed", per_second(after.get(), begun.elapsed()));
    let begun = Instant::now();
    for _ in 0..LOOK_UPS {
        let keys = (0..IDS).map(|_| fresh()).collect();
        assert!(runtime.block_on(store.look_up(keys)).expect("it is read").iter().all(Option::is_none));
    }
    println!("  fresh ids: {:.0} look-ups/s", per_second(LOOK_UPS * IDS, begun.elapsed()));
    println!("  memory in the end: {} MiB", resident_mib());
}

#[expect(clippy::cast_precision_loss, reason = "it is shown to people")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// What the process has in memory, as Linux tells.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
