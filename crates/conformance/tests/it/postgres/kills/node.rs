//! A node in a process of its own: some who write, one who reads, some who follow.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sillage_conformance::many::{Commands, Follower, SHARED, Tell, Told, Turns, Writer, read};
use sillage_kernel::{CommandId, Position};
use sillage_store::EventStore;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::postgres::{OPTIONS, open};

/// The test that is such a process, if it is told where it is to talk to.
pub(super) const PROCESS: &str = "postgres::kills::node::a_process_of_its_own";
pub(super) const SOCKET: &str = "SILLAGE_NODE";

/// How many follow on a node.
pub(super) const FOLLOWERS: usize = 2;
pub(super) const WRITERS: usize = 3;
/// Whoever makes choices on a node.
const EVERYBODY: usize = WRITERS + FOLLOWERS + 1;
/// After so many events all go on to other commands.
const EVENTS_OF_A_COMMAND: u64 = 8;

/// What a node is to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) address: String,
    pub(super) seed: u64,
    pub(super) minted_ms: u64,
    /// No other node has it, and so no other makes the same choices.
    pub(super) number: usize,
    /// Of these nobody knows what became of them.
    pub(super) resend: Vec<CommandId>,
    /// Who follows, and from where.
    pub(super) followers: Vec<(usize, Position)>,
}

/// What comes after the task.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Whoever writes finishes.
    Rest,
    /// Whoever follows goes on to here; then it ends.
    End(Position),
}

/// What a node says.
#[derive(Serialize, Deserialize)]
pub(super) enum Line {
    Told(Told),
    /// Nobody writes any more.
    Rests,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_its_own() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let socket = UnixStream::connect(socket).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let mut next = || tokio::task::block_in_place(|| lines.next().unwrap().unwrap());
    let Task { address, seed, minted_ms, number, mut resend, followers } =
        serde_json::from_str(&next()).unwrap();
    let socket = Arc::new(Mutex::new(socket));
    let say = move |line: Line| {
        let line = serde_json::to_string(&line).unwrap() + "\n";
        if socket.lock().unwrap().write_all(line.as_bytes()).is_err() {
            // Nobody listens any more: the test has failed.
            std::process::exit(1);
        }
    };
    let told = say.clone();
    let tell: Tell = Arc::new(move |words| told(Line::Told(words)));

    let store: Arc<dyn EventStore> = open(&address, 1, OPTIONS()).await;
    let commands = Commands::minted(seed, minted_ms);
    let choices = |who| Turns::new(seed, number * EVERYBODY + who);
    let (rest, running) = watch::channel(());
    let (end, ended) = watch::channel(None);
    let (mut writing, mut following) = (JoinSet::new(), JoinSet::new());
    for who in 0..WRITERS {
        let (store, tell, running) = (Arc::clone(&store), Arc::clone(&tell), running.clone());
        let resend = std::mem::take(&mut resend);
        writing.spawn(write(Writer { store, turns: choices(who), tell }, commands, resend, running));
    }
    writing.spawn(read(Arc::clone(&store), choices(WRITERS), running));
    for (who, (number, cursor)) in (WRITERS + 1..).zip(followers) {
        let (store, tell) = (Arc::clone(&store), Arc::clone(&tell));
        let follower = Follower { store, turns: choices(who), tell, number, cursor };
        following.spawn(follower.follow(ended.clone()));
    }

    assert!(matches!(serde_json::from_str(&next()), Ok(Order::Rest)));
    drop(rest);
    writing.join_all().await;
    say(Line::Rests);
    let Ok(Order::End(head)) = serde_json::from_str(&next()) else { panic!("it is told where to end") };
    end.send_replace(Some(head));
    following.join_all().await;
    store.close().await;
}

async fn write(mut writer: Writer, commands: Commands, resend: Vec<CommandId>, running: watch::Receiver<()>) {
    for command in resend {
        writer.resend(command).await;
    }
    while running.has_changed().is_ok() {
        // All nodes are at about the same commands at the same time, so that they meet.
        let first = usize::try_from(writer.store.head().get() / EVENTS_OF_A_COMMAND).unwrap();
        writer.round(&std::array::from_fn::<_, SHARED, _>(|n| commands.get(first + n))).await;
    }
}
