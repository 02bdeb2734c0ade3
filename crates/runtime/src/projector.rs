//! Keeps the views at the end of the log: reads a page, folds it into all views in one transaction, goes on.

use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::Position;
use sillage_store::views::{Views, may_lack_events};
use sillage_store::{EventStore, StoreError, Subscription};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::reactors::MISSED;
use crate::{Supervisor, station};

/// How many events are folded into one transaction at most.
const PAGE: usize = 8_192;
/// Between the beginnings of two transactions lies at least this much, so that under load a batch holds many
/// events: a transaction costs far more than a row. The first event after a rest is folded at once.
const MIN_INTERVAL: Duration = Duration::from_millis(5);
/// While much is to be folded, it lies so many times what the last transaction took: rows that many events touch are
/// written once a batch, so larger ones take less of the machine from the commands.
const REST: u32 = 4;
/// But no longer than this, since whoever asks for a position waits for it.
const MAX_INTERVAL: Duration = Duration::from_millis(25);
/// How long it waits after the log or the file could not be reached.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// The task that moves the views.
pub struct Projector {
    task: JoinHandle<()>,
}

impl Projector {
    /// Starts on the current runtime. It ends when every view has stopped, or with [`Projector::stop`].
    pub fn start(store: Arc<dyn EventStore>, views: Views, supervisor: &Supervisor) -> Self {
        let reports = supervisor.clone();
        Self { task: supervisor.spawn("projector", run(store, views, reports)) }
    }

    /// Ends it. What is being folded is either kept whole or folded again.
    pub async fn stop(self) {
        self.task.abort();
        // The only error is that it was aborted.
        drop(self.task.await);
    }
}

async fn run(store: Arc<dyn EventStore>, mut views: Views, supervisor: Supervisor) {
    let (filter, covered) = (views.filter(), views.covered_to());
    let after = views.cursor().unwrap_or(Position::ZERO);
    let mut subscription = Subscription::new(Arc::clone(&store), after, filter);
    let (mut begun, mut interval) = (Instant::now(), MIN_INTERVAL);
    while views.cursor().is_some() {
        tokio::time::sleep_until(begun + interval).await;
        let after = subscription.cursor();
        let next = async {
            let page = subscription.next(PAGE).await?;
            Ok::<_, StoreError>((may_lack_events(store.as_ref(), after, covered, &page).await?, page))
        };
        let page = match next.await {
            Ok((false, page)) => page,
            // A view never sees a part of what was dropped; the next start takes the baselines for it.
            Ok((true, _)) => return supervisor.report(MISSED),
            Err(error) => {
                tracing::error!(%error, "the projector cannot read the log");
                subscription.seek(after);
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        begun = Instant::now();
        let folding = tokio::task::spawn_blocking(move || {
            let sampled = page.events.iter().filter_map(|event| event.metadata.traceparent.as_deref());
            let spans: Vec<_> = sampled.map(|traceparent| station!("fold", Some(traceparent))).collect();
            let result = views.fold(&page.events, page.through);
            drop(spans);
            (views, result)
        });
        let result;
        // A view that panics takes the file with it, and so the projector.
        (views, result) = folding.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        interval = (begun.elapsed() * REST).clamp(MIN_INTERVAL, MAX_INTERVAL);
        if let Err(error) = result {
            tracing::error!(%error, "the views cannot be moved");
            subscription.seek(views.cursor().unwrap_or(Position::ZERO));
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
    tracing::error!("every view has stopped");
}
