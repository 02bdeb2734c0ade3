//! Our embedded engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sillage_store::event_store::journal::{JournalOptions, JournalStore};
use uuid::Uuid;

use crate::ours::Ours;
use crate::peer;

/// Durable events a second, with so many appends waiting.
pub fn measure(folder: &Path, waiting: usize, time: Duration) -> f64 {
    let opened = JournalStore::open(folder, Uuid::now_v7().as_u128(), JournalOptions::default());
    let ours = Ours::new(Arc::new(opened.expect("a log").0));
    peer::block_on(peer::drive(Arc::new(ours), waiting, time))
}
