//! The engine without a disk.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sillage_conformance::event_store::Fixture;
use sillage_kernel::Upcasters;
use sillage_store::EventStore;
use sillage_store::event_store::memory::MemoryStore;
use sillage_store::event_store::upcasting::Upcasting;

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

/// The same, read by a program that knows newer shapes of events than those of the suite.
pub(crate) struct Upcast(MemoryStore);

impl Default for Upcast {
    fn default() -> Self {
        Self(MemoryStore::new(7))
    }
}

impl Fixture for Upcast {
    fn store(&self) -> Arc<dyn EventStore> {
        Upcasting::over(Arc::new(self.0.clone()), Upcasters::default().with_events::<Other>())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotInTheSuite {}

sillage_kernel::domain_events! {
    pub(crate) enum Other { NotInTheSuite }
    upcast { NotInTheSuite: [std::convert::identity] }
}
