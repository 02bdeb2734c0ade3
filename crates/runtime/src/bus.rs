//! The way of a command from the gateway to the log, and of its receipt back.
//!
//! Streams are dealt out to a few shards, so that all commands of a stream meet in one place, in order. A
//! shard takes all that waits as one turn, decides it on states that are ahead of the disk, and hands it to
//! the store with one call; while the disk works it already decides the next turn.
//!
//! Invariants: a command is answered after its outcome is durable; what was decided on a state that never
//! became durable is decided again; commands to one stream are decided in the order in which they came, and
//! those to a stream that has to be read first keep no other stream waiting.

mod entities;
mod loads;
mod outcome;
mod shard;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use sillage_kernel::{Receipt, StreamName, Tenant, Timestamp, UserId};
use sillage_store::{EventStore, Snapshots, clock};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::outcome::EventIds;
use self::shard::Shard;
use crate::Supervisor;
use crate::deciders::Command;

/// How many commands wait at one shard; whoever sends more waits until there is room.
pub const SHARD_QUEUE: usize = 4_096;
/// How many commands one turn takes at most.
pub const TURN_COMMANDS: usize = 1_024;
/// How many turns of a shard are on their way to the disk at most.
pub const TURNS_IN_FLIGHT: usize = 4;
/// How often a command is decided again before its sender is told to come back.
pub const MAX_ATTEMPTS: u32 = 16;
/// How many wait for the outcome of one command, its sender and those who resend it; whoever resends it beyond
/// that is told to come back.
pub const MAX_WAITERS: usize = 64;

/// Takes the answer to one command. It is called once, on the shard's own time, and must not block.
pub type Reply = Box<dyn FnOnce(Result<Receipt, DispatchError>) + Send>;

/// Why a command has no receipt. Nothing of it was kept, or nothing is known of it yet; sent again with the
/// same id, it is taken once in any case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The id belongs to another command: use a new one.
    #[error("the command id was used for another command")]
    ContentDiffers,
    /// Too much is going on: come back later with the same id.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The log cannot be reached: come back later with the same id.
    #[error("the log cannot be reached: {0}")]
    Unavailable(Arc<str>),
    /// The rules or the log are broken: tell an operator.
    #[error("the command cannot be decided: {0}")]
    Broken(Arc<str>),
}

/// A stream of a tenant.
pub(crate) type StreamKey = (Tenant, StreamName);

/// A receipt and the person it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whose log.
    pub tenant: Tenant,
    /// Whoever sent the command.
    pub principal: UserId,
    /// What became of it.
    pub receipt: Receipt,
}

/// Where receipts go: to all live connections of the sender.
pub trait ReceiptSink: Send + Sync + 'static {
    /// Takes what has just been settled. It must not block.
    fn deliver(&self, settled: &[Settled]);
}

/// How a bus works.
#[derive(Clone)]
pub struct BusOptions {
    /// Over how many shards the streams are dealt out.
    pub shards: usize,
    /// How many streams each shard keeps in memory; the least recently used are forgotten and read again.
    pub streams_in_memory: usize,
    /// What time it is.
    pub now: fn() -> Timestamp,
    /// Where states are saved, so that long streams are not read from their beginning.
    pub snapshots: Option<Arc<Snapshots>>,
    /// Watches over the shards.
    pub supervisor: Supervisor,
}

impl Default for BusOptions {
    fn default() -> Self {
        let shards = std::thread::available_parallelism().map_or(2, usize::from);
        let (now, snapshots, supervisor) = (clock::now, None, Supervisor::default());
        Self { shards, streams_in_memory: 16_384, now, snapshots, supervisor }
    }
}

/// Takes commands. Cloning shares it; it ends when all clones are gone and what was taken is settled.
#[derive(Clone)]
pub struct CommandBus {
    shards: Arc<[mpsc::Sender<Submission>]>,
}

/// A command and whoever waits for it.
struct Submission {
    command: Command,
    reply: Reply,
}

impl CommandBus {
    /// Starts the shards on the current runtime.
    pub fn start(store: Arc<dyn EventStore>, sink: Arc<dyn ReceiptSink>, options: BusOptions) -> Self {
        let shard = |_| {
            let (sender, inbox) = mpsc::channel(SHARD_QUEUE);
            let shard = Shard::new(Arc::clone(&store), Arc::clone(&sink), &options);
            options.supervisor.spawn("command bus", shard.run(inbox));
            sender
        };
        Self { shards: (0..options.shards.max(1)).map(shard).collect() }
    }

    /// Hands a command over; waits while its shard has no room. `reply` gets the answer.
    pub async fn submit(&self, command: Command, reply: Reply) {
        let shard = self.shard_of(&command);
        if let Err(mpsc::error::SendError(Submission { reply, .. })) =
            shard.send(Submission { command, reply }).await
        {
            reply(Err(DispatchError::Unavailable("the bus has stopped".into())));
        }
    }

    /// Hands a command over and waits for its answer.
    pub async fn dispatch(&self, command: Command) -> Result<Receipt, DispatchError> {
        let (sender, answer) = oneshot::channel();
        // A caller that no longer waits is not missed.
        self.submit(command, Box::new(move |result| drop(sender.send(result)))).await;
        answer.await.unwrap_or_else(|_| Err(DispatchError::Unavailable("the bus has stopped".into())))
    }

    fn shard_of(&self, command: &Command) -> &mpsc::Sender<Submission> {
        // The same stream must come to the same shard, so the hash has no random key.
        let hash = BuildHasherDefault::<DefaultHasher>::default()
            .hash_one((&command.envelope.tenant, &command.stream));
        let at = usize::try_from(hash % self.shards.len() as u64).expect("there are few shards");
        self.shards.get(at).expect("the remainder is below the number of shards")
    }
}
