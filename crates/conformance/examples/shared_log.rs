//! What several nodes share, for tests in other languages: a PostgreSQL server with an empty database, and a balancer.
//!
//! It prints the address of the database and that of the balancer, each on a line, and reads the addresses of the nodes,
//! all of them on one line, with spaces, whenever there are others. It ends with its input.

use std::error::Error;
use std::io::BufRead;

use sillage_conformance::balancer::Balancer;
use sillage_conformance::postgres::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, balancer) = (Server::new(), Balancer::start().await);
    println!("{}\n{}", server.create_database(), balancer.address());
    tokio::task::block_in_place(|| {
        for line in std::io::stdin().lock().lines() {
            let nodes: Result<Vec<_>, _> = line?.split_whitespace().map(str::parse).collect();
            balancer.set_nodes(nodes?);
            // Whoever waits for this knows that the next connection goes there.
            println!("balanced");
        }
        Ok(())
    })
}
