//! Several nodes on one database, each the real program in a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sillage_conformance::postgres::Server;
use sillage_kernel::Position;
use sillage_runtime::reactors::LEASE_TTL;
use sillage_store::event_store::postgres::{PostgresOptions, PostgresStore};
use sillage_store::{CursorError, CursorUpdate, EventStore, Fence, Lease, Mode};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::support::{Client, Process, Socket, action, serve, until};

/// How long a destination may take to move from a node that is dead: the lease runs out, and others ask for it now and
/// then.
const MOVES_WITHIN: Duration = LEASE_TTL.saturating_mul(2);

/// Folders for nodes that take each other's tokens.
pub(crate) fn folders(count: usize) -> Vec<TempDir> {
    let folders: Vec<TempDir> = std::iter::repeat_with(|| TempDir::new().unwrap()).take(count).collect();
    let [first, rest @ ..] = &folders[..] else { panic!("there is none") };
    let made = token(&first.path().join("keys.json")).output().unwrap();
    assert!(made.status.success());
    for folder in rest {
        fs::copy(first.path().join("keys.json"), folder.path().join("keys.json")).unwrap();
    }
    folders
}

/// The command that makes a token for anna, with the keys of a file.
fn token(keys: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
    command.args(["token", "--user", "anna", "--keys"]).arg(keys);
    command
}

pub(crate) fn node(folder: &Path, database: &str) -> Process {
    Process::listening(serve(folder).env("SILLAGE_STORE", database), folder)
}

/// A node that tells of each event that it gives to the destination `log`.
struct Telling {
    process: Process,
    said: PathBuf,
}

impl Telling {
    fn start(folder: &Path, database: &str) -> Self {
        let said = folder.join("said");
        let mut command = serve(folder);
        command.env("SILLAGE_STORE", database).env("SILLAGE_LOG", "error,sillage::outbox=debug");
        command.arg("--name").arg(folder);
        command.env("NO_COLOR", "1").stderr(File::create(&said).unwrap());
        Self { process: Process::listening(&mut command, folder), said }
    }

    fn given(&self) -> Vec<u64> {
        given(&self.said)
    }

    /// Waits until it has given these, and no others.
    async fn has_given(&self, positions: impl IntoIterator<Item = u64>) {
        let positions: Vec<_> = positions.into_iter().collect();
        let what = format!("{positions:?}");
        until(&what, || std::future::ready((self.given() == positions).then_some(()))).await;
    }

    /// Waits until it says of `log` what is wanted.
    async fn says(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let client = &self.process.client;
        let operator = client.token("olga", &["operate"]);
        let ask = || async {
            let (_, reactors) = client.get("/api/reactors", &operator).await;
            let log = reactors.as_array().unwrap().iter().find(|one| one["name"] == "log").unwrap().clone();
            wanted(&log).then_some(log)
        };
        until(what, ask).await
    }

    async fn runs_log(&self) {
        self.says("the destination here", |log| log["elsewhere"].is_null()).await;
    }

    async fn log_runs_on(&self, other: &Path) {
        let name = other.to_str().unwrap();
        self.says("the destination on the other node", |log| log["elsewhere"] == true && log["node"] == name)
            .await;
    }

    async fn order(&self, order: &str) {
        let client = &self.process.client;
        let operator = client.token("olga", &["operate"]);
        let (status, answer) = client.post(&format!("/api/reactors/log/{order}"), &operator, "").await;
        assert_eq!(status, 204, "{answer}");
    }
}

