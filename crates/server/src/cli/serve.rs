//! `sillage serve`: runs a node until it is asked to stop, or until something has failed that only a new start
//! mends; then it ends with an error.

use std::net::SocketAddr;

use clap::Args;
use sillage_runtime::Keep;
use sillage_store::event_store::journal::AcceptLoss;

use super::Failure;
use super::data::{Keys, Store, Stored};
use crate::node::asked_to_stop;
use crate::systems::System;
use crate::{Config, Node, telemetry};

#[derive(Args)]
pub(crate) struct Serve {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:4000", env = "SILLAGE_LISTEN")]
    listen: SocketAddr,
    /// What operators see as the name of this node on others that share its log; its host and port, unless given.
    #[arg(long, env = "SILLAGE_NAME")]
    name: Option<String>,
    #[command(flatten)]
    stored: Stored,
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    keys: Keys,
    /// If the log in the data folder is damaged, cut it where the damage begins; what is cut off stays in files that end in `.lost`.
    /// Acknowledged events are lost. Restore a backup if there is one.
    #[arg(long, conflicts_with = "store")]
    accept_loss: bool,
    /// What a category keeps of its events: `like=all`, `like=30d` for what is younger than 30 days, or `like=baseline`
    /// for what comes after the last saved state. May be repeated; a category that is not named keeps all.
    #[arg(long, value_name = "CATEGORY=KEPT", env = "SILLAGE_KEEP", value_delimiter = ',', value_parser = keep)]
    keep: Vec<(String, Keep)>,
    /// Where to send traces: a collector that speaks OTLP over HTTP, as http://127.0.0.1:4318.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp: Option<String>,
    /// How many requests a second are traced at most; 10 if there is a collector, otherwise none.
    #[arg(long, value_name = "N", env = "SILLAGE_TRACES_PER_SECOND")]
    traces_per_second: Option<u32>,
}

/// What an argument says that a category keeps.
fn keep(text: &str) -> Result<(String, Keep), String> {
    let (category, kept) =
        text.split_once('=').ok_or("it must be a category, an equals sign and what is kept")?;
    Ok((category.to_owned(), kept.parse()?))
}

/// How many requests a second are traced at most when there is a collector and nothing else is said.
const TRACES_PER_SECOND: u32 = 10;

pub(crate) fn run(serve: Serve, system: System) -> Result<(), Failure> {
    let Serve { listen, name, stored, store, keys, accept_loss, keep, otlp, traces_per_second } = serve;
    let (log, keys) = (store.log()?, keys.file());
    // An empty variable is one that is not set, as OpenTelemetry has it.
    let collector = otlp.as_deref().filter(|url| !url.is_empty());
    let traces_per_second = traces_per_second.unwrap_or(collector.map_or(0, |_| TRACES_PER_SECOND));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = telemetry::start(collector)?;
        let mut config = Config {
            system,
            traces_per_second,
            keep,
            log,
            keys,
            ..Config::new(listen, stored.data.data.clone())
        };
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            config.name = name;
        }
        config.journal = stored.options();
        if accept_loss {
            config.journal.accept_loss = AcceptLoss::Yes;
        }
        let node = Node::start(config).await?;
        // Whoever reads the line below may ask at once.
        let asked = asked_to_stop();
        println!("Sillage is listening on http://{}", node.address());
        let failure = tokio::select! {
            () = asked => None,
            failure = node.failed() => Some(failure),
        };
        let closed = node.stop().await;
        tracing::info!(connections = closed, "stopped");
        telemetry.stop().await;
        failure.map_or(Ok(()), |failure| Err(format!("{failure}; start it again").into()))
    })
}
