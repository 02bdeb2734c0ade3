//! Where views keep their rows: one SQLite file beside each node, in every mode.
//!
//! Invariant: a view's cursor is committed with the rows that it speaks of, so the file always shows the
//! state at exactly one position. All healthy views are moved in one transaction a batch, so several can be
//! read at one position. The file can be deleted at any time: it is rebuilt from the log.

mod baselines;
mod folding;
mod past;
mod reader;

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sillage_kernel::{Epoch, Event, Filter, FoldsBaselines, Position, View};
use tokio::sync::watch;

pub use self::baselines::{Baselines, BaselinesError, COMPACTED_TO, may_lack_events};
pub use self::folding::Table;
use self::folding::{FoldError, Folding, FoldingOf};
pub use self::past::{MAX_PAST, PastError, PastView, PastViews};
pub use self::reader::{Answer, Freshness, MAX_READERS, QueryError, ViewReader};

/// Why the views cannot be opened or moved.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The file cannot be used: look at the disk, or delete the file, and it is rebuilt.
    #[error("the file of the views cannot be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The views know more than the log of this epoch, so it has lost something that others may know too: restore a
    /// backup, or let the log begin a new epoch, for which the views are built anew.
    #[error(
        "the views stand at position {views}, beyond the end of the log at {log}, which has lost what they know: \
         restore a backup, or confirm with `sillage epoch new` that it is to go on as it is"
    )]
    BeyondTheLog {
        /// Where the views stand.
        views: Position,
        /// Where the log ends.
        log: Position,
    },
    /// The view needs events that compaction has dropped: teach it to fold baselines.
    #[error("the view {0} needs every event, and some were dropped")]
    Compacted(&'static str),
}

/// How a view stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewStatus {
    /// Its name.
    pub name: &'static str,
    /// Its rows reflect the log up to here.
    pub position: Position,
    /// Why it no longer moves, if it does not.
    pub stopped: Option<Arc<str>>,
}

/// The views of a node, before the file is opened.
#[derive(Clone, Default)]
pub struct ViewSet(Vec<Arc<dyn Folding>>);

impl ViewSet {
    /// Adds a view, whose rows `table` keeps.
    #[must_use]
    pub fn with<V: View>(mut self, table: impl Table<V>) -> Self {
        self.0.push(Arc::new(FoldingOf::new(table)));
        self
    }

    /// Adds the views of another set.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The views that want the events of a category and cannot do without any of them.
    pub fn need_every_event_of(&self, category: &str) -> Vec<&'static str> {
        let wanting = self.0.iter().filter(|view| view.filter().admits_category(category));
        let needing = wanting.filter(|view| view.folds_baselines() == FoldsBaselines::No);
        needing.map(|view| view.name()).collect()
    }

    /// Opens the file for the log of that epoch, which ends at `head`. A view that is new, has changed its
    /// shape, belongs to another epoch or has missed what was dropped starts from nothing, and takes `baselines` for
    /// what is missing.
    pub fn open(
        self,
        file: &Path,
        epoch: &Epoch,
        head: Position,
        baselines: Baselines,
    ) -> Result<Views, ViewsError> {
        let mut db = connect(file)?;
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS cursors(
                view TEXT PRIMARY KEY, revision INTEGER NOT NULL, epoch TEXT NOT NULL, position INTEGER NOT NULL)",
        )?;
        let transaction = db.transaction()?;
        // Whatever the file says of this epoch counts, also of views that are built anew or are no more.
        let known: Option<u64> = transaction.query_row(
            "SELECT MAX(position) FROM cursors WHERE epoch = ?1",
            [epoch.as_str()],
            |row| row.get(0),
        )?;
        if let Some(views) = known.map(Position::new).filter(|known| *known > head) {
            return Err(ViewsError::BeyondTheLog { views, log: head });
        }
        let mut views = Vec::with_capacity(self.0.len());
        for folding in self.0 {
            let position = prepare(&transaction, folding.as_ref(), epoch, baselines.to())?;
            if position < baselines.to()
                && folding.folds_baselines() == FoldsBaselines::No
                && baselines.miss_any_of(&folding.filter())
            {
                return Err(ViewsError::Compacted(folding.name()));
            }
            let status = ViewStatus { name: folding.name(), position, stopped: None };
            views.push(Moving { folding, status });
        }
        transaction.commit()?;
        let statuses = watch::Sender::new(views.iter().map(|view| view.status.clone()).collect());
        Ok(Views { db, views, file: file.into(), baselines, statuses })
    }
}

