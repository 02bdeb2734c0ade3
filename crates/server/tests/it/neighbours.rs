//! What one tenant does takes nothing from another.

use serde_json::Value;
use uuid::Uuid;

use crate::support::{Client, action, start};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);

/// So many likes in a tenant, each an event.
async fn like(client: &Client, tenant: &str, times: usize) {
    let mut socket = client.socket(&client.token_of(tenant, "alice", &[], HOUR)).await;
    for _ in 0..times {
        socket.send(&action("LikeAdd", &Uuid::now_v7().to_string(), Uuid::now_v7())).await;
    }
    for _ in 0..times {
        assert_eq!(socket.next_of("receipt").await["outcome"], "applied");
    }
}

async fn outbox(client: &Client, tenant: &str) -> Vec<u64> {
    let operator = client.token_of(tenant, "olga", &["operate"], HOUR);
    let (status, outbox) = client.get("/api/outbox", &operator).await;
    assert_eq!(status, 200, "{outbox}");
    let position = |event: &Value| event["position"].as_u64().unwrap();
    outbox["events"].as_array().unwrap().iter().map(position).collect()
}

#[tokio::test]
async fn a_busy_neighbour_does_not_empty_the_outbox() {
    let running = start(|_| ()).await;
    let client = &running.client;
    assert_eq!(outbox(client, "quiet").await, [0; 0]);
    like(client, "quiet", 2).await;
    like(client, "busy", 600).await;
    like(client, "quiet", 1).await;
    assert_eq!(outbox(client, "quiet").await, [1, 2, 603]);
    assert_eq!(outbox(client, "busy").await, (553..=602).collect::<Vec<_>>());
}
