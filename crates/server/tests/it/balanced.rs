//! Three nodes on one database behind a plain TCP balancer: clients need not know which node they are connected to, nor
//! that it has died.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use sillage_client::{Client as Sdk, Effect, FeedMessage, Options, Since, TokenSource};
use sillage_conformance::balancer::Balancer;
use sillage_conformance::postgres::Server;
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

use crate::nodes::{folders, node};
use crate::support::{Client, Process, action, within};

const NODES: usize = 3;
const FEED: &str = "like-article-1";

struct Cluster {
    /// Speaks to the balancer, on a connection of its own each time.
    client: Client,
    balancer: Balancer,
    nodes: Vec<Option<Process>>,
    folders: Vec<TempDir>,
    database: String,
    _server: Arc<Server>,
}

impl Cluster {
    async fn start() -> Self {
        let (server, balancer) = (Server::shared(), Balancer::start().await);
        let (database, folders) = (server.create_database(), folders(NODES));
        let client = Client::unpooled(balancer.address().to_string(), folders[0].path());
        let nodes = folders.iter().map(|folder| Some(node(folder.path(), &database))).collect();
        let cluster = Self { client, balancer, nodes, folders, database, _server: server };
        cluster.balance();
        cluster
    }

    fn balance(&self) {
        self.balancer.set_nodes(self.nodes.iter().flatten().map(address));
    }

    /// Where the newest connection went.
    fn latest(&self) -> usize {
        let latest = self.balancer.latest().unwrap();
        self.nodes.iter().position(|node| node.as_ref().map(address) == Some(latest)).unwrap()
    }

    /// Kills a node. The balancer finds out by itself.
    fn kill(&mut self, slot: usize) {
        self.nodes[slot].take().unwrap().kill();
    }

    /// Starts it again, at another address.
    fn start_again(&mut self, slot: usize) {
        self.nodes[slot] = Some(node(self.folders[slot].path(), &self.database));
        self.balance();
    }
}

fn address(node: &Process) -> SocketAddr {
    node.client.address.parse().unwrap()
}

/// What goes in at one node comes out on the sockets of all, each event once and in order; and whoever asks any node for
/// what is at least as new as an answer gets it.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_in_at_any_node_comes_out_at_all() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let token = client.token("anna", &[]);
    let (mut sockets, mut used) = (Vec::new(), BTreeSet::new());
    for _ in 0..NODES {
        let mut socket = client.socket(&token).await;
        used.insert(cluster.latest());
        socket.subscribe(FEED).await;
        sockets.push(socket);
    }
    assert_eq!(used.len(), NODES, "the balancer prefers somebody");
    for version in 1..=6 {
        let name = if version % 2 == 1 { "LikeAdd" } else { "LikeRemove" };
        let command = action(name, "article-1", Uuid::now_v7()).to_string();
        let (status, answer) = client.post("/api/commands", &token, command).await;
        assert_eq!(status, 202, "{answer}");
        for socket in &mut sockets {
            let event = socket.next_of("event").await;
            assert_eq!(event["sequence_number"], version);
        }
        for _ in 0..NODES {
            let path = format!("/api/social/likes/article-1?at_least={version}");
            let (status, likes) = client.get(&path, &token).await;
            let liked = version % 2 == 1;
            assert_eq!((status, &likes["version"], &likes["me"]), (200, &json!(version), &json!(liked)));
        }
    }
}

/// The node dies while a command is on its way to it. Sent again, to another, it has had its effect once, and whatever was
/// answered first is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_sent_again_to_another_node_counts_once() {
    const ROUNDS: u64 = 4;
    let mut cluster = Cluster::start().await;
    let token = cluster.client.token("anna", &[]);
    let mut receipts = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut socket = cluster.client.socket(&token).await;
        let slot = cluster.latest();
        let name = if round % 2 == 0 { "LikeAdd" } else { "LikeRemove" };
        let commands = [name, "LikeAdd"].map(|name| action(name, "article-1", Uuid::now_v7()));
        for command in &commands {
            socket.send(command).await;
        }
        // Sometimes one is answered before, and sometimes none.
        let heard = if round < 2 { Some(socket.next_of("receipt").await) } else { None };
        cluster.kill(slot);
        let mut socket = cluster.client.socket(&token).await;
        for command in &commands {
            socket.send(command).await;
            let receipt = socket.next_of("receipt").await;
            assert_eq!(receipt["command_id"], command["command_id"]);
            if heard.as_ref().is_some_and(|heard| heard["command_id"] == receipt["command_id"]) {
                assert_eq!(heard.as_ref(), Some(&receipt), "a resend heard something else");
            }
            receipts.insert(receipt["command_id"].to_string(), receipt);
        }
        cluster.start_again(slot);
    }
    let mut applied: Vec<u64> = receipts
        .values()
        .filter(|receipt| receipt["outcome"] == "applied")
        .map(|receipt| receipt["sequence_numbers"][0].as_u64().unwrap())
        .collect();
    applied.sort_unstable();
    let last = receipts.values().map(|receipt| receipt["position"].as_u64().unwrap()).max().unwrap();
    let path = format!("/api/social/likes/article-1?at_least={last}");
    let (_, likes) = cluster.client.get(&path, &token).await;
    assert_eq!(applied, (1..=likes["version"].as_u64().unwrap()).collect::<Vec<_>>());
}

