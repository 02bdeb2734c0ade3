//! One shard: the mailboxes of its streams, and the loop that decides what is in them.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sillage_kernel::{ContentHash, Context, Outcome, Receipt, Rejection, Timestamp, Version};
use sillage_store::{Append, AppendError, Appended, EventStore, LedgerKey, Snapshot, SnapshotOf, Snapshots};
use tokio::sync::mpsc;
use tracing::{Span, field};

use super::entities::{Entities, Entity, Trust};
use super::loads::{Loaded, Loads};
use super::outcome::{EventIds, append_of, broken, ledger_key, unreadable};
use super::{
    BusOptions, DispatchError, MAX_ATTEMPTS, MAX_WAITERS, ReceiptSink, Reply, Settled, StreamKey, Submission,
    TURN_COMMANDS, TURNS_IN_FLIGHT,
};
use crate::deciders::{Command, Elsewhere, State};
use crate::replay::{PANICKED, due_after, snapshot_of};
use crate::station;

/// A command that has no outcome yet.
pub(super) struct Pending {
    pub(super) command: Command,
    key: LedgerKey,
    attempts: u32,
    /// The stream of a side entry that was not as the last decision needed it.
    elsewhere: Option<Elsewhere>,
    append_span: Span,
    /// The state after it, if a snapshot was due. It is kept once the command is durable.
    snapshot: Option<Snapshot>,
}

/// Whoever waits for a command; a resend while it is on its way joins the first.
struct Waiters {
    content: ContentHash,
    replies: Vec<Reply>,
}

/// What was decided, and is not on its way yet.
struct Turn {
    commands: Vec<Pending>,
    appends: Vec<Append>,
}

/// A turn on its way to the disk.
struct Flight {
    commands: Vec<Pending>,
    results: sillage_store::event_store::BoxFuture<Vec<Result<Appended, AppendError>>>,
}

pub(super) struct Shard {
    store: Arc<dyn EventStore>,
    snapshots: Option<Arc<Snapshots>>,
    sink: Arc<dyn ReceiptSink>,
    now: fn() -> Timestamp,
    ids: EventIds,
    entities: Entities,
    loads: Loads,
    waiters: HashMap<LedgerKey, Waiters>,
    flights: VecDeque<Flight>,
    /// What has to be decided again, before anything else.
    again: Vec<Pending>,
    settled: Vec<Settled>,
}

