//! The engine on a database of its own, whose lock of the log can be held and whose disk can be broken.

mod answers;
mod database;
mod hints;
mod kills;
mod lost_commits;
mod nodes;
mod restarts;

use std::sync::Arc;
use std::time::Duration;

use sillage_conformance::DEADLINE;
use sillage_conformance::event_store::{Fixture, HeldDisk};
use sillage_conformance::postgres::Server;
use sillage_store::EventStore;
use sillage_store::event_store::postgres::{Database, PostgresOptions, PostgresStore};
use tokio::runtime::Handle;
use tokio_postgres::NoTls;

/// Patient enough that a busy machine makes nobody give up.
pub(crate) const OPTIONS: fn() -> PostgresOptions = || PostgresOptions {
    lock_timeout: Duration::from_secs(30),
    statement_timeout: Duration::from_secs(40),
    ..PostgresOptions::default()
};

pub(crate) struct OnPostgres {
    store: Arc<PostgresStore>,
    address: String,
    options: PostgresOptions,
    server: Arc<Server>,
}

impl OnPostgres {
    pub(crate) async fn new() -> Self {
        Self::with(OPTIONS()).await
    }

    /// So that everything is read from the database, as it is where others have written it.
    pub(crate) async fn without_memory() -> Self {
        Self::with(PostgresOptions { newest_events: 0, ..OPTIONS() }).await
    }

    async fn with(options: PostgresOptions) -> Self {
        let server = Server::shared();
        let address = server.create_database();
        Self::open(server, address, 7, options).await
    }

    async fn open(server: Arc<Server>, address: String, log_id: u128, options: PostgresOptions) -> Self {
        let store = open(&address, log_id, options).await;
        Self { store, address, options, server }
    }
}

/// The log at an address, as another node has it.
async fn open(address: &str, log_id: u128, options: PostgresOptions) -> Arc<PostgresStore> {
    let database: Database = address.parse().unwrap();
    Arc::new(PostgresStore::open(&database, log_id, options).await.unwrap())
}

/// Somebody else who uses the database.
async fn foreigner(address: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What `look` finds, as soon as it finds something.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await; // tidy: sleep because it polls for what tells nobody
        }
    };
    tokio::time::timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("in vain it was waited for this: {what}"))
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| Handle::current().block_on(future))
}

impl Fixture for OnPostgres {
    fn store(&self) -> Arc<dyn EventStore> {
        self.store.clone()
    }

    async fn reopen(self) -> Self {
        let Self { store, address, options, server } = self;
        let store = Arc::into_inner(store).expect("somebody still has the store");
        store.close().await;
        // Another id, which a log that has one must not take.
        Self::open(server, address, 8, options).await
    }

    /// Whoever holds the row of the log holds up everything that is to be written.
    fn hold_disk(&self) -> Option<Box<dyn HeldDisk>> {
        wait_for(async {
            let (holder, looker) = (foreigner(&self.address).await, foreigner(&self.address).await);
            holder.batch_execute("BEGIN; SELECT FROM sillage.log FOR UPDATE").await.unwrap();
            Some(Box::new(Held { holder, looker }) as Box<dyn HeldDisk>)
        })
    }

    fn break_disk(&self) -> Option<Box<dyn Send + Sync>> {
        wait_for(async {
            let breaker = foreigner(&self.address).await;
            breaker.batch_execute(BREAK).await.unwrap();
            Some(Box::new(Broken(breaker)) as Box<dyn Send + Sync>)
        })
    }
}

const BREAK: &str = "
    CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'broken on purpose'; END $$;
    CREATE TRIGGER broken BEFORE INSERT ON sillage.groups EXECUTE FUNCTION broken()";

const MEND: &str = "DROP TRIGGER broken ON sillage.groups; DROP FUNCTION broken()";

struct Held {
    holder: tokio_postgres::Client,
    looker: tokio_postgres::Client,
}

impl HeldDisk for Held {
    fn is_awaited(&self) -> bool {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_for(async { self.looker.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0 })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        wait_for(self.holder.batch_execute("ROLLBACK")).unwrap();
    }
}

struct Broken(tokio_postgres::Client);

impl Drop for Broken {
    fn drop(&mut self) {
        wait_for(self.0.batch_execute(MEND)).unwrap();
    }
}
