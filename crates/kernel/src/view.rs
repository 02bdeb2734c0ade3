//! Read models: what is asked for, folded from the events.

use std::borrow::Cow;

use crate::baseline::Baseline;
use crate::event::{DecodeError, Event};
use crate::ids::{BASELINES, StreamName};

/// Which events somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All, those of the system too.
    Everything,
    /// All but those of the system.
    People,
    /// Those of the streams of one category.
    Category(Cow<'static, str>),
    /// Those of the streams of one category, and their baselines.
    WithBaselines(Cow<'static, str>),
}

impl Filter {
    /// Whether the event is wanted.
    pub fn admits(&self, event: &Event) -> bool {
        match (self, event.stream.category()) {
            (Self::WithBaselines(wanted), BASELINES) => {
                event.stream.baseline_for().is_some_and(|stream| stream.category() == wanted)
            }
            (_, category) => self.admits_category(category),
        }
    }

    /// Whether the events of a category are wanted, or some of them.
    pub fn admits_category(&self, category: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::People => !category.starts_with('$'),
            Self::Category(wanted) => category == wanted,
            Self::WithBaselines(wanted) => category == wanted || category == BASELINES,
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

    /// Whether the view can be rebuilt from baselines. As long as one that wants the events of a category cannot, none
    /// of them is dropped.
    const FOLDS_BASELINES: FoldsBaselines = FoldsBaselines::No;

    /// Makes the rows of a stream that the view has met no event of: the same as if every event up to the baseline,
    /// which `event` carries, had been folded.
    fn fold_baseline(
        baseline: &Baseline,
        event: &Event,
        rows: &mut dyn Rows<Self::Key, Self::Row>,
    ) -> Result<(), ViewError> {
        let (_, _) = (event, rows);
        Err(ViewError::NoBaselines(baseline.stream.clone()))
    }
}

/// Whether a view can be rebuilt from baselines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldsBaselines {
    /// It needs every event.
    No,
    /// It has a [`View::fold_baseline`].
    Yes,
}

/// Why a view stopped.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// An event in the log is not what its type promises: mend the code, then restart.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It met a baseline and has no way to fold it: write one, or keep all events of the category.
    #[error("the view cannot be rebuilt from the baseline of {0}")]
    NoBaselines(StreamName),
    /// The rows cannot be read or written: look at the disk of the view.
    #[error("the rows of the view cannot be reached: {0}")]
    Storage(String),
}
