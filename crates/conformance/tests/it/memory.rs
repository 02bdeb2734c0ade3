//! The engine without a disk.

use std::sync::Arc;

use sillage_conformance::event_store::Fixture;
use sillage_store::EventStore;
use sillage_store::event_store::memory::MemoryStore;

pub(crate) struct Memory(MemoryStore);

impl Default for Memory {
    fn default() -> Self {
        Self(MemoryStore::new(7))
    }
}

impl Fixture for Memory {
    fn store(&self) -> Arc<dyn EventStore> {
        Arc::new(self.0.clone())
    }
}
