//! Decisions that need another stream to be free: names, of which each is given once.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use sillage_kernel::{
    Context, Decider, Decision, DomainCommand, Envelope, Expected, InvalidField, Outcome, Receipt, Rejection,
    SideEntry, StreamName,
};
use sillage_runtime::{Command, CommandBus, ContentKey, Deciders, DispatchError};

use crate::bus::{Answers, envelope, faults, number, refused_with, runtime, send, settled, start};
use crate::faulty::FaultyStore;

/// The account has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameGiven {
    name: String,
}

sillage_kernel::domain_events! {
    /// What can happen to an account.
    pub(crate) enum AccountEvent { NameGiven }
}

/// Asks for a name.
#[derive(Deserialize)]
struct Claim {
    account: String,
    name: String,
}

struct Accounts;

impl DomainCommand for Claim {
    const NAMES: &'static [&'static str] = &["Claim"];

    fn decode(_: &str, data: &str, _: &Envelope) -> Result<Self, InvalidField> {
        InvalidField::read(data)
    }

    fn target(&self) -> &str {
        &self.account
    }

    fn content(&self) -> String {
        format!("{} {}", self.account, self.name)
    }
}

fn stream_of(name: &str) -> StreamName {
    format!("$name-{name}").parse().unwrap()
}

impl Decider for Accounts {
    const CATEGORY: &'static str = "account";
    const REVISION: u32 = 1;
    type State = Option<String>;
    type Command = Claim;
    type Event = AccountEvent;

    fn decide(
        state: &Option<String>,
        Claim { name, .. }: &Claim,
        _: &Context<'_>,
    ) -> Result<Decision<AccountEvent>, Rejection> {
        match state {
            Some(own) if own == name => Ok(Decision::unchanged()),
            Some(_) => Err(Rejection::new("has_a_name", "The account has a name.")),
            None => {
                let reservation = SideEntry {
                    stream: stream_of(name),
                    expected: Expected::NoStream,
                    otherwise: Rejection::new("name_taken", "Another account has this name."),
                    events: vec![("NameReserved".into(), "{}".into())],
                };
                let events = vec![NameGiven { name: name.clone() }.into()];
                Ok(Decision { events, others: vec![reservation] })
            }
        }
    }

    fn evolve(state: &mut Option<String>, AccountEvent::NameGiven(NameGiven { name }): &AccountEvent) {
        *state = Some(name.clone());
    }
}

/// An account, and the name that it asks for.
type Asks = (&'static str, &'static str);

