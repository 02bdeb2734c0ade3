//! Likes: who likes a thing, and how many do.
//!
//! One stream per target, so that the count in each event is exact. The founding document is the pipeline
//! LIKE; the command's `commandId` comes back in the event and is the acknowledgement.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sillage_kernel::{
    Baseline, CommandId, Context, Decider, Decision, DomainCommand, DomainEvent, Envelope, Event, Filter,
    FoldsBaselines, InvalidField, Rejection, Rows, StreamName, Tenant, Timestamp, UserId, Version, View,
    ViewError,
};

/// The longest id of a target or of a like, in characters.
pub const MAX_ID_CHARS: usize = 200;
/// The scope that may close and open a target.
pub const MODERATE: &str = "moderate";

// --- events ---------------------------------------------------------------------------------------------

/// Somebody likes the target, or no longer does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LikeSetEvent {
    /// The command that it acknowledges.
    pub command_id: CommandId,
    /// The like, as the client named it.
    pub like_id: String,
    /// What is liked.
    pub target_id: String,
    /// Whoever likes it.
    pub user_id: UserId,
    /// Whether they do now.
    pub active: bool,
    /// How many do now.
    pub count: u64,
    /// The number of this event in the stream of the target.
    pub version: Version,
    /// When the person clicked, by the clock of the client.
    pub at: Timestamp,
}

/// A moderator closed the target, or opened it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LikesClosedEvent {
    /// The command that it acknowledges.
    pub command_id: CommandId,
    /// What is closed or opened.
    pub target_id: String,
    /// Whether likes are refused from now on.
    pub closed: bool,
    /// The number of this event in the stream of the target.
    pub version: Version,
    /// When it was decided.
    pub at: Timestamp,
}

sillage_kernel::domain_events! {
    /// What can happen to the likes of a target.
    pub enum LikesEvent { LikeSetEvent, LikesClosedEvent }
}

// --- state ----------------------------------------------------------------------------------------------

/// What the decisions about a target rest on.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LikesState {
    liked_by: BTreeSet<UserId>,
    closed: bool,
    version: Version,
}

impl LikesState {
    /// The last event in it.
    pub fn version(&self) -> Version {
        self.version
    }
}

// --- commands -------------------------------------------------------------------------------------------

/// What may be asked about the likes of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LikesCommand {
    /// I like it, or no longer do.
    Set {
        /// The like, as the client names it.
        like_id: String,
        /// What is liked.
        target_id: String,
        /// Whether I do.
        active: bool,
        /// When I clicked.
        at: Timestamp,
    },
    /// Refuse likes from now on, or take them again.
    Close {
        /// What is closed or opened.
        target_id: String,
        /// Whether likes are to be refused.
        closed: bool,
    },
}

/// The data of `LikeAdd` and `LikeRemove`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LikeData {
    command_id: Option<CommandId>,
    like_id: String,
    target_id: Option<String>,
    user_id: Option<UserId>,
    at: Timestamp,
}

/// The data of `LikesClose` and `LikesOpen`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CloseData {
    command_id: Option<CommandId>,
    target_id: Option<String>,
    user_id: Option<UserId>,
}

impl DomainCommand for LikesCommand {
    const NAMES: &'static [&'static str] = &["LikeAdd", "LikeRemove", "LikesClose", "LikesOpen"];

    fn decode(name: &str, data: &str, envelope: &Envelope) -> Result<Self, InvalidField> {
        let target = |id| {
            let target = envelope.target(Likes::CATEGORY, "targetId", id)?;
            checked_id("targetId", target)
        };
        match name {
            "LikeAdd" | "LikeRemove" => {
                let LikeData { command_id, like_id, target_id, user_id, at } = InvalidField::read(data)?;
                envelope.same_command_id(command_id)?;
                envelope.same_user(user_id.as_ref())?;
                let like_id = checked_id("likeId", like_id)?;
                Ok(Self::Set { like_id, target_id: target(target_id)?, active: name == "LikeAdd", at })
            }
            _ => {
                let CloseData { command_id, target_id, user_id } = InvalidField::read(data)?;
                envelope.same_command_id(command_id)?;
                envelope.same_user(user_id.as_ref())?;
                Ok(Self::Close { target_id: target(target_id)?, closed: name == "LikesClose" })
            }
        }
    }

    fn target(&self) -> &str {
        let (Self::Set { target_id, .. } | Self::Close { target_id, .. }) = self;
        target_id
    }

    fn content(&self) -> String {
        serde_json::to_string(self).expect("a command has only string keys and no failing parts")
    }
}

