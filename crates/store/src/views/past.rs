//! The views as they once were: replayed up to a position in a file of their own, beside the live ones.
//!
//! Invariant: what is handed out shows the log at exactly the position that was asked for. One that would miss events
//! that compaction has dropped is an error, never an answer. One is built at a time, and few are kept.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use sillage_kernel::{Filter, Position};
use tokio::sync::watch;

use super::baselines::{BaselinesError, compacted_to};
use super::{Answer, Baselines, QueryError, ViewReader, ViewSet, Views, ViewsError};
use crate::event_store::{EventStore, StoreError};

/// How many of them are kept; the one that was longest not asked for goes first.
pub const MAX_PAST: usize = 2;
/// How many events are folded into one transaction at most.
const PAGE: usize = 8_192;

/// Builds them, and keeps a few.
pub struct PastViews {
    store: Arc<dyn EventStore>,
    views: ViewSet,
    folder: Box<Path>,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    /// The one that was asked for last is last.
    kept: VecDeque<(Position, PastView)>,
    building: Option<(Position, watch::Receiver<Progress>)>,
    /// How many were begun, so that no two have a file of the same name.
    begun: u64,
}

#[derive(Clone)]
enum Progress {
    Reached(Position),
    Done(Result<PastView, PastError>),
}

/// The views at a position. Cloning shares them.
#[derive(Clone)]
pub struct PastView {
    // In this order: the connections are closed before the file is removed.
    reader: ViewReader,
    file: Arc<OwnFile>,
}

/// Why the views cannot be shown as they were.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PastError {
    /// The log has not come there: ask for an earlier position.
    #[error("the log ends at position {head}")]
    NotYet {
        /// Where it ends.
        head: Position,
    },
    /// Events before that position were dropped: ask for a later one.
    #[error("what was before position {kept_from} was compacted")]
    Compacted {
        /// The first position at which the views can be shown.
        kept_from: Position,
    },
    /// They are being replayed: ask again.
    #[error("the views are being replayed, and have come to position {reached}")]
    Building {
        /// How far they have come.
        reached: Position,
    },
    /// Those of another position are being replayed: ask again later.
    #[error("the views are being replayed for somebody else")]
    Busy,
    /// The log or the file cannot be used, or a view cannot fold the log: tell an operator.
    #[error("the views cannot be replayed: {0}")]
    Unavailable(Arc<str>),
}

impl std::fmt::Debug for PastView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PastView").field(&self.file.0).finish()
    }
}

impl PastView {
    /// Runs a query. `ask` must not write.
    pub async fn query<T: Send + 'static>(
        &self,
        view: &'static str,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Answer<T>, QueryError> {
        self.reader.query(view, ask).await
    }
}

