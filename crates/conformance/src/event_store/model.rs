//! Random appends against a model: what the contract says, in its shortest form.
//!
//! The model counts positions from the start of the case without gaps. Where an engine leaves some out, its
//! log tells which of them each ordinal is.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy};
use proptest::prop_oneof;
use proptest::test_runner::{Config, TestRunner};
use sillage_kernel::{
    CommandId, Event, EventId, Expected, Filter, Outcome, Position, Receipt, Rejection, StreamName, Tenant,
    Version,
};
use sillage_store::event_store::Positions;
use sillage_store::{
    Append, AppendError, Appended, Entry, EventStore, LedgerEntry, LedgerKey, LedgerWrite, Verdict,
};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::Fixture;
use super::contents::assert_linked;
use super::things::{CONTENT, append, entry, pages, stream_of, tenant, thing, user};

/// How many histories are tried.
const CASES: u32 = 96;

/// Whatever is appended, in whatever order, alone or many in a call, awaited or not, every answer is the one
/// that the model gives, and in the end the log is the model's.
pub async fn random_appends_agree_with_a_model(fixture: impl Fixture) {
    let store = fixture.store();
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let history = vec(call(), 1..10);
    let tried = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&history, |calls| {
            Handle::current().block_on(crate::within_deadline(check(&store, calls)));
            Ok(())
        })
    });
    tried.unwrap_or_else(|failed| panic!("{failed}"));
}

/// Appends that are handed over together, and what the caller does then.
#[derive(Debug, Clone)]
struct Call {
    plans: Vec<Plan>,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Await,
    GoOn,
}

/// An append, in the words of the model.
#[derive(Debug, Clone)]
struct Plan {
    tenant: usize,
    /// For each stream at most one: what is expected, and how many events are added.
    entries: BTreeMap<usize, (Expects, usize)>,
    command: Option<(usize, usize, Verdict)>,
}

#[derive(Debug, Clone, Copy)]
enum Expects {
    Any,
    NoStream,
    Exists,
    Current,
    Earlier,
    Later,
}

fn call() -> impl Strategy<Value = Call> {
    let then = prop_oneof![Just(Then::Await), Just(Then::GoOn)];
    (vec(plan(), 1..5), then).prop_map(|(plans, then)| Call { plans, then })
}

fn plan() -> impl Strategy<Value = Plan> {
    let expects = prop_oneof![
        4 => Just(Expects::Current),
        2 => Just(Expects::Any),
        2 => Just(Expects::Exists),
        1 => Just(Expects::NoStream),
        1 => Just(Expects::Earlier),
        1 => Just(Expects::Later),
    ];
    let entries = proptest::collection::btree_map(0..4_usize, (expects, 0..3_usize), 1..4);
    let rejection = Rejection::new("no", "No.");
    let verdict = prop_oneof![
        3 => Just(Verdict::Applied),
        1 => Just(Verdict::Unchanged),
        1 => Just(Verdict::Rejected(rejection)),
    ];
    let command = option::of((0..2_usize, 0..6_usize, verdict));
    (0..2_usize, entries, command).prop_map(|(tenant, entries, command)| Plan { tenant, entries, command })
}

/// What a log is, and nothing else.
#[derive(Default)]
struct Model {
    log: Vec<(Tenant, StreamName, Version, EventId)>,
    versions: BTreeMap<(Tenant, StreamName), Version>,
    ledger: BTreeMap<LedgerKey, LedgerEntry>,
}

impl Model {
    fn version(&self, tenant: &Tenant, stream: &StreamName) -> Version {
        self.versions.get(&(tenant.clone(), stream.clone())).copied().unwrap_or_default()
    }

    fn head(&self) -> Position {
        Position::new(self.log.len() as u64)
    }

    /// The answers that are right. There are several where several streams are not as expected, since any of
    /// them may be named.
    fn append(&mut self, append: &Append) -> Vec<Result<Appended, AppendError>> {
        let Append { tenant, entries, ledger, fence: _, recorded_at: _ } = append;
        if let Some(known) = ledger.as_ref().and_then(|write| self.ledger.get(&write.key)) {
            return vec![Err(AppendError::Known(Box::new(known.clone())))];
        }
        let conflicts: Vec<_> = entries.iter().filter_map(|entry| self.conflict(tenant, entry)).collect();
        if !conflicts.is_empty() {
            return conflicts.into_iter().map(Err).collect();
        }
        let mut versions = BTreeMap::new();
        for Entry { stream, expected: _, events } in entries {
            for event in events {
                let version = self.version(tenant, stream).next();
                self.versions.insert((tenant.clone(), stream.clone()), version);
                self.log.push((tenant.clone(), stream.clone(), version, event.id));
                versions.entry(stream).or_insert_with(Vec::new).push(version);
            }
        }
        let position = self.head();
        let receipt = ledger.clone().map(|write| {
            let LedgerWrite { key, content, stream, verdict } = write;
            let outcome = match verdict {
                Verdict::Applied => {
                    Outcome::Applied { versions: versions.remove(&stream).unwrap_or_default() }
                }
                Verdict::Unchanged => Outcome::Unchanged,
                Verdict::Rejected(rejection) => Outcome::Rejected(rejection),
            };
            let receipt = Receipt { stream, command_id: key.command_id, outcome, position };
            self.ledger.insert(key, LedgerEntry { content, receipt: receipt.clone() });
            receipt
        });
        vec![Ok(Appended { position, receipt })]
    }

