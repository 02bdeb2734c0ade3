//! The process is killed under load, again and again, and started again on what it left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sillage_domains::likes::{Likes, LikesKey, LikesRow, LikesView};
use sillage_kernel::{Decider, Event, Filter, Position, Rows, Version, View, ViewError};
use sillage_store::EventStore;
use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Client, Process, Random, action, serve, until};

const ROUNDS: u64 = 50;
const USERS: usize = 8;
const TARGETS: u64 = 5;
/// How many commands each user sends before waiting for receipts.
const IN_FLIGHT: usize = 8;

/// What the clients were told: each command with whoever sent it and its first receipt.
type Receipts = Arc<Mutex<BTreeMap<Uuid, (String, Value)>>>;
/// Every command that was ever sent, as it was sent.
type Sent = Arc<Mutex<BTreeMap<Uuid, Value>>>;

/// Sends likes until the server is gone. What was sent and never answered is sent again in the next round.
async fn click(
    client: Client,
    user: usize,
    receipts: Receipts,
    unanswered: Arc<Mutex<BTreeMap<Uuid, Value>>>,
    sent: Sent,
) {
    let token = client.token(&format!("u{user}"), &[]);
    // The kill may come before everybody is there.
    let Ok(mut socket) = client.try_socket(&token).await else { return };
    let mut clicks: u64 = 0;
    let mut outstanding: BTreeSet<Uuid> = BTreeSet::new();
    let again: Vec<_> = unanswered.lock().unwrap().values().cloned().collect();
    let mut again = again.into_iter();
    loop {
        while outstanding.len() < IN_FLIGHT {
            let message = again.next().unwrap_or_else(|| {
                clicks += 1;
                let name = if clicks.is_multiple_of(3) { "LikeRemove" } else { "LikeAdd" };
                action(name, &format!("t{}", (clicks + user as u64) % TARGETS), Uuid::now_v7())
            });
            let id: Uuid = message["command_id"].as_str().unwrap().parse().unwrap();
            unanswered.lock().unwrap().insert(id, message.clone());
            sent.lock().unwrap().insert(id, message.clone());
            outstanding.insert(id);
            use futures_util::SinkExt;
            let text = tokio_tungstenite::tungstenite::Message::text(message.to_string());
            if socket.stream.send(text).await.is_err() {
                return;
            }
        }
        let Ok(receipt) = socket.next().await else { return };
        assert_eq!(receipt["type"], "receipt", "{receipt}");
        let id: Uuid = receipt["command_id"].as_str().unwrap().parse().unwrap();
        outstanding.remove(&id);
        unanswered.lock().unwrap().remove(&id);
        let told = (format!("u{user}"), receipt);
        let first = receipts.lock().unwrap().entry(id).or_insert_with(|| told.clone()).clone();
        assert_eq!(first, told, "a resend heard something else");
    }
}

/// Another in every run, and printed; `SILLAGE_SEED` repeats the moments of an earlier run.
fn seed() -> u64 {
    let given =
        std::env::var("SILLAGE_SEED").ok().map(|seed| seed.parse().expect("SILLAGE_SEED is a number"));
    let seed = given.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    println!("SILLAGE_SEED={seed}");
    seed
}

/// The log is being read, cut and opened when the next kill comes.
async fn kill_while_it_starts(folder: &Path, after: Duration) {
    let mut starting = serve(folder).stdout(Stdio::null()).spawn().unwrap();
    // tidy: sleep because the kill is to come at an arbitrary moment of the start.
    tokio::time::sleep(after).await;
    starting.kill().unwrap();
    starting.wait().unwrap();
}