/// A stream of server-sent events goes on at another node with the event after the last one that was read.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_at_another_node_where_it_was() {
    let mut cluster = Cluster::start().await;
    let (anna, bert) = (cluster.client.token("anna", &[]), cluster.client.token("bert", &[]));
    let query = format!("feed={FEED}");
    let (mut last, mut seen) = (None, Vec::new());
    for round in 0..NODES as u64 {
        let mut stream = cluster.client.stream(&query, &anna, last.as_deref()).await;
        let slot = cluster.latest();
        // Of three events two are read before the node dies.
        for n in 0..3 {
            let name = if (round * 3 + n) % 2 == 0 { "LikeAdd" } else { "LikeRemove" };
            let command = action(name, "article-1", Uuid::now_v7()).to_string();
            assert_eq!(cluster.client.post("/api/commands", &bert, command).await.0, 202);
        }
        for _ in 0..2 {
            let (id, event) = stream.next_of("event").await;
            seen.push(event["sequence_number"].as_u64().unwrap());
            last = id;
        }
        cluster.kill(slot);
        cluster.start_again(slot);
    }
    let mut stream = cluster.client.stream(&query, &anna, last.as_deref()).await;
    while seen.len() < 3 * NODES {
        seen.push(stream.next_of("event").await.1["sequence_number"].as_u64().unwrap());
    }
    assert_eq!(seen, (1..=3 * NODES as u64).collect::<Vec<_>>());
}

/// Two clients of the SDK click and follow while each node is killed in turn: every click is settled and has its effect
/// once, and both have seen each event once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_clients_of_the_sdk_outlive_every_node() {
    /// How many clicks are settled between two kills.
    const CLICKS: u64 = 10;
    let mut cluster = Cluster::start().await;
    let (settled, settling) = watch::channel(0);
    let enough = Arc::new(AtomicBool::new(false));
    let (mut clients, mut clicking, mut followers) = (Vec::new(), Vec::new(), Vec::new());
    for user in ["anna", "bert"] {
        let client = sdk(&cluster, user).await;
        followers.push(client.subscribe(&FEED.parse().unwrap(), Since::Start).await.unwrap());
        clicking.push(tokio::spawn(click(client.clone(), settled.clone(), Arc::clone(&enough))));
        clients.push(client);
    }
    for slot in 0..=NODES {
        let wanted = *settling.borrow() + CLICKS;
        within("more clicks", settling.clone().wait_for(|settled| *settled >= wanted)).await.unwrap();
        if slot < NODES {
            cluster.kill(slot);
            cluster.start_again(slot);
        }
    }
    enough.store(true, Ordering::Relaxed);
    let mut applied = Vec::new();
    for clicks in clicking {
        applied.extend(within("the last clicks", clicks).await.unwrap());
    }
    applied.sort_unstable();
    assert_eq!(applied, (1..=applied.len() as u64).collect::<Vec<_>>());
    for mut follower in followers {
        let mut seen = Vec::new();
        while seen.len() < applied.len() {
            match within("an event", follower.next()).await {
                Some(FeedMessage::Event(event)) => seen.push(event.sequence_number.get()),
                Some(FeedMessage::Subscribed { .. }) => {}
                other => panic!("nobody expected {other:?}"),
            }
        }
        assert_eq!(seen, applied);
    }
}

async fn sdk(cluster: &Cluster, user: &str) -> Sdk {
    let url = format!("ws://{}/ws", cluster.balancer.address());
    let mut options = Options::new(url, TokenSource::fixed(cluster.client.token(user, &[])));
    options.timing.backoff = Duration::from_millis(20);
    options.timing.answer = Duration::from_millis(500);
    Sdk::connect(options).await.unwrap()
}

/// Likes and takes it back until it is enough. The numbers of the events that came of it.
async fn click(sdk: Sdk, settled: watch::Sender<u64>, enough: Arc<AtomicBool>) -> Vec<u64> {
    let feed = FEED.parse().unwrap();
    let data = json!({"likeId": "l-1", "at": "2026-01-19T12:00:00Z"});
    let mut applied = Vec::new();
    for name in ["LikeAdd", "LikeRemove"].into_iter().cycle() {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let sent = sdk.send(&feed, name, &data).await.unwrap();
        match within("what became of a click", sent.confirmed()).await.unwrap().effect {
            Effect::Applied { sequence_numbers } => applied.extend(sequence_numbers.iter().map(|n| n.get())),
            Effect::Unchanged => panic!("a click was lost, or counted twice"),
        }
        settled.send_modify(|settled| *settled += 1);
    }
    applied
}
