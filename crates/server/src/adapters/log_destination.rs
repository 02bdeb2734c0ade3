//! A destination that only writes into the program's log what would be sent: for development.

use std::sync::Arc;

use sillage_kernel::{Event, Filter, Reaction, Reactor};

/// Writes each event as a line of the level `debug` with the target `sillage::outbox`.
pub struct LogDestination;

impl Reactor for LogDestination {
    fn name(&self) -> &'static str {
        "log"
    }

    fn filter(&self) -> Filter {
        Filter::People
    }

    fn react<'a>(&'a self, events: &'a [Arc<Event>]) -> Reaction<'a> {
        for event in events {
            // What a person did may be in the data, so it is not written.
            let Event { position, stream, version, event_type, id, .. } = event.as_ref();
            tracing::debug!(target: "sillage::outbox", %position, %stream, %version, %event_type, id = %id.0);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