/// Asks for what became of each command that was answered in this round.
async fn check_receipts(client: &Client, receipts: &BTreeMap<Uuid, (String, Value)>) {
    for (id, (user, receipt)) in receipts {
        let (status, again) = client.get(&format!("/api/commands/{id}"), &client.token(user, &[])).await;
        assert_eq!((status, &again), (200, receipt));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_kill_loses_nothing_that_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let (receipts, sent) = (Receipts::default(), Sent::default());
    let unanswered: Vec<_> = (0..USERS).map(|_| Arc::default()).collect();
    let mut checked = BTreeSet::new();
    let mut random = Random(seed());
    for _ in 0..ROUNDS {
        let server = Process::start(folder.path());
        let clicking: Vec<_> = unanswered
            .iter()
            .enumerate()
            .map(|(user, left)| {
                tokio::spawn(click(
                    server.client.clone(),
                    user,
                    Arc::clone(&receipts),
                    Arc::clone(left),
                    Arc::clone(&sent),
                ))
            })
            .collect();
        let before = receipts.lock().unwrap().len();
        until("a receipt", || async { (receipts.lock().unwrap().len() > before).then_some(()) }).await;
        // tidy: sleep because the kill is to come at an arbitrary moment.
        tokio::time::sleep(Duration::from_micros(random.next() % 60_000)).await;
        server.kill();
        for task in clicking {
            task.await.unwrap();
        }
        kill_while_it_starts(folder.path(), Duration::from_micros(random.next() % 20_000)).await;
        let server = Process::start(folder.path());
        let all = receipts.lock().unwrap().clone();
        let new = all.into_iter().filter(|(id, _)| checked.insert(*id));
        check_receipts(&server.client, &new.collect()).await;
    }
    // Whoever never heard sends again, and hears.
    let server = Process::start(folder.path());
    for (user, left) in unanswered.iter().enumerate() {
        let mut socket = server.client.socket(&server.client.token(&format!("u{user}"), &[])).await;
        let left: Vec<_> = left.lock().unwrap().values().cloned().collect();
        for message in left {
            socket.send(&message).await;
            let receipt = socket.next_of("receipt").await;
            let id: Uuid = receipt["command_id"].as_str().unwrap().parse().unwrap();
            receipts.lock().unwrap().entry(id).or_insert((format!("u{user}"), receipt));
        }
    }
    let receipts = receipts.lock().unwrap().clone();
    let sent = sent.lock().unwrap().clone();
    resend_all(&server.client, &sent, &receipts).await;
    check_view(&server.client, folder.path()).await;
    server.kill();
    check_log(folder.path(), &receipts).await;
}

/// Everything is sent once more, and hears what it heard first.
async fn resend_all(
    client: &Client,
    sent: &BTreeMap<Uuid, Value>,
    receipts: &BTreeMap<Uuid, (String, Value)>,
) {
    assert_eq!(sent.len(), receipts.len());
    for user in (0..USERS).map(|n| format!("u{n}")) {
        let mut socket = client.socket(&client.token(&user, &[])).await;
        for (id, (_, receipt)) in receipts.iter().filter(|(_, (sender, _))| *sender == user) {
            socket.send(&sent[id]).await;
            assert_eq!(&socket.next_of("receipt").await, receipt);
        }
    }
}

/// Every command that was answered stands in the log exactly once, with the versions that it was told; and
/// what the log holds beside them was sent by somebody.
async fn check_log(folder: &Path, receipts: &BTreeMap<Uuid, (String, Value)>) {
    let events = read_log(folder).await;
    let mut by_command: BTreeMap<Uuid, &Event> = BTreeMap::new();
    for event in &events {
        let command = event.metadata.command_id.expect("every event comes of a command").0;
        assert!(by_command.insert(command, event).is_none(), "the command {command} counts twice");
    }
    assert_eq!(by_command.len(), receipts.len());
    for (id, (user, receipt)) in receipts {
        let event = by_command[id];
        assert_eq!(event.metadata.user_id.as_ref().unwrap().as_str(), user);
        assert_eq!(receipt["position"], json!(event.position), "{receipt}");
        match receipt["outcome"].as_str().unwrap() {
            "applied" => assert_eq!(receipt["sequence_numbers"], json!([event.version])),
            outcome => assert_eq!((outcome, &*event.event_type), ("unchanged", "CommandUnchangedEvent")),
        }
    }
}

async fn read_log(folder: &Path) -> Vec<Arc<Event>> {
    let (store, _) = JournalStore::open(&folder.join("journal"), 0, JournalOptions::default()).unwrap();
    let mut events: Vec<Arc<Event>> = Vec::new();
    loop {
        let after = events.last().map_or(Position::ZERO, |event| event.position);
        let page = store.read_all(after, Filter::Everything, 1_000).await.unwrap();
        if page.events.is_empty() {
            assert_eq!(after, store.head());
            return events;
        }
        events.extend(page.events);
    }
}

/// Rows in memory, to replay a view into.
#[derive(Default)]
struct Memory(BTreeMap<LikesKey, LikesRow>);

impl Rows<LikesKey, LikesRow> for Memory {
    fn get(&mut self, key: &LikesKey) -> Result<Option<LikesRow>, ViewError> {
        Ok(self.0.get(key).cloned())
    }
    fn put(&mut self, key: LikesKey, row: LikesRow) {
        self.0.insert(key, row);
    }
    fn remove(&mut self, key: LikesKey) {
        self.0.remove(&key);
    }
}

/// The view of the server, which lived through all the kills, says what a replay of the log says.
async fn check_view(client: &Client, folder: &Path) {
    let copy = TempDir::new().unwrap();
    let journal = copy.path().join("journal");
    std::fs::create_dir(&journal).unwrap();
    let entries = std::fs::read_dir(folder.join("journal")).unwrap().map(Result::unwrap);
    // The index is left behind: it is derived.
    for file in entries.filter(|entry| entry.file_type().unwrap().is_file()) {
        std::fs::copy(file.path(), journal.join(file.file_name())).unwrap();
    }
    let events = read_log(copy.path()).await;
    let mut replayed = Memory::default();
    for event in events.iter().filter(|event| LikesView::filter().admits(event)) {
        LikesView::fold(event, &mut replayed).unwrap();
    }
    let head = events.last().unwrap().position;
    let tenant: sillage_kernel::Tenant = "main".parse().unwrap();
    for target in (0..TARGETS).map(|n| format!("t{n}")) {
        let row = replayed.0.get(&LikesKey::Target(tenant.clone(), target.clone()));
        let Some(LikesRow::Target { count, version, .. }) = row else { panic!("nobody liked {target}") };
        let (count, version): (u64, Version) = (*count, *version);
        for user in (0..USERS).map(|n| format!("u{n}")) {
            let path = format!("/api/social/likes/{target}?at_least={head}");
            let (status, answer) = client.get(&path, &client.token(&user, &[])).await;
            let like = LikesKey::Like(tenant.clone(), target.clone(), user.parse().unwrap());
            let expected = json!({"targetId": target, "count": count, "me": replayed.0.contains_key(&like),
                "version": version, "position": answer["position"]});
            assert_eq!((status, answer), (200, expected), "{}-{target} as {user}", Likes::CATEGORY);
        }
    }
}