/// The stream of a target, if its id is one.
pub fn stream_of(target_id: &str) -> Result<StreamName, InvalidField> {
    let target_id = checked_id("targetId", target_id.to_owned())?;
    StreamName::new(Likes::CATEGORY, &target_id).map_err(|error| InvalidField::new("targetId", error.problem))
}

fn checked_id(field: &'static str, id: String) -> Result<String, InvalidField> {
    let good = (1..=MAX_ID_CHARS).contains(&id.chars().count())
        && !id.chars().any(|c| c.is_control() || c.is_whitespace());
    if good {
        return Ok(id);
    }
    Err(InvalidField::new(field, format!("must be 1 to {MAX_ID_CHARS} printable characters without spaces")))
}

// --- decisions ------------------------------------------------------------------------------------------

/// The rules of the likes of a target.
pub struct Likes;

impl Decider for Likes {
    const CATEGORY: &'static str = "like";
    const REVISION: u32 = 1;
    type State = LikesState;
    type Command = LikesCommand;
    type Event = LikesEvent;

    fn decide(
        state: &LikesState,
        command: &LikesCommand,
        context: &Context<'_>,
    ) -> Result<Decision<LikesEvent>, Rejection> {
        match command {
            LikesCommand::Set { like_id, target_id, active, at } => {
                set(state, context, (like_id, target_id), *active, *at)
            }
            LikesCommand::Close { target_id, closed } => close(state, context, target_id, *closed),
        }
    }

    fn evolve(state: &mut LikesState, event: &LikesEvent) {
        state.version = state.version.next();
        match event {
            LikesEvent::LikeSetEvent(LikeSetEvent { user_id, active: true, .. }) => {
                state.liked_by.insert(user_id.clone());
            }
            LikesEvent::LikeSetEvent(LikeSetEvent { user_id, .. }) => {
                state.liked_by.remove(user_id);
            }
            LikesEvent::LikesClosedEvent(LikesClosedEvent { closed, .. }) => state.closed = *closed,
        }
    }
}

fn set(
    state: &LikesState,
    context: &Context<'_>,
    (like_id, target_id): (&str, &str),
    active: bool,
    at: Timestamp,
) -> Result<Decision<LikesEvent>, Rejection> {
    if state.closed {
        return Err(Rejection::new("likes_closed", "A moderator has closed the likes of this target."));
    }
    let user_id = &context.actor.user_id;
    if state.liked_by.contains(user_id) == active {
        return Ok(Decision::unchanged());
    }
    let others = state.liked_by.len() as u64 - u64::from(!active);
    let event = LikeSetEvent {
        command_id: context.command_id,
        like_id: like_id.to_owned(),
        target_id: target_id.to_owned(),
        user_id: user_id.clone(),
        active,
        count: others + u64::from(active),
        version: state.version.next(),
        at,
    };
    Ok(LikesEvent::from(event).into())
}

fn close(
    state: &LikesState,
    context: &Context<'_>,
    target_id: &str,
    closed: bool,
) -> Result<Decision<LikesEvent>, Rejection> {
    if !context.actor.has(MODERATE) {
        return Err(Rejection::new(
            "not_moderator",
            "Only a moderator closes and opens the likes of a target.",
        ));
    }
    if state.closed == closed {
        return Ok(Decision::unchanged());
    }
    let event = LikesClosedEvent {
        command_id: context.command_id,
        target_id: target_id.to_owned(),
        closed,
        version: state.version.next(),
        at: context.now,
    };
    Ok(LikesEvent::from(event).into())
}

