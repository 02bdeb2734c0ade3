//! Measures one store on PostgreSQL in an empty database: `sillage-postgres-peers NAME ADDRESS WAITING SECONDS` prints
//! how many durable events a second there were.

mod eventcore_rows;
#[path = "../../src/peer.rs"]
mod peer;
mod postgres_es_rows;

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// As our server has it; for all rows alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many connections there are at most: a server that is set up by default takes 100.
const CONNECTIONS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, address, waiting, seconds] = &arguments[..] else {
        panic!("sillage-postgres-peers NAME ADDRESS WAITING SECONDS")
    };
    let waiting = waiting.parse().expect("a number of appends");
    let time = Duration::from_secs_f64(seconds.parse().expect("a number of seconds"));
    let rate = peer::block_on(async {
        match name.as_str() {
            "eventcore-postgres" => eventcore_rows::measure(address, waiting, time).await,
            "postgres-es" => postgres_es_rows::measure(address, waiting, time).await,
            other => panic!("{other} is not known"),
        }
    });
    println!("{rate}");
}

/// A connection for each append that waits, as far as the server has them.
async fn pool(address: &str, waiting: usize) -> PgPool {
    let connections = u32::try_from(waiting.min(CONNECTIONS)).expect("it fits");
    let options = PgPoolOptions::new().min_connections(connections).max_connections(connections);
    options.connect(address).await.expect("a database")
}