/// The positions of the events that a node has told of.
fn given(said: &Path) -> Vec<u64> {
    let said = fs::read_to_string(said).unwrap();
    let told = said.lines().filter_map(|line| line.split_once("sillage::outbox: position="));
    told.map(|(_, rest)| rest.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// Has one event appended, through a node; a node that is refused by the database is asked again.
async fn like_article(client: &Client, number: u64) {
    let body = action("LikeAdd", &format!("article-{number}"), Uuid::now_v7()).to_string();
    let token = client.token("anna", &[]);
    let ask = || async { (client.post("/api/commands", &token, body.clone()).await.0 == 202).then_some(()) };
    until("the answer to a like", ask).await;
}

/// Under load, the node that gives events to a destination is killed: another goes on within seconds, leaves nothing out,
/// and gives again only what the cursor had not passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_served_by_one_node_and_by_another_when_that_one_is_killed() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let first = Telling::start(folders[0].path(), &database);
    first.runs_log().await;
    let second = Telling::start(folders[1].path(), &database);
    let (enough, client) = (Arc::new(AtomicBool::new(false)), second.process.client.clone());
    let is_enough = Arc::clone(&enough);
    let likes = tokio::spawn(async move {
        let mut count = 0;
        while !is_enough.load(Ordering::Relaxed) {
            count += 1;
            like_article(&client, count).await;
        }
        count
    });
    let passed = |log: &Value| log["position"].as_u64().unwrap() >= 20;
    let cursor = second.says("a cursor that moves", passed).await["position"].as_u64().unwrap();
    assert_eq!(second.given(), [0; 0], "two nodes give to one destination");

    let Telling { process, said } = first;
    process.kill();
    let killed = Instant::now();
    until("the other node", || std::future::ready((!second.given().is_empty()).then_some(()))).await;
    assert!(killed.elapsed() < MOVES_WITHIN, "it took {:?}", killed.elapsed());
    enough.store(true, Ordering::Relaxed);
    let count = likes.await.unwrap();
    let all_given = || std::future::ready((second.given().last() == Some(&count)).then_some(()));
    until("the last event", all_given).await;
    let (by_first, by_second) = (given(&said), second.given());
    let (ended, begun) = (*by_first.last().unwrap(), *by_second.first().unwrap());
    assert_eq!(by_first, (1..=ended).collect::<Vec<_>>());
    assert_eq!(by_second, (begun..=count).collect::<Vec<_>>());
    assert!(
        cursor < begun && begun <= ended + 1,
        "{cursor} was passed, {ended} given, and it goes on with {begun}"
    );
}

/// A node that hangs loses its destinations to another. When it comes to itself it gives nothing more, and what it would
/// write is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_moves_from_a_node_that_hangs_and_is_never_served_by_two() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let first = Telling::start(folders[0].path(), &database);
    first.runs_log().await;
    let second = Telling::start(folders[1].path(), &database);
    let client = &second.process.client;
    for number in 1..=3 {
        like_article(client, number).await;
    }
    first.has_given(1..=3).await;
    second.says("where the first has come to", |log| log["position"] == 3 && log["elsewhere"] == true).await;

    first.process.signal("-STOP");
    for number in 4..=6 {
        like_article(client, number).await;
    }
    second.has_given(4..=6).await;
    // While somebody holds the log it can read, and cannot ask for its lease: it has its clock alone.
    let (holder, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    holder.batch_execute("BEGIN; SELECT FROM sillage.log FOR UPDATE").await.unwrap();
    first.process.signal("-CONT");
    let has_read = || async {
        let (_, ready) = first.process.client.get("/readyz", "").await;
        let views = ready["views"].as_array().unwrap();
        views.iter().all(|view| view["position"] == 6).then_some(())
    };
    until("a node that has read on", has_read).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    first.log_runs_on(folders[1].path()).await;
    for number in 7..=9 {
        like_article(client, number).await;
    }
    second.has_given(4..=9).await;
    assert_eq!(first.given(), [1, 2, 3], "it was served by two");

    // The first node was given the first token of the lease, and the second the next one.
    let store = PostgresStore::open(&database.parse().unwrap(), 1, PostgresOptions::default()).await.unwrap();
    let fence = Some(Fence { lease: "reactor-log".into(), held: Lease { token: 1 } });
    let (reactor, position) = ("log".into(), Some(Position::new(3)));
    let stale = CursorUpdate { reactor, fence, position, ..CursorUpdate::default() };
    assert_eq!(store.write_cursor(stale).await, Err(CursorError::Fenced));
}

/// Any node takes an operator's orders for any destination, and they hold wherever it runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_may_be_given_to_any_node() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let first = Telling::start(folders[0].path(), &database);
    first.runs_log().await;
    let second = Telling::start(folders[1].path(), &database);
    second.order("pause").await;
    second.runs_log().await;
    like_article(&first.process.client, 1).await;
    first.says("a pause elsewhere", |log| log["mode"] == "paused" && log["elsewhere"] == true).await;
    first.order("resume").await;
    first.has_given([1]).await;
    second.log_runs_on(folders[0].path()).await;
    assert_eq!(second.given(), [0; 0]);
}

async fn like(socket: &mut Socket, name: &str) -> Value {
    socket.send(&action(name, "article-1", Uuid::now_v7())).await;
    socket.next_of("receipt").await
}

/// The number of the next event of the feed that a socket follows.
async fn next_event(socket: &mut Socket) -> u64 {
    socket.next_of("event").await["sequence_number"].as_u64().unwrap()
}

