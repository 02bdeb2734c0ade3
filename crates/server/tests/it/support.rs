//! What the tests of the server share: a node in this process or in one of its own, tokens, and sockets.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sillage_gateway::tokens::{Allowance, Grant, Keys};
use sillage_server::{Config, Node};
use sillage_store::clock;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node in this process, in a folder of its own.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
}

/// Starts a node whose configuration `change` may still change.
pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Running {
    start_in(TempDir::new().unwrap(), change).await
}

/// Starts a node on what is in a folder.
pub(crate) async fn start_in(folder: TempDir, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new(([127, 0, 0, 1], 0).into(), folder.path().into());
    change(&mut config);
    let node = Node::start(config).await.unwrap();
    let client = Client::new(node.address().to_string(), folder.path());
    Running { node, client, folder }
}

/// The binary on a folder, not started yet.
pub(crate) fn serve(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).env("SILLAGE_LOG", "error");
    command
}

/// Runs a command of the binary whose last argument is a path, to its end.
pub(crate) fn run(arguments: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sillage")).args(arguments).arg(path).output().unwrap()
}

/// A server in a process of its own, killed with it when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) client: Client,
}

impl Process {
    /// Starts the binary on a folder, and waits until it listens.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts the binary on a folder, with more arguments, and waits until it listens.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let mut command = serve(data);
        Self::listening(command.args(arguments), data)
    }

    /// Starts a command that [`serve`] has made, and waits until it listens.
    pub(crate) fn listening(command: &mut Command, data: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the server says where it listens").unwrap();
        let address = line.rsplit_once("http://").unwrap().1.to_owned();
        Self { child, client: Client::new(address, data) }
    }

    /// Waits until it has ended by itself, and answers whether it says that all went well.
    pub(crate) async fn ended(mut self) -> bool {
        until("the end of the process", || std::future::ready(self.child.try_wait().unwrap())).await.success()
    }

    /// Asks it to end, and waits until it has.
    #[cfg(feature = "otlp")]
    pub(crate) fn terminate(mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
    }

    /// Sends it a signal, as `-STOP`.
    #[cfg(any(feature = "postgres", feature = "otlp"))]
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Ends it with SIGKILL, as a loss of power ends it for everybody but the kernel.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Somebody who speaks to a node.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    keys: std::sync::Arc<Keys>,
    http: reqwest::Client,
}

impl Client {
    fn new(address: String, data: &Path) -> Self {
        let keys = Keys::open(&data.join("keys.json")).unwrap().into();
        Self { address, keys, http: reqwest::Client::new() }
    }

    /// Somebody who asks each question on a connection of its own.
    #[cfg(feature = "postgres")]
    pub(crate) fn unpooled(address: String, data: &Path) -> Self {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { http, ..Self::new(address, data) }
    }

    /// A token that holds for an hour.
    pub(crate) fn token(&self, user: &str, scopes: &[&str]) -> String {
        self.token_of("main", user, scopes, Duration::from_secs(3_600))
    }

    pub(crate) fn token_of(&self, tenant: &str, user: &str, scopes: &[&str], lifetime: Duration) -> String {
        let grant = Grant {
            user_id: user.parse().unwrap(),
            username: None,
            tenant: tenant.parse().unwrap(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect::<BTreeSet<_>>(),
            allowance: Allowance::Full,
            lifetime,
        };
        self.keys.issue(&grant, clock::now())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let response = self.http.get(self.url(path)).bearer_auth(token).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Posts a body of JSON, or what is to be taken for it.
    pub(crate) async fn post(&self, path: &str, token: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.http.post(self.url(path)).bearer_auth(token).body(body);
        let response = request.header("content-type", "application/json").send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Opens a stream of server-sent events of some feeds.
    pub(crate) async fn stream(&self, query: &str, token: &str, last_event_id: Option<&str>) -> Sse {
        self.follow(&format!("/api/stream?{query}"), token, last_event_id).await
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn follow(&self, path: &str, token: &str, last_event_id: Option<&str>) -> Sse {
        let request = self.http.get(self.url(path)).bearer_auth(token);
        let mut request = request.header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Sse { response, buffer: String::new() }
    }

    pub(crate) async fn socket(&self, token: &str) -> Socket {
        self.try_socket(token).await.unwrap()
    }

    /// A socket, or why there is none: the server may be gone.
    pub(crate) async fn try_socket(
        &self,
        token: &str,
    ) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
        let url = format!("ws://{}/ws?token={token}", self.address);
        let (stream, _) = tokio_tungstenite::connect_async(url).await?;
        Ok(Socket { stream, ready: VecDeque::new() })
    }
}

/// A like, or its opposite, as an action.
pub(crate) fn action(name: &str, target: &str, command_id: Uuid) -> Value {
    json!({"type": "action", "feed": format!("like-{target}"), "event_type": name, "command_id": command_id,
        "data": {"likeId": "l-1", "at": "2026-01-19T12:00:00Z"}})
}

/// A moderator's command as an action.
pub(crate) fn moderation(name: &str, target: &str) -> Value {
    json!({"type": "action", "feed": format!("like-{target}"), "event_type": name, "command_id": Uuid::now_v7(),
        "data": {}})
}

/// An open `/ws`.
pub(crate) struct Socket {
    pub(crate) stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    ready: VecDeque<Value>,
}

impl Socket {
    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// The next message, or how the server closed.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(ready);
            }
            let message = within("a message", self.stream.next()).await;
            match message {
                Some(Ok(Message::Text(text))) => {
                    self.ready.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }

    /// The next message of a type, past all others.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.unwrap_or_else(|code| panic!("closed with {code} before {kind}"));
            if message["type"] == kind {
                return message;
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, feed: &str) -> Value {
        self.send(&json!({"type": "subscribe", "feed": feed})).await;
        self.next_of("subscribed").await
    }
}

/// An open stream of server-sent events.
pub(crate) struct Sse {
    response: reqwest::Response,
    buffer: String,
}

impl Sse {
    /// The next event that carries data, with its id; `None` when the server has ended the stream.
    pub(crate) async fn next(&mut self) -> Option<(Option<String>, Value)> {
        loop {
            while let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                let (id, data) = (field("id: "), field("data: "));
                self.buffer = rest.to_owned();
                if let Some(data) = data {
                    return Some((id, serde_json::from_str(&data).unwrap()));
                }
            }
            let chunk = within("an event", self.response.chunk()).await.ok()??;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub(crate) async fn next_of(&mut self, kind: &str) -> (Option<String>, Value) {
        loop {
            let (id, data) = self.next().await.unwrap_or_else(|| panic!("ended before {kind}"));
            if data["type"] == kind {
                return (id, data);
            }
        }
    }
}

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// Asks again and again until the answer is there.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} never came");
        // tidy: sleep because nothing tells when it is there; bounded by the deadline.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Numbers that look random and are the same in every run (SplitMix64, Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}
