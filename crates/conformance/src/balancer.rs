//! A plain TCP balancer, as one stands before several nodes: each connection goes to the next node that takes it.
//!
//! It knows nothing of what it carries. When a node dies, so do the connections that went to it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A balancer, until it is dropped.
pub struct Balancer {
    address: SocketAddr,
    nodes: Nodes,
    accepting: JoinHandle<()>,
}

/// The next one comes first.
type Nodes = Arc<Mutex<VecDeque<SocketAddr>>>;

impl Balancer {
    /// Listens on a free port, and has no nodes yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, nodes) = (listener.local_addr().unwrap(), Nodes::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&nodes)));
        Self { address, nodes, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on connections go to these.
    pub fn set_nodes(&self, nodes: impl IntoIterator<Item = SocketAddr>) {
        *self.nodes.lock().unwrap() = nodes.into_iter().collect();
    }

    /// Where the connection went that came last.
    pub fn latest(&self) -> Option<SocketAddr> {
        self.nodes.lock().unwrap().back().copied()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, nodes: Nodes) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        let nodes = Arc::clone(&nodes);
        tokio::spawn(async move {
            let Some(mut node) = connect(&nodes).await else { return };
            // Nagle's waiting would be added to each message.
            let both = client.set_nodelay(true).and_then(|()| node.set_nodelay(true));
            if both.is_ok() {
                // It ends when either side does, and it does not matter how.
                drop(copy_bidirectional(&mut client, &mut node).await);
            }
        });
    }
}

/// A connection to the next node that takes it, if there is one.
async fn connect(nodes: &Nodes) -> Option<TcpStream> {
    let count = nodes.lock().unwrap().len();
    for _ in 0..count {
        let next = {
            let mut nodes = nodes.lock().unwrap();
            nodes.rotate_left(1);
            *nodes.back()?
        };
        if let Ok(node) = TcpStream::connect(next).await {
            return Some(node);
        }
    }
    None
}