/// What is sent to one node is seen on the sockets of all, each event once and in order; and when a node is killed, the
/// others go on, and it comes back to where they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_one_node_is_seen_on_all_and_they_outlive_each_other() {
    let server = Server::shared();
    let database = server.create_database();
    let folders = folders(2);
    let (first, second) = (node(folders[0].path(), &database), node(folders[1].path(), &database));
    let [anna, bert] = ["anna", "bert"].map(|user| first.client.token(user, &[]));
    let mut on_first = first.client.socket(&anna).await;
    let mut on_second = second.client.socket(&bert).await;
    on_second.subscribe("like-article-1").await;
    for version in 1..=4 {
        let name = if version % 2 == 1 { "LikeAdd" } else { "LikeRemove" };
        assert_eq!(like(&mut on_first, name).await["outcome"], "applied");
        assert_eq!(next_event(&mut on_second).await, version);
    }
    first.kill();
    assert_eq!(like(&mut on_second, "LikeAdd").await["outcome"], "applied");

    let again = node(folders[0].path(), &database);
    let mut on_again = again.client.socket(&anna).await;
    let (status, count) = again.client.get("/api/social/likes/article-1?at_least=5", &bert).await;
    assert_eq!((status, &count["count"], &count["me"]), (200, &Value::from(1), &Value::from(true)));
    on_again.subscribe("like-article-1").await;
    assert_eq!(like(&mut on_second, "LikeRemove").await["outcome"], "applied");
    for version in 1..=6 {
        assert_eq!(next_event(&mut on_again).await, version);
    }
}

/// Whoever knows the position of what one node has answered finds it on all others that are asked for at least that.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_answered_is_read_on_others_at_least_there() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let (first, second) = (node(folders[0].path(), &database), node(folders[1].path(), &database));
    let anna = first.client.token("anna", &[]);
    let mut socket = first.client.socket(&anna).await;
    for round in 0..20 {
        let is_liked = round % 2 == 0;
        let receipt = like(&mut socket, if is_liked { "LikeAdd" } else { "LikeRemove" }).await;
        let path = format!("/api/social/likes/article-1?at_least={}", receipt["position"]);
        let (status, likes) = second.client.get(&path, &anna).await;
        assert_eq!((status, &likes["me"]), (200, &Value::from(is_liked)), "in round {round}: {likes}");
    }
}

/// While streams are read by all the connections that a node has, more commands come, which have to be looked up too.
#[tokio::test(flavor = "multi_thread")]
async fn commands_to_more_streams_than_can_be_read_at_once_are_all_answered() {
    const SOCKETS: usize = 32;
    const COMMANDS: usize = 40;
    let server = Server::shared();
    let (folder, database) = (TempDir::new().unwrap(), server.create_database());
    let node = node(folder.path(), &database);
    let mut senders = JoinSet::new();
    for user in 0..SOCKETS {
        let client = node.client.clone();
        senders.spawn(async move {
            let mut socket = client.socket(&client.token(&format!("u{user}"), &[])).await;
            for target in 0..COMMANDS {
                socket.send(&action("LikeAdd", &format!("{user}-{target}"), Uuid::now_v7())).await;
            }
            for _ in 0..COMMANDS {
                assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
            }
        });
    }
    senders.join_all().await;
}

/// Two nodes that kept their views in one file would count everything twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_is_used_by_one_node_at_a_time() {
    let server = Server::shared();
    let database = server.create_database();
    let folder = TempDir::new().unwrap();
    let first = node(folder.path(), &database);
    let refused = serve(folder.path()).env("SILLAGE_STORE", &database).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("another process uses it: stop that one"), "{said}");
    first.kill();
    drop(node(folder.path(), &database));
}

/// Nodes that start at the same time with a file of keys that is not there have the same keys, and a token that was made
/// with it is taken by each. One with other keys is told what is wrong, and so is whoever makes a token with others.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_share_a_log_have_the_same_keys() {
    let server = Server::shared();
    let database = server.create_database();
    let folders: [TempDir; 3] = std::array::from_fn(|_| TempDir::new().unwrap());
    let keys = folders[0].path().join("shared.json");
    let started = folders.each_ref().map(|folder| {
        let mut command = serve(folder.path());
        command.env("SILLAGE_STORE", &database).env("SILLAGE_KEYS", &keys);
        let (folder, mut command) = (folder.path().to_owned(), command);
        std::thread::spawn(move || Process::listening(&mut command, &folder))
    });
    let nodes = started.map(|node| node.join().unwrap());
    let made = token(&keys).env("SILLAGE_STORE", &database).output().unwrap();
    let anna = String::from_utf8(made.stdout).unwrap();
    for node in &nodes {
        let (status, answer) = node.client.get("/api/social/likes/article-1", anna.trim()).await;
        assert_eq!(status, 200, "{answer}");
    }

    let others = TempDir::new().unwrap();
    let mut strange = serve(others.path());
    strange.env("SILLAGE_STORE", &database);
    let mut token = token(&others.path().join("keys.json"));
    token.env("SILLAGE_STORE", &database);
    for mut command in [token, strange] {
        let refused = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8([refused.stdout, refused.stderr].concat()).unwrap();
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains("have other keys than those in") && said.contains("--keys"), "{said}");
    }
}