fn claim(id: usize, (account, name): Asks) -> Command {
    let deciders = Deciders::new(ContentKey([0; 32])).with::<Accounts>();
    let data = format!(r#"{{"account":"{account}","name":"{name}"}}"#);
    deciders.decode("Claim", &data, envelope(id, account, &[])).unwrap()
}

/// What became of a command, in one word.
fn word(answer: &Result<Receipt, DispatchError>) -> String {
    match &answer.as_ref().unwrap().outcome {
        Outcome::Applied { .. } => "applied".to_owned(),
        Outcome::Unchanged => "unchanged".to_owned(),
        Outcome::Rejected(rejection) => rejection.code.to_string(),
    }
}

/// Sends all before the first is answered, and returns the answers by number.
async fn at_once(bus: &CommandBus, asks: &[Asks]) -> Answers {
    let claims = asks.iter().enumerate().map(|(id, &asks)| bus.dispatch(claim(id, asks)));
    futures_util::future::join_all(claims).await.into_iter().enumerate().collect()
}

#[test]
fn a_name_that_is_taken_is_refused_as_the_rules_say() {
    const ROWS: &[(&[Asks], &[&str])] = &[
        (&[("a", "x"), ("b", "x")], &["applied", "name_taken"]),
        (&[("a", "x"), ("b", "y")], &["applied", "applied"]),
        // The later claims were decided as if the account had the name that it does not get.
        (
            &[("a", "x"), ("b", "x"), ("b", "x"), ("b", "y")],
            &["applied", "name_taken", "name_taken", "applied"],
        ),
        (
            &[("a", "x"), ("b", "x"), ("b", "y"), ("b", "z")],
            &["applied", "name_taken", "applied", "has_a_name"],
        ),
    ];
    for (asks, expected) in ROWS {
        runtime().block_on(async {
            let store = FaultyStore::new([]);
            let (bus, _) = start(&store, 1, 16);
            let answers = at_once(&bus, asks).await;
            assert_eq!(
                answers.iter().map(|(_, answer)| word(answer)).collect::<Vec<_>>(),
                *expected,
                "{asks:?}"
            );
            // Each is durable, and so the answer to a resend, also after a new start.
            let events = settled(&store).await.len();
            for bus in [bus, start(&store, 1, 16).0] {
                assert_eq!(at_once(&bus, asks).await, answers, "{asks:?}");
            }
            assert_eq!(settled(&store).await.len(), events, "{asks:?}");
        });
    }
}

#[test]
fn of_two_who_race_for_a_name_one_gets_it() {
    for shards in 1..6 {
        runtime().block_on(async {
            let store = FaultyStore::new([]);
            let (bus, _) = start(&store, shards, 16);
            let answers = at_once(&bus, &[("a", "x"), ("b", "x")]).await;
            let words: BTreeSet<_> = answers.iter().map(|(_, answer)| word(answer)).collect();
            assert_eq!(words, ["applied".to_owned(), "name_taken".to_owned()].into(), "{shards} shards");
            assert_eq!(at_once(&bus, &[("a", "x"), ("b", "x")]).await, answers);
        });
    }
}

/// Every command stands in the log once, as it is decided in the order of the log; only a name that was given
/// before is refused as taken.
async fn check_log(store: &FaultyStore, asks: &[Asks]) {
    let mut names = std::collections::BTreeMap::new();
    let mut seen = BTreeSet::new();
    let log = settled(store).await;
    for (id, event) in log.iter().filter(|(_, event)| *event.event_type != *"NameReserved") {
        assert!(seen.insert(id), "a command stands in the log twice");
        let (account, name) = asks[number(*id)];
        let own = names.iter().find(|(_, owner)| **owner == account).map(|(name, _)| *name);
        match own {
            Some(own) if own == name => assert_eq!(&*event.event_type, "CommandUnchangedEvent"),
            Some(_) => assert_eq!(refused_with(event).unwrap(), "has_a_name"),
            None if names.contains_key(name) => assert_eq!(refused_with(event).unwrap(), "name_taken"),
            None => {
                assert_eq!(&*event.event_type, "NameGiven", "{name} is free");
                names.insert(name, account);
            }
        }
    }
}

fn asks_and_schedule() -> impl Strategy<Value = (Vec<Asks>, Vec<usize>)> {
    let asks = (prop::sample::select(&["a", "b", "c"][..]), prop::sample::select(&["x", "y"][..]));
    prop::collection::vec(asks, 1..12).prop_flat_map(|asks| {
        let last = asks.len();
        (Just(asks), prop::collection::vec(0..last, 1..32))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Also while appends are lost.
    #[test]
    fn a_name_is_given_once((asks, schedule) in asks_and_schedule(), faults in faults(), shards in 1..4_usize) {
        runtime().block_on(async {
            let store = FaultyStore::new(faults);
            let (bus, _) = start(&store, shards, 16);
            for attempt in 0.. {
                let answers = send(&bus, &schedule, |id| claim(id, asks[id])).await;
                check_log(&store, &asks).await;
                if answers.iter().all(|(_, answer)| answer.is_ok()) {
                    break;
                }
                for (_, answer) in answers {
                    prop_assert!(matches!(answer, Ok(_) | Err(DispatchError::Unavailable(_))), "{:?}", answer);
                }
                prop_assert!(attempt < 20, "the faults have an end");
            }
            Ok(())
        })?;
    }
}
