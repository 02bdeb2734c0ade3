//! From events to rows: what a batch touches is read once, folded in memory, and written once.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::marker::PhantomData;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use sillage_kernel::{Event, Filter, Rows, View, ViewError};

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
pub(super) trait Folding: Send {
    fn name(&self) -> &'static str;
    fn revision(&self) -> u32;
    fn filter(&self) -> Filter;
    fn reset(&self, db: &Transaction<'_>) -> rusqlite::Result<()>;
    /// All the events, or none of them.
    fn fold(&self, db: &Transaction<'_>, events: &[Arc<Event>]) -> Result<(), ViewError>;
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

    fn reset(&self, db: &Transaction<'_>) -> rusqlite::Result<()> {
        db.execute_batch(self.table.schema())
    }

    fn fold(&self, db: &Transaction<'_>, events: &[Arc<Event>]) -> Result<(), ViewError> {
        let filter = V::filter();
        let mut batch = Batch::<V, T> { table: &self.table, db, rows: BTreeMap::new() };
        for event in events.iter().filter(|event| filter.admits(event)) {
            V::fold(event, &mut batch)?;
        }
        // Only now is anything written: a fold that failed has left no row behind.
        let dirty = batch.rows.iter().filter(|(_, slot)| slot.dirty);
        db.execute_batch("SAVEPOINT view").map_err(storage)?;
        for (key, Slot { row, .. }) in dirty {
            if let Err(error) = self.table.save(db, key, row.as_ref()) {
                db.execute_batch("ROLLBACK TO view; RELEASE view").map_err(storage)?;
                return Err(storage(error));
            }
        }
        db.execute_batch("RELEASE view").map_err(storage)
    }
}

/// The rows that a batch touches, in the order of their keys, which is also that of the pages they are on.
struct Batch<'a, V: View, T> {
    table: &'a T,
    db: &'a Connection,
    rows: BTreeMap<V::Key, Slot<V::Row>>,
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
                let row = self.table.load(self.db, key).map_err(storage)?;
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

fn storage(error: rusqlite::Error) -> ViewError {
    ViewError::Storage(error.to_string())
}