impl PastViews {
    /// Keeps the files in a folder of their own, which is emptied first.
    pub fn open(store: Arc<dyn EventStore>, views: ViewSet, folder: &Path) -> std::io::Result<Arc<Self>> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(folder)?,
        }
        Ok(Arc::new(Self { store, views, folder: folder.into(), shelf: Mutex::default() }))
    }

    /// The views at a position, waiting for at most `patience`. They go on being built after that, for whoever asks
    /// again.
    pub async fn at(self: &Arc<Self>, position: Position, patience: Duration) -> Result<PastView, PastError> {
        let head = self.store.head();
        if position > head {
            return Err(PastError::NotYet { head });
        }
        // Not in the match: the shelf would stay locked.
        let found = self.shelf().find(position);
        let mut progress = match found {
            Found::Kept(view) => return Ok(view),
            Found::Building(progress) => progress,
            Found::Busy => return Err(PastError::Busy),
            Found::Nothing => {
                // Asked before anything is begun, so that a useless question costs little.
                self.check_kept(position).await?;
                self.begin(position)?
            }
        };
        let is_done = |progress: &Progress| matches!(progress, Progress::Done(_));
        if let Ok(Err(_)) = tokio::time::timeout(patience, progress.wait_for(is_done)).await {
            return Err(PastError::Unavailable("the replay has panicked".into()));
        }
        let progress = progress.borrow().clone();
        match progress {
            Progress::Done(done) => done,
            Progress::Reached(reached) => Err(PastError::Building { reached }),
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has them built in the background, unless somebody else was faster.
    fn begin(self: &Arc<Self>, position: Position) -> Result<watch::Receiver<Progress>, PastError> {
        let mut shelf = self.shelf();
        match shelf.find(position) {
            Found::Building(progress) => return Ok(progress),
            Found::Kept(view) => return Ok(watch::Sender::new(Progress::Done(Ok(view))).subscribe()),
            Found::Busy => return Err(PastError::Busy),
            Found::Nothing => {}
        }
        shelf.begun += 1;
        let file = OwnFile(self.folder.join(format!("at-{position}-{}.sqlite", shelf.begun)));
        let progress = watch::Sender::new(Progress::Reached(Position::ZERO));
        let receiver = progress.subscribe();
        shelf.building = Some((position, receiver.clone()));
        let past = Arc::clone(self);
        tokio::spawn(async move {
            let built = past.build(position, file, &progress).await;
            let mut shelf = past.shelf();
            shelf.building = None;
            if let Ok(view) = &built {
                shelf.kept.push_back((position, view.clone()));
                if shelf.kept.len() > MAX_PAST {
                    shelf.kept.pop_front();
                }
            }
            progress.send_replace(Progress::Done(built));
        });
        Ok(receiver)
    }

    async fn build(
        &self,
        position: Position,
        file: OwnFile,
        progress: &watch::Sender<Progress>,
    ) -> Result<PastView, PastError> {
        // All of them, and not only those that stand for what is dropped so far: more may be dropped meanwhile.
        let baselines = Baselines::up_to(self.store.as_ref(), position).await?;
        let (epoch, set, path) = (self.store.epoch(), self.views.clone(), file.0.clone());
        let mut views = blocking(move || set.open(&path, &epoch, position, baselines)).await??;
        let filter = views.filter();
        let mut reached = Position::ZERO;
        while reached < position {
            (views, reached) = self.step(views, filter.clone(), reached, position).await?;
            progress.send_replace(Progress::Reached(reached));
        }
        let reader = views.reader();
        if let Some(stopped) = reader.statuses().into_iter().find_map(|status| status.stopped) {
            return Err(PastError::Unavailable(stopped));
        }
        // Meanwhile something may have been dropped that only a later baseline stands for.
        self.check_kept(position).await?;
        Ok(PastView { reader, file: Arc::new(file) })
    }

    /// Folds one page.
    async fn step(
        &self,
        mut views: Views,
        filter: Filter,
        after: Position,
        until: Position,
    ) -> Result<(Views, Position), PastError> {
        let mut page = self.store.read_all(after, filter, PAGE).await?;
        page.events.retain(|event| event.position <= until);
        let through = page.through.min(until);
        blocking(move || {
            views.fold(&page.events, through)?;
            Ok((views, through))
        })
        .await?
    }

    async fn check_kept(&self, position: Position) -> Result<(), PastError> {
        let kept_from = compacted_to(self.store.as_ref()).await?;
        if position < kept_from { Err(PastError::Compacted { kept_from }) } else { Ok(()) }
    }
}

/// What there is of a position.
enum Found {
    Kept(PastView),
    Building(watch::Receiver<Progress>),
    Busy,
    Nothing,
}

impl Shelf {
    fn find(&mut self, position: Position) -> Found {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == position)
            && let Some(found) = self.kept.remove(at)
        {
            let view = found.1.clone();
            self.kept.push_back(found);
            return Found::Kept(view);
        }
        match &self.building {
            // One that has panicked is nobody's.
            Some((_, progress)) if progress.has_changed().is_err() => Found::Nothing,
            Some((building, progress)) if *building == position => Found::Building(progress.clone()),
            Some(_) => Found::Busy,
            None => Found::Nothing,
        }
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PastError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PastError::Unavailable(error.to_string().into()))
}

impl From<StoreError> for PastError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string().into())
    }
}

impl From<BaselinesError> for PastError {
    fn from(error: BaselinesError) -> Self {
        Self::Unavailable(error.to_string().into())
    }
}

impl From<ViewsError> for PastError {
    fn from(error: ViewsError) -> Self {
        Self::Unavailable(error.to_string().into())
    }
}

/// A file that goes when nobody needs it any more.
struct OwnFile(PathBuf);

impl Drop for OwnFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = self.0.as_os_str().to_owned();
            name.push(suffix);
            // What is left is removed at the next start.
            drop(std::fs::remove_file(name));
        }
    }
}
