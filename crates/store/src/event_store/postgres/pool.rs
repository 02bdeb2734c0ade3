//! The connections that read. Each is used by one reader at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::link::{Connector, Failed};
use super::reading::Reader;
use crate::event_store::StoreError;

/// A bounded number of connections, made when they are needed.
pub(super) struct Pool {
    connector: Arc<Connector>,
    /// As many as may read at the same time. Closed with the store.
    places: Semaphore,
    idle: Mutex<Vec<Arc<Reader>>>,
}

impl Pool {
    pub(super) fn new(connector: Arc<Connector>, connections: usize) -> Self {
        Self { connector, places: Semaphore::new(connections), idle: Mutex::default() }
    }

    /// What the query comes to. Reading changes nothing, so one whose connection is lost is asked again on another,
    /// until the patience of the connector is over.
    pub(super) async fn read<T, F>(&self, query: impl Fn(Arc<Reader>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let deadline = self.connector.deadline();
        let closed = |_| StoreError::Unavailable("the store was closed".into());
        let _place = self.places.acquire().await.map_err(closed)?;
        loop {
            let asked = async {
                let reader = match self.take() {
                    Some(reader) => reader,
                    None => Arc::new(Reader::new(self.connector.connect_by(deadline).await?).await?),
                };
                let found = self.connector.within(query(Arc::clone(&reader))).await;
                if !matches!(found, Err(Failed::Lost(_))) {
                    self.idle().push(reader);
                }
                found
            };
            match asked.await {
                Ok(found) => return Ok(found),
                Err(Failed::Lost(_)) if tokio::time::Instant::now() < deadline => {}
                Err(error) => return Err(StoreError::Unavailable(error.to_string().into())),
            }
        }
    }

    /// Lets nobody read any more, and says goodbye to the server.
    pub(super) async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *self.idle());
        for reader in idle.into_iter().filter_map(Arc::into_inner) {
            reader.close().await;
        }
    }

    fn take(&self) -> Option<Arc<Reader>> {
        let mut idle = self.idle();
        idle.retain(|reader| !reader.is_lost());
        idle.pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Reader>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
