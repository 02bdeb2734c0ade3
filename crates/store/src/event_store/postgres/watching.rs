//! Sees what other nodes have written, whenever one of them says so, and once a second in any case; and hears what they
//! tell beside that.
//!
//! Invariant: what moves the watermark is read from the log, never what somebody told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::link::Failed;
use super::reading::Reader;
use super::telling::{self, CHANNEL};

/// How often it looks when nobody says anything.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two connections that were lost at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks for as long as the store is there.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let (link, mut told) = shared.connector.listen_at_last().await;
        let listening = async {
            let reader = Reader::new(link).await?;
            reader.client().batch_execute(&format!("LISTEN {CHANNEL}")).await?;
            Ok(reader)
        };
        let ended = match shared.connector.within(listening).await {
            Ok(reader) => look(&shared, &reader, &mut told).await,
            Err(error) => error,
        };
        if let Failed::Broken(_) = ended {
            shared.fail(&ended.to_string());
        }
        tracing::debug!(error = %ended, "nothing is heard of other nodes for a moment");
        sleep(PAUSE).await;
    }
}

/// Looks again and again, and answers why it cannot any more.
async fn look(shared: &Shared, reader: &Reader, told: &mut Receiver<Box<str>>) -> Failed {
    loop {
        let next = Instant::now() + LOOK_EVERY;
        let seen = shared.head();
        let looked = shared.connector.within(reader.state()).await;
        match looked.and_then(|state| shared.recognise(&state, seen).map(|()| state.position)) {
            Ok(position) => shared.reach(position, Vec::new()),
            Err(error) => return error,
        }
        tokio::select! {
            () = news(shared, told) => {}
            () = reader.lost() => return Failed::Lost("it has ended".into()),
            () = sleep_until(next) => {}
        }
    }
}

/// Resolves once another node says that the log is further than is known here.
async fn news(shared: &Shared, told: &mut Receiver<Box<str>>) {
    while let Some(told) = told.recv().await {
        if telling::is_news(shared, &told) {
            return;
        }
    }
    std::future::pending().await
}
