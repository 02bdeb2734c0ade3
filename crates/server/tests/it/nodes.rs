//! Several nodes on one database, each the real program in a process of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use sillage_conformance::postgres::Server;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Process, Socket, action, serve};

/// Folders for nodes that take each other's tokens.
fn folders(count: usize) -> Vec<TempDir> {
    let folders: Vec<TempDir> = std::iter::repeat_with(|| TempDir::new().unwrap()).take(count).collect();
    let [first, rest @ ..] = &folders[..] else { panic!("there is none") };
    let made = Command::new(env!("CARGO_BIN_EXE_sillage"))
        .args(["token", "--user", "anna", "--data"])
        .arg(first.path())
        .output()
        .unwrap();
    assert!(made.status.success());
    for folder in rest {
        fs::copy(first.path().join("keys.json"), folder.path().join("keys.json")).unwrap();
    }
    folders
}

fn node(folder: &Path, database: &str) -> Process {
    Process::listening(serve(folder).env("SILLAGE_STORE", database), folder)
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

/// Views of one node may not have seen what another would drop.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_several_nodes_share_keeps_everything() {
    let server = Server::shared();
    let (folder, database) = (TempDir::new().unwrap(), server.create_database());
    let refused =
        serve(folder.path()).args(["--store", &database, "--keep", "like=baseline"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("leave out `--keep`"), "{said}");
    drop(Process::start_with(folder.path(), &["--store", &database, "--keep", "like=all"]));
}

/// What a node prints and answers never has the password of its database in it, not even when it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_the_database_is_never_shown() {
    let folder = TempDir::new().unwrap();
    let closed = "postgres://anna:secret@127.0.0.1:1/shop";
    for (wrong, says) in [
        (closed, "shop at 127.0.0.1"),
        ("postgres://anna:secret@127.0.0.1/shop?sslmode=secret", "the address is not"),
        ("mysql://anna:secret@127.0.0.1/shop", "--store takes"),
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
