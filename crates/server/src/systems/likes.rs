//! Likes at the edge.

mod description;
pub mod routes;
pub mod views;

use sillage_domains::likes::stream_of;
use sillage_gateway::tokens::Identity;
use sillage_kernel::StreamName;

/// Whoever has signed in may see and like everything of their tenant that can be liked.
pub fn may_reach(_: &Identity, stream: &StreamName) -> bool {
    stream_of(stream.id()).is_ok()
}