    fn conflict(&self, tenant: &Tenant, entry: &Entry) -> Option<AppendError> {
        let Entry { stream, expected, events: _ } = entry;
        let (stream, expected, actual) = (stream.clone(), *expected, self.version(tenant, stream));
        let holds = match expected {
            Expected::Any => true,
            Expected::NoStream => actual.get() == 0,
            Expected::Exists => actual.get() != 0,
            Expected::Exactly(version) => actual == version,
        };
        (!holds).then_some(AppendError::Conflict { stream, expected, actual })
    }
}

/// The names of one case, which no other case uses.
struct Names {
    tenants: [Tenant; 2],
    commands: Vec<CommandId>,
}

impl Names {
    fn new() -> Self {
        let tenants = ["north", "south"].map(|name| tenant(&format!("{name}-{}", Uuid::now_v7())));
        Self { tenants, commands: std::iter::repeat_with(|| CommandId(Uuid::now_v7())).take(6).collect() }
    }

    /// The append that a plan means while the streams are as the model has them.
    fn append(&self, plan: &Plan, model: &Model) -> Append {
        let Plan { tenant, entries, command } = plan;
        let tenant = self.tenants[*tenant].clone();
        let entries: Vec<Entry> = entries
            .iter()
            .map(|(stream, (expects, events))| {
                let stream = thing(stream);
                let version = model.version(&tenant, &stream);
                entry(&stream, expects.at(version), *events)
            })
            .collect();
        let ledger = command.clone().map(|(principal, command, verdict)| {
            let (principal, command_id) = (user(["anna", "bert"][principal]), self.commands[command]);
            let key = LedgerKey { tenant: tenant.clone(), principal, command_id };
            LedgerWrite { key, content: CONTENT, stream: entries[0].stream.clone(), verdict }
        });
        Append { tenant, ledger, ..append(entries) }
    }
}

impl Expects {
    fn at(self, version: Version) -> Expected {
        match self {
            Self::Any => Expected::Any,
            Self::NoStream => Expected::NoStream,
            Self::Exists => Expected::Exists,
            Self::Current => Expected::Exactly(version),
            Self::Earlier => Expected::Exactly(version.previous()),
            Self::Later => Expected::Exactly(version.next()),
        }
    }
}

/// Plays a history against the store and the model, and asserts that they agree.
async fn check(store: &Arc<dyn EventStore>, calls: Vec<Call>) {
    let (names, mut model, base) = (Names::new(), Model::default(), store.head());
    let (mut right, mut given, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for Call { plans, then } in calls {
        let mut appends = Vec::new();
        for plan in &plans {
            let append = names.append(plan, &model);
            right.push(model.append(&append));
            appends.push(append);
        }
        waiting.push(store.append(appends));
        if then == Then::Await {
            for answer in waiting.drain(..) {
                given.extend(answer.await);
            }
        }
    }
    for answer in waiting {
        given.extend(answer.await);
    }
    let log = pages(&**store, base, store.head(), &Filter::Everything, 50).await;
    let places = places(&**store, base, &log);
    assert_eq!(given.len(), right.len());
    for (n, (given, right)) in given.into_iter().zip(right).enumerate() {
        let right: Vec<_> = right.into_iter().map(|answer| placed(answer, &places)).collect();
        assert!(right.contains(&given), "answer {n} is {given:?}, right would be {right:?}");
    }
    assert_same(&**store, &model, &log, &places).await;
}

/// What position each ordinal of the model is; the first is that of the log before the case.
fn places(store: &dyn EventStore, base: Position, log: &[Arc<Event>]) -> Vec<Position> {
    let places: Vec<Position> = std::iter::once(base).chain(log.iter().map(|event| event.position)).collect();
    if store.features().positions == Positions::Gapless {
        let gapless = (base.get()..).map(Position::new).take(places.len());
        assert_eq!(places, Vec::from_iter(gapless));
    }
    places
}

fn placed(answer: Result<Appended, AppendError>, places: &[Position]) -> Result<Appended, AppendError> {
    let receipt = |receipt: Receipt| Receipt { position: place(receipt.position, places), ..receipt };
    match answer {
        Ok(Appended { position, receipt: given }) => {
            Ok(Appended { position: place(position, places), receipt: given.map(receipt) })
        }
        Err(AppendError::Known(known)) => {
            let LedgerEntry { content, receipt: given } = *known;
            Err(AppendError::Known(Box::new(LedgerEntry { content, receipt: receipt(given) })))
        }
        conflict => conflict,
    }
}

fn place(ordinal: Position, places: &[Position]) -> Position {
    let at = usize::try_from(ordinal.get()).expect("a case is short");
    *places.get(at).expect("the log is shorter than the model's")
}

/// Asserts that the log, each stream and the ledger are what the model says.
async fn assert_same(store: &dyn EventStore, model: &Model, log: &[Arc<Event>], places: &[Position]) {
    let facts = |event: &Arc<Event>| (event.tenant.clone(), event.stream.clone(), event.version, event.id);
    assert_eq!(log.iter().map(facts).collect::<Vec<_>>(), model.log);
    assert_linked(log);
    for ((tenant, stream), version) in &model.versions {
        let events = stream_of(store, tenant, stream).await;
        let wanted = log.iter().filter(|event| event.tenant == *tenant && event.stream == *stream).cloned();
        assert_eq!(events, Vec::from_iter(wanted));
        assert_eq!(events.last().map(|event| event.version), Some(*version));
    }
    let (keys, entries): (Vec<_>, Vec<_>) = model.ledger.clone().into_iter().unzip();
    let entries = entries.into_iter().map(|LedgerEntry { content, receipt }| {
        Some(LedgerEntry {
            content,
            receipt: Receipt { position: place(receipt.position, places), ..receipt },
        })
    });
    assert_eq!(store.look_up(keys).await.unwrap(), Vec::from_iter(entries));
}