impl Shard {
    pub(super) fn new(store: Arc<dyn EventStore>, sink: Arc<dyn ReceiptSink>, options: &BusOptions) -> Self {
        Self {
            loads: Loads::new(Arc::clone(&store), options.snapshots.clone()),
            store,
            snapshots: options.snapshots.clone(),
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

    /// Works until the inbox is closed and empty, and nothing waits or is on its way.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Submission>) {
        let mut turn = Vec::with_capacity(TURN_COMMANDS);
        let mut open = true;
        while open || !self.flights.is_empty() || !self.loads.is_empty() {
            tokio::select! {
                biased;
                results = front(&mut self.flights) => self.settle(results),
                () = self.loads.read(), if !self.loads.is_empty() => {}
                taken = inbox.recv_many(&mut turn, TURN_COMMANDS),
                    if open && self.has_room() && !self.loads.is_full() =>
                {
                    open = taken > 0;
                    self.admit(turn.drain(..)).await;
                }
            }
            self.deliver();
            if self.has_room() {
                self.decide_loaded();
            }
            while !self.again.is_empty() {
                let again = std::mem::take(&mut self.again);
                self.decide(again);
            }
        }
    }

    /// Whether one more turn may be on its way.
    fn has_room(&self) -> bool {
        self.flights.len() < TURNS_IN_FLIGHT
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
        self.decide(to_decide);
    }

    /// The command, unless it is on its way already.
    fn join(&mut self, Submission { command, reply }: Submission) -> Option<Pending> {
        let (key, content) = (ledger_key(&command), command.content);
        match self.waiters.get_mut(&key) {
            Some(waiters) if waiters.content != content => reply(Err(DispatchError::ContentDiffers)),
            Some(waiters) if waiters.replies.len() == MAX_WAITERS => reply(Err(DispatchError::Overloaded)),
            Some(waiters) => waiters.replies.push(reply),
            None => {
                self.waiters.insert(key.clone(), Waiters { content, replies: vec![reply] });
                let (elsewhere, append_span, snapshot) = (None, Span::none(), None);
                return Some(Pending { command, key, attempts: 0, elsewhere, append_span, snapshot });
            }
        }
        None
    }

    /// Decides what has waited for streams that are read now.
    fn decide_loaded(&mut self) {
        let mut commands = Vec::new();
        for Loaded { stream, read, waited } in self.loads.take() {
            match read {
                Ok(replayed) => {
                    self.entities.insert(stream, replayed);
                    commands.extend(waited);
                }
                Err(error) => waited.iter().for_each(|pending| self.refuse(&pending.key, &error)),
            }
        }
        if !commands.is_empty() {
            self.decide(commands);
        }
    }

    /// Decides these in order, and sends the decisions to the disk as one turn. What needs a stream that is
    /// not in memory waits until it is read.
    fn decide(&mut self, commands: Vec<Pending>) {
        let now = (self.now)();
        let mut turn = Turn::of(commands.len());
        let mut lost = Vec::new();
        for mut pending in commands {
            let stream = stream_key(&pending.command);
            let Some(entity) = self.entities.get(&stream) else {
                self.loads.wait(stream, pending);
                continue;
            };
            if let Trust::Lost(queue) = &mut entity.trust {
                queue.fresh.push(pending);
                continue;
            }
            match decide_one(&pending, &mut entity.state, entity.version, now, &mut self.ids) {
                Ok((append, version)) => {
                    (entity.version, entity.in_flight) = (version, entity.in_flight + 1);
                    pending.snapshot =
                        due_snapshot(self.snapshots.as_deref(), &pending.command, entity, &append);
                    let traceparent = pending.command.envelope.traceparent.as_deref();
                    pending.append_span = station!("append", traceparent);
                    turn.commands.push(pending);
                    turn.appends.push(append);
                    if turn.appends.len() == TURN_COMMANDS {
                        self.send(std::mem::replace(&mut turn, Turn::of(0)));
                    }
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
        self.send(turn);
        self.entities.end_turn();
    }

    fn send(&mut self, Turn { commands, appends }: Turn) {
        if !appends.is_empty() {
            let results = self.store.append(appends);
            self.flights.push_back(Flight { commands, results });
        }
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
                    if let (Some(snapshots), Some(snapshot)) = (&self.snapshots, pending.snapshot.take()) {
                        let revision = pending.command.rules.revision();
                        let (tenant, stream) = stream.clone();
                        snapshots.offer(SnapshotOf { tenant, stream, revision }, snapshot);
                    }
                    let receipt = receipt.expect("every command is written to the ledger");
                    self.answer(&pending.key, receipt);
                }
                Err(AppendError::Known(entry)) => {
                    entity.distrust();
                    self.answer_known(&pending, entry.content, entry.receipt);
                }
                Err(AppendError::Conflict { stream, expected: _, actual })
                    if pending.attempts < MAX_ATTEMPTS =>
                {
                    pending.attempts += 1;
                    if stream != pending.command.stream {
                        pending.elsewhere = Some(Elsewhere { stream, actual });
                    }
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

impl Turn {
    /// Nothing yet, with room for so many commands.
    fn of(commands: usize) -> Self {
        let room = commands.min(TURN_COMMANDS);
        Self { commands: Vec::with_capacity(room), appends: Vec::with_capacity(room) }
    }
}

/// The results of the oldest turn; never, if there is none. May be dropped and asked again.
async fn front(flights: &mut VecDeque<Flight>) -> Vec<Result<Appended, AppendError>> {
    match flights.front_mut() {
        Some(flight) => flight.results.as_mut().await,
        None => std::future::pending().await,
    }
}

/// A snapshot of the state that the append leads to, if one is due and would be taken.
fn due_snapshot(
    snapshots: Option<&Snapshots>,
    command: &Command,
    entity: &mut Entity,
    append: &Append,
) -> Option<Snapshot> {
    if entity.version < entity.snapshot_due || !snapshots?.has_room() {
        return None;
    }
    let last = append.entries.iter().find(|entry| entry.stream == command.stream)?.events.last()?;
    let snapshot = snapshot_of(command.rules.as_ref(), &entity.state, entity.version, last.id);
    let bytes = snapshot.as_ref().map_or(0, |snapshot| snapshot.state.len());
    entity.snapshot_due = due_after(command.rules.as_ref(), entity.version, bytes);
    snapshot
}

fn stream_key(command: &Command) -> StreamKey {
    (command.envelope.tenant.clone(), command.stream.clone())
}

/// The append that a command becomes, and the version of its stream after it. The state is ahead afterwards;
/// after an error it cannot be trusted.
fn decide_one(
    Pending { command, elsewhere, .. }: &Pending,
    state: &mut State,
    version: Version,
    now: Timestamp,
    ids: &mut EventIds,
) -> Result<(Append, Version), DispatchError> {
    let envelope = &command.envelope;
    let span = station!("decide", envelope.traceparent.as_deref(), rejection = field::Empty).entered();
    let context = Context { now, actor: &envelope.actor, command_id: envelope.command_id };
    let decide =
        AssertUnwindSafe(|| command.rules.decide(state, &command.payload, &context, elsewhere.as_ref()));
    // A mistake in one rule must not stop the streams of all others.
    let decided = catch_unwind(decide).map_err(|_| DispatchError::Broken(broken(PANICKED)))?;
    if let Err(rejection) = &decided {
        span.record("rejection", &*rejection.code);
    }
    let added = decided.as_ref().map_or(0, |decided| decided.events.len() as u64);
    let append = append_of(command, decided, version, now, ids);
    Ok((append, Version::new(version.get() + added)))
}
