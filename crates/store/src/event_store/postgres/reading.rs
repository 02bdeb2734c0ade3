//! Reading: pages of the log and of streams, receipts, cursors. Each is one statement, and so one moment.

use std::sync::Arc;

use sillage_kernel::{Event, Filter, Position, StreamName, Tenant, Version};
use tokio_postgres::{Client, Row, Statement};

use super::link::{Failed, Link};
use super::rows::{self, STATE, State, column, columns};
use super::telling::CHANNEL;
use crate::event_store::sequencer::StreamKey;
use crate::event_store::{
    CursorState, Direction, LedgerEntry, LedgerKey, LogPage, MAX_PAGE_BYTES, StoreError, StreamPage, room,
};

/// How many events one page has at most.
const PAGE_EVENTS: usize = 8_192;
/// Through how many positions a page looks for what is wanted at most.
const PAGE_POSITIONS: u64 = 16_384;

const LOG: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM (
        SELECT *, sum(octet_length(data) + octet_length(metadata))
            OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes
        FROM sillage.events
        WHERE position > $1 AND position <= $2 AND data IS NOT NULL
            AND ($3::text IS NULL OR split_part(stream, '-', 1) = $3
                OR $7 AND starts_with(stream, '$baseline-' || $3 || '-'))
            AND NOT ($4 AND starts_with(stream, '$'))
        ORDER BY position LIMIT $5
    ) AS run
    WHERE bytes - octet_length(data) - octet_length(metadata) <= $6
    ORDER BY position"
);

/// A page of a stream, with the end of the stream in each row; no row if it has no events.
macro_rules! stream {
    ($wanted:literal, $order:literal) => {
        concat!(
            "SELECT head.version, ",
            "page.position, page.version, page.recorded_at, page.id, page.tenant, page.stream, page.type, ",
            "page.data, page.metadata, page.checksum ",
            "FROM (
                SELECT version FROM sillage.events
                WHERE tenant = $1 AND stream = $2 ORDER BY version DESC LIMIT 1
            ) AS head
            LEFT JOIN (
                SELECT * FROM (
                    SELECT *, sum(coalesce(octet_length(data) + octet_length(metadata), 0))
                        OVER (ORDER BY version ",
            $order,
            " ROWS UNBOUNDED PRECEDING) AS bytes
                    FROM sillage.events WHERE tenant = $1 AND stream = $2 AND version ",
            $wanted,
            " ORDER BY version ",
            $order,
            " LIMIT $4
                ) AS run
                WHERE bytes <= $5
            ) AS page ON true"
        )
    };
}

const KEPT: &str = "
    SELECT version FROM sillage.events
    WHERE tenant = $1 AND stream = $2 AND version > $3 AND data IS NOT NULL
    ORDER BY version LIMIT 1";

const CURSOR: &str = "
    SELECT cursors.position, cursors.mode, parked.entry
    FROM sillage.cursors LEFT JOIN sillage.parked USING (reactor)
    WHERE reactor = $1";

const LEASE: &str = "
    SELECT owner FROM sillage.leases
    WHERE name = $1 AND until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Its commit waits for no disk, since the transaction writes nothing.
const TELL: &str = "SELECT pg_notify($1, told) FROM unnest($2::text[]) AS told";

/// A connection that reads, and tells others what is not kept.
pub(super) struct Reader {
    link: Link,
    state: Statement,
    log: Statement,
    forward: Statement,
    backward: Statement,
    ledger: Statement,
    cursor: Statement,
    lease: Statement,
    tell: Statement,
}

impl Reader {
    pub(super) async fn new(link: Link) -> Result<Self, Failed> {
        let client = link.client();
        let (state, log, forward, backward, ledger, cursor, lease, tell) = tokio::try_join!(
            client.prepare(STATE),
            client.prepare(LOG),
            client.prepare(stream!(">= $3", "")),
            client.prepare(stream!("<= $3", "DESC")),
            client.prepare(rows::LEDGER),
            client.prepare(CURSOR),
            client.prepare(LEASE),
            client.prepare(TELL),
        )?;
        Ok(Self { link, state, log, forward, backward, ledger, cursor, lease, tell })
    }

    pub(super) fn client(&self) -> &Client {
        self.link.client()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.link.is_lost()
    }

    pub(super) async fn lost(&self) {
        self.link.lost().await;
    }

    pub(super) async fn close(self) {
        self.link.close().await;
    }

    pub(super) async fn state(&self) -> Result<State, Failed> {
        rows::state(&self.client().query_one(&self.state, &[]).await?)
    }

