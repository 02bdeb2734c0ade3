//! Durable appends on one PostgreSQL server, side by side: bare batches, our engine, the obvious table, and peers.
//!
//! In every cell 1, 8, 64 or 512 appends wait at a time, each with one event of 400 bytes, over 10,000 streams, with the
//! expected version checked, and each is answered when it is durable. The server is started here, with the settings that it
//! comes with, in a folder of temporary files (`TMPDIR` says which disk). Every cell has a fresh database, after a
//! checkpoint.
//!
//! Rows that are programs of their own are left out unless they are named: `PEERS` is the program of
//! `benches/postgres-peers`, and `EMMETT=node` runs `benches/emmett`. With `SILLAGE` and `LOAD`, the server and the
//! driver of its load, the whole is measured last, from sockets to their receipts. See [`table::measure`] for more.

mod bare;
mod obvious;
#[path = "../ours.rs"]
mod ours;
#[path = "../peer.rs"]
mod peer;
mod program;
#[path = "../table.rs"]
mod table;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use sillage_conformance::postgres::Server;
use sillage_store::EventStore;
use sillage_store::event_store::postgres::{Database, PostgresOptions, PostgresStore};
use uuid::Uuid;

use self::ours::Ours;
use self::program::Program;
use self::table::Measure;

/// As our server has it; for all rows alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many connections there are at most where each append has one: a server that is set up by default takes 100.
const CONNECTIONS: usize = 64;

fn main() {
    let server = Arc::new(Server::with_defaults());
    println!("{}\n", peer::block_on(settings(&server.create_database())));
    let on = |measure| in_database(&server, measure);
    let mut rows = vec![
        ("bare `UNNEST` batches", on(Box::new(bare::measure) as AtAddress)),
        ("Sillage on PostgreSQL", on(Box::new(measure_ours))),
        ("one transaction an append, unique (stream, version)", on(Box::new(obvious::measure))),
    ];
    for (name, program) in Program::named() {
        rows.push((
            name,
            on(Box::new(move |address, waiting, time| program.measure(address, waiting, time))),
        ));
    }
    table::measure(rows);
    if let Some(report) = whole::measure(&server.create_database()) {
        println!("\n{report}");
    }
}

/// What is measured in an empty database.
type AtAddress = Box<dyn Fn(&str, usize, Duration) -> f64>;

fn in_database(server: &Arc<Server>, measure: AtAddress) -> Measure {
    let server = Arc::clone(server);
    Box::new(move |waiting, time| {
        let address = server.create_database();
        server.run_sql("postgres", "CHECKPOINT");
        let rate = measure(&address, waiting, time);
        let (_, name) = address.rsplit_once('/').expect("an address ends with a name");
        server.run_sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
        rate
    })
}

fn measure_ours(address: &str, waiting: usize, time: Duration) -> f64 {
    peer::block_on(async {
        let database: Database = address.parse().expect("an address");
        let opened = PostgresStore::open(&database, Uuid::now_v7().as_u128(), PostgresOptions::default());
        let store: Arc<dyn EventStore> = Arc::new(opened.await.expect("a log"));
        let rate = peer::drive(Arc::new(Ours::new(Arc::clone(&store))), waiting, time).await;
        store.close().await;
        rate
    })
}

/// What a connection of one's own needs.
async fn connect(address: &str) -> tokio_postgres::Client {
    let connected = tokio_postgres::connect(address, tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("a database");
    tokio::spawn(connection);
    client
}

/// The settings of the server that matter, in a sentence.
async fn settings(address: &str) -> String {
    let names =
        "server_version fsync synchronous_commit full_page_writes wal_sync_method shared_buffers max_wal_size
        max_connections";
    let client = connect(address).await;
    let mut settings = Vec::new();
    for name in names.split_whitespace() {
        let row = client.query_one("SELECT current_setting($1)", &[&name]).await.expect("a setting");
        settings.push(format!("{name} = {}", row.get::<_, String>(0)));
    }
    settings.join(", ")
}
