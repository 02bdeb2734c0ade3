//! What a program serves. A [`System`] is the rules of one or several kinds of stream, and what they have at the edge;
//! here are those of the program `sillage`, and another program brings its own.
//!
//! Each has a folder, the only place where it touches I/O. Its rules are in `sillage-domains`.

pub mod likes;

use std::sync::Arc;

use axum::Router;
use sillage_gateway::{Gateway, MayReach, routes};
use sillage_kernel::{Decider, Reactor, View};
use sillage_runtime::{ContentKey, Deciders};
use sillage_store::views::{Table, ViewSet};
use utoipa_axum::router::OpenApiRouter;

use crate::adapters::log_destination::LogDestination;
use crate::studio;

/// What the program `sillage` serves.
pub fn all() -> System {
    System::default().and(likes::system()).with_reactor(LogDestination).with_pages(studio::before)
}

/// What a node serves: which commands are decided, and how what follows from them is seen.
#[derive(Clone, Default)]
pub struct System {
    rules: Vec<fn(Deciders) -> Deciders>,
    /// For each category that people may reach: who may reach which of its streams.
    pub reach: Vec<(&'static str, MayReach)>,
    /// Its read models.
    pub views: ViewSet,
    /// Its routes, with their descriptions.
    pub routes: OpenApiRouter<Arc<Gateway>>,
    /// Its destinations.
    pub reactors: Vec<Arc<dyn Reactor>>,
    pages: Vec<fn(Router) -> Router>,
}

impl System {
    /// Adds the rules of one kind of stream, and who may follow such streams and send commands to them. For everybody
    /// else there is no such stream.
    #[must_use]
    pub fn with_rules<D: Decider>(mut self, may_reach: MayReach) -> Self {
        self.rules.push(Deciders::with::<D>);
        self.reach.push((D::CATEGORY, may_reach));
        self
    }

    /// Adds a read model, whose rows `table` keeps.
    #[must_use]
    pub fn with_view<V: View>(mut self, table: impl Table<V>) -> Self {
        self.views = self.views.with(table);
        self
    }

    /// Adds routes, beside those that every node has.
    #[must_use]
    pub fn with_routes(mut self, routes: OpenApiRouter<Arc<Gateway>>) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Adds a destination of the log, beside the sockets.
    #[must_use]
    pub fn with_reactor(mut self, reactor: impl Reactor) -> Self {
        self.reactors.push(Arc::new(reactor));
        self
    }

    /// Adds pages: `before` gets everything else, and passes on to it what is none of its own.
    #[must_use]
    pub fn with_pages(mut self, before: fn(Router) -> Router) -> Self {
        self.pages.push(before);
        self
    }

    /// Adds all of another system.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let Self { mut rules, mut reach, views, routes, mut reactors, mut pages } = self;
        rules.extend(other.rules);
        reach.extend(other.reach);
        reactors.extend(other.reactors);
        pages.extend(other.pages);
        let (views, routes) = (views.and(other.views), routes.merge(other.routes));
        Self { rules, reach, views, routes, reactors, pages }
    }

    /// All that is served over HTTP.
    pub(crate) fn router(&self, gateway: Arc<Gateway>) -> Router {
        let routes = routes::router(gateway, self.routes.clone());
        self.pages.iter().fold(routes, |rest, before| before(rest))
    }

    /// Its rules. Panics when two of them have a command or a category of the same name.
    pub fn deciders(&self, key: ContentKey) -> Deciders {
        self.rules.iter().fold(Deciders::new(key), |all, with| with(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_has_all_of_both() {
        fn check(system: &System) {
            let System { rules: _, reach, views: _, routes, reactors, pages } = system;
            assert_eq!(system.deciders(ContentKey([0; 32])).categories(), ["like"]);
            assert_eq!(reach.iter().map(|(category, _)| *category).collect::<Vec<_>>(), ["like"]);
            assert!(routes.get_openapi().paths.paths.contains_key("/api/social/likes"));
            assert_eq!(reactors.iter().map(|reactor| reactor.name()).collect::<Vec<_>>(), ["log"]);
            assert_eq!(pages.len(), 1);
        }
        check(&all().and(System::default()));
        check(&System::default().and(all()));
    }
}
