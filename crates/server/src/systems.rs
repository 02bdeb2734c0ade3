//! Each system at its edge: the only place where it touches I/O. Its rules are in `sillage-domains`.

pub mod likes;

use std::sync::Arc;

use sillage_domains::likes::Likes;
use sillage_gateway::{Gateway, MayReach};
use sillage_kernel::Decider;
use sillage_runtime::{ContentKey, Deciders};
use sillage_store::views::ViewSet;
use utoipa_axum::router::OpenApiRouter;

/// The rules of all systems.
pub fn deciders(key: ContentKey) -> Deciders {
    Deciders::new(key).with::<Likes>()
}

/// The views of all systems.
pub fn views() -> ViewSet {
    ViewSet::default().with(likes::views::LikesTables)
}

/// The routes of all systems, with their descriptions.
pub fn routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::default().merge(likes::routes::routes())
}

/// Who may reach which streams; a category that is not here does not exist for people.
pub fn reach() -> Vec<(&'static str, MayReach)> {
    vec![(Likes::CATEGORY, likes::may_reach)]
}