/// Where the view stands in this epoch, after making its tables if they are not as it wants them.
/// One that does not stand at `least` or later has missed something.
fn prepare(
    db: &Transaction<'_>,
    view: &dyn Folding,
    epoch: &Epoch,
    least: Position,
) -> rusqlite::Result<Position> {
    let stored: Option<(u32, String, u64)> = db
        .query_row("SELECT revision, epoch, position FROM cursors WHERE view = ?1", [view.name()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    if let Some((revision, stored_epoch, position)) = stored
        && revision == view.revision()
        && stored_epoch == epoch.as_str()
        && position >= least.get()
    {
        return Ok(Position::new(position));
    }
    view.reset(db)?;
    db.execute(
        "INSERT OR REPLACE INTO cursors(view, revision, epoch, position) VALUES (?1, ?2, ?3, 0)",
        params![view.name(), view.revision(), epoch.as_str()],
    )?;
    Ok(Position::ZERO)
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(file)?;
    // NORMAL loses at most the last transactions with the power, never the order: they are folded again.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -65536; PRAGMA busy_timeout = 5000;",
    )?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// The views of a node: the one that writes. Readers come from [`Views::reader`].
pub struct Views {
    db: Connection,
    views: Vec<Moving>,
    file: Box<Path>,
    /// What was dropped when the file was opened. What is dropped later, the views have folded before.
    baselines: Baselines,
    statuses: watch::Sender<Vec<ViewStatus>>,
}

struct Moving {
    folding: Arc<dyn Folding>,
    status: ViewStatus,
}

impl Views {
    /// Where the folding has to go on: the lowest position of a view that moves. `None` if none does.
    pub fn cursor(&self) -> Option<Position> {
        let moving = self.views.iter().filter(|view| view.status.stopped.is_none());
        moving.map(|view| view.status.position).min()
    }

    /// Up to where baselines stand for what is missing.
    pub fn covered_to(&self) -> Position {
        self.baselines.to()
    }

    /// What the views are built from, together.
    pub fn filter(&self) -> Filter {
        let [Moving { folding, .. }] = self.views.as_slice() else { return Filter::Everything };
        match (folding.folds_baselines(), folding.filter()) {
            (FoldsBaselines::No, only) => only,
            (FoldsBaselines::Yes, Filter::Category(category)) => Filter::WithBaselines(category),
            (FoldsBaselines::Yes, _) => Filter::Everything,
        }
    }

    /// A way to ask the views, for as many threads as want to.
    pub fn reader(&self) -> ViewReader {
        ViewReader::new(&self.file, self.statuses.subscribe())
    }

    /// Folds the events, which must be all that the views want between their cursor and `through`, and moves
    /// every healthy view there in one transaction. A view that cannot fold them stops where it stands; an
    /// error means that no view was moved, as when the disk is full: the same can be tried again.
    pub fn fold(&mut self, events: &[Arc<Event>], through: Position) -> Result<(), ViewsError> {
        let transaction = self.db.transaction()?;
        let mut stopped = Vec::new();
        for view in self.views.iter_mut().filter(|view| view.status.stopped.is_none()) {
            // A view that was rebuilt lags behind the others, which pass over what they have seen.
            let seen = events.partition_point(|event| event.position <= view.status.position);
            let news = events.get(seen..).unwrap_or_default();
            match view.folding.fold(&transaction, news, &self.baselines) {
                Ok(()) => save_cursor(&transaction, view.status.name, through)?,
                Err(FoldError::Stop(reason)) => stopped.push((view.status.name, reason)),
                Err(FoldError::Trouble(error)) => return Err(error.into()),
            }
        }
        transaction.commit()?;
        for ViewStatus { name, position, stopped: reason } in
            self.views.iter_mut().map(|view| &mut view.status)
        {
            match stopped.iter().find(|(failed, _)| failed == name) {
                Some((_, error)) => *reason = Some(Arc::clone(error)),
                None if reason.is_none() => *position = through.max(*position),
                None => {}
            }
        }
        self.statuses.send_replace(self.views.iter().map(|view| view.status.clone()).collect());
        Ok(())
    }
}

fn save_cursor(db: &Transaction<'_>, view: &str, through: Position) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached("UPDATE cursors SET position = MAX(position, ?2) WHERE view = ?1")?;
    update.execute(params![view, through.get()])?;
    Ok(())
}
