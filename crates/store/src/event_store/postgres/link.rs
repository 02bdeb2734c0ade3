//! Connections: how they are made, what their sessions are set to, and what it means when one fails.
//!
//! Invariant: no wait is without an end. What the server bounds (locks, statements, a transaction that nobody goes on
//! with) it is told when the session begins; what it cannot bound, since it may be gone, is bounded here.

use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::{Config, Host, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{PostgresError, PostgresOptions};

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long without a word the other side of a connection is asked whether it is there, how often, and how many
/// times before it counts as gone.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay unconfirmed before the other side counts as gone.
const UNCONFIRMED: Duration = Duration::from_secs(15);
/// How long a transaction may stand still before the server ends it: a node that hangs with the lock of the log would
/// else stop all others.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);
/// What may pass beside what the server bounds before a request counts as lost.
const MARGIN: Duration = Duration::from_secs(2);
/// How long the other side may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Between two attempts to connect lies at least and at most this.
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// How many notifications, of 8,000 bytes at most, may wait for whoever listens; one more is lost.
const MAX_HINTS: usize = 1_024;

/// Where a database is and who asks. Showing it shows no password.
#[derive(Clone, Debug)]
pub struct Database(Config);

impl FromStr for Database {
    type Err = PostgresError;

    /// Reads `postgres://user:password@host:port/name?sslmode=require`. The error does not repeat it.
    fn from_str(url: &str) -> Result<Self, PostgresError> {
        let mut config: Config =
            url.parse().map_err(|error: tokio_postgres::Error| PostgresError::Url(words(&error)))?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(UNCONFIRMED)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("sillage");
        }
        Ok(Self(config))
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.0.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let name = self.0.get_dbname().or(self.0.get_user()).unwrap_or_default();
        write!(f, "{} at {}", name, hosts.collect::<Vec<_>>().join(","))
    }
}

/// Why the database did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failed {
    /// The connection is gone: another may do better.
    #[error("the connection to the database was lost: {0}")]
    Lost(Arc<str>),
    /// Somebody else has held a lock for too long.
    #[error("somebody holds a lock of the log")]
    Busy,
    /// The tables are not those that were made: nothing mends it while the program runs.
    #[error("the tables of the log are not as they were: {0}")]
    Broken(Arc<str>),
    /// The database has said no.
    #[error("the database has refused it: {0}")]
    Refused(Arc<str>),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        let said: Arc<str> = words(&error).into();
        let Some(code) = error.code() else { return Self::Lost(said) };
        let fatal = error.as_db_error().is_some_and(|error| matches!(error.severity(), "FATAL" | "PANIC"));
        match code.code() {
            _ if *code == SqlState::LOCK_NOT_AVAILABLE => Self::Busy,
            // Who may not come in is told so at once.
            "3D000" => Self::Refused(said),
            class if class.starts_with("28") => Self::Refused(said),
            // A server that takes no writes is no longer the one that it was.
            "25006" => Self::Lost(said),
            "42P01" | "42703" | "3F000" => Self::Broken(said),
            class if fatal || class.starts_with("57P") || class.starts_with("08") => Self::Lost(said),
            _ => Self::Refused(said),
        }
    }
}

/// What an error says, with what it rests on.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    let mut said = match error.as_db_error() {
        Some(error) => return format!("{} ({})", error.message(), error.code().code()),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

/// Makes connections.
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    settings: String,
    patience: Duration,
    request: Duration,
}

impl Connector {
    pub(super) fn new(database: &Database, options: &PostgresOptions) -> Result<Self, PostgresError> {
        let PostgresOptions { lock_timeout, statement_timeout, patience, .. } = options;
        Ok(Self {
            config: database.0.clone(),
            tls: tls()?,
            settings: settings(*lock_timeout, *statement_timeout),
            patience: *patience,
            request: *statement_timeout + MARGIN,
        })
    }

    /// A connection, however long that takes.
    pub(super) async fn connect_at_last(&self) -> Link {
        self.at_last(None).await.expect("it has no end").0
    }

    /// A connection that hears what others tell.
    pub(super) async fn listen_at_last(&self) -> (Link, mpsc::Receiver<Box<str>>) {
        self.at_last(None).await.expect("it has no end")
    }

    /// A connection, if there is one before the deadline.
    pub(super) async fn connect_by(&self, deadline: Instant) -> Result<Link, Failed> {
        self.at_last(Some(deadline)).await.map(|(link, _)| link)
    }