// --- view -----------------------------------------------------------------------------------------------

/// The read model: the count of each target, and who likes it.
pub struct LikesView;

/// What tells the rows of [`LikesView`] apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LikesKey {
    /// The count of a target.
    Target(Tenant, String),
    /// That somebody likes it.
    Like(Tenant, String, UserId),
}

/// A row of [`LikesView`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LikesRow {
    /// A target.
    Target {
        /// How many like it.
        count: u64,
        /// Whether likes are refused.
        closed: bool,
        /// The last event that the row reflects.
        version: Version,
    },
    /// Somebody likes it; nobody who does not has a row.
    Like,
}

impl View for LikesView {
    const NAME: &'static str = "likes";
    const REVISION: u32 = 1;
    type Key = LikesKey;
    type Row = LikesRow;

    fn filter() -> Filter {
        Filter::Category(Likes::CATEGORY.into())
    }

    fn fold(event: &Event, rows: &mut dyn Rows<LikesKey, LikesRow>) -> Result<(), ViewError> {
        let tenant = &event.tenant;
        match LikesEvent::read(event)? {
            LikesEvent::LikeSetEvent(LikeSetEvent { target_id, user_id, active, count, version, .. }) => {
                let like = LikesKey::Like(tenant.clone(), target_id.clone(), user_id);
                if active {
                    rows.put(like, LikesRow::Like)
                } else {
                    rows.remove(like)
                }
                // Likes are only set while the target is open.
                let row = LikesRow::Target { count, closed: false, version };
                rows.put(LikesKey::Target(tenant.clone(), target_id), row);
            }
            LikesEvent::LikesClosedEvent(LikesClosedEvent { target_id, closed, version, .. }) => {
                let key = LikesKey::Target(tenant.clone(), target_id);
                let count = match rows.get(&key)? {
                    Some(LikesRow::Target { count, .. }) => count,
                    _ => 0,
                };
                rows.put(key, LikesRow::Target { count, closed, version });
            }
        }
        Ok(())
    }

    const FOLDS_BASELINES: FoldsBaselines = FoldsBaselines::Yes;

    fn fold_baseline(
        baseline: &Baseline,
        event: &Event,
        rows: &mut dyn Rows<LikesKey, LikesRow>,
    ) -> Result<(), ViewError> {
        let LikesState { liked_by, closed, version } = baseline.state_of::<Likes>()?;
        let (tenant, target_id) = (&event.tenant, baseline.stream.id().to_owned());
        let count = liked_by.len() as u64;
        for user_id in liked_by {
            rows.put(LikesKey::Like(tenant.clone(), target_id.clone(), user_id), LikesRow::Like);
        }
        rows.put(LikesKey::Target(tenant.clone(), target_id), LikesRow::Target { count, closed, version });
        Ok(())
    }
}

