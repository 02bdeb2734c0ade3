//! `sillage serve`: runs a node until it is asked to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use sillage_server::node::asked_to_stop;
use sillage_server::{Config, Node, telemetry};

use super::Failure;

#[derive(Args)]
pub(crate) struct Serve {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:4000", env = "SILLAGE_LISTEN")]
    listen: SocketAddr,
    /// Where to keep everything.
    #[arg(long, default_value = "./data", env = "SILLAGE_DATA")]
    data: PathBuf,
}

pub(crate) fn run(Serve { listen, data }: Serve) -> Result<(), Failure> {
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = Node::start(Config::new(listen, data)).await?;
        println!("Sillage is listening on http://{}", node.address());
        asked_to_stop().await;
        let closed = node.stop().await;
        tracing::info!(connections = closed, "stopped");
        Ok(())
    })
}
