//! How many may be connected, and how long whoever is slow is borne.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use sillage_gateway::hub::Hub;
use sillage_gateway::limits::{Bounds, Limits, Rates};
use sillage_gateway::sampling::Sampler;
use sillage_gateway::serving::{self, Serving};
use sillage_gateway::{Gateway, routes};
use sillage_kernel::Position;
use sillage_runtime::{BusOptions, CommandBus, ContentKey, ReceiptSink, Settled};
use sillage_server::systems;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{Client, PATIENCE, Running, action, start, start_in, until, within};

/// How long nothing must happen that would happen at once if it were not held up.
const QUIET: Duration = Duration::from_millis(300);

async fn guest(client: &Client) -> String {
    let (status, guest) = client.post("/api/auth/guest", "", "").await;
    assert_eq!(status, 200, "{guest}");
    guest["token"].as_str().unwrap().to_owned()
}

/// A socket and a stream that find no room are told so, each in its way.
async fn assert_no_room(client: &Client, token: &str, word: &str, status: u16, close: u16) {
    let mut socket = client.socket(token).await;
    let error = socket.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["code"], &error["retry_after"]),
        (&json!("error"), &json!(word), &json!(5))
    );
    let closed = within("the end", socket.stream.next()).await;
    let Some(Ok(Message::Close(Some(frame)))) = closed else { panic!("{closed:?}") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (close, "retry_after=5"));

    let request = reqwest::Client::new().get(client.url("/api/stream?feed=like-a")).bearer_auth(token);
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (status, &"5".parse().unwrap()));
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], word);
}

#[tokio::test]
async fn a_user_and_a_node_have_only_so_many_connections() {
    let bounds = Bounds { connections: 4, of_one_user: 3, of_one_guest: 2 };
    let Running { node, client, folder: _folder } = start(|config| config.bounds = bounds).await;
    let hub = &node.gateway().hub;
    let there_are = |n: usize| {
        until("so many connections", move || async move { (hub.connections() == n).then_some(()) })
    };
    let (guest, alice) = (guest(&client).await, client.token("alice", &[]));

    let socket = client.socket(&guest).await;
    let _stream = client.stream("feed=like-a", &guest, None).await;
    there_are(2).await;
    assert_no_room(&client, &guest, "rate_limited", 429, 4429).await;
    drop(socket);
    there_are(1).await;
    let guests = client.socket(&guest).await;
    there_are(2).await;

    let _two = (client.socket(&alice).await, client.socket(&alice).await);
    there_are(4).await;
    assert_no_room(&client, &alice, "overloaded", 503, 4503).await;
    drop(guests);
    there_are(3).await;
    let mut third = client.socket(&alice).await;
    third.subscribe("like-a").await;
    assert_no_room(&client, &alice, "rate_limited", 429, 4429).await;
    assert_eq!(hub.connections(), 4, "who was refused is not counted");
}

