//! Dropping: contents are taken out of their rows, a piece of a stream at a time, from its beginning on.
//!
//! Invariant: a row is only ever changed from having contents to having none, and never the last one of its stream.
//! Nobody who writes waits for it: heads are read from columns that do not change.

use std::collections::HashMap;
use std::sync::Arc;

use super::rows::{column, get};
use super::{Failed, Reader, Shared};
use crate::event_store::sequencer::StreamKey;
use crate::event_store::{Cut, Dropped, StoreError};

/// How many events one statement drops at most.
const PIECE: i64 = 1_000;

const DROP: &str = "
    WITH gone AS (
        SELECT position, octet_length(data) + octet_length(metadata) AS bytes
        FROM sillage.events
        WHERE tenant = $1 AND stream = $2 AND version <= $3 AND data IS NOT NULL
            AND version < (SELECT max(version) FROM sillage.events WHERE tenant = $1 AND stream = $2)
        ORDER BY version LIMIT $4 FOR UPDATE
    ), done AS (
        UPDATE sillage.events SET data = NULL, metadata = NULL
        FROM gone WHERE events.position = gone.position
        RETURNING gone.bytes
    )
    SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM done";

/// Drops what the cuts let go.
pub(super) async fn run(shared: Arc<Shared>, cuts: Vec<Cut>) -> Result<Dropped, StoreError> {
    let mut highest: HashMap<StreamKey, i64> = HashMap::new();
    for Cut { tenant, stream, through } in cuts {
        let through = column(through.get());
        highest.entry((tenant, stream)).and_modify(|cut| *cut = through.max(*cut)).or_insert(through);
    }
    let mut dropped = Dropped::default();
    for (key, through) in &highest {
        loop {
            let piece = shared.pool.read(|reader| drop_piece(reader, key, *through)).await?;
            dropped += piece;
            if piece.events < PIECE.unsigned_abs() {
                break;
            }
        }
    }
    if dropped.events > 0 {
        // What is kept in memory has the contents still.
        shared.tail.clear();
    }
    Ok(dropped)
}

async fn drop_piece(
    reader: Arc<Reader>,
    (tenant, stream): &StreamKey,
    through: i64,
) -> Result<Dropped, Failed> {
    let row =
        reader.client().query_one(DROP, &[&tenant.as_str(), &stream.as_str(), &through, &PIECE]).await?;
    Ok(Dropped { events: get::<i64>(&row, 0)?.unsigned_abs(), bytes: get::<i64>(&row, 1)?.unsigned_abs() })
}
