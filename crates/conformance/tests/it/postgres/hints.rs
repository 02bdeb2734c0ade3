//! What the nodes of a log tell each other in passing.

use std::collections::BTreeSet;
use std::time::Duration;

use sillage_conformance::DEADLINE;
use sillage_conformance::postgres::Server;
use sillage_store::EventStore;
use sillage_store::event_store::hints::Hint;
use tokio::sync::broadcast::error::TryRecvError;

use super::{OPTIONS, open};

/// More than one notification holds are told at once; the other nodes hear each once, and whoever tells hears nothing.
#[tokio::test(flavor = "multi_thread")]
async fn hints_of_a_node_are_heard_by_all_others() {
    let server = Server::shared();
    let address = server.create_database();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(open(&address, 1, OPTIONS()).await);
    }
    let lanes: Vec<_> = nodes.iter().map(|node| node.hints().unwrap()).collect();
    let mut heard: Vec<_> = lanes.iter().map(|lane| lane.heard()).collect();
    // Whoever has heard one is listening.
    let hint = |number: usize| Hint {
        topic: "test".into(),
        key: number.to_string().into(),
        payload: "x".repeat(1_000).into(),
    };
    for one in &mut heard[1..] {
        let listening = async {
            loop {
                lanes[0].tell(vec![hint(0)]);
                let again = tokio::time::timeout(Duration::from_millis(20), one.recv());
                if let Ok(told) = again.await {
                    return told.unwrap();
                }
            }
        };
        assert_eq!(*tokio::time::timeout(DEADLINE, listening).await.unwrap(), hint(0));
    }
    let all: Vec<Hint> = (1..=100).map(hint).collect();
    lanes[0].tell(all.clone());
    for one in &mut heard[1..] {
        let (mut keys, mut count) = (BTreeSet::new(), 0);
        while keys.len() < all.len() {
            let told = tokio::time::timeout(DEADLINE, one.recv()).await.unwrap().unwrap();
            if *told.key != *"0" {
                assert!(all.contains(&told), "{told:?}");
                (count, _) = (count + 1, keys.insert(told.key.clone()));
            }
        }
        assert_eq!(count, all.len(), "some came twice");
    }
    assert_eq!(heard[0].try_recv(), Err(TryRecvError::Empty), "it hears itself");
}
