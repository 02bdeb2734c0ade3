//! What many have asked for, were answered and have seen, and whether a log agrees with it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sillage_kernel::wire::ReceiptMessage;
use sillage_kernel::{CommandId, Event, EventId, Expected, Position, StreamName, Version};
use sillage_store::event_store::Positions;
use sillage_store::{Append, AppendError, Appended, Direction, EventStore};

use super::{Follower, key};
use crate::event_store::contents::assert_linked;
use crate::event_store::things::{look_up, main_tenant, whole_log, whole_stream};

/// What one of many tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// It asks for an append.
    Asked(Asked),
    /// It was answered.
    Answered(EventId, Answer),
    /// It follows, and has seen these events.
    Saw {
        /// Which of the followers.
        follower: usize,
        /// The [`mark`] of each.
        events: Vec<u64>,
        /// It has come to here.
        cursor: Position,
    },
}

/// An append. Its first event names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asked {
    /// The command that it settles.
    pub command: Option<CommandId>,
    entries: Vec<Wanted>,
}

/// Events that are to be added to a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wanted {
    stream: StreamName,
    #[serde(with = "ExpectedForm")]
    expected: Expected,
    ids: Vec<EventId>,
}

/// How an [`Expected`] is written down.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Expected")]
enum ExpectedForm {
    Any,
    NoStream,
    Exists,
    Exactly(Version),
}

impl Asked {
    /// What of an append is checked in the end.
    pub fn of(append: &Append) -> Self {
        let command = append.ledger.as_ref().map(|write| write.key.command_id);
        let entries = append.entries.iter().map(|entry| Wanted {
            stream: entry.stream.clone(),
            expected: entry.expected,
            ids: entry.events.iter().map(|event| event.id).collect(),
        });
        Self { command, entries: entries.collect() }
    }

    /// What it is named by.
    pub fn id(&self) -> EventId {
        self.entries[0].ids[0]
    }

    fn ids(&self) -> Vec<EventId> {
        self.entries.iter().flat_map(|entry| &entry.ids).copied().collect()
    }
}

/// What an append was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// It is durable.
    Taken {
        /// Of its last event.
        position: Position,
        /// Of the command that it settled.
        receipt: Option<ReceiptMessage>,
    },
    /// Its command was settled before.
    Known(ReceiptMessage),
    /// A stream was not as expected.
    Conflict {
        /// Which one.
        stream: StreamName,
        /// What was expected.
        #[serde(with = "ExpectedForm")]
        expected: Expected,
        /// The version of its last event.
        actual: Version,
    },
    /// It was not taken, for a reason that has nothing to do with it.
    Refused(String),
}

impl Answer {
    /// What an engine has answered.
    pub fn of(answer: Result<Appended, AppendError>) -> Self {
        match answer {
            Ok(Appended { position, receipt }) => {
                Self::Taken { position, receipt: receipt.as_ref().map(ReceiptMessage::from) }
            }
            Err(AppendError::Known(known)) => Self::Known((&known.receipt).into()),
            Err(AppendError::Conflict { stream, expected, actual }) => {
                Self::Conflict { stream, expected, actual }
            }
            Err(refused @ (AppendError::Overloaded | AppendError::Unavailable(_))) => {
                Self::Refused(refused.to_string())
            }
            Err(other) => panic!("nobody expected {other:?}"),
        }
    }
}

/// Tells an event with all that it has from any other.
pub fn mark(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{event:?}").hash(&mut hasher);
    hasher.finish()
}

/// What all have told.
#[derive(Debug, Default)]
pub struct History {
    asked: BTreeMap<EventId, Asked>,
    answers: BTreeMap<EventId, Answer>,
    seen: BTreeMap<usize, Seen>,
}

/// What a follower has seen.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<u64>,
    cursor: Position,
}

