//! Compaction of the embedded engine: how long a segment of 64 MiB takes, how much it saves, and what whoever appends
//! meanwhile notices of it.
//!
//! `cargo bench -p sillage-store --bench compaction` makes a log of events of 400 bytes beside the build and drops them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sillage_kernel::{
    CommandId, ContentHash, EventId, Expected, Metadata, NewEvent, StreamName, Tenant, Version,
};
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use sillage_store::{Append, Cut, Entry, EventStore, LedgerKey, LedgerWrite, Verdict};
use uuid::Uuid;

/// That of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough for two segments that are sealed.
const LOG_BYTES: u64 = 160 << 20;
const STREAMS: u64 = 1_000;
const CALL: u64 = 1_024;
/// How long appends are measured without compaction.
const QUIET: Duration = Duration::from_secs(2);

fn tenant() -> Tenant {
    "main".parse().expect("a name")
}

fn stream(n: u64) -> StreamName {
    StreamName::new("thing", &n.to_string()).expect("a name")
}

fn append(n: u64) -> Append {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(310));
    let event = NewEvent::new(EventId(Uuid::now_v7()), "ThingHappened", data, Metadata::default());
    let principal = "anna".parse().expect("a name");
    let key = LedgerKey { tenant: tenant(), principal, command_id: CommandId(Uuid::now_v7()) };
    let (content, verdict) = (ContentHash([0; 16]), Verdict::Applied);
    let ledger = Some(LedgerWrite { key, content, stream: stream(n), verdict });
    let entries = vec![Entry { stream: stream(n), expected: Expected::Any, events: vec![event] }];
    Append { tenant: tenant(), entries, ledger, fence: None, recorded_at: None }
}

/// How many bytes of log there are.
fn log_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file"));
    let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "seg"));
    segments.map(|file| file.metadata().expect("a file").len()).sum()
}

/// Appends one event after the other until it is told to stop; answers how long half, and nearly all, took at most.
async fn latencies(store: &JournalStore, enough: impl Fn() -> bool) -> (Duration, Duration, usize) {
    let mut took = Vec::new();
    while !enough() {
        let begun = Instant::now();
        store.append(vec![append(STREAMS)]).await.remove(0).expect("it is taken");
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    (at(50), at(99), took.len())
}

fn main() {
    let folder = tempfile::TempDir::new_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))).expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(measure(folder.path()));
}

async fn measure(folder: &Path) {
    let (store, _) = JournalStore::open(folder, 1, JournalOptions::default()).expect("it opens");
    let store = Arc::new(store);
    let mut n = 0;
    while log_bytes(folder) < LOG_BYTES {
        let calls = (n..n + CALL).map(|n| append(n % STREAMS)).collect();
        n += store.append(calls).await.iter().filter(|answer| answer.is_ok()).count() as u64;
    }
    let begun = Instant::now();
    let (half, nearly_all, count) = latencies(&store, || begun.elapsed() > QUIET).await;
    println!("alone: {count} appends, p50 {half:.1?}, p99 {nearly_all:.1?}");

    let before = log_bytes(folder);
    let done = Arc::new(AtomicBool::new(false));
    let (dropping, told, begun) = (Arc::clone(&store), Arc::clone(&done), Instant::now());
    let task = tokio::spawn(async move {
        let through = Version::new(u64::MAX);
        let cuts = (0..STREAMS).map(|n| Cut { tenant: tenant(), stream: stream(n), through }).collect();
        let dropped = dropping.drop_events(cuts).await.expect("it drops");
        told.store(true, Ordering::SeqCst);
        (dropped, begun.elapsed())
    });
    let (half, nearly_all, count) = latencies(&store, || done.load(Ordering::SeqCst)).await;
    let (dropped, took) = task.await.expect("it ends");
    let mib = |bytes: u64| bytes >> 20;
    println!("beside compaction: {count} appends, p50 {half:.1?}, p99 {nearly_all:.1?}");
    println!(
        "{} events, {} MiB of contents dropped in {took:.2?}; the log had {} MiB and has {} MiB",
        dropped.events,
        mib(dropped.bytes),
        mib(before),
        mib(log_bytes(folder))
    );
}
