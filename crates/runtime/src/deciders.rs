//! The rules of all systems, registered by the names of their commands, with the types forgotten: what is
//! left is a name, a decoder and a decision.

use std::any::Any;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sillage_kernel::{
    ContentHash, Context, Decider, Decision, DecodeError, DomainCommand, DomainEvent, Envelope, Event,
    InvalidField, Rejection, SideEntry, StreamName, Upcasters, Version,
};
use sillage_store::clock;

/// How far ahead of ours the clock that minted a command id may be. A full ledger forgets up to the youngest id
/// that it drops, and what is minted now must be younger: its ten million commands last longer than this, up to
/// 33,000 a second all the time.
pub const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(5 * 60);

/// The state of a stream, of whatever type.
pub(crate) type State = Box<dyn Any + Send>;

/// The rules of one kind of stream.
pub(crate) trait Rules: Send + Sync {
    fn category(&self) -> &'static str;
    fn names(&self) -> &'static [&'static str];
    fn decode(&self, name: &str, data: &str, envelope: &Envelope) -> Result<Decoded, InvalidField>;
    fn revision(&self) -> u32;
    fn snapshot_every(&self) -> u64;
    fn new_state(&self) -> State;
    fn replay(&self, state: &mut State, event: &Event) -> Result<(), DecodeError>;
    /// The state as JSON.
    fn save(&self, state: &State) -> serde_json::Result<String>;
    /// The state that was saved by the same revision; an error if it was not.
    fn restore(&self, saved: &str) -> serde_json::Result<State>;
    /// Decides, and takes the decision into the state at once. A decision that needs another stream to be
    /// what it is not is refused as its side entry says; `elsewhere` is what is known of such a stream.
    fn decide(
        &self,
        state: &mut State,
        payload: &Payload,
        context: &Context<'_>,
        elsewhere: Option<&Elsewhere>,
    ) -> Result<Decided, Rejection>;
}

/// Another stream than the command's own, as an append has found it.
pub(crate) struct Elsewhere {
    pub(crate) stream: StreamName,
    /// The version of its last event.
    pub(crate) actual: Version,
}

impl Elsewhere {
    fn refuses(&self, SideEntry { stream, expected, .. }: &SideEntry) -> bool {
        *stream == self.stream && !expected.holds_at(self.actual)
    }
}

/// A command of whatever type.
pub(crate) type Payload = Box<dyn Any + Send + Sync>;

pub(crate) struct Decoded {
    target: String,
    content: String,
    payload: Payload,
}

/// A decision as it will be stored.
pub(crate) struct Decided {
    pub(crate) events: Vec<DecidedEvent>,
    pub(crate) others: Vec<SideEntry>,
}

/// An event of a decision.
pub(crate) struct DecidedEvent {
    pub(crate) event_type: &'static str,
    pub(crate) schema: u16,
    pub(crate) data: String,
}

struct RulesOf<D>(PhantomData<fn() -> D>);

impl<D: Decider> Rules for RulesOf<D> {
    fn category(&self) -> &'static str {
        D::CATEGORY
    }

    fn names(&self) -> &'static [&'static str] {
        D::Command::NAMES
    }

    fn decode(&self, name: &str, data: &str, envelope: &Envelope) -> Result<Decoded, InvalidField> {
        let command = D::Command::decode(name, data, envelope)?;
        let (target, content) = (command.target().to_owned(), command.content());
        Ok(Decoded { target, content, payload: Box::new(command) })
    }

    fn revision(&self) -> u32 {
        D::REVISION
    }

    fn snapshot_every(&self) -> u64 {
        D::SNAPSHOT_EVERY
    }

    fn new_state(&self) -> State {
        Box::<D::State>::default()
    }

    fn replay(&self, state: &mut State, event: &Event) -> Result<(), DecodeError> {
        D::evolve(own::<D::State>(state), &D::Event::read(event)?);
        Ok(())
    }

    fn save(&self, state: &State) -> serde_json::Result<String> {
        serde_json::to_string(state.downcast_ref::<D::State>().expect("a state stays with its own rules"))
    }

    fn restore(&self, saved: &str) -> serde_json::Result<State> {
        Ok(Box::new(serde_json::from_str::<D::State>(saved)?))
    }

    fn decide(
        &self,
        state: &mut State,
        payload: &Payload,
        context: &Context<'_>,
        elsewhere: Option<&Elsewhere>,
    ) -> Result<Decided, Rejection> {
        let state = own::<D::State>(state);
        let command = payload.downcast_ref::<D::Command>().expect("a command stays with its own rules");
        let Decision { events, others } = D::decide(state, command, context)?;
        let unmet = elsewhere.and_then(|elsewhere| others.iter().find(|side| elsewhere.refuses(side)));
        if let Some(SideEntry { otherwise, .. }) = unmet {
            return Err(otherwise.clone());
        }
        let stored = |event: &D::Event| {
            let event_type = event.event_type();
            DecidedEvent { event_type, schema: D::Event::schema(event_type), data: event.encode() }
        };
        let stored = events.iter().map(stored).collect();
        events.iter().for_each(|event| D::evolve(state, event));
        Ok(Decided { events: stored, others })
    }
}

