//! What the likes bring to the descriptions. The rules know nothing of these types: tests hold them against
//! what the rules read and write.

use serde_json::json;
use sillage_domains::likes::{Likes, LikesCommand, LikesEvent};
use sillage_gateway::description::{FEEDS, schemas};
use sillage_kernel::{CommandId, Decider, DomainCommand, DomainEvent, Timestamp, UserId, Version};
use utoipa::ToSchema;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, OpenApi, OpenApiBuilder};

/// The value of a file of `protocol/golden`.
macro_rules! golden {
    ($name:literal) => {
        sillage_gateway::description::schemas::example(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../protocol/golden/",
            $name,
            ".json"
        )))
    };
}
pub(super) use golden;

/// The tag of the likes with their feeds, and the data of their events.
pub(super) fn document() -> OpenApi {
    let feeds = json!({"feed": format!("{}-{{targetId}}", Likes::CATEGORY), "commands": LikesCommand::NAMES,
        "events": LikesEvent::TYPES});
    let tag = TagBuilder::new()
        .name("likes")
        .description(Some("Who likes a thing, and how many do."))
        .extensions(Some(Extensions::from_iter([(FEEDS, feeds)])));
    let components = ComponentsBuilder::new().schema_from::<LikeSetEvent>().schema_from::<LikesClosedEvent>();
    OpenApiBuilder::new().tags(Some([tag.build()])).components(Some(components.build())).build()
}

/// A command about the likes of a target. `userId` may be there if it is the one of the token.
#[allow(dead_code, reason = "it is only described: the rules read the command themselves")]
#[derive(ToSchema)]
#[serde(tag = "type")]
#[schema(examples(json!(golden!("likes-add")), json!(golden!("likes-remove")), json!(golden!("likes-close")),
    json!(golden!("likes-open"))))]
pub(super) enum LikesBody {
    /// I like it.
    #[serde(rename_all = "camelCase")]
    LikeAdd {
        #[schema(schema_with = schemas::command_id)]
        command_id: CommandId,
        /// The like, as the client names it.
        like_id: String,
        /// What is liked.
        target_id: String,
        #[schema(schema_with = schemas::user_id, required = false)]
        user_id: Option<UserId>,
        /// When the person clicked.
        #[schema(schema_with = schemas::timestamp)]
        at: Timestamp,
    },
    /// I no longer like it.
    #[serde(rename_all = "camelCase")]
    LikeRemove {
        #[schema(schema_with = schemas::command_id)]
        command_id: CommandId,
        /// The like, as the client names it.
        like_id: String,
        /// What is liked.
        target_id: String,
        #[schema(schema_with = schemas::user_id, required = false)]
        user_id: Option<UserId>,
        /// When the person clicked.
        #[schema(schema_with = schemas::timestamp)]
        at: Timestamp,
    },
    /// A moderator refuses likes from now on.
    #[serde(rename_all = "camelCase")]
    LikesClose {
        #[schema(schema_with = schemas::command_id)]
        command_id: CommandId,
        /// What is closed.
        target_id: String,
    },
    /// A moderator takes them again.
    #[serde(rename_all = "camelCase")]
    LikesOpen {
        #[schema(schema_with = schemas::command_id)]
        command_id: CommandId,
        /// What is opened.
        target_id: String,
    },
}

/// Somebody likes the target, or no longer does.
#[allow(dead_code, reason = "it is only described: the rules write the event themselves")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct LikeSetEvent {
    #[schema(schema_with = schemas::command_id)]
    command_id: CommandId,
    /// The like, as the client named it.
    like_id: String,
    /// What is liked.
    target_id: String,
    #[schema(schema_with = schemas::user_id)]
    user_id: UserId,
    /// Whether they do now.
    active: bool,
    /// How many do now.
    count: u64,
    #[schema(schema_with = schemas::sequence_number)]
    version: Version,
    /// When the person clicked, by the clock of the client.
    #[schema(schema_with = schemas::timestamp)]
    at: Timestamp,
}

/// A moderator closed the target, or opened it again.
#[allow(dead_code, reason = "it is only described: the rules write the event themselves")]
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct LikesClosedEvent {
    #[schema(schema_with = schemas::command_id)]
    command_id: CommandId,
    /// What is closed or opened.
    target_id: String,
    /// Whether likes are refused from now on.
    closed: bool,
    #[schema(schema_with = schemas::sequence_number)]
    version: Version,
    #[schema(schema_with = schemas::timestamp)]
    at: Timestamp,
}
