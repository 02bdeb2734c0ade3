//! How Sillage reaches people: HTTP, WebSocket and SSE, tokens and limits. It knows no system: which commands
//! there are, and which feeds may be followed, it is told by whoever joins the parts.
//!
//! Where to look: [`routes`] lists every path; [`receive`] is the one door for commands, whichever way they
//! came; [`hub`] is how events and receipts reach open connections; [`codes`] is the table of errors;
//! [`description`] is what the server says about all that; [`serving`] is the door, where connections come in.

pub mod codes;
pub mod description;
pub mod directory;
pub mod extract;
pub mod hub;
pub mod journey;
pub mod limits;
pub mod receive;
pub mod routes;
pub mod sampling;
pub mod serving;
pub mod session;
mod sse;
pub mod tokens;
mod ws;

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use sillage_kernel::{LogPosition, Position, StreamName};
use sillage_runtime::{CommandBus, Compactor, Deciders, ReactorHandle, Supervisor};
use sillage_store::views::{Answer, PastError, PastViews, QueryError, ViewReader};
use sillage_store::{EventStore, Snapshots};

use self::codes::{Code, RETRY_AFTER_SECONDS, Refusal};
use self::directory::Directory;
use self::hub::Hub;
use self::limits::Limits;
use self::sampling::Sampler;
use self::tokens::{Allowance, Identity, Keys};

/// How long a query waits for the position that it asks for.
pub const AT_LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// Whether somebody may follow a stream, and send commands to it.
pub type MayReach = fn(&Identity, &StreamName) -> bool;

/// Everything that a request may need, joined by the composition root.
pub struct Gateway {
    /// Takes commands.
    pub bus: CommandBus,
    /// Reads commands.
    pub deciders: Deciders,
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// Saved states, so that long streams are not read from their beginning.
    pub snapshots: Arc<Snapshots>,
    /// Open connections.
    pub hub: Arc<Hub>,
    /// Signs and checks tokens.
    pub keys: Arc<Keys>,
    /// What people are called.
    pub directory: Arc<Directory>,
    /// Asks the views.
    pub views: ViewReader,
    /// Asks them as they were.
    pub past: Arc<PastViews>,
    /// Drops what is no longer kept.
    pub compactor: Compactor,
    /// The destinations of the log.
    pub reactors: Vec<ReactorHandle>,
    /// For each category that people may reach: who may reach which of its streams.
    pub reach: Vec<(&'static str, MayReach)>,
    /// Who may do how much.
    pub limits: Limits,
    /// Which requests are traced.
    pub sampler: Sampler,
    /// The views must have come to this position before the node is ready.
    pub ready_at: Position,
    /// Knows whether something in the background has failed.
    pub supervisor: Supervisor,
    /// Writes the metrics as Prometheus reads them.
    pub metrics: metrics_exporter_prometheus::PrometheusHandle,
}

impl Gateway {
    /// Refuses a stream that does not exist for this user.
    pub fn check_reach(&self, identity: &Identity, stream: &StreamName) -> Result<(), Refusal> {
        let rule = self.reach.iter().find(|(category, _)| *category == stream.category());
        match rule {
            Some((_, may_reach)) if may_reach(identity, stream) => Ok(()),
            _ => Err(Refusal::not_found()),
        }
    }

    /// Counts a question against its sender's rate and asks a view, once it has come to `at_least`, if that is
    /// given.
    pub async fn query<T: Send + 'static>(
        &self,
        identity: &Identity,
        view: &'static str,
        at_least: Option<LogPosition>,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Answer<T>, Refusal> {
        self.limits.query(identity)?;
        if let Some(at_least) = at_least {
            let position = self.position_of(at_least)?;
            self.views.wait_for(view, position, AT_LEAST_PATIENCE).await?;
        }
        Ok(self.views.query(view, ask).await?)
    }

    /// Counts a question against its sender's rate and asks a view as it was at a position. It is replayed up to there
    /// in the background; whoever does not get an answer in time asks again. That is work for as long as the log is,
    /// and not for guests.
    pub async fn query_at<T: Send + 'static>(
        &self,
        identity: &Identity,
        view: &'static str,
        at: LogPosition,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Answer<T>, Refusal> {
        self.limits.query(identity)?;
        if identity.allowance == Allowance::Limited {
            return Err(Refusal::new(Code::Forbidden, "Guests are not shown what was."));
        }
        let past = self.past.at(self.position_of(at)?, AT_LEAST_PATIENCE).await?;
        Ok(past.query(view, ask).await?)
    }

    /// A position of the log as it is now.
    fn position_of(&self, LogPosition { epoch, position }: LogPosition) -> Result<Position, Refusal> {
        let current = self.store.epoch();
        if epoch.is_some_and(|epoch| epoch != current) {
            let refusal = Refusal::new(Code::EpochChanged, "The position belongs to another log.");
            return Err(Refusal { detail: Some(("epoch", current.as_str().into())), ..refusal });
        }
        Ok(position)
    }
}

impl From<PastError> for Refusal {
    fn from(error: PastError) -> Self {
        let message = error.to_string();
        match error {
            PastError::NotYet { .. } => Self::field("at", message),
            PastError::Compacted { kept_from } => Self::compacted(kept_from.get(), message),
            PastError::Building { reached } => {
                let detail = Some(("position", reached.get().into()));
                Self { detail, ..Self::new(Code::ViewBehind, message) }
            }
            PastError::Busy => {
                Self { retry_after: Some(RETRY_AFTER_SECONDS), ..Self::new(Code::Overloaded, message) }
            }
            PastError::Unavailable(_) => Self::new(Code::Unavailable, message),
        }
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::TooEarly { reached } => {
                let detail = Some(("position", reached.get().into()));
                Self { detail, ..Self::new(Code::ViewBehind, error.to_string()) }
            }
            QueryError::Unavailable(_) => Self::new(Code::Unavailable, error.to_string()),
        }
    }
}
