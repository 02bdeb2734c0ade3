//! UmaDB as the server that it is, over gRPC. Its messages are written down here as far as an append needs them, so that
//! no compiler of protocols has to be installed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;
use uuid::Uuid;

use crate::peer::{self, Peer, Seen};

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Over how many connections the appends go, so that none of them is the bottleneck.
const CONNECTIONS: usize = 4;
const APPEND: PathAndQuery = PathAndQuery::from_static("/umadb.v1.DCB/Append");

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(string, tag = "1")]
    event_type: String,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
    #[prost(string, tag = "4")]
    uuid: String,
}

#[derive(Clone, PartialEq, Message)]
struct QueryItem {
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(message, repeated, tag = "1")]
    items: Vec<QueryItem>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendCondition {
    #[prost(message, optional, tag = "1")]
    fail_if_events_match: Option<Query>,
    #[prost(uint64, optional, tag = "2")]
    after: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendRequest {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Event>,
    #[prost(message, optional, tag = "2")]
    condition: Option<AppendCondition>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendResponse {
    #[prost(uint64, tag = "1")]
    position: u64,
}

struct UmaDb {
    channels: Vec<Channel>,
    next: AtomicUsize,
    data: String,
}

impl Peer for UmaDb {
    async fn append(&self, stream: usize, seen: Seen) -> u64 {
        let tags = vec![peer::name(stream)];
        let query = Query { items: vec![QueryItem { tags: tags.clone() }] };
        let after = (seen.position > 0).then_some(seen.position);
        let condition = Some(AppendCondition { fail_if_events_match: Some(query), after });
        let (data, uuid) = (self.data.clone().into_bytes(), Uuid::now_v7().to_string());
        let events = vec![Event { event_type: "ThingHappened".into(), tags, data, uuid }];
        let channel = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        let mut client = Grpc::new(self.channels[channel].clone());
        client.ready().await.expect("the server lives");
        let request = tonic::Request::new(AppendRequest { events, condition });
        let codec = ProstCodec::<AppendRequest, AppendResponse>::default();
        let answer = client.unary(request, APPEND, codec).await;
        answer.expect("it is appended").into_inner().position
    }
}

/// Durable events a second, with so many appends waiting.
pub fn measure(program: &str, folder: &Path, waiting: usize, time: Duration) -> f64 {
    let (_server, address) = Server::start(program, folder);
    peer::block_on(async {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
            channels.push(endpoint.tcp_nodelay(true).connect().await.expect("a connection"));
        }
        let umadb = UmaDb { channels, next: AtomicUsize::new(0), data: peer::data() };
        peer::drive(Arc::new(umadb), waiting, time).await
    })
}

/// The server, which ends when this is dropped.
struct Server(Child);

impl Server {
    fn start(program: &str, folder: &Path) -> (Self, SocketAddr) {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let mut command = Command::new(program);
        command.arg("--listen").arg(address.to_string()).arg("--db-path").arg(folder.join("uma.db"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self(child.unwrap_or_else(|error| panic!("{program} does not start: {error}")));
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        (server, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
