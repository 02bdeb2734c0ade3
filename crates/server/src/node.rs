//! One node: how the parts are joined, started and stopped. The order here is that of the journey.

use std::fs::{File, TryLockError};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sillage_gateway::Gateway;
use sillage_gateway::codes::Close;
use sillage_gateway::directory::Directory;
use sillage_gateway::hub::{self, Hub};
use sillage_gateway::limits::{Bounds, Limits, Rates};
use sillage_gateway::sampling::Sampler;
use sillage_gateway::serving::{self, Serving};
use sillage_gateway::tokens::{Keys, TokenError};
use sillage_kernel::Reactor;
use sillage_runtime::{
    BusOptions, CommandBus, Compaction, Compactor, ContentKey, Keep, Neighbour, NoPlace, Policies,
    PolicyError, Projector, Reactors, Retry, SeenHere, Supervisor,
};
use sillage_store::event_store::journal::{JournalOptions, JournalStore, LogError, Progress};
#[cfg(feature = "postgres")]
use sillage_store::event_store::postgres::{Database, PostgresError, PostgresOptions, PostgresStore};
use sillage_store::event_store::upcasting::Upcasting;
use sillage_store::views::{Baselines, BaselinesError, PastViews, Views, ViewsError};
use sillage_store::{EventStore, Snapshots, StoreError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::keys;
use crate::systems::{self, System};

/// How long a stop waits for open requests.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Where the log is.
#[derive(Clone, Default)]
pub enum Log {
    /// In the data folder, for this node alone.
    #[default]
    Journal,
    /// In a database, for as many nodes as use it. The data folder has only what each node keeps for itself.
    #[cfg(feature = "postgres")]
    Postgres(Box<Database>),
    /// This one, which is open.
    Open(Arc<dyn EventStore>),
}

/// How a node runs.
#[derive(Clone)]
pub struct Config {
    /// What it serves.
    pub system: System,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What others that share its log call it.
    pub name: String,
    /// Where it keeps everything, but for a log that is elsewhere.
    pub data: PathBuf,
    /// Where the log is.
    pub log: Log,
    /// The file of the keys, if it is not in the data folder.
    pub keys: Option<PathBuf>,
    /// How a log in the data folder is opened.
    pub journal: JournalOptions,
    /// How many requests a second are traced at most.
    pub traces_per_second: u32,
    /// How many connections are taken, and how long they are borne.
    pub serving: Serving,
    /// How many sockets and streams there may be.
    pub bounds: Bounds,
    /// How much guests may ask for.
    pub rates: Rates,
    /// How often and how long a failing event is tried.
    pub retry: Retry,
    /// What some categories keep of their events; all others keep everything.
    pub keep: Vec<(String, Keep)>,
}

impl Config {
    /// The defaults of the command line of `sillage`.
    pub fn new(listen: SocketAddr, data: PathBuf) -> Self {
        Self {
            system: systems::all(),
            listen,
            name: format!("{}:{}", host(), listen.port()),
            data,
            log: Log::default(),
            keys: None,
            journal: JournalOptions::default(),
            traces_per_second: 0,
            serving: Serving::default(),
            bounds: Bounds::default(),
            rates: Rates::default(),
            retry: Retry::default(),
            keep: Vec::new(),
        }
    }

    /// The file of the keys.
    pub fn keys_file(&self) -> PathBuf {
        self.keys.clone().unwrap_or_else(|| self.data.join("keys.json"))
    }
}

/// What this machine is called.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be used: look at its rights and its disk.
    #[error("the folder {path} cannot be used: {source}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The log cannot be opened; the message says what to do.
    #[error("the log in {path} cannot be opened: {source}{}", what_to_do(source))]
    Log {
        /// Which folder.
        path: PathBuf,
        /// What is wrong.
        source: Box<LogError>,
    },
    /// The log cannot be shared with those who have it.
    #[error(transparent)]
    Shared(#[from] NoPlace),
    /// What a category is to keep cannot be done: change `--keep`.
    #[error(transparent)]
    Keep(#[from] PolicyError),
    /// Another node uses the data folder: give each its own.
    #[error(
        "the folder {path} cannot be used: another process uses it: stop that one, or name another folder with --data"
    )]
    FolderInUse {
        /// Which folder.
        path: PathBuf,
    },
    /// The log in a database cannot be opened; the message says what to do.
    #[cfg(feature = "postgres")]
    #[error("the log in the database {database} cannot be opened: {source}")]
    Database {
        /// Which database, without any password.
        database: String,
        /// What is wrong.
        source: Box<PostgresError>,
    },
    /// The views cannot be opened.
    #[error(transparent)]
    Views(#[from] ViewsError),
    /// What compaction has put in place of events cannot be read.
    #[error("the baselines of the log cannot be read: {0}")]
    Baselines(#[from] BaselinesError),
    /// The snapshots cannot be written: look at the disk.
    #[error("the file of the snapshots cannot be used: {0}")]
    Snapshots(rusqlite::Error),
    /// The keys cannot be read or made.
    #[error(transparent)]
    Keys(#[from] TokenError),
    /// Nodes that share the log have other keys than this one: give all of them the same file.
    #[error(
        "the nodes that use this log have other keys than those in {path} ({fingerprint}): name the file of the others \
         with --keys, or SILLAGE_KEYS; if these are to be the new ones, stop all others and wait a minute"
    )]
    OtherKeys {
        /// Of the keys of this node.
        path: PathBuf,
        /// Which these are.
        fingerprint: String,
    },
    /// It cannot be asked which keys the nodes have that share the log: look at the log.
    #[error("the log cannot be asked for its keys: {0}")]
    KeysUnknown(StoreError),
    /// The address is taken, or not of this machine: choose another with `--listen`.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What an operator does about a log that cannot be opened, if the error itself does not say it.
fn what_to_do(error: &LogError) -> &'static str {
    match error {
        LogError::Locked => "; another process uses it: stop that one, or name another folder with --data",
        LogError::Damaged { .. } => {
            "; look at all of it with `sillage verify`, and restore a backup with `sillage restore`; without one, \
             `sillage serve --accept-loss` cuts the log there"
        }
        LogError::NoBeginning { .. } => "; name it with --archive or SILLAGE_ARCHIVE",
        LogError::Archive { .. } => "; mount it, or correct --archive",
        LogError::Unsupported { .. } => "; use the program that wrote it, or a newer one",
        _ => "",
    }
}

/// A node that is running. Dropping it lets it run on; [`Node::stop`] ends it in order.
pub struct Node {
    address: SocketAddr,
    gateway: Arc<Gateway>,
    projector: Projector,
    reactors: Reactors,
    /// What is simply ended: the sweep of the hub, hearing of other nodes, compaction, and holding on to the keys.
    chores: [JoinHandle<()>; 4],
    serving: JoinHandle<()>,
    stop: tokio::sync::watch::Sender<Stop>,
    held_folder: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    NotYet,
    Now,
}

impl Node {
    /// Starts everything, and returns once requests are taken. It is ready a little later: see `/readyz`.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        let stored = open_log(&config).await?;
        let held_folder = hold_folder(&config)?;
        let keys = Arc::new(Keys::open(&config.keys_file())?);
        tracing::info!(file = %config.keys_file().display(), fingerprint = keys.fingerprint(), "the keys were read");
        keys::hold(stored.as_ref(), &keys, &config.keys_file()).await?;
        let deciders = config.system.deciders(ContentKey(keys.content_key()));
        let policies = Policies::new(&deciders, &config.system.views, &config.keep)?;
        let store = Upcasting::over(stored, deciders.upcasters().clone());
        // Before it is looked what is missing: from then on nothing is dropped that this node has not seen.
        let neighbour = Neighbour::join(&store).await?;
        let snapshots = Arc::new(open_snapshots(&config)?);
        let views = open_views(&config, store.as_ref()).await?;
        let past = open_past(&config, &store)?;
        let directory = Arc::new(Directory::default());
        let hub = Hub::new(Arc::clone(&store), Arc::clone(&directory), config.bounds);
        let supervisor = Supervisor::default();
        watch_the_log(&supervisor, store.as_ref());
        let keeping = keys::keep(&store, &keys, &config.keys_file(), &supervisor);
        let bus_options = BusOptions {
            snapshots: Some(Arc::clone(&snapshots)),
            supervisor: supervisor.clone(),
            ..BusOptions::default()
        };
        let bus = CommandBus::start(Arc::clone(&store), Arc::clone(&hub) as _, bus_options);

        let view_reader = views.reader();
        let ready_at = store.head();
        let projector = Projector::start(Arc::clone(&store), views, &supervisor);

        let mut reactors = Reactors::new(supervisor.clone(), &config.name);
        let sockets: Arc<dyn Reactor> = Arc::clone(&hub) as _;
        for reactor in std::iter::once(sockets).chain(config.system.reactors.iter().cloned()) {
            reactors.start(Arc::clone(&store), reactor, config.retry);
        }
        let sweep = supervisor.spawn("sweep of the hub", hub::sweep(Arc::clone(&hub)));
        let hearing = supervisor.spawn("receipts of other nodes", hub::hear(Arc::clone(&hub)));
        let compaction = Compaction {
            store: Arc::clone(&store),
            snapshots: Some(Arc::clone(&snapshots)),
            policies,
            seen: SeenHere { reactors: reactors.handles().to_vec(), views: view_reader.clone() },
            neighbour,
        };
        let (compactor, compacting) = Compactor::start(compaction, &supervisor);

        let gateway = Arc::new(Gateway {
            bus,
            deciders,
            store,
            snapshots,
            hub,
            keys,
            directory,
            views: view_reader,
            past,
            compactor,
            reactors: reactors.handles().to_vec(),
            reach: config.system.reach.clone(),
            limits: Limits::new(config.rates),
            sampler: Sampler::new(config.traces_per_second),
            ready_at,
            supervisor,
            metrics: metrics_recorder(),
        });
        let (stop, stopped) = tokio::sync::watch::channel(Stop::NotYet);
        let (address, serving) = listen(&config, Arc::clone(&gateway), stopped).await?;
        let chores = [sweep, hearing, compacting, keeping];
        Ok(Self { address, gateway, projector, reactors, chores, serving, stop, held_folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The parts that requests are served with.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Resolves, with the reason, when something has failed that only a new start mends: stop the node then.
    pub async fn failed(&self) -> Arc<str> {
        self.gateway.supervisor.failed().await
    }

    /// Stops in the order of the journey: no new requests, open sockets closed, what was taken settled, then
    /// the log. Answers how many connections were closed.
    pub async fn stop(self) -> usize {
        let Self { address: _, gateway, projector, reactors, chores, serving, stop, held_folder } = self;
        stop.send_replace(Stop::Now);
        let closed = gateway.hub.close_all(Close::GoingAway);
        let all_closed = async {
            // A socket that was being opened meanwhile is asked too.
            while gateway.hub.close_all(Close::GoingAway) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            serving.await
        };
        if tokio::time::timeout(STOP_PATIENCE, all_closed).await.is_err() {
            tracing::warn!("some requests were still open");
        }
        chores.iter().for_each(JoinHandle::abort);
        projector.stop().await;
        reactors.stop().await;
        gateway.store.close().await;
        drop(held_folder);
        closed
    }
}

/// Two nodes that fold into one file of views would count everything twice.
fn hold_folder(config: &Config) -> Result<File, NodeError> {
    let path = || config.data.clone();
    let folder = |source| NodeError::Folder { path: path(), source };
    let open = File::options().create(true).append(true).open(config.data.join("node.lock"));
    let file = open.map_err(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(NodeError::FolderInUse { path: path() }),
        Err(TryLockError::Error(source)) => Err(folder(source)),
    }
}

async fn open_log(config: &Config) -> Result<Arc<dyn EventStore>, NodeError> {
    let folder = |source| NodeError::Folder { path: config.data.clone(), source };
    std::fs::create_dir_all(&config.data).map_err(folder)?;
    let store = match &config.log {
        Log::Journal => open_journal(config)?,
        #[cfg(feature = "postgres")]
        Log::Postgres(database) => {
            if config.data.join("journal").exists() {
                tracing::warn!(
                    "the log in the data folder is not used: it is another than that in the database"
                );
            }
            open_database(database).await?
        }
        Log::Open(log) => Arc::clone(log),
    };
    tracing::info!(engine = store.features().engine, head = %store.head(), "the log is open");
    Ok(store)
}

fn open_journal(config: &Config) -> Result<Arc<dyn EventStore>, NodeError> {
    let path = config.data.join("journal");
    let options = JournalOptions { progress: Some(tell_progress), ..config.journal.clone() };
    let (store, recovered) = JournalStore::open(&path, new_log_id(), options)
        .map_err(|source| NodeError::Log { path, source: Box::new(source) })?;
    if let Some(lost) = recovered.lost {
        tracing::error!(at = %lost.at, reason = %lost.reason, bytes = recovered.cut_bytes,
            "the log was damaged, and has been cut with the operator's consent");
    } else if recovered.cut_bytes > 0 {
        tracing::warn!(bytes = recovered.cut_bytes, "the end of the log was torn, and has been cut");
    }
    tracing::info!(batches = recovered.batches, "the log was read");
    Ok(Arc::new(store))
}

/// The log in a database; it is made if there is none.
#[cfg(feature = "postgres")]
pub async fn open_database(database: &Database) -> Result<Arc<dyn EventStore>, NodeError> {
    let opened = PostgresStore::open(database, new_log_id(), PostgresOptions::default()).await;
    let failed = |source| NodeError::Database { database: database.to_string(), source: Box::new(source) };
    Ok(Arc::new(opened.map_err(failed)?))
}

fn new_log_id() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

fn tell_progress(Progress { done_bytes, total_bytes }: Progress) {
    tracing::info!(done_bytes, total_bytes, "reading the log");
}

/// A log that cannot be written any more is a failure of the node. The task ends with the process at the latest.
fn watch_the_log(supervisor: &Supervisor, store: &dyn EventStore) {
    let (failed, reporting) = (store.failed(), supervisor.clone());
    supervisor.spawn("watch of the log", async move {
        reporting.report(&format!("the log cannot be written any more: {}", failed.await));
    });
}

async fn open_views(config: &Config, store: &dyn EventStore) -> Result<Views, NodeError> {
    let baselines = Baselines::of_compaction(store).await?;
    let file = config.data.join("views.sqlite");
    Ok(config.system.views.clone().open(&file, &store.epoch(), store.head(), baselines)?)
}

fn open_past(config: &Config, store: &Arc<dyn EventStore>) -> Result<Arc<PastViews>, NodeError> {
    let path = config.data.join("views-of-the-past");
    let folder = |source| NodeError::Folder { path: path.clone(), source };
    PastViews::open(Arc::clone(store), config.system.views.clone(), &path).map_err(folder)
}

fn open_snapshots(config: &Config) -> Result<Snapshots, NodeError> {
    Snapshots::open(&config.data.join("snapshots.sqlite")).map_err(NodeError::Snapshots)
}

async fn listen(
    config: &Config,
    gateway: Arc<Gateway>,
    mut stopped: tokio::sync::watch::Receiver<Stop>,
) -> Result<(SocketAddr, JoinHandle<()>), NodeError> {
    let failed = |source| NodeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = config.system.router(Arc::clone(&gateway));
    let stop = async move { drop(stopped.wait_for(|stop| *stop == Stop::Now).await) };
    let serve = serving::serve(listener, router, config.serving, stop);
    Ok((bound, gateway.supervisor.spawn("door", serve)))
}

/// The recorder of the process; several nodes in one process, as in tests, share it.
fn metrics_recorder() -> PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics was there first");
        }
        handle
    };
    HANDLE.get_or_init(install).clone()
}

/// Resolves when the process is asked to end, from this call on. Call it on a runtime.
pub fn asked_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let wait = |signal| async move {
        match signal {
            Ok(mut signal) => drop(Signal::recv(&mut signal).await),
            Err(error) => {
                tracing::error!(%error, "signals cannot be heard");
                std::future::pending().await
            }
        }
    };
    async move {
        tokio::select! {
            () = wait(terminate) => {}
            () = wait(interrupt) => {}
        }
    }
}
