//! Sockets that do nothing: what each of them costs the server in memory.

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use sillage_client::raw::{Connection, Head, Incoming, Kind};

use crate::Failure;
use crate::address::Address;
use crate::fanout::OPENING;
use crate::process::{Meter, Process};
use crate::report::{Cost, Report, grouped};
use crate::tokens::TokenArgs;

/// How many users the sockets are of.
const USERS: usize = 16;

/// Opens sockets, and looks how the server grows. It should be fresh: one that was busy before has memory to spare.
#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    /// Where the server is.
    #[arg(long, default_value = "http://127.0.0.1:4000")]
    pub(crate) url: Address,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// How many sockets; `ulimit -n` must allow as many, here and for the server.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) sockets: usize,
    /// The process of the server.
    #[arg(long)]
    pub(crate) pid: u32,
}

impl Idle {
    pub(crate) async fn run(&self) -> Result<Report, Failure> {
        let tokens = self.tokens.get(USERS).await?;
        let (url, server) = (self.url.socket(), Process::new(self.pid));
        // What only the first connection costs is not counted.
        let _first = open(&url, tokens.first().ok_or("there is no token")?).await?;
        let before = server.resident_bytes()?;
        let meter = Meter::start(Some(server))?;
        let sockets: Vec<Connection> = stream::iter(tokens.iter().cycle().take(self.sockets))
            .map(|token| open(&url, token))
            .buffer_unordered(OPENING)
            .try_collect()
            .await?;
        let taken = meter.stop()?;
        let grown = server.resident_bytes()?.saturating_sub(before);
        let each = grown / (sockets.len() as u64).max(1);
        let mib = |bytes: u64| grouped(bytes >> 20);
        Ok(Report {
            what: format!("idle: {} sockets", grouped(sockets.len() as u64)),
            result: format!("{}.{} KiB each", each / 1_024, each % 1_024 * 10 / 1_024),
            latency: None,
            cost: Some(Cost { taken, things: sockets.len() as u64 }),
            notes: vec![format!(
                "from {} to {} MiB; the cost is that of opening",
                mib(before),
                mib(before + grown)
            )],
        })
    }
}

/// A connection that has been heard of.
async fn open(url: &str, token: &str) -> Result<Connection, Failure> {
    let mut connection = Connection::open(url, token).await?;
    connection.push(r#"{"type":"ping"}"#);
    loop {
        match connection.next().await {
            Incoming::Text(frame) => {
                let kind = frame.lines().find_map(Head::read).map(|head| head.kind);
                return match kind {
                    Some(Kind::Pong) => Ok(connection),
                    _ => Err(format!("the server answered {:?}", frame.lines().next()).into()),
                };
            }
            Incoming::Life | Incoming::Room => {}
            Incoming::Closed(closed) => {
                return Err(format!("the server closed a connection: {closed:?}").into());
            }
        }
    }
}
