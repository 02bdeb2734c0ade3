//! One feed with many followers: what it costs the server to bring each of them each event.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::json;
use sillage_client::Client;
use sillage_client::raw::{Connection, Head, Incoming, Kind};
use sillage_kernel::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

use crate::Failure;
use crate::address::Address;
use crate::histogram::Histogram;
use crate::process::{Meter, Process};
use crate::report::{Cost, Report, grouped, rate};
use crate::tokens::TokenArgs;

/// How many connections are opened at once.
pub(crate) const OPENING: usize = 32;
/// How many users the followers are.
const READERS: usize = 16;

/// Many sockets follow one feed, to which one sender sends.
#[derive(Debug, Clone, Args)]
pub(crate) struct Fanout {
    /// Where the server is.
    #[arg(long, default_value = "http://127.0.0.1:4000")]
    pub(crate) url: Address,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// How many sockets.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) sockets: usize,
    /// How many events each of them gets.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) messages: usize,
    /// How many commands are sent at a time; the next are sent when all have arrived everywhere.
    #[arg(long, default_value_t = 1)]
    pub(crate) burst: usize,
    /// The process of the server, whose share of the machine is told.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
}

/// What has arrived so far, at all followers together.
struct Arrivals {
    events: Cell<usize>,
    wanted: Cell<usize>,
    all_there: Notify,
}

impl Fanout {
    pub(crate) async fn run(&self) -> Result<Report, Failure> {
        if self.sockets == 0 || self.burst == 0 {
            return Err("sockets and burst must be at least 1".into());
        }
        LocalSet::new().run_until(self.measure()).await
    }

    async fn measure(&self) -> Result<Report, Failure> {
        let mut tokens = self.tokens.get(READERS + 1).await?;
        // Receipts go to all connections of the sender, so the sender follows nothing.
        let sender = tokens.pop().ok_or("there is no token")?;
        let micros = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let feed = format!("like-{micros:x}");
        let url = self.url.socket();
        let arrivals = Rc::new(Arrivals {
            events: Cell::new(0),
            wanted: Cell::new(usize::MAX),
            all_there: Notify::new(),
        });
        let (failures, mut failed) = mpsc::channel::<Failure>(1);
        let mut followers = stream::iter(tokens.iter().cycle().take(self.sockets))
            .map(|token| follow(&url, token, &feed))
            .buffer_unordered(OPENING);
        while let Some(connection) = followers.next().await {
            let (connection, arrivals, failures) = (connection?, Rc::clone(&arrivals), failures.clone());
            spawn_local(async move {
                if let Err(failure) = count(connection, &arrivals).await {
                    // The first failure ends it, so that the others need no room.
                    drop(failures.try_send(failure));
                }
            });
        }
        let mut source = Source::open(&url, &sender, feed.clone()).await?;
        let mut latency = Histogram::new();
        let meter = Meter::start(self.pid.map(Process::new))?;
        let mut sent = 0;
        while sent < self.messages {
            let now = self.burst.min(self.messages - sent);
            sent += now;
            arrivals.wanted.set(sent * self.sockets);
            let began = Instant::now();
            source.send(now);
            tokio::select! {
                () = arrivals.all_there.notified() => {}
                failure = failed.recv() => return Err(failure.unwrap_or("nobody follows".into())),
                failure = source.stay() => return Err(failure),
            }
            latency.record(began.elapsed());
        }
        let taken = meter.stop()?;
        let deliveries = (self.sockets * self.messages) as u64;
        let (sockets, burst) = (grouped(self.sockets as u64), self.burst);
        let how = if burst == 1 { "one at a time".to_owned() } else { format!("in bursts of {burst}") };
        Ok(Report {
            what: format!("fan-out: {sockets} sockets, {how}"),
            result: format!("{} deliveries/s", grouped(rate(deliveries, taken.time))),
            latency: Some(latency),
            cost: Some(Cost { taken, things: deliveries }),
            notes: vec!["the latency is from the sending until the last socket has all of it".to_owned()],
        })
    }
}

async fn follow(url: &str, token: &str, feed: &str) -> Result<Connection, Failure> {
    let mut connection = Connection::open(url, token).await?;
    connection.push(&json!({"type": "subscribe", "feed": feed}).to_string());
    loop {
        match connection.next().await {
            Incoming::Text(frame) => {
                let mut kinds = frame.lines().filter_map(Head::read).map(|head| head.kind);
                if kinds.any(|kind| kind == Kind::Subscribed) {
                    return Ok(connection);
                }
                return Err(format!("a feed cannot be followed: {:?}", frame.lines().next()).into());
            }
            Incoming::Life | Incoming::Room => {}
            Incoming::Closed(closed) => {
                return Err(format!("the server closed a connection: {closed:?}").into());
            }
        }
    }
}

/// Counts the events of one follower, each of which must be the next one.
async fn count(mut connection: Connection, arrivals: &Arrivals) -> Result<(), Failure> {
    let mut last = 0;
    loop {
        match connection.next().await {
            Incoming::Text(frame) => {
                let mut events = 0;
                for line in frame.lines() {
                    let number = number_of(line).ok_or_else(|| format!("the server sent {line}"))?;
                    if number != last + 1 {
                        return Err(format!("a follower got {number} after {last}").into());
                    }
                    (last, events) = (number, events + 1);
                }
                arrivals.events.set(arrivals.events.get() + events);
                if arrivals.events.get() >= arrivals.wanted.get() {
                    arrivals.all_there.notify_one();
                }
            }
            Incoming::Life | Incoming::Room => {}
            Incoming::Closed(closed) => {
                return Err(format!("the server closed a connection: {closed:?}").into());
            }
        }
    }
}

/// The number of an event in its feed. Searched for instead of parsed, since a thousand followers are to cost this
/// program as little as may be.
fn number_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(r#""sequence_number":"#)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whoever sends.
struct Source {
    connection: Connection,
    feed: String,
    at: String,
    sent: usize,
}

impl Source {
    async fn open(url: &str, token: &str, feed: String) -> Result<Self, Failure> {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let at = Timestamp::from_micros(i64::try_from(micros)?).to_string();
        Ok(Self { connection: Connection::open(url, token).await?, feed, at, sent: 0 })
    }

    fn send(&mut self, commands: usize) {
        for _ in 0..commands {
            let name = if self.sent.is_multiple_of(2) { "LikeAdd" } else { "LikeRemove" };
            let action = json!({
                "type": "action", "feed": self.feed, "event_type": name, "command_id": Client::mint(),
                "data": {"likeId": "load", "at": self.at}
            });
            self.connection.push(&action.to_string());
            self.sent += 1;
        }
    }

    /// Writes what is sent and reads what comes, for ever; answers why it cannot.
    async fn stay(&mut self) -> Failure {
        loop {
            match self.connection.next().await {
                Incoming::Text(frame) => {
                    let error =
                        frame.lines().find(|line| Head::read(line).is_none_or(|h| h.kind == Kind::Error));
                    if let Some(error) = error {
                        return format!("the server sent {error}").into();
                    }
                }
                Incoming::Life | Incoming::Room => {}
                Incoming::Closed(closed) => {
                    return format!("the server closed the sender: {closed:?}").into();
                }
            }
        }
    }
}