/// A node whose keys are no longer those of the others, since it could not reach the log for long, ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_when_others_have_taken_other_keys() {
    let server = Server::shared();
    let (folder, database) = (TempDir::new().unwrap(), server.create_database());
    let node = node(folder.path(), &database);
    let (operator, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    let taken = "UPDATE sillage.leases SET owner = 'others', until = until + 3600000000 WHERE name = 'keys'";
    assert_eq!(operator.execute(taken, &[]).await.unwrap(), 1);
    assert!(!node.ended().await, "it says that all went well");
}

/// Given a new epoch, the log is another one to the nodes that run, which end. Started again they go on with it, and what
/// reaches outside waits for an operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_ends_the_nodes_that_run() {
    let server = Server::shared();
    let (database, folders) = (server.create_database(), folders(2));
    let nodes = [node(folders[0].path(), &database), node(folders[1].path(), &database)];
    like_article(&nodes[0].client, 1).await;
    let epoch = async |client: &Client| {
        let subscribed = client.socket(&client.token("anna", &[])).await.subscribe("like-article-1").await;
        subscribed["epoch"].as_str().unwrap().to_owned()
    };
    let old = epoch(&nodes[0].client).await;
    let renewed =
        Command::new(env!("CARGO_BIN_EXE_sillage")).args(["epoch", "new", "--store", &database]).output();
    let renewed = renewed.unwrap();
    let said = String::from_utf8(renewed.stdout).unwrap();
    assert!(renewed.status.success() && said.contains(&old), "{said}");
    for node in nodes {
        assert!(!node.ended().await, "a node goes on with another log");
    }
    let third = Telling::start(folders[0].path(), &database);
    assert!(said.contains(&epoch(&third.process.client).await));
    third.says("a pause", |log| log["mode"] == "paused").await;
    like_article(&third.process.client, 2).await;
    third.order("resume").await;
    let all = || std::future::ready((third.given().last() == Some(&2)).then_some(()));
    until("what came since", all).await;
    let store = PostgresStore::open(&database.parse().unwrap(), 1, PostgresOptions::default()).await.unwrap();
    assert_eq!(store.read_cursor("never heard of").await.unwrap().mode, Mode::Held);
}

/// What a node prints and answers never has the password of its database in it, not even when it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_the_database_is_never_shown() {
    let folder = TempDir::new().unwrap();
    let closed = "postgres://anna:secret@127.0.0.1:1/shop";
    for (wrong, says) in [
        (closed, "shop at 127.0.0.1"),
        ("postgres://anna:secret@127.0.0.1/shop?sslmode=secret", "the address is not"),
        ("mysql://anna:secret@127.0.0.1/shop", "address of a PostgreSQL database"),
    ] {
        let mut command = serve(folder.path());
        command.env("SILLAGE_STORE", wrong).env("SILLAGE_LOG", "trace").stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        assert!(!ended.status.success() && said.contains(says), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_sillage"))
        .args(["serve", "--help"])
        .env("SILLAGE_STORE", closed)
        .output()
        .unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("secret"));
}

/// A connection that must be private is, to a server whose certificate is trusted, and to no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_connection_needs_a_certificate_that_is_trusted() {
    let certificates = TempDir::new().unwrap();
    let (certificate, key) = (certificates.path().join("server.crt"), certificates.path().join("server.key"));
    let wanted = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let names = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let is_no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let made = Command::new("openssl")
        .args(wanted)
        .args(names)
        .args(is_no_authority)
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let server = Server::with_certificate(&certificate, &key);
    let address = server.create_database().replace("127.0.0.1", "localhost") + "?sslmode=require";
    let folder = TempDir::new().unwrap();

    let mut distrusting = serve(folder.path());
    distrusting.env("SILLAGE_STORE", &address).env_remove("SSL_CERT_FILE");
    let ended = tokio::task::spawn_blocking(move || distrusting.output().unwrap()).await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("certificate"), "{said}");

    let mut trusting = serve(folder.path());
    trusting.env("SILLAGE_STORE", &address).env("SSL_CERT_FILE", &certificate);
    let node = Process::listening(&mut trusting, folder.path());
    let mut socket = node.client.socket(&node.client.token("anna", &[])).await;
    assert_eq!(like(&mut socket, "LikeAdd").await["outcome"], "applied");
}