fn own<T: 'static>(state: &mut State) -> &mut T {
    state.downcast_mut().expect("a state stays with its own rules")
}

/// The key of the hashes that tell whether a command came again with another content. Secret, since contents
/// may be guessed.
#[derive(Clone)]
pub struct ContentKey(pub [u8; 32]);

/// All commands that can be sent.
pub struct Deciders {
    by_name: HashMap<&'static str, Arc<dyn Rules>>,
    by_category: HashMap<&'static str, Arc<dyn Rules>>,
    upcasters: Upcasters,
    key: ContentKey,
}

/// A command whose shape is good, ready to be decided.
pub struct Command {
    /// Who sent it, and as what.
    pub envelope: Envelope,
    /// The stream that decides it.
    pub stream: StreamName,
    /// What tells it from another with the same id.
    pub content: ContentHash,
    pub(crate) rules: Arc<dyn Rules>,
    pub(crate) payload: Payload,
}

/// Why a message is not a command. It leaves nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum DecodeCommandError {
    /// No system has a command of that name: look at the API description.
    #[error("the command {0} is not known")]
    UnknownCommand(String),
    /// A field is wrong: mend it.
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
}

impl Deciders {
    /// No commands yet.
    pub fn new(key: ContentKey) -> Self {
        let (by_name, by_category) = Default::default();
        Self { by_name, by_category, upcasters: Upcasters::default(), key }
    }

    /// Adds the rules of one kind of stream. Panics when the name of a command is taken: two systems of one
    /// program clash, which its author has to see before anybody else.
    #[must_use]
    pub fn with<D: Decider>(mut self) -> Self {
        let rules: Arc<dyn Rules> = Arc::new(RulesOf::<D>(PhantomData));
        for name in rules.names() {
            let taken = self.by_name.insert(name, Arc::clone(&rules));
            assert!(taken.is_none(), "two systems have a command {name}");
        }
        let taken = self.by_category.insert(rules.category(), rules);
        assert!(taken.is_none(), "two systems have the streams of {}", D::CATEGORY);
        self.upcasters = self.upcasters.with::<D::Event>().with_states_of::<D>();
        self
    }

    /// What all systems know about their old events.
    pub fn upcasters(&self) -> &Upcasters {
        &self.upcasters
    }

    /// Whether a decider owns the streams of that category.
    pub fn owns(&self, category: &str) -> bool {
        self.by_category.contains_key(category)
    }

    /// The categories of the streams that deciders own, in their order.
    pub fn categories(&self) -> Vec<&'static str> {
        let mut categories: Vec<_> = self.by_category.keys().copied().collect();
        categories.sort_unstable();
        categories
    }

    pub(crate) fn rules_of(&self, category: &str) -> Option<&Arc<dyn Rules>> {
        self.by_category.get(category)
    }

    /// The command that a message means.
    pub fn decode(&self, name: &str, data: &str, envelope: Envelope) -> Result<Command, DecodeCommandError> {
        let Some(rules) = self.by_name.get(name) else {
            return Err(DecodeCommandError::UnknownCommand(name.to_owned()));
        };
        let latest = clock::later(clock::now(), MAX_CLOCK_AHEAD);
        if envelope.command_id.minted_at().is_some_and(|minted| minted > latest) {
            return Err(InvalidField::new("command_id", "was minted in the future: set the clock").into());
        }
        let Decoded { target, content, payload } = rules.decode(name, data, &envelope)?;
        let stream = StreamName::new(rules.category(), &target)
            .map_err(|error| InvalidField::new("feed", error.problem))?;
        let content = self.content_hash(&stream, &content);
        Ok(Command { envelope, stream, content, rules: Arc::clone(rules), payload })
    }

    pub(crate) fn content_hash(&self, stream: &StreamName, content: &str) -> ContentHash {
        let mut hash = Sha256::new();
        hash.update(self.key.0);
        hash.update((stream.as_str().len() as u64).to_le_bytes());
        hash.update(stream.as_str());
        hash.update(content);
        let mut short = [0; 16];
        short.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        ContentHash(short)
    }
}
