//! A log that is moved out of a database: held by the lock of its row, so that no node writes it meanwhile, and read as
//! it stands.
//!
//! Invariant: all is one transaction that changes nothing but, at its end, the epoch. Whoever is killed has done nothing.

use std::collections::BTreeMap;

use sillage_kernel::{EventId, Position, Timestamp};
use tokio_postgres::Client;
use uuid::Uuid;

use super::link::{Database, Link};
use super::rows::{self, STATE, State, column, get};
use super::session::LOCK;
use super::verify::{PAGE, PAGE_EVENTS};
use super::{PostgresError, epoch, log_in};
use crate::event_store::journal::{LeaseRecord, Progress};
use crate::event_store::{CursorState, Lease, LedgerEntry, LedgerKey, MAX_PAGE_BYTES};
use crate::transfer::{Piece, Rest};

/// What stands still for as long as it takes, and is read in one order.
const HOLD: &str = "
    SET idle_in_transaction_session_timeout = 0;
    SET statement_timeout = 0;
    SET enable_seqscan = on;
    BEGIN";

const NEXT_LEDGER: &str = "FETCH 4096 FROM ledger";

const CURSORS: &str = "SELECT position, mode, reactor FROM sillage.cursors";

const PARKED: &str = "SELECT reactor, entry FROM sillage.parked";

const LEASES: &str = "SELECT name, owner, token, until FROM sillage.leases";

/// A log that nobody writes until it is moved.
pub(crate) struct Leaving {
    link: Link,
    state: State,
    reached: Position,
    /// What was read of the ledger and is behind where the events have come to.
    ledger: Vec<(LedgerKey, LedgerEntry, Timestamp)>,
}

impl Leaving {
    /// Opens the log in a database, and lets nobody else write it.
    pub(crate) async fn open(database: &Database) -> Result<Self, PostgresError> {
        let link = log_in(database).await?;
        link.client().batch_execute(HOLD).await?;
        link.client().execute(LOCK, &[]).await?;
        let state = rows::state(&link.client().query_one(STATE, &[]).await?)?;
        Ok(Self { link, state, reached: Position::ZERO, ledger: Vec::new() })
    }

    /// What its epoch comes from.
    pub(crate) fn epoch(&self) -> u128 {
        self.state.log_id.as_u128()
    }

    pub(crate) fn head(&self) -> Position {
        self.state.position
    }

    fn client(&self) -> &Client {
        self.link.client()
    }

    /// Goes behind that position; answers the event there, if there is one.
    pub(crate) async fn seek(&mut self, to: Position) -> Result<Option<EventId>, PostgresError> {
        let from = column(to.get());
        let declare = format!(
            "DECLARE ledger NO SCROLL CURSOR FOR
             SELECT position, content, stream, outcome, at, command_id, tenant, principal
             FROM sillage.ledger WHERE position > {from} OR {from} = 0 ORDER BY position, at"
        );
        self.client().batch_execute(&declare).await?;
        self.reached = to;
        let at =
            self.client().query_opt("SELECT id FROM sillage.events WHERE position = $1", &[&from]).await?;
        Ok(at.map(|row| row.try_get(0).map(EventId)).transpose()?)
    }

    /// What comes next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, PostgresError> {
        if self.reached >= self.head() {
            return Ok(None);
        }
        let (after, to) = (column(self.reached.get()), column(self.head().get()));
        let bytes = column(MAX_PAGE_BYTES as u64);
        let found = self.client().query(PAGE, &[&after, &to, &PAGE_EVENTS, &bytes]).await?;
        let mut events = Vec::with_capacity(found.len());
        for row in &found {
            events.push(rows::event(None, row, 0)?.into());
        }
        self.reached = found.last().map_or(Ok(self.head()), |row| rows::position(row, 0))?;
        let ledger = self.ledger_to(self.reached).await?;
        let [done_bytes, total_bytes] = [self.reached, self.head()].map(Position::get);
        let progress = Progress { done_bytes, total_bytes };
        Ok(Some(Piece { events, ledger, progress, ..Piece::default() }))
    }

    /// What was settled up to that position.
    async fn ledger_to(
        &mut self,
        to: Position,
    ) -> Result<Vec<(LedgerKey, LedgerEntry, Timestamp)>, PostgresError> {
        while self.ledger.last().is_none_or(|(_, entry, _)| entry.receipt.position <= to) {
            let found = self.client().query(NEXT_LEDGER, &[]).await?;
            if found.is_empty() {
                break;
            }
            for row in &found {
                self.ledger.push(rows::settled(row)?);
            }
        }
        let until = self.ledger.partition_point(|(_, entry, _)| entry.receipt.position <= to);
        Ok(self.ledger.drain(..until).collect())
    }

    /// What is not in the order of the log.
    pub(crate) async fn rest(&self) -> Result<Rest, PostgresError> {
        let mut cursors: BTreeMap<Box<str>, CursorState> = BTreeMap::new();
        for row in self.client().query(CURSORS, &[]).await? {
            cursors.insert(get::<&str>(&row, 2)?.into(), rows::cursor(&row, 0)?);
        }
        for row in self.client().query(PARKED, &[]).await? {
            let parked = rows::parked(get(&row, 1)?)?;
            cursors.entry(get::<&str>(&row, 0)?.into()).or_default().parked.insert(parked.position, parked);
        }
        let mut leases = Vec::new();
        for row in self.client().query(LEASES, &[]).await? {
            let lease = Lease { token: get::<i64>(&row, 2)?.unsigned_abs() };
            let (name, owner) = (get::<&str>(&row, 0)?.into(), get::<&str>(&row, 1)?.into());
            leases.push(LeaseRecord { name, owner, lease, until: get(&row, 3)? });
        }
        Ok(Rest { cursors, leases, forgotten_until: self.state.forgotten_until })
    }

    /// Begins another epoch, and lets go.
    pub(crate) async fn retire(self, id: u128) -> Result<(), PostgresError> {
        epoch::begin(self.client(), Uuid::from_u128(id)).await?;
        self.client().batch_execute("COMMIT").await?;
        self.link.close().await;
        Ok(())
    }
}