/// A connection that has asked whether the node is alive.
async fn asked(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn whoever_comes_beyond_the_bound_is_served_once_another_has_gone() {
    let serving = Serving { connections: 2, ..Serving::default() };
    let running = start(|config| config.serving = serving).await;
    let address = &running.client.address;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    socket.subscribe("like-a").await;
    let mut answer = [0; 12];
    let mut second = asked(address).await;
    within("an answer", second.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let mut third = asked(address).await;
    let early = tokio::time::timeout(QUIET, third.read_exact(&mut answer)).await;
    assert!(early.is_err(), "there was a place left: a socket keeps its own");
    drop(socket);
    within("an answer", third.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn whoever_does_not_finish_asking_is_cut_off_and_others_are_served() {
    let serving = Serving { head_patience: Duration::from_secs(1), ..Serving::default() };
    let running = start(|config| config.serving = serving).await;
    let mut socket = running.client.socket(&running.client.token("alice", &[])).await;
    let started = Instant::now();
    let mut slow = TcpStream::connect(&running.client.address).await.unwrap();
    slow.write_all(b"GET /heal").await.unwrap();
    assert_eq!(running.client.get("/healthz", "").await.0, 200);
    let mut rest = Vec::new();
    // It may be reset, too: what was sent was never read as a request.
    drop(within("the end of the slow one", slow.read_to_end(&mut rest)).await);
    assert!(started.elapsed() >= serving.head_patience);
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    socket.send(&json!({"type": "ping"})).await;
    assert_eq!(socket.next().await.unwrap()["type"], "pong", "a socket is no request");
}

/// A stream of many feeds with long names, so that each event has a long id, whose reader takes nothing.
async fn stalled_stream(client: &Client, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(client.address.parse().unwrap()).await.unwrap();
    let feeds: String = (0..50).map(|number| format!("&feed=like-{number}{}", "x".repeat(190))).collect();
    let request = format!(
        "GET /api/stream?feed=like-a{feeds} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    within("the stream", stream.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_ended() {
    let serving = Serving { write_patience: Duration::from_millis(100), ..Serving::default() };
    let Running { node, client, folder: _folder } = start(|config| config.serving = serving).await;
    let hub = &node.gateway().hub;
    let (reader, writer) = (client.token("reader", &[]), client.token("writer", &[]));
    let _asleep = stalled_stream(&client, &reader).await;
    let mut awake = client.stream("feed=like-a", &reader, None).await;
    awake.next_of("subscribed").await;
    assert_eq!(hub.connections(), 2);

    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    while hub.connections() == 2 {
        assert!(Instant::now() < deadline, "it was still there after {number} events");
        number += 1;
        let name = if number % 2 == 1 { "LikeAdd" } else { "LikeRemove" };
        let body = action(name, "a", Uuid::now_v7()).to_string();
        assert_eq!(client.post("/api/commands", &writer, body).await.0, 202);
        assert_eq!(awake.next_of("event").await.1["sequence_number"], number, "nobody else is held up");
    }
}

/// Where receipts are held up.
struct Gate {
    hub: Arc<Hub>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl ReceiptSink for Gate {
    fn deliver(&self, settled: &[Settled]) {
        tokio::task::block_in_place(|| {
            let is_open = self.is_open.lock().unwrap();
            drop(self.opened.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open).unwrap());
        });
        self.hub.deliver(settled);
    }
}

/// A second door to a node, behind which commands are settled only once the gate is open.
async fn gated(running: &Running) -> (Client, Arc<Gate>) {
    let own = running.node.gateway();
    let gate = Gate { hub: Arc::clone(&own.hub), is_open: Mutex::new(false), opened: Condvar::new() };
    let gate = Arc::new(gate);
    (door(running, Arc::clone(&gate) as _, own.ready_at).await, gate)
}

/// A second door to a node, whose receipts go there, and which is ready once the views are at a position.
async fn door(running: &Running, sink: Arc<dyn ReceiptSink>, ready_at: Position) -> Client {
    let (own, system) = (running.node.gateway(), systems::all());
    let bus = CommandBus::start(Arc::clone(&own.store), sink, BusOptions::default());
    let gateway = Arc::new(Gateway {
        bus,
        deciders: system.deciders(ContentKey(own.keys.content_key())),
        store: Arc::clone(&own.store),
        snapshots: Arc::clone(&own.snapshots),
        hub: Arc::clone(&own.hub),
        keys: Arc::clone(&own.keys),
        directory: Arc::clone(&own.directory),
        views: own.views.clone(),
        past: Arc::clone(&own.past),
        compactor: own.compactor.clone(),
        reactors: own.reactors.clone(),
        reach: system.reach,
        limits: Limits::new(Rates::default()),
        sampler: Sampler::new(0),
        ready_at,
        supervisor: own.supervisor.clone(),
        metrics: own.metrics.clone(),
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut client = running.client.clone();
    client.address = listener.local_addr().unwrap().to_string();
    let router = routes::router(gateway, system.routes);
    tokio::spawn(serving::serve(listener, router, Serving::default(), std::future::pending()));
    client
}

#[tokio::test]
async fn a_node_is_ready_once_its_views_have_caught_up() {
    let running = start(|_| ()).await;
    let hub = Arc::clone(&running.node.gateway().hub);
    let client = door(&running, hub, Position::new(1)).await;
    let ready = || async {
        let (status, ready) = client.get("/readyz", "").await;
        assert_eq!(
            (status, &ready["ready"]),
            if status == 200 { (200, &json!(true)) } else { (503, &json!(false)) }
        );
        (status == 200).then_some(ready["views"][0]["position"].clone())
    };
    assert_eq!(ready().await, None, "the views stand before what was in the log at the start");
    let body = action("LikeAdd", "a", Uuid::now_v7()).to_string();
    assert_eq!(client.post("/api/commands", &client.token("alice", &[]), body).await.0, 202);
    assert_eq!(until("readiness", ready).await, 1);
    let Running { node, folder, .. } = running;
    node.stop().await;
    assert_eq!(start_in(folder, |_| ()).await.node.gateway().ready_at, Position::new(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_with_too_many_commands_on_their_way_is_not_read() {
    let running = start(|_| ()).await;
    let (client, gate) = gated(&running).await;
    let mut socket = client.socket(&client.token("alice", &[])).await;
    let mut command = action("LikeAdd", "a", Uuid::now_v7()).to_string();
    command.push_str(&" ".repeat(200 << 10));
    // Those that came before the first was settled are answered with it, five at most; then five more fit.
    for _ in 0..15 {
        socket.send_text(&command).await;
    }
    socket.send(&json!({"type": "ping"})).await;
    let early = tokio::time::timeout(QUIET, socket.next()).await;
    assert!(early.is_err(), "so many long resends are more than may be on their way: {early:?}");
    gate.open();
    for _ in 0..2 {
        assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
    }
    socket.next_of("pong").await;
}