// --- tests ----------------------------------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;
    use sillage_kernel::Actor;
    use sillage_kernel::testing::given;

    const AT: &str = "2026-01-19T12:00:00Z";

    fn like(active: bool) -> LikesCommand {
        let at = AT.parse().unwrap();
        LikesCommand::Set { like_id: "l-1".into(), target_id: "article-1".into(), active, at }
    }

    fn close(closed: bool) -> LikesCommand {
        LikesCommand::Close { target_id: "article-1".into(), closed }
    }

    fn set(user: &str, active: bool, count: u64, version: u64) -> LikesEvent {
        LikeSetEvent {
            command_id: CommandId(Default::default()),
            like_id: "l-1".into(),
            target_id: "article-1".into(),
            user_id: user.parse().unwrap(),
            active,
            count,
            version: Version::new(version),
            at: AT.parse().unwrap(),
        }
        .into()
    }

    fn closed(closed: bool, version: u64) -> LikesEvent {
        let (command_id, target_id) = (CommandId(Default::default()), "article-1".into());
        let (version, at) = (Version::new(version), Timestamp::default());
        LikesClosedEvent { command_id, target_id, closed, version, at }.into()
    }

    #[test]
    fn the_count_is_exact() {
        given::<Likes>([]).by("alice", &[]).when(&like(true)).then([set("alice", true, 1, 1)]);
        let two = [set("alice", true, 1, 1), set("bob", true, 2, 2)];
        given::<Likes>(two.clone()).by("alice", &[]).when(&like(false)).then([set("alice", false, 1, 3)]);
        given::<Likes>(two).by("carol", &[]).when(&like(true)).then([set("carol", true, 3, 3)]);
    }

    #[test]
    fn liking_twice_changes_nothing() {
        given::<Likes>([set("alice", true, 1, 1)]).by("alice", &[]).when(&like(true)).then_unchanged();
        given::<Likes>([]).by("alice", &[]).when(&like(false)).then_unchanged();
    }

    #[test]
    fn a_closed_target_refuses_until_it_is_opened() {
        let events = [set("alice", true, 1, 1), closed(true, 2)];
        for active in [true, false] {
            given::<Likes>(events.clone()).by("alice", &[]).when(&like(active)).then_rejected("likes_closed");
        }
        let opened = events.into_iter().chain([closed(false, 3)]);
        given::<Likes>(opened).by("alice", &[]).when(&like(false)).then([set("alice", false, 0, 4)]);
    }

    #[test]
    fn only_a_moderator_closes() {
        given::<Likes>([]).when(&close(true)).then_rejected("not_moderator");
        given::<Likes>([]).by("mo", &[MODERATE]).when(&close(true)).then([closed(true, 1)]);
        given::<Likes>([closed(true, 1)]).by("mo", &[MODERATE]).when(&close(true)).then_unchanged();
        given::<Likes>([closed(true, 1)]).by("mo", &[MODERATE]).when(&close(false)).then([closed(false, 2)]);
    }

    fn envelope(feed: Option<&str>) -> Envelope {
        let actor = Actor::user("alice".parse().unwrap());
        let feed = feed.map(|feed| feed.parse().unwrap());
        let command_id = CommandId(Default::default());
        Envelope { tenant: "main".parse().unwrap(), actor, command_id, feed, traceparent: None }
    }

    #[test]
    fn a_command_is_read_from_its_data_and_its_feed() {
        let whole = format!(r#"{{"likeId":"l-1","targetId":"article-1","userId":"alice","at":"{AT}"}}"#);
        assert_eq!(LikesCommand::decode("LikeAdd", &whole, &envelope(None)), Ok(like(true)));
        let short = format!(r#"{{"likeId":"l-1","at":"{AT}"}}"#);
        let by_feed = LikesCommand::decode("LikeRemove", &short, &envelope(Some("like-article-1")));
        assert_eq!(by_feed, Ok(like(false)));
        assert_eq!(
            LikesCommand::decode("LikesClose", "{}", &envelope(Some("like-article-1"))),
            Ok(close(true))
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        let cases = [
            (format!(r#"{{"likeId":"","at":"{AT}"}}"#), Some("like-a"), "likeId"),
            (format!(r#"{{"likeId":"l","at":"{AT}"}}"#), None, "targetId"),
            (format!(r#"{{"likeId":"l","targetId":"b","at":"{AT}"}}"#), Some("like-a"), "targetId"),
            (format!(r#"{{"likeId":"l","targetId":"a b","at":"{AT}"}}"#), None, "targetId"),
            (format!(r#"{{"likeId":"l","userId":"bob","at":"{AT}"}}"#), Some("like-a"), "userId"),
            (format!(r#"{{"likeId":"l","at":"{AT}"}}"#), Some("playbook-a"), "feed"),
            (r#"{"likeId":"l","at":"soon"}"#.to_owned(), Some("like-a"), "at"),
            (format!(r#"{{"likeId":"l","at":"{AT}","count":9}}"#), Some("like-a"), "count"),
        ];
        for (data, feed, field) in cases {
            let error = LikesCommand::decode("LikeAdd", &data, &envelope(feed)).unwrap_err();
            assert_eq!(error.field, field, "{data}: {error}");
        }
    }
}
