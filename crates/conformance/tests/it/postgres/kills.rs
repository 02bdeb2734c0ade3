//! Nodes are killed, and hang, while they write, read and follow; others take their places.
//!
//! Each is a process of its own, which tells what it is about to ask for before it asks, and what it was answered before
//! it goes on. So a kill leaves some calls of which nobody knows what became of them; whoever takes its place sends the
//! commands of those again. Followers go on, on another node, from where they had come to.
//!
//! What is chosen and who is killed follows from a seed, which a failure prints; `SILLAGE_SEED=n` takes that one again.
//! The moments do not follow from it. `SILLAGE_KILLS=n` says how many kills there are.

mod node;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use sillage_conformance::many::{Commands, History, TellSeed, Told, Turns};
use sillage_conformance::postgres::Server;
use sillage_conformance::within_deadline;
use sillage_kernel::CommandId;
use sillage_store::EventStore;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::node::{FOLLOWERS, Line, Order, PROCESS, SOCKET, Task, WRITERS};
use super::{OPTIONS, eventually, open};

/// How many nodes there are at a time.
const NODES: usize = 3;
/// How many blows there are unless it is said otherwise. One of them lets a node hang, the others kill one.
const BLOWS: usize = 8;
/// After so many another log begins, so that none gets long.
const BLOWS_OF_A_LOG: usize = 16;
/// How many appends are taken between two blows at least.
const TAKEN: usize = 20;
/// How long after that a blow comes at most, in microseconds.
const LUCK_MICROS: usize = 30_000;
/// Only what a node that hangs has under way may be refused: one call of each writer, of up to three appends.
const MAX_REFUSED: usize = 3 * WRITERS;
/// The choices of the test itself are other than those of any node.
const OWN_CHOICES: usize = usize::MAX;

/// Positions are unique, gapless and in order; versions are gapless; no expectation was broken; all that was
/// acknowledged is there, and each command once; every follower saw exactly the log.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_nodes_that_are_killed_lose_and_double_nothing() {
    let blows = std::env::var("SILLAGE_KILLS").map_or(BLOWS, |text| text.parse().expect("a number"));
    for first in (0..blows).step_by(BLOWS_OF_A_LOG) {
        Life::new().go(BLOWS_OF_A_LOG.min(blows - first)).await;
    }
}

/// A log and its nodes.
struct Life {
    seed: TellSeed,
    commands: Commands,
    choices: Turns,
    server: Arc<Server>,
    address: String,
    folder: TempDir,
    history: Arc<Mutex<History>>,
    nodes: Vec<Node>,
    started: usize,
}

struct Node {
    process: Process,
    orders: OwnedWriteHalf,
    rests: watch::Receiver<bool>,
    /// Comes to the commands of which nobody knows what became of them.
    listening: JoinHandle<Vec<CommandId>>,
    followers: Vec<usize>,
}