impl History {
    /// Takes down what was told.
    pub fn hear(&mut self, told: Told) {
        match told {
            Told::Asked(asked) => {
                let twice = self.asked.insert(asked.id(), asked);
                assert!(twice.is_none(), "{twice:?} was asked for twice");
            }
            Told::Answered(id, answer) => {
                let twice = self.answers.insert(id, answer);
                assert!(twice.is_none(), "{twice:?} and another answer were given");
            }
            Told::Saw { follower, events, cursor } => {
                let seen = self.seen.entry(follower).or_default();
                seen.events.extend(events);
                seen.cursor = cursor;
            }
        }
    }

    /// How many appends were taken.
    pub fn taken(&self) -> usize {
        self.count(|answer| matches!(answer, Answer::Taken { .. }))
    }

    /// How many appends were refused for reasons that have nothing to do with them.
    pub fn refused(&self) -> usize {
        self.count(|answer| matches!(answer, Answer::Refused(_)))
    }

    /// How everybody fared, in a sentence.
    pub fn summary(&self) -> String {
        let (taken, unheard) = (self.taken(), self.asked.len() - self.answers.len());
        let known = self.count(|answer| matches!(answer, Answer::Known(_)));
        let conflicts = self.count(|answer| matches!(answer, Answer::Conflict { .. }));
        let refused = self.refused();
        format!(
            "{taken} taken, {known} known, {conflicts} in conflict, {refused} refused, {unheard} not answered"
        )
    }

    fn count(&self, answer: impl Fn(&Answer) -> bool) -> usize {
        self.answers.values().filter(|given| answer(given)).count()
    }

    /// How far a follower has come.
    pub fn cursor(&self, follower: usize) -> Position {
        self.seen.get(&follower).map_or(Position::ZERO, |seen| seen.cursor)
    }

    /// Everybody was answered, by the rules of streams and commands alone.
    pub fn assert_all_decided(&self) {
        assert_eq!(self.asked.len(), self.answers.len(), "somebody was not answered");
        assert_eq!(self.refused(), 0, "nobody expected a refusal: {self:?}");
    }

    /// Positions are unique and in order, versions have no gaps, every follower saw exactly the log, what an append
    /// expected was so where it is there and was not where it was refused, what was acknowledged is there, and each
    /// command was settled once.
    pub async fn assert_agrees(&self, store: &dyn EventStore) {
        let log = whole_log(store).await;
        assert_in_order(store, &log).await;
        for (follower, Seen { events, .. }) in &self.seen {
            let filter = Follower::filter(*follower);
            let wanted: Vec<_> =
                log.iter().filter(|event| filter.admits(event)).map(|event| mark(event)).collect();
            assert!(*events == wanted, "a follower of {filter:?} has not seen the log");
        }
        let there = self.assert_answered(&log);
        self.assert_settled_once(store, &log, &there).await;
    }

    /// What is there is there once, together, and where it expected to be; so is what was taken, and of what was refused
    /// nothing is there. What nobody was answered may be there. Answers what is.
    fn assert_answered(&self, log: &[Arc<Event>]) -> BTreeSet<EventId> {
        let places: BTreeMap<EventId, usize> =
            log.iter().enumerate().map(|(index, event)| (event.id, index)).collect();
        assert_eq!(places.len(), log.len(), "an event is there twice");
        let mut ends: BTreeMap<&StreamName, Version> = BTreeMap::new();
        ends.extend(log.iter().map(|event| (&event.stream, event.version)));
        let (mut there, mut events) = (BTreeSet::new(), 0);
        for (id, asked) in &self.asked {
            let (ids, answer) = (asked.ids(), self.answers.get(id));
            let Some(&start) = places.get(id) else {
                assert!(ids.iter().all(|id| !places.contains_key(id)), "a part of {asked:?} is there");
                assert!(!matches!(answer, Some(Answer::Taken { .. })), "{asked:?} is lost: {answer:?}");
                assert_refusal(&ends, asked, answer);
                continue;
            };
            let found: Vec<EventId> = log[start..].iter().take(ids.len()).map(|event| event.id).collect();
            assert_eq!(found, ids, "an append is not in one piece");
            let last = log[start + ids.len() - 1].position;
            match answer {
                Some(Answer::Taken { position, receipt: _ }) => assert_eq!(*position, last),
                None => {}
                Some(other) => panic!("what was refused is there: {asked:?}, {other:?}"),
            }
            for Wanted { stream, expected, ids } in &asked.entries {
                let first = &log[places[&ids[0]]];
                let before = Version::new(first.version.get() - 1);
                assert!(first.stream == *stream, "{asked:?} went to {}", first.stream);
                assert!(expected.holds_at(before), "{stream} was at {before}, not {expected:?}");
            }
            events += ids.len();
            there.insert(*id);
        }
        assert_eq!(events, log.len(), "there is what nobody has written");
        there
    }

