//! The server is stopped under load in every way, and started again.

use std::sync::Arc;

use sillage_conformance::postgres::{Server, Stop};
use sillage_store::EventStore;

use super::answers::{Load, assert_agrees};
use super::{OPTIONS, open};

/// How often it is stopped in each way.
const ROUNDS: usize = 2;
/// How much is to be acknowledged between two stops.
const MORE: usize = 30;

/// Nothing that was acknowledged is lost, nothing is there twice, nothing that was refused is there, and everybody goes
/// on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_and_doubles_nothing() {
    let server = Arc::new(Server::new());
    let address = server.create_database();
    let nodes: [Arc<dyn EventStore>; 2] =
        [open(&address, 1, OPTIONS()).await, open(&address, 2, OPTIONS()).await];
    let load = Load::start(&nodes, 8);
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill].into_iter().cycle().take(3 * ROUNDS) {
        load.goes_on(MORE).await;
        let server = Arc::clone(&server);
        let restart = tokio::task::spawn_blocking(move || {
            server.stop(how);
            server.start();
        });
        restart.await.unwrap();
    }
    load.goes_on(MORE).await;
    let attempts = load.stop().await;
    for node in &nodes {
        assert_agrees(node, &attempts).await;
        node.close().await;
    }
}