    /// When whoever begins to wait now has waited long enough.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// What a request comes to, unless it takes longer than the server would let it.
    pub(super) async fn within<T>(
        &self,
        request: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        let silent = |_| Failed::Lost("the server does not answer".into());
        timeout(self.request, request).await.map_err(silent)?
    }

    async fn at_last(&self, deadline: Option<Instant>) -> Result<(Link, mpsc::Receiver<Box<str>>), Failed> {
        let growing = ExponentialBuilder::default()
            .with_min_delay(MIN_PAUSE)
            .with_max_delay(MAX_PAUSE)
            .without_max_times()
            .with_jitter()
            .build();
        for pause in growing {
            let error = match self.link().await {
                Ok(link) => return Ok(link),
                Err(error) => error,
            };
            let again = Instant::now() + pause;
            match deadline {
                // Who is not let in is not let in a moment later either.
                Some(_) if !matches!(error, Failed::Lost(_)) => return Err(error),
                Some(deadline) if again > deadline => return Err(error),
                _ => tracing::debug!(%error, "there is no connection to the database"),
            }
            tokio::time::sleep_until(again).await;
        }
        Err(Failed::Lost("it was tried often enough".into()))
    }

    async fn link(&self) -> Result<(Link, mpsc::Receiver<Box<str>>), Failed> {
        let connecting = async {
            let (client, connection) = self.config.connect(self.tls.clone()).await?;
            let (hints, heard) = mpsc::channel(MAX_HINTS);
            let (alive, lost) = watch::channel(());
            let driver = tokio::spawn(async move {
                drive(connection, &hints).await;
                drop(alive);
            });
            let link = Link { client: Some(client), driver, lost };
            link.client().batch_execute(&self.settings).await?;
            Ok((link, heard))
        };
        let silent = |_| Failed::Lost("the server does not answer".into());
        timeout(CONNECT_TIMEOUT, connecting).await.map_err(silent)?
    }
}

/// What every session is set to. A statement is planned once for all its values, by the indexes that it was written
/// for: the planner knows nothing of a table that has just begun to grow, and would read all of it.
fn settings(lock_timeout: Duration, statement_timeout: Duration) -> String {
    format!(
        "SET lock_timeout = {};
         SET statement_timeout = {};
         SET idle_in_transaction_session_timeout = {};
         SET default_transaction_isolation = 'read committed';
         SET plan_cache_mode = force_generic_plan;
         SET enable_seqscan = off;
         SET enable_bitmapscan = off;
         SET enable_hashjoin = off;
         SET enable_mergejoin = off;
         SET jit = off;
         SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit') = 'off'",
        lock_timeout.as_millis(),
        statement_timeout.as_millis(),
        IDLE_IN_TRANSACTION.as_millis(),
    )
}

/// TLS by rustls, with the certificates that the machine trusts; `SSL_CERT_FILE` names others.
fn tls() -> Result<MakeRustlsConnect, PostgresError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PostgresError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Carries what is asked and answered until either side ends it, and passes on what other sessions tell.
async fn drive(mut connection: Connection<Socket, Stream>, hints: &mpsc::Sender<Box<str>>) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(told)) => drop(hints.try_send(told.payload().into())),
            Ok(AsyncMessage::Notice(notice)) => tracing::debug!(%notice, "the database says"),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = words(&error), "a connection to the database has ended");
                return;
            }
        }
    }
}

/// A connection. Dropping it cuts it off, whatever it was about to do.
pub(super) struct Link {
    /// There until it is closed.
    client: Option<Client>,
    driver: JoinHandle<()>,
    lost: watch::Receiver<()>,
}

impl Link {
    pub(super) fn client(&self) -> &Client {
        self.client.as_ref().expect("only closing takes it")
    }

    pub(super) fn is_lost(&self) -> bool {
        self.client().is_closed() || self.driver.is_finished()
    }

    /// Resolves once the connection is gone.
    pub(super) async fn lost(&self) {
        // Nothing is ever sent; the sender goes with the connection.
        while self.lost.clone().changed().await.is_ok() {}
    }

    /// Says goodbye, so that the server need not wonder.
    pub(super) async fn close(mut self) {
        drop(self.client.take());
        drop(timeout(GOODBYE, &mut self.driver).await);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
