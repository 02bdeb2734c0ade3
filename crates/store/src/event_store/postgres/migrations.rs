//! The tables, made and changed by numbered files that are in the binary.
//!
//! Invariant: a program only works on a database to which exactly the files that it knows were applied, each as it
//! stands here. Nodes that start at the same time take turns, and what one of them cannot finish leaves no trace.

use sillage_kernel::Digest;
use tokio_postgres::Client;
use uuid::Uuid;

use super::PostgresError;

/// The files, in order; the first is number 1. One that was released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[
    ("log", include_str!("migrations/0001_log.sql")),
    ("dropping and moving", include_str!("migrations/0002_dropping_and_moving.sql")),
];

/// What the locks of this program are named by in the database, so that they meet no other's: `sillage`.
const LOCKS: i64 = 0x73_69_6c_6c_61_67_65;

const RECORD: &str = "
    CREATE SCHEMA IF NOT EXISTS sillage;
    CREATE TABLE IF NOT EXISTS sillage.migrations (
        number integer PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

fn checksum(name: &str, file: &str) -> String {
    Digest::of(name, file, "").to_string()
}

/// Brings the tables to where this program has them, and answers the identity of the log: `log_id`, if there was none.
pub(super) async fn run(client: &Client, log_id: Uuid) -> Result<Uuid, PostgresError> {
    // Almost always there is nothing to do, and then a role that may not change tables will do.
    if is_current(client).await?
        && let Some(log_id) = known_log_id(client).await?
    {
        return Ok(log_id);
    }
    client.batch_execute("BEGIN").await?;
    let made = make(client, log_id).await;
    client.batch_execute(if made.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    made
}

/// Brings the tables to where this program has them, and makes no log.
pub(super) async fn apply(client: &Client) -> Result<(), PostgresError> {
    if is_current(client).await? {
        return Ok(());
    }
    client.batch_execute("BEGIN").await?;
    let applied = apply_missing(client).await;
    client.batch_execute(if applied.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    applied
}

/// Makes sure that there is a log in tables of this program, and changes nothing.
pub(super) async fn check(client: &Client) -> Result<(), PostgresError> {
    if !is_current(client).await? {
        return Err(PostgresError::NotCurrent);
    }
    known_log_id(client).await?.map(drop).ok_or(PostgresError::NotCurrent)
}

/// Waits until nobody else makes tables or a log, until the end of the transaction.
pub(super) async fn take_turns(client: &Client) -> Result<(), PostgresError> {
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCKS]).await?;
    Ok(())
}

async fn make(client: &Client, log_id: Uuid) -> Result<Uuid, PostgresError> {
    apply_missing(client).await?;
    if client.query_opt("SELECT FROM sillage.move WHERE stage <> 'done'", &[]).await?.is_some() {
        return Err(PostgresError::Moving);
    }
    client.execute("INSERT INTO sillage.log (log_id) VALUES ($1) ON CONFLICT DO NOTHING", &[&log_id]).await?;
    known_log_id(client).await?.ok_or(PostgresError::NoLog)
}

async fn apply_missing(client: &Client) -> Result<(), PostgresError> {
    take_turns(client).await?;
    client.batch_execute(RECORD).await?;
    let applied = applied(client).await?;
    for (number, (name, file)) in (1..).zip(MIGRATIONS).skip(applied) {
        client.batch_execute(file).await?;
        let insert = "INSERT INTO sillage.migrations (number, name, checksum) VALUES ($1, $2, $3)";
        client.execute(insert, &[&number, name, &checksum(name, file)]).await?;
        tracing::info!(number, name, "a migration was applied");
    }
    Ok(())
}

async fn is_current(client: &Client) -> Result<bool, PostgresError> {
    let there = "SELECT to_regclass('sillage.migrations') IS NOT NULL";
    let there = client.query_one(there, &[]).await?;
    Ok(there.try_get(0)? && applied(client).await? == MIGRATIONS.len())
}

pub(super) async fn known_log_id(client: &Client) -> Result<Option<Uuid>, PostgresError> {
    let row = client.query_opt("SELECT log_id FROM sillage.log", &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// How many were applied; an error if they are not those that this program knows.
async fn applied(client: &Client) -> Result<usize, PostgresError> {
    let rows = client.query("SELECT number, checksum FROM sillage.migrations ORDER BY number", &[]).await?;
    if rows.len() > MIGRATIONS.len() {
        return Err(PostgresError::Newer { applied: rows.len(), known: MIGRATIONS.len() });
    }
    for ((number, (name, file)), row) in (1_i32..).zip(MIGRATIONS).zip(&rows) {
        let (found, was): (i32, &str) = (row.try_get(0)?, row.try_get(1)?);
        if found != number || was != checksum(name, file) {
            return Err(PostgresError::Changed { number });
        }
    }
    Ok(rows.len())
}
