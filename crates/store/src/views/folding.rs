//! From events to rows: what a batch touches is read once, folded in memory, and written once.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::marker::PhantomData;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use sillage_kernel::{Event, Filter, FoldsBaselines, Rows, View, ViewError};

use super::Baselines;

/// The half of a view that does I/O: how its rows are kept in SQLite.
pub trait Table<V: View>: Send + Sync + 'static {
    /// The statements that drop the tables, if they are there, and make them.
    fn schema(&self) -> &'static str;

    /// The row of a key.
    fn load(&self, db: &Connection, key: &V::Key) -> rusqlite::Result<Option<V::Row>>;

    /// Writes the row of a key, or takes it away.
    fn save(&self, db: &Connection, key: &V::Key, row: Option<&V::Row>) -> rusqlite::Result<()>;
}

/// A view of any type.
pub(super) trait Folding: Send + Sync {
    fn name(&self) -> &'static str;
    fn revision(&self) -> u32;
    fn filter(&self) -> Filter;
    fn folds_baselines(&self) -> FoldsBaselines;
    fn reset(&self, db: &Transaction<'_>) -> rusqlite::Result<()>;
    /// All the events, or none of them.
    fn fold(
        &self,
        db: &Transaction<'_>,
        events: &[Arc<Event>],
        baselines: &Baselines,
    ) -> Result<(), FoldError>;
}

/// Why events were not folded.
pub(super) enum FoldError {
    /// The view cannot fold them, however often it tries: it stops.
    Stop(Arc<str>),
    /// The file cannot be used for the moment, which is no fault of the view.
    Trouble(rusqlite::Error),
}

impl From<rusqlite::Error> for FoldError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, ReadOnly, SystemIoFailure,
        };
        match error.sqlite_error_code() {
            Some(
                CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | OutOfMemory | ReadOnly
                | SystemIoFailure,
            ) => Self::Trouble(error),
            _ => Self::Stop(error.to_string().into()),
        }
    }
}

pub(super) struct FoldingOf<V, T> {
    table: T,
    view: PhantomData<fn() -> V>,
}

impl<V: View, T: Table<V>> FoldingOf<V, T> {
    pub(super) fn new(table: T) -> Self {
        Self { table, view: PhantomData }
    }
}

impl<V: View, T: Table<V>> Folding for FoldingOf<V, T> {
    fn name(&self) -> &'static str {
        V::NAME
    }

    fn revision(&self) -> u32 {
        V::REVISION
    }

    fn filter(&self) -> Filter {
        V::filter()
    }

    fn folds_baselines(&self) -> FoldsBaselines {
        V::FOLDS_BASELINES
    }

    fn reset(&self, db: &Transaction<'_>) -> rusqlite::Result<()> {
        db.execute_batch(self.table.schema())
    }

    fn fold(
        &self,
        db: &Transaction<'_>,
        events: &[Arc<Event>],
        baselines: &Baselines,
    ) -> Result<(), FoldError> {
        let filter = V::filter();
        let mut batch = Batch::<V, T> { table: &self.table, db, rows: BTreeMap::new(), unreadable: None };
        for event in events {
            if let Err(error) = fold_one::<V>(event, &filter, baselines, &mut batch) {
                let stop = || FoldError::Stop(error.to_string().into());
                return Err(batch.unreadable.take().map_or_else(stop, FoldError::from));
            }
        }
        // Only now is anything written: a fold that failed has left no row behind.
        let dirty = batch.rows.iter().filter(|(_, slot)| slot.dirty);
        db.execute_batch("SAVEPOINT view")?;
        for (key, Slot { row, .. }) in dirty {
            if let Err(error) = self.table.save(db, key, row.as_ref()) {
                let error = FoldError::from(error);
                // In trouble the whole transaction goes, and SQLite may have ended it already.
                if matches!(error, FoldError::Stop(_)) {
                    db.execute_batch("ROLLBACK TO view; RELEASE view")?;
                }
                return Err(error);
            }
        }
        Ok(db.execute_batch("RELEASE view")?)
    }
}

/// Folds an event, if the view wants it, or takes the baseline that stands for it and others.
fn fold_one<V: View>(
    event: &Event,
    filter: &Filter,
    baselines: &Baselines,
    rows: &mut dyn Rows<V::Key, V::Row>,
) -> Result<(), ViewError> {
    if V::FOLDS_BASELINES == FoldsBaselines::No {
        return if filter.admits(event) { V::fold(event, rows) } else { Ok(()) };
    }
    match event.stream.baseline_for() {
        Some(stream) if filter.admits_category(stream.category()) => match baselines.taken(event)? {
            Some(baseline) => V::fold_baseline(&baseline, event, rows),
            None => Ok(()),
        },
        None if filter.admits(event) && !baselines.cover(event) => V::fold(event, rows),
        _ => Ok(()),
    }
}

/// The rows that a batch touches, in the order of their keys, which is also that of the pages they are on.
struct Batch<'a, V: View, T> {
    table: &'a T,
    db: &'a Connection,
    rows: BTreeMap<V::Key, Slot<V::Row>>,
    /// Why a row could not be read; the view itself is only told that it could not.
    unreadable: Option<rusqlite::Error>,
}

struct Slot<R> {
    row: Option<R>,
    dirty: bool,
}

impl<V: View, T: Table<V>> Rows<V::Key, V::Row> for Batch<'_, V, T> {
    fn get(&mut self, key: &V::Key) -> Result<Option<V::Row>, ViewError> {
        match self.rows.entry(key.clone()) {
            btree_map::Entry::Occupied(slot) => Ok(slot.get().row.clone()),
            btree_map::Entry::Vacant(slot) => {
                let row = match self.table.load(self.db, key) {
                    Ok(row) => row,
                    Err(error) => {
                        let told = ViewError::Storage(error.to_string());
                        self.unreadable = Some(error);
                        return Err(told);
                    }
                };
                Ok(slot.insert(Slot { row, dirty: false }).row.clone())
            }
        }
    }

    fn put(&mut self, key: V::Key, row: V::Row) {
        self.rows.insert(key, Slot { row: Some(row), dirty: true });
    }

    fn remove(&mut self, key: V::Key) {
        self.rows.insert(key, Slot { row: None, dirty: true });
    }
}
