//! One shard: the mailboxes of its streams, and the loop that decides what is in them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::future::join_all;
use sillage_kernel::{ContentHash, Context, Outcome, Receipt, Rejection, Timestamp, Version};
use sillage_store::{Append, AppendError, Appended, Direction, EventStore, LedgerKey, StoreError};
use tokio::sync::mpsc;
use tracing::{Span, field};

use super::entities::{Entities, StreamKey, Trust};
use super::outcome::{EventIds, append_of, broken, ledger_key};
use super::{
    BusOptions, DispatchError, MAX_ATTEMPTS, ReceiptSink, Reply, Settled, Submission, TURN_COMMANDS,
    TURNS_IN_FLIGHT,
};
use crate::deciders::{Command, Rules, State};
use crate::station;

/// How many streams are read at the same time when a turn needs ones that are not in memory.
const LOADS_AT_ONCE: usize = 32;
/// How many events of a stream are read at once.
const LOAD_PAGE: usize = 1_000;

/// What a mistake in the rules of a stream is called.
const PANICKED: &str = "the rules have panicked";

/// A command that has no outcome yet.
pub(super) struct Pending {
    command: Command,
    key: LedgerKey,
    attempts: u32,
    append_span: Span,
}

/// Whoever waits for a command; a resend while it is on its way joins the first.
struct Waiters {
    content: ContentHash,
    replies: Vec<Reply>,
}

/// A turn on its way to the disk.
struct Flight {
    commands: Vec<Pending>,
    results: sillage_store::event_store::BoxFuture<Vec<Result<Appended, AppendError>>>,
}

pub(super) struct Shard {
    store: Arc<dyn EventStore>,
    sink: Arc<dyn ReceiptSink>,
    now: fn() -> Timestamp,
    ids: EventIds,
    entities: Entities,
    waiters: HashMap<LedgerKey, Waiters>,
    flights: VecDeque<Flight>,
    /// What has to be decided again, before anything else.
    again: Vec<Pending>,
    settled: Vec<Settled>,
}

