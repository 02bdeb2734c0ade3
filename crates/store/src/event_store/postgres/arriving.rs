//! A database that a log is moved into: its tables are filled as the log stands, and it has no row of a log until all is
//! there, so no node opens it.

use std::collections::BTreeMap;

use sillage_kernel::{Epoch, Position, Timestamp};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::group::{LeaseRow, Steps};
use super::link::{Connector, Database, Failed};
use super::session::Session;
use super::verify::{self, Verified};
use super::{PostgresError, PostgresOptions, check_server, migrations};
use crate::event_store::CursorState;
use crate::event_store::journal::{LeaseRecord, Progress};
use crate::transfer::{Moved, Origin, Piece, TransferError};

/// What the lock of whoever moves a log into a database is named by in it: `sill mov`.
const LOCK: i64 = 0x73_69_6c_6c_6d_6f_76;

const MOVE: &str = "SELECT origin, log_id, stage, mark FROM sillage.move";

const BEGIN: &str = "INSERT INTO sillage.move (origin, log_id, stage, mark) VALUES ($1, $2, 'copying', '')";

const ADVANCE: &str = "
    UPDATE sillage.move SET stage = 'copying', mark = $1, forgotten_until = greatest(forgotten_until, $2)";

const FINISH: &str = "
    INSERT INTO sillage.log (log_id, forgotten_until, renewed)
        SELECT log_id, forgotten_until, origin <> log_id FROM sillage.move;
    UPDATE sillage.move SET stage = 'done'";

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Copying,
    /// All is there that was to be copied.
    Whole,
    /// It is the log of the database.
    Done,
}

/// The one who moves a log into a database.
pub(crate) struct Arriving {
    session: Session,
    connector: Connector,
    stage: Stage,
    /// What the epoch comes from that it will have.
    epoch: u128,
    mark: String,
}

impl Arriving {
    /// Begins the move of that log, or finds out how far it is.
    pub(crate) async fn begin(database: &Database, origin: &Origin) -> Result<Self, TransferError> {
        let connector = Connector::new(database, &PostgresOptions::default())?;
        let link = connector.connect_by(connector.deadline()).await.map_err(PostgresError::from)?;
        check_server(&link).await?;
        // Held for as long as the connection is.
        let locked = link.client().execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await;
        locked.map_err(PostgresError::from)?;
        migrations::apply(link.client()).await?;
        let found = find_or_begin(link.client(), origin).await?;
        let (stage, mark, epoch) = match found {
            Found::Log(epoch) => return Err(TransferError::Taken(epoch)),
            Found::Move { born, stage, mark, epoch } if born == origin.born => (stage, mark, epoch),
            Found::Move { stage: Stage::Done, epoch, .. } => {
                return Err(TransferError::Taken(Epoch::from_log_id(epoch)));
            }
            Found::Move { .. } => return Err(TransferError::AnotherMove),
        };
        let session = Session::new(link).await.map_err(PostgresError::from)?;
        Ok(Self { session, connector, stage, epoch, mark })
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// What the epoch comes from that the log had when the move began.
    pub(crate) fn epoch(&self) -> u128 {
        self.epoch
    }

    /// How far the log is here.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Takes a piece, with the mark of it, in one transaction.
    pub(crate) async fn take(&mut self, piece: Piece) -> Result<(), PostgresError> {
        let Piece { events, ledger, leases, forgotten_until, mark, progress: _ } = piece;
        let leases: Vec<LeaseRow> = leases.into_iter().map(lease_row).collect();
        let ledger: Vec<_> = ledger.iter().map(|(key, entry, at)| (key, entry, *at)).collect();
        let session = &self.session;
        let taking = async {
            tokio::try_join!(
                biased;
                session.simple("BEGIN"),
                session.add_events(&events),
                session.add_ledger(&ledger),
                session.set_leases(leases.iter()),
                self.advance(&mark, forgotten_until),
                session.simple("COMMIT"),
            )
        };
        self.connector.within(taking).await?;
        self.mark = mark;
        Ok(())
    }

    /// Reads what is here, and tells what is wrong with it.
    pub(crate) async fn verify(
        &self,
        on_defect: impl FnMut(String),
        on_progress: impl FnMut(Progress),
    ) -> Result<Moved, PostgresError> {
        let Verified { head, events: _, dropped, streams, commands } =
            verify::run(self.session.client(), on_defect, on_progress).await?;
        Ok(Moved { head, dropped, streams, commands })
    }

    /// Puts in where reactors stand, and remembers that all is here.
    pub(crate) async fn settle(&self, cursors: Vec<(Box<str>, CursorState)>) -> Result<(), PostgresError> {
        let cursors: BTreeMap<Box<str>, Steps> =
            cursors.into_iter().map(|(reactor, state)| (reactor, steps_to(state))).collect();
        let session = &self.session;
        let settling = async {
            tokio::try_join!(
                biased;
                session.simple("BEGIN; DELETE FROM sillage.parked; DELETE FROM sillage.cursors"),
                session.set_cursors(&cursors),
                session.park(&cursors),
                session.simple("UPDATE sillage.move SET stage = 'whole'; COMMIT"),
            )
        };
        self.connector.within(settling).await?;
        Ok(())
    }

    /// Makes it the log of the database.
    pub(crate) async fn finish(self) -> Result<(), PostgresError> {
        let finishing = format!("BEGIN; {FINISH}; COMMIT");
        self.connector.within(self.session.simple(&finishing)).await?;
        self.session.close().await;
        Ok(())
    }

    async fn advance(&self, mark: &str, forgotten_until: Timestamp) -> Result<(), Failed> {
        let until = forgotten_until.as_micros();
        self.session.client().execute(ADVANCE, &[&mark, &until]).await?;
        Ok(())
    }
}

/// What is in a database.
enum Found {
    Move { born: u128, epoch: u128, stage: Stage, mark: String },
    Log(Epoch),
}

/// The move that is under way; it begins if the database has no log.
async fn find_or_begin(client: &Client, origin: &Origin) -> Result<Found, PostgresError> {
    client.batch_execute("BEGIN").await?;
    migrations::take_turns(client).await?;
    let mut found = client.query_opt(MOVE, &[]).await?;
    if found.is_none() {
        if let Some(log_id) = migrations::known_log_id(client).await? {
            return Ok(Found::Log(Epoch::from_log_id(log_id.as_u128())));
        }
        let ids = [origin.born, origin.epoch].map(Uuid::from_u128);
        client.execute(BEGIN, &[&ids[0], &ids[1]]).await?;
        found = client.query_opt(MOVE, &[]).await?;
    }
    client.batch_execute("COMMIT").await?;
    found.as_ref().map_or(Err(PostgresError::NoLog), read_move)
}

fn read_move(row: &Row) -> Result<Found, PostgresError> {
    let (born, epoch): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
    let stage = match row.try_get(2)? {
        "copying" => Stage::Copying,
        "whole" => Stage::Whole,
        _ => Stage::Done,
    };
    Ok(Found::Move { born: born.as_u128(), epoch: epoch.as_u128(), stage, mark: row.try_get(3)? })
}

fn lease_row(LeaseRecord { name, owner, lease, until }: LeaseRecord) -> LeaseRow {
    LeaseRow { name, owner, lease, until: Timestamp::from_micros(until) }
}

/// The steps that lead to where a cursor stands, from nothing.
fn steps_to(mut cursor: CursorState) -> Steps {
    let parked = std::mem::take(&mut cursor.parked);
    let changes = parked.into_iter().map(|(position, parked)| (position, Some(parked))).collect();
    Steps { cursor, changes, passed: Position::ZERO }
}
