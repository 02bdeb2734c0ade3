//! A new epoch: the log in a database goes on as it is, as another log.

use sillage_kernel::Epoch;
use tokio_postgres::Client;
use uuid::Uuid;

use super::link::Database;
use super::session::LOCK;
use super::telling::CHANNEL;
use super::{PostgresError, log_in, migrations};

const BEGIN_EPOCH: &str = "UPDATE sillage.log SET log_id = $1, renewed = true";

/// Who runs waits for an operator, since what it would do may have been done in the old epoch.
const HOLD: &str = "UPDATE sillage.cursors SET mode = 'held' WHERE mode = 'running'";

/// Lets the log in a database begin the epoch of `id`, a random number; answers the epoch that ends and the one that
/// begins. Nodes that run notice, write nothing more, and fail.
///
/// # Errors
/// [`PostgresError`]; then nothing was changed, but for the loss of the connection at the very end: ask again what the
/// epoch is.
pub async fn begin_epoch(database: &Database, id: u128) -> Result<(Epoch, Epoch), PostgresError> {
    let link = log_in(database).await?;
    link.client().batch_execute("BEGIN").await?;
    let old = begin(link.client(), Uuid::from_u128(id)).await?;
    link.client().batch_execute("COMMIT").await?;
    link.close().await;
    Ok((old, Epoch::from_log_id(id)))
}

/// Does it in a transaction that somebody else has begun and ends.
pub(super) async fn begin(client: &Client, id: Uuid) -> Result<Epoch, PostgresError> {
    client.execute(LOCK, &[]).await?;
    let old = migrations::known_log_id(client).await?.ok_or(PostgresError::NoLog)?;
    client.execute(BEGIN_EPOCH, &[&id]).await?;
    client.execute(HOLD, &[]).await?;
    client.execute("SELECT pg_notify($1, 'epoch')", &[&CHANNEL]).await?;
    Ok(Epoch::from_log_id(old.as_u128()))
}