    /// A page of what comes after `after` up to the head, which must have been committed.
    pub(super) async fn log(
        &self,
        after: Position,
        head: Position,
        filter: &Filter,
        limit: usize,
    ) -> Result<LogPage, Failed> {
        let end = head.min(Position::new(after.get().saturating_add(PAGE_POSITIONS)));
        let limit = limit.min(PAGE_EVENTS);
        if after >= end || limit == 0 {
            return Ok(LogPage { events: Vec::new(), through: after });
        }
        let (category, people, baselines) = match filter {
            Filter::Everything => (None, false, false),
            Filter::People => (None, true, false),
            Filter::Category(name) => (Some(&**name), false, false),
            Filter::WithBaselines(name) => (Some(&**name), false, true),
        };
        let (after_column, end_column) = (column(after.get()), column(end.get()));
        let (most, bytes) = (column(limit as u64), column(MAX_PAGE_BYTES as u64));
        let found = self
            .client()
            .query(&self.log, &[&after_column, &end_column, &category, &people, &most, &bytes, &baselines])
            .await?;
        let mut events: Vec<Arc<Event>> = Vec::with_capacity(found.len());
        let mut has_room = room();
        for row in &found {
            let event = rows::event(events.last().map(|last| &**last), row, 0)?;
            if !has_room(&event) {
                break;
            }
            events.push(Arc::new(event));
        }
        // A full page has come as far as its last event; one with room has come through all that it looked at.
        let is_full = events.len() < found.len() || found.len() == limit;
        let through = if is_full { LogPage::end_of(&events, after) } else { end };
        Ok(LogPage { events, through })
    }

    pub(super) async fn stream(
        &self,
        (tenant, stream): &StreamKey,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Result<StreamPage, StoreError>, Failed> {
        let statement = match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        };
        let (from, limit) = (column(from.get()), column(limit.min(PAGE_EVENTS) as u64));
        let bytes = column(MAX_PAGE_BYTES as u64);
        let found = self
            .client()
            .query(statement, &[&tenant.as_str(), &stream.as_str(), &from, &limit, &bytes])
            .await?;
        let Some(first) = found.first() else {
            return Ok(Ok(StreamPage { events: Vec::new(), head: Version::ZERO }));
        };
        let head = rows::version(first, 0)?;
        // Where the page is empty there is one row, with the end of the stream alone.
        let is_event = |row: &&Row| !matches!(rows::get::<Option<i64>>(row, 1), Ok(None));
        let mut run: Vec<(Version, &Row)> = found
            .iter()
            .filter(is_event)
            .map(|row| Ok((rows::version(row, 2)?, row)))
            .collect::<Result<_, Failed>>()?;
        run.sort_by_key(|(version, _)| *version);
        if direction == Direction::Backward {
            run.reverse();
        }
        let mut events: Vec<Arc<Event>> = Vec::with_capacity(run.len());
        for (version, row) in run {
            if !rows::is_dropped(row, 1)? {
                let event = rows::event(events.last().map(|last| &**last), row, 1)?;
                events.push(Arc::new(event));
            } else if events.is_empty() {
                let kept_from = self.kept_after(tenant, stream, version).await?.unwrap_or(head.next());
                return Ok(Err(StoreError::Dropped { kept_from }));
            } else {
                break;
            }
        }
        Ok(Ok(StreamPage { events, head }))
    }

    /// The first event of a stream behind one that has its contents.
    async fn kept_after(
        &self,
        tenant: &Tenant,
        stream: &StreamName,
        version: Version,
    ) -> Result<Option<Version>, Failed> {
        let after = column(version.get());
        let kept = self.client().query_opt(KEPT, &[&tenant.as_str(), &stream.as_str(), &after]).await?;
        kept.map(|row| rows::version(&row, 0)).transpose()
    }

    pub(super) async fn look_up(&self, keys: &[LedgerKey]) -> Result<Vec<Option<LedgerEntry>>, Failed> {
        let mut entries = vec![None; keys.len()];
        for (place, entry) in rows::ledger(self.client(), &self.ledger, keys).await? {
            if let Some(slot) = entries.get_mut(place) {
                *slot = Some(entry);
            }
        }
        Ok(entries)
    }

    pub(super) async fn lease_holder(&self, lease: &str) -> Result<Option<Box<str>>, Failed> {
        let found = self.client().query_opt(&self.lease, &[&lease]).await?;
        found.map(|row| Ok(rows::get::<&str>(&row, 0)?.into())).transpose()
    }

    pub(super) async fn tell(&self, told: &[String]) -> Result<(), Failed> {
        self.client().execute(&self.tell, &[&CHANNEL, &told]).await?;
        Ok(())
    }

    pub(super) async fn cursor(&self, reactor: &str) -> Result<CursorState, Failed> {
        let found = self.client().query(&self.cursor, &[&reactor]).await?;
        let Some(first) = found.first() else { return Ok(self.state().await?.unknown_cursor()) };
        let mut state = rows::cursor(first, 0)?;
        for row in &found {
            if let Some(entry) = rows::get::<Option<&str>>(row, 2)? {
                let parked = rows::parked(entry)?;
                state.parked.insert(parked.position, parked);
            }
        }
        Ok(state)
    }
}