impl Shard {
    pub(super) fn new(store: Arc<dyn EventStore>, sink: Arc<dyn ReceiptSink>, options: &BusOptions) -> Self {
        Self {
            store,
            sink,
            now: options.now,
            ids: EventIds::new(),
            entities: Entities::new(options.streams_in_memory),
            waiters: HashMap::new(),
            flights: VecDeque::new(),
            again: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// Works until the inbox is closed and empty, and nothing is on its way.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Submission>) {
        let mut turn = Vec::with_capacity(TURN_COMMANDS);
        let mut open = true;
        while open || !self.flights.is_empty() {
            tokio::select! {
                biased;
                results = front(&mut self.flights) => self.settle(results),
                taken = inbox.recv_many(&mut turn, TURN_COMMANDS),
                    if open && self.flights.len() < TURNS_IN_FLIGHT =>
                {
                    open = taken > 0;
                    self.admit(turn.drain(..)).await;
                }
            }
            self.deliver();
            while !self.again.is_empty() {
                let again = std::mem::take(&mut self.again);
                self.decide(again).await;
            }
        }
    }

    /// Lets new commands in: joins resends to what is on its way, answers what the ledger knows, decides
    /// the rest.
    async fn admit(&mut self, turn: impl Iterator<Item = Submission>) {
        let fresh: Vec<_> = turn.filter_map(|submission| self.join(submission)).collect();
        if fresh.is_empty() {
            return;
        }
        let known = match self.store.look_up(fresh.iter().map(|pending| pending.key.clone()).collect()).await
        {
            Ok(known) => known,
            Err(error) => {
                let error = unreadable(&error);
                fresh.into_iter().for_each(|pending| self.refuse(&pending.key, &error));
                return;
            }
        };
        let remembers_since = self.store.remembers_since();
        let mut to_decide = Vec::with_capacity(fresh.len());
        for (pending, known) in fresh.into_iter().zip(known) {
            let minted = pending.command.envelope.command_id.minted_at();
            match known {
                Some(entry) => self.answer_known(&pending, entry.content, entry.receipt),
                None if minted.is_some_and(|minted| minted < remembers_since) => self.expire(&pending),
                None => to_decide.push(pending),
            }
        }
        self.decide(to_decide).await;
    }

    /// The command, unless it is on its way already.
    fn join(&mut self, Submission { command, reply }: Submission) -> Option<Pending> {
        let (key, content) = (ledger_key(&command), command.content);
        match self.waiters.get_mut(&key) {
            Some(waiters) if waiters.content == content => {
                waiters.replies.push(reply);
                None
            }
            Some(_) => {
                reply(Err(DispatchError::ContentDiffers));
                None
            }
            None => {
                self.waiters.insert(key.clone(), Waiters { content, replies: vec![reply] });
                Some(Pending { command, key, attempts: 0, append_span: Span::none() })
            }
        }
    }

    /// Decides these in order, and sends the decisions to the disk as one turn.
    async fn decide(&mut self, commands: Vec<Pending>) {
        self.entities.begin_turn();
        let failed = self.load_missing(&commands).await;
        let now = (self.now)();
        let (mut decided, mut appends) =
            (Vec::with_capacity(commands.len()), Vec::with_capacity(commands.len()));
        let mut lost = Vec::new();
        for mut pending in commands {
            let stream = stream_key(&pending.command);
            if let Some(error) = failed.get(&stream) {
                self.refuse(&pending.key, error);
                continue;
            }
            let entity = self.entities.get(&stream).expect("what was missing was loaded");
            if let Trust::Lost(queue) = &mut entity.trust {
                queue.fresh.push(pending);
                continue;
            }
            match decide_one(&pending.command, &mut entity.state, entity.version, now, &mut self.ids) {
                Ok((append, version)) => {
                    (entity.version, entity.in_flight) = (version, entity.in_flight + 1);
                    let traceparent = pending.command.envelope.traceparent.as_deref();
                    pending.append_span = station!("append", traceparent);
                    decided.push(pending);
                    appends.push(append);
                }
                Err(error) => {
                    entity.distrust();
                    self.refuse(&pending.key, &error);
                    lost.push(stream);
                }
            }
        }
        // Only now: until here, commands of the same turn wait with their stream.
        for stream in lost {
            self.again.extend(self.entities.rewind(&stream));
        }
        if !appends.is_empty() {
            let results = self.store.append(appends);
            self.flights.push_back(Flight { commands: decided, results });
        }
    }

    /// Reads the streams that are not in memory; those that cannot be read are returned with the reason.
    async fn load_missing(&mut self, commands: &[Pending]) -> HashMap<StreamKey, DispatchError> {
        let mut missing = HashSet::new();
        let needed: Vec<_> = commands
            .iter()
            .filter(|pending| !self.entities.knows(&stream_key(&pending.command)))
            .filter(|pending| missing.insert(stream_key(&pending.command)))
            .map(|pending| (stream_key(&pending.command), Arc::clone(&pending.command.rules)))
            .collect();
        let mut failed = HashMap::new();
        for some in needed.chunks(LOADS_AT_ONCE) {
            let loads = some.iter().map(|(key, rules)| load(self.store.as_ref(), key, rules.as_ref()));
            for (result, (key, _)) in join_all(loads).await.into_iter().zip(some) {
                match result {
                    Ok((state, version)) => self.entities.insert(key.clone(), state, version),
                    Err(error) => drop(failed.insert(key.clone(), error)),
                }
            }
        }
        failed
    }

    /// The oldest turn has come back from the disk.
    fn settle(&mut self, results: Vec<Result<Appended, AppendError>>) {
        let Some(Flight { commands, .. }) = self.flights.pop_front() else { return };
        for (mut pending, result) in commands.into_iter().zip(results) {
            pending.append_span = Span::none();
            let stream = stream_key(&pending.command);
            let entity = self.entities.get(&stream).expect("what is on its way is not forgotten");
            entity.in_flight -= 1;
            match result {
                Ok(Appended { receipt, position: _ }) => {
                    let receipt = receipt.expect("every command is written to the ledger");
                    self.answer(&pending.key, receipt);
                }
                Err(AppendError::Known(entry)) => {
                    entity.distrust();
                    self.answer_known(&pending, entry.content, entry.receipt);
                }
                Err(AppendError::Conflict { .. }) if pending.attempts < MAX_ATTEMPTS => {
                    pending.attempts += 1;
                    entity.distrust().again.push(pending);
                }
                Err(error) => {
                    entity.distrust();
                    let error = match error {
                        AppendError::Conflict { .. } | AppendError::Overloaded => DispatchError::Overloaded,
                        AppendError::Unavailable(why) => DispatchError::Unavailable(why),
                        other => DispatchError::Broken(broken(other)),
                    };
                    self.refuse(&pending.key, &error);
                }
            }
            self.again.extend(self.entities.rewind(&stream));
        }
    }

    fn answer_known(&mut self, pending: &Pending, content: ContentHash, receipt: Receipt) {
        if content == pending.command.content {
            self.answer(&pending.key, receipt);
        } else {
            self.refuse(&pending.key, &DispatchError::ContentDiffers);
        }
    }

    /// The ledger may have forgotten a command as old as this one, so it is not taken for new. The answer is
    /// not kept: it will be the same whenever the command comes again.
    fn expire(&mut self, pending: &Pending) {
        let rejection = Rejection::new("expired", "The command is older than the memory of the ledger.");
        let receipt = Receipt {
            stream: pending.command.stream.clone(),
            command_id: pending.key.command_id,
            outcome: Outcome::Rejected(rejection),
            position: self.store.head(),
        };
        self.answer(&pending.key, receipt);
    }

    fn answer(&mut self, key: &LedgerKey, receipt: Receipt) {
        let replies = self.waiters.remove(key).map_or_else(Vec::new, |waiters| waiters.replies);
        replies.into_iter().for_each(|reply| reply(Ok(receipt.clone())));
        let LedgerKey { tenant, principal, command_id: _ } = key;
        self.settled.push(Settled { tenant: tenant.clone(), principal: principal.clone(), receipt });
    }

    fn refuse(&mut self, key: &LedgerKey, error: &DispatchError) {
        let replies = self.waiters.remove(key).map_or_else(Vec::new, |waiters| waiters.replies);
        replies.into_iter().for_each(|reply| reply(Err(error.clone())));
    }

    /// Hands on all receipts of a turn at once, so that a connection is woken once.
    fn deliver(&mut self) {
        if self.settled.is_empty() {
            return;
        }
        self.sink.deliver(&self.settled);
        let [mut applied, mut unchanged, mut rejected] = [0, 0, 0];
        for Settled { receipt, .. } in self.settled.drain(..) {
            *match receipt.outcome {
                Outcome::Applied { .. } => &mut applied,
                Outcome::Unchanged => &mut unchanged,
                Outcome::Rejected(_) => &mut rejected,
            } += 1;
        }
        for (outcome, count) in [("applied", applied), ("unchanged", unchanged), ("rejected", rejected)] {
            metrics::counter!("sillage_receipts_total", "outcome" => outcome).increment(count);
        }
    }
}

/// The results of the oldest turn; never, if there is none. May be dropped and asked again.
async fn front(flights: &mut VecDeque<Flight>) -> Vec<Result<Appended, AppendError>> {
    match flights.front_mut() {
        Some(flight) => flight.results.as_mut().await,
        None => std::future::pending().await,
    }
}

fn stream_key(command: &Command) -> StreamKey {
    (command.envelope.tenant.clone(), command.stream.clone())
}

/// The state and version of a stream, from all its events.
async fn load(
    store: &dyn EventStore,
    (tenant, stream): &StreamKey,
    rules: &dyn Rules,
) -> Result<(State, Version), DispatchError> {
    let (mut state, mut version) = (rules.new_state(), Version::ZERO);
    loop {
        let page = store.read_stream(tenant, stream, version.next(), Direction::Forward, LOAD_PAGE).await;
        let page = page.map_err(|error| unreadable(&error))?;
        for event in &page.events {
            let replay = AssertUnwindSafe(|| rules.replay(&mut state, event));
            let replayed = catch_unwind(replay).map_err(|_| DispatchError::Broken(broken(PANICKED)))?;
            replayed.map_err(|error| DispatchError::Broken(broken(error)))?;
            version = event.version;
        }
        if version >= page.head {
            return Ok((state, version));
        }
    }
}

/// The append that a command becomes, and the version of its stream after it. The state is ahead afterwards;
/// after an error it cannot be trusted.
fn decide_one(
    command: &Command,
    state: &mut State,
    version: Version,
    now: Timestamp,
    ids: &mut EventIds,
) -> Result<(Append, Version), DispatchError> {
    let envelope = &command.envelope;
    let span = station!("decide", envelope.traceparent.as_deref(), rejection = field::Empty).entered();
    let context = Context { now, actor: &envelope.actor, command_id: envelope.command_id };
    let decide = AssertUnwindSafe(|| command.rules.decide(state, &command.payload, &context));
    // A mistake in one rule must not stop the streams of all others.
    let decided = catch_unwind(decide).map_err(|_| DispatchError::Broken(broken(PANICKED)))?;
    if let Err(rejection) = &decided {
        span.record("rejection", &*rejection.code);
    }
    let added = decided.as_ref().map_or(0, |decided| decided.events.len() as u64);
    let append = append_of(command, decided, version, now, ids);
    Ok((append, Version::new(version.get() + added)))
}

fn unreadable(error: &StoreError) -> DispatchError {
    DispatchError::Unavailable(broken(error))
}
