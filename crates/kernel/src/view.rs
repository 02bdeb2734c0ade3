//! Read models: what is asked for, folded from the events.

use std::borrow::Cow;

use crate::event::{DecodeError, Event};

/// Which events somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All, those of the system too.
    Everything,
    /// All but those of the system.
    People,
    /// Those of the streams of one category.
    Category(Cow<'static, str>),
}

impl Filter {
    /// Whether the event is wanted.
    pub fn admits(&self, event: &Event) -> bool {
        self.admits_category(event.stream.category())
    }

    /// Whether the events of a category are wanted.
    pub fn admits_category(&self, category: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::People => !category.starts_with('$'),
            Self::Category(wanted) => category == wanted,
        }
    }
}

/// The rows of a view while a batch of events is folded: changes are seen at once and kept together.
pub trait Rows<K, R> {
    /// The row, as the fold has left it so far.
    fn get(&mut self, key: &K) -> Result<Option<R>, ViewError>;
    /// Makes or replaces the row.
    fn put(&mut self, key: K, row: R);
    /// Takes the row away.
    fn remove(&mut self, key: K);
}

/// The pure half of a read model: how an event changes its rows. Where the rows are kept is said elsewhere.
pub trait View: Send + Sync + 'static {
    /// Its name, unique over all systems.
    const NAME: &'static str;
    /// The number of its shape. Another number than that of the stored rows rebuilds them from the log.
    const REVISION: u32;
    /// What tells its rows apart.
    type Key: Ord + Clone + Send;
    /// What a row holds.
    type Row: Clone + Send;

    /// The events that it is built from.
    fn filter() -> Filter;

    /// Folds one event into the rows. An error stops the view, and its queries say that they are stale.
    fn fold(event: &Event, rows: &mut dyn Rows<Self::Key, Self::Row>) -> Result<(), ViewError>;
}

/// Why a view stopped.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// An event in the log is not what its type promises: mend the code, then restart.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The rows cannot be read or written: look at the disk of the view.
    #[error("the rows of the view cannot be reached: {0}")]
    Storage(String),
}