/// Ends whatever becomes of the test, also while it hangs.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Life {
    fn new() -> Self {
        let (seed, server) = (TellSeed::new(), Server::shared());
        let (commands, choices) = (Commands::new(seed.0), Turns::new(seed.0, OWN_CHOICES));
        let (address, folder) = (server.create_database(), TempDir::new().unwrap());
        let (history, nodes) = (Arc::default(), Vec::new());
        Self { seed, commands, choices, server, address, folder, history, nodes, started: 0 }
    }

    async fn go(mut self, blows: usize) {
        for slot in 0..NODES {
            let followers = (0..FOLLOWERS).map(|n| slot * FOLLOWERS + n).collect();
            self.start(Vec::new(), followers).await;
        }
        let hang = self.choices.below(blows);
        for blow in 0..blows {
            self.goes_on().await;
            let luck = Duration::from_micros(self.choices.below(LUCK_MICROS) as u64);
            tokio::time::sleep(luck).await; // tidy: sleep because the blow is to come at an arbitrary moment
            let slot = self.choices.below(NODES);
            if blow == hang { self.hang(slot).await } else { self.kill(slot).await }
        }
        self.goes_on().await;
        self.end().await;
    }

    /// Starts a node.
    async fn start(&mut self, resend: Vec<CommandId>, followers: Vec<usize>) {
        let socket = self.folder.path().join(self.started.to_string());
        let listener = UnixListener::bind(&socket).unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", PROCESS, "--nocapture"]).env(SOCKET, &socket).stdout(Stdio::null());
        let process = Process(process.spawn().unwrap());
        let (told, mut orders) = within_deadline(listener.accept()).await.unwrap().0.into_split();
        let cursor = |&follower: &usize| (follower, self.history.lock().unwrap().cursor(follower));
        let task = Task {
            address: self.address.clone(),
            seed: self.seed.0,
            minted_ms: self.commands.minted_ms(),
            number: self.started,
            resend,
            followers: followers.iter().map(cursor).collect(),
        };
        say(&mut orders, &task).await;
        self.started += 1;
        let (rest, rests) = watch::channel(false);
        let listening = tokio::spawn(listen(told, Arc::clone(&self.history), rest));
        self.nodes.push(Node { process, orders, rests, listening, followers });
    }

    /// Waits until more was taken.
    async fn goes_on(&self) {
        let taken = || self.history.lock().unwrap().taken();
        let wanted = taken() + TAKEN;
        eventually("more is taken", async || {
            assert!(
                !self.nodes.iter().any(|node| node.listening.is_finished()),
                "a node has ended by itself"
            );
            (taken() >= wanted).then_some(())
        })
        .await;
    }

    /// Kills a node, and lets another take its place.
    async fn kill(&mut self, slot: usize) {
        let Node { process, orders, rests: _, listening, followers } = self.nodes.remove(slot);
        drop(process);
        let resend = listening.await.unwrap();
        drop(orders);
        self.start(resend, followers).await;
    }

    /// Lets a node hang until the others have gone on without it.
    async fn hang(&mut self, slot: usize) {
        let pid = self.nodes[slot].process.0.id().to_string();
        let send = |signal: &str| Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(send("-STOP").success());
        self.goes_on().await;
        assert!(send("-CONT").success());
    }

    /// Lets everybody come to rest, and holds what they have told against the log.
    async fn end(self) {
        let Self { seed, address, server, history, mut nodes, .. } = self;
        for node in &mut nodes {
            say(&mut node.orders, &Order::Rest).await;
        }
        for node in &mut nodes {
            within_deadline(node.rests.wait_for(|rests| *rests)).await.expect("a node has failed");
        }
        let store: Arc<dyn EventStore> = open(&address, 1, OPTIONS()).await;
        for Node { mut process, mut orders, listening, .. } in nodes {
            say(&mut orders, &Order::End(store.head())).await;
            let open = within_deadline(listening).await.unwrap();
            assert!(process.0.wait().unwrap().success() && open.is_empty(), "a node has not ended well");
        }
        let history = std::mem::take(&mut *history.lock().unwrap());
        history.assert_agrees(&*store).await;
        println!("{}", history.summary());
        assert!(history.refused() <= MAX_REFUSED, "{}", history.summary());
        store.close().await;
        drop((seed, server));
    }
}

async fn say(orders: &mut OwnedWriteHalf, words: &impl Serialize) {
    let line = serde_json::to_string(words).unwrap() + "\n";
    orders.write_all(line.as_bytes()).await.unwrap();
}

/// Takes down what a node tells, until it ends.
async fn listen(
    told: OwnedReadHalf,
    history: Arc<Mutex<History>>,
    rest: watch::Sender<bool>,
) -> Vec<CommandId> {
    let (mut lines, mut open) = (BufReader::new(told).lines(), BTreeMap::new());
    while let Ok(Some(line)) = lines.next_line().await {
        let told = match serde_json::from_str(&line) {
            Ok(Line::Told(told)) => told,
            Ok(Line::Rests) => {
                rest.send_replace(true);
                continue;
            }
            // It was killed in the middle of a line.
            Err(_) => {
                assert_eq!(lines.next_line().await.unwrap(), None, "{line}");
                break;
            }
        };
        match &told {
            Told::Asked(asked) => drop(open.insert(asked.id(), asked.command)),
            Told::Answered(id, _) => drop(open.remove(id)),
            Told::Saw { .. } => {}
        }
        history.lock().unwrap().hear(told);
    }
    open.into_values().flatten().collect()
}