    /// Each command was settled by one append at most, and everybody was told of that one.
    async fn assert_settled_once(
        &self,
        store: &dyn EventStore,
        log: &[Arc<Event>],
        there: &BTreeSet<EventId>,
    ) {
        let mut sent: BTreeMap<CommandId, Vec<EventId>> = BTreeMap::new();
        for (id, asked) in &self.asked {
            if let Some(command) = asked.command {
                sent.entry(command).or_default().push(*id);
            }
        }
        let mut settled = 0;
        for (command, ids) in &sent {
            let winners = ids.iter().filter(|id| there.contains(id)).count();
            let known =
                look_up(store, &key(*command)).await.map(|entry| ReceiptMessage::from(&entry.receipt));
            assert_eq!(winners, usize::from(known.is_some()), "a command was settled {winners} times");
            for answer in ids.iter().filter_map(|id| self.answers.get(id)) {
                let (Answer::Taken { receipt: Some(receipt), .. } | Answer::Known(receipt)) = answer else {
                    continue;
                };
                assert_eq!(Some(receipt), known.as_ref(), "somebody was told of another outcome");
                let holds = log.binary_search_by_key(&receipt.position, |event| event.position);
                assert!(holds.is_ok(), "{receipt:?} names a position that is not there");
            }
            settled += winners;
        }
        assert!(settled > 0, "no command was ever settled");
    }
}

/// A refusal tells the truth: the stream has been at that version, which was not what was expected.
fn assert_refusal(ends: &BTreeMap<&StreamName, Version>, asked: &Asked, answer: Option<&Answer>) {
    match answer {
        Some(Answer::Conflict { stream, expected, actual }) => {
            let named = asked.entries.iter().any(|e| e.stream == *stream && e.expected == *expected);
            assert!(named && !expected.holds_at(*actual), "{answer:?}");
            let reached = ends.get(stream).copied().unwrap_or(Version::ZERO);
            assert!(*actual <= reached, "{stream} never was at {actual}");
        }
        Some(Answer::Known(receipt)) => assert_eq!(asked.command, Some(receipt.command_id)),
        Some(Answer::Taken { .. }) => panic!("{asked:?} was taken"),
        Some(Answer::Refused(_)) | None => {}
    }
}

/// Positions are unique and grow, versions have no gaps, and each stream is what the log has of it.
async fn assert_in_order(store: &dyn EventStore, log: &[Arc<Event>]) {
    let positions: Vec<u64> = log.iter().map(|event| event.position.get()).collect();
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "a position is out of order or there twice");
    if store.features().positions == Positions::Gapless {
        assert_eq!(positions, Vec::from_iter(1..=log.len() as u64));
    }
    assert_linked(log);
    let streams: BTreeSet<&StreamName> = log.iter().map(|event| &event.stream).collect();
    for stream in streams {
        let own: Vec<_> = log.iter().filter(|event| event.stream == *stream).cloned().collect();
        assert!((1..).zip(&own).all(|(version, event)| event.version.get() == version), "{stream} has gaps");
        let newest = Version::new(u64::MAX);
        let page = store.read_stream(&main_tenant(), stream, newest, Direction::Backward, 1).await.unwrap();
        assert_eq!(page.head.get(), own.len() as u64);
        assert!(whole_stream(store, stream).await == own, "{stream} is not what the log has of it");
    }
}
