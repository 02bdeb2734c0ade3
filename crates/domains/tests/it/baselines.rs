//! A view that is rebuilt from a baseline and what comes after it is the same as one that has folded every event.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use sillage_domains::likes::{
    Likes, LikesCommand, LikesEvent, LikesKey, LikesRow, LikesState, LikesView, MODERATE,
};
use sillage_kernel::event::Place;
use sillage_kernel::{
    Actor, BASELINE_TAKEN, Baseline, Checksum, CommandId, Context, Decider, DomainEvent, Event, EventId,
    Metadata, NewEvent, Position, Rows, StreamName, Timestamp, Version, View, ViewError,
};
use uuid::Uuid;

const TARGET: &str = "article-1";

/// The rows of the view, in memory.
#[derive(Debug, Default, PartialEq)]
struct LikesRows(BTreeMap<LikesKey, LikesRow>);

impl Rows<LikesKey, LikesRow> for LikesRows {
    fn get(&mut self, key: &LikesKey) -> Result<Option<LikesRow>, ViewError> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: LikesKey, row: LikesRow) {
        self.0.insert(key, row);
    }

    fn remove(&mut self, key: LikesKey) {
        self.0.remove(&key);
    }
}

/// The event of a stream, as the log has it.
fn recorded(stream: &StreamName, version: u64, event_type: &str, data: String) -> Event {
    let id = EventId(Uuid::from_u128(version.into()));
    let metadata = Metadata { schema: 1, ..Metadata::default() };
    let place = Place {
        position: Position::new(version),
        tenant: "main".parse().unwrap(),
        stream: stream.clone(),
        version: Version::new(version),
        recorded_at: Timestamp::from_micros(5),
    };
    NewEvent::new(id, event_type, data, metadata).recorded(place, &Checksum::START)
}

/// The events that commands lead to, and the state after each number of them.
fn decided(commands: &[(usize, bool, bool)]) -> (Vec<Event>, Vec<LikesState>) {
    let stream = StreamName::new(Likes::CATEGORY, TARGET).unwrap();
    let (mut state, mut events, mut states) =
        (LikesState::default(), Vec::new(), vec![LikesState::default()]);
    for (user, is_like, yes) in commands {
        let (target_id, at) = (TARGET.to_owned(), Timestamp::from_micros(5));
        let command = if *is_like {
            LikesCommand::Set { like_id: "l-1".into(), target_id, active: *yes, at }
        } else {
            LikesCommand::Close { target_id, closed: *yes }
        };
        let scopes = [MODERATE.to_owned()].into();
        let actor = Actor { scopes, ..Actor::user(format!("user{user}").parse().unwrap()) };
        let context = Context { now: at, actor: &actor, command_id: CommandId(Uuid::nil()) };
        for event in
            Likes::decide(&state, &command, &context).map_or_else(|_| Vec::new(), |decision| decision.events)
        {
            Likes::evolve(&mut state, &event);
            let version = events.len() as u64 + 1;
            events.push(recorded(&stream, version, LikesEvent::event_type(&event), event.encode()));
            states.push(serde_json::from_value(serde_json::to_value(&state).unwrap()).unwrap());
        }
    }
    (events, states)
}

/// The baseline after so many events.
fn baseline(events: &[Event], state: &LikesState) -> Event {
    let last = events.last().unwrap();
    let baseline = Baseline {
        stream: last.stream.clone(),
        version: last.version,
        event: last.id,
        checksum: last.checksum,
        recorded_at: last.recorded_at,
        revision: Likes::REVISION,
        state: serde_json::to_value(state).unwrap(),
    };
    recorded(&StreamName::baseline_of(&last.stream).unwrap(), 1, BASELINE_TAKEN, baseline.encode())
}

fn fold(rows: &mut LikesRows, events: &[Event]) {
    events.iter().for_each(|event| LikesView::fold(event, rows).unwrap());
}

proptest! {
    #[test]
    fn likes(
        commands in vec((0_usize..5, prop::bool::weighted(0.8), any::<bool>()), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let (events, states) = decided(&commands);
        prop_assume!(!events.is_empty());
        let taken_at = 1 + cut.index(events.len());
        let (before, after) = events.split_at(taken_at);
        let taken = baseline(before, &states[taken_at]);
        let mut all = LikesRows::default();
        fold(&mut all, before);
        let mut rebuilt = LikesRows::default();
        LikesView::fold_baseline(&Baseline::read(&taken).unwrap(), &taken, &mut rebuilt).unwrap();
        prop_assert_eq!(&rebuilt, &all, "at the baseline");
        fold(&mut all, after);
        fold(&mut rebuilt, after);
        prop_assert_eq!(rebuilt, all, "at the end");
    }
}

#[test]
fn a_baseline_of_something_else_is_not_taken() {
    let (events, states) = decided(&[(1, true, true)]);
    let taken = baseline(&events, &states[1]);
    let good = Baseline::read(&taken).unwrap();
    assert_eq!(good.state_of::<Likes>().unwrap().version(), Version::new(1));
    let another_revision = Baseline { revision: Likes::REVISION + 1, ..good.clone() };
    assert!(another_revision.state_of::<Likes>().is_err());
    assert!(
        Baseline { state: serde_json::json!({"likedBy": 7}), ..good.clone() }.state_of::<Likes>().is_err()
    );
    assert!(Baseline { stream: "parcel-1".parse().unwrap(), ..good }.state_of::<Likes>().is_err());
    assert!(Baseline::read(&Event { stream: "$baseline-like-b".parse().unwrap(), ..taken.clone() }).is_err());
    assert!(Baseline::read(&events[0]).is_err());
    let newer = Metadata { schema: 2, ..taken.metadata.clone() };
    assert!(Baseline::read(&Event { metadata: newer, ..taken }).is_err());
}
