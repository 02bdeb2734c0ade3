//! All measurements in order, each against a fresh server, as one Markdown table.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::Failure;
use crate::commands::Commands;
use crate::fanout::Fanout;
use crate::fsync::Fsync;
use crate::idle::Idle;
use crate::report::Report;
use crate::server::Server;

/// Starts the server itself, and measures everything.
#[derive(Debug, Clone, Args)]
pub(crate) struct Bench {
    /// The program of the server, built for release.
    #[arg(long, default_value = "target/release/sillage")]
    server: PathBuf,
    /// Where the servers' folders are made: on the disk that is to be measured.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// For how long each kind of command counts.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many sockets follow one feed.
    #[arg(long, default_value_t = 1_000)]
    sockets: usize,
    /// How many sockets are idle.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// At which rate the latency of commands is measured.
    #[arg(long, default_value_t = 6_000)]
    rate: u32,
}

/// What is different between the measurements of commands.
struct Load {
    connections: u16,
    in_flight: usize,
    targets: usize,
    rate: Option<u32>,
}

impl Bench {
    pub(crate) async fn run(&self) -> Result<String, Failure> {
        let mut rows = vec![Report::TABLE_HEAD.to_owned()];
        let mut done = |report: &Report| {
            eprintln!("{report}");
            rows.push(report.row());
        };
        for load in [
            Load { connections: 1, in_flight: 1, targets: 10_000, rate: None },
            Load { connections: 64, in_flight: 1, targets: 10_000, rate: None },
            Load { connections: 64, in_flight: 8, targets: 10_000, rate: None },
            Load { connections: 64, in_flight: 8, targets: 1, rate: None },
            Load { connections: 64, in_flight: 8, targets: 10_000, rate: Some(self.rate) },
        ] {
            done(&self.commands(&load).await?);
        }
        for (messages, burst) in [(2_000, 1), (20_000, 100)] {
            done(&self.fanout(messages, burst).await?);
        }
        done(&self.idle().await?);
        done(&Fsync { dir: self.dir.clone(), seconds: 3 }.run()?);
        Ok(rows.join("\n"))
    }

    async fn commands(&self, load: &Load) -> Result<Report, Failure> {
        let server = self.start().await?;
        let Load { connections, in_flight, targets, rate } = *load;
        let measurement = Commands {
            url: server.address.clone(),
            tokens: server.tokens(),
            connections,
            users: connections,
            in_flight,
            targets,
            seconds: self.seconds,
            warm_up: 1,
            rate,
            pid: Some(server.pid),
        };
        let report = measurement.run().await?;
        server.stop().await?;
        Ok(report)
    }

    async fn fanout(&self, messages: usize, burst: usize) -> Result<Report, Failure> {
        let server = self.start().await?;
        let (url, tokens, pid) = (server.address.clone(), server.tokens(), Some(server.pid));
        let report = Fanout { url, tokens, sockets: self.sockets, messages, burst, pid }.run().await?;
        server.stop().await?;
        Ok(report)
    }

    async fn idle(&self) -> Result<Report, Failure> {
        let server = self.start().await?;
        let (url, tokens, pid) = (server.address.clone(), server.tokens(), server.pid);
        let report = Idle { url, tokens, sockets: self.idle, pid }.run().await?;
        server.stop().await?;
        Ok(report)
    }

    async fn start(&self) -> Result<Server, Failure> {
        let (program, dir): (&Path, &Path) = (&self.server, &self.dir);
        Server::start(program, dir).await
    }
}
