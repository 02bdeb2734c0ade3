//! Asking the views: at whatever position they are, or at least at one that the caller names.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use sillage_kernel::Position;
use tokio::sync::{Semaphore, watch};

use super::{ViewStatus, connect};

/// How many queries run at the same time; the others wait for their turn.
pub const MAX_READERS: usize = 4;

/// Asks the views. Cloning shares its connections.
#[derive(Clone)]
pub struct ViewReader {
    pool: Arc<Pool>,
    statuses: watch::Receiver<Vec<ViewStatus>>,
}

struct Pool {
    file: Box<Path>,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// What a query found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The position that it reflects.
    pub position: Position,
    /// Whether the view still moves.
    pub freshness: Freshness,
}

/// Whether a view still moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It follows the log.
    Fresh,
    /// It has stopped: what it says was true at the position it names.
    Stale,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The view did not come to the wanted position in time: ask again.
    #[error("the view has only come to position {reached}")]
    TooEarly {
        /// How far it has come.
        reached: Position,
    },
    /// The file of the views cannot be read: tell an operator.
    #[error("the views cannot be read: {0}")]
    Unavailable(String),
}

impl ViewReader {
    pub(super) fn new(file: &Path, statuses: watch::Receiver<Vec<ViewStatus>>) -> Self {
        let (idle, turns) = (Mutex::default(), Arc::new(Semaphore::new(MAX_READERS)));
        Self { pool: Arc::new(Pool { file: file.into(), idle, turns }), statuses }
    }

    /// How the views stand.
    pub fn statuses(&self) -> Vec<ViewStatus> {
        self.statuses.borrow().clone()
    }

    /// Waits until the view has come to `position` or has stopped, at most for `patience`.
    pub async fn wait_for(
        &self,
        view: &'static str,
        position: Position,
        patience: Duration,
    ) -> Result<(), QueryError> {
        let mut statuses = self.statuses.clone();
        let there = statuses.wait_for(|statuses| {
            let status = statuses.iter().find(|status| status.name == view);
            status.is_none_or(|status| status.position >= position || status.stopped.is_some())
        });
        drop(tokio::time::timeout(patience, there).await);
        let reached = self.status(view).map_or(Position::ZERO, |status| status.position);
        if reached >= position { Ok(()) } else { Err(QueryError::TooEarly { reached }) }
    }

    /// Runs a query on one state of the views, and says which. `ask` must not write.
    pub async fn query<T: Send + 'static>(
        &self,
        view: &'static str,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Answer<T>, QueryError> {
        let pool = Arc::clone(&self.pool);
        let turn = Arc::clone(&pool.turns).acquire_owned().await.map_err(|error| unavailable(&error))?;
        // The turn goes with the work: whoever no longer waits for the answer has not ended it.
        let asked = tokio::task::spawn_blocking(move || {
            let answer = pool.ask(view, ask);
            drop(turn);
            answer
        })
        .await;
        let (value, position) =
            asked.map_err(|error| unavailable(&error))?.map_err(|error| unavailable(&error))?;
        let stopped = self.status(view).is_some_and(|status| status.stopped.is_some());
        let freshness = if stopped { Freshness::Stale } else { Freshness::Fresh };
        Ok(Answer { value, position, freshness })
    }

    fn status(&self, view: &str) -> Option<ViewStatus> {
        self.statuses.borrow().iter().find(|status| status.name == view).cloned()
    }
}

impl Pool {
    fn ask<T>(
        &self,
        view: &str,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, Position)> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut db = idle.map_or_else(|| connect(&self.file), Ok)?;
        // The transaction holds the rows and the cursor at one state.
        let transaction = db.transaction()?;
        let position: u64 = transaction
            .prepare_cached("SELECT position FROM cursors WHERE view = ?1")?
            .query_row([view], |row| row.get(0))?;
        let value = ask(&transaction)?;
        drop(transaction);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        Ok((value, Position::new(position)))
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> QueryError {
    QueryError::Unavailable(error.to_string())
}
