//! Likes at the edge.

mod description;
pub mod routes;
pub mod views;

use sillage_domains::likes::{Likes, stream_of};
use sillage_gateway::tokens::Identity;
use sillage_kernel::StreamName;

use self::routes::routes;
use self::views::LikesTables;
use super::System;

/// The likes, whole.
pub fn system() -> System {
    System::default().with_rules::<Likes>(may_reach).with_view(LikesTables).with_routes(routes())
}

/// Whoever has signed in may see and like everything of their tenant that can be liked.
fn may_reach(_: &Identity, stream: &StreamName) -> bool {
    stream_of(stream.id()).is_ok()
}
