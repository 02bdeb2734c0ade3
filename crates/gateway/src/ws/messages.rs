//! What a client says on a socket, and what is done about it.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use sillage_kernel::wire::{ClientMessage, ServerMessage, SyncBatchMessage};
use sillage_kernel::{StreamName, Version};
use sillage_store::{Direction, StoreError, StreamPage};
use tokio::sync::Semaphore;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::hub::{Follower, MAX_FEEDS, Since};
use crate::receive::{IN_FLIGHT_BYTES, MAX_IN_FLIGHT, action, feed_of, read_message};
use crate::tokens::Identity;

/// How many events one `sync_batch` holds at most.
const SYNC_PAGE: usize = 100;
/// How many bytes of events one `sync_batch` holds, unless one event alone has more.
const SYNC_BYTES: usize = 256 << 10;

/// Who is at the other end, what they follow, and how many more commands may be on their way.
pub(super) struct Session {
    gateway: Arc<Gateway>,
    pub(super) follower: Follower,
    identity: Identity,
    room: Arc<Semaphore>,
}

impl Session {
    pub(super) fn new(gateway: Arc<Gateway>, follower: Follower, identity: Identity) -> Self {
        Self { gateway, follower, identity, room: Arc::new(Semaphore::new(MAX_IN_FLIGHT)) }
    }

    /// Does what one message asks for; what is wrong with it is answered on the socket.
    pub(super) async fn take(&mut self, text: &str) {
        let done = match read_message(text) {
            Ok(message) => self.act(&message, text).await,
            Err(refusal) => self.gateway.sampler.command(None).checked(Err(refusal)),
        };
        if let Err(refusal) = done {
            self.follower.say(&error_about(refusal, text));
        }
    }

    async fn act(&mut self, message: &ClientMessage<'_>, text: &str) -> Result<(), Refusal> {
        match message.kind.as_ref() {
            "action" => self.action(message, text).await,
            "subscribe" => self.subscribe(message).await,
            "unsubscribe" => {
                let feed = feed_of(message.feed.as_deref())?;
                self.follower.unsubscribe(&feed);
                self.follower.say(&ServerMessage::Unsubscribed { feed });
                Ok(())
            }
            "sync" => self.sync(message).await,
            "refresh_token" => self.refresh_token(message),
            "ping" => {
                self.follower.say(&ServerMessage::Pong {});
                Ok(())
            }
            other => {
                let known = ClientMessage::TYPES.join(", ");
                Err(Refusal::new(
                    Code::UnknownType,
                    format!("There is no message {other:?}; there are {known}."),
                ))
            }
        }
    }

    /// Hands a command over. Its receipt comes by the hub, to every connection of its sender; only what keeps
    /// it from having one is told here.
    async fn action(&self, message: &ClientMessage<'_>, text: &str) -> Result<(), Refusal> {
        let mut journey = self.gateway.sampler.command(None);
        let incoming = journey.checked(action(message))?;
        let command = self.gateway.receive(&self.identity, &mut journey, incoming)?;
        let weight = u32::try_from(1 + text.len() / IN_FLIGHT_BYTES).expect("a message is not that long");
        let place = Arc::clone(&self.room).acquire_many_owned(weight).await.expect("nobody closes it");
        let (connection, text) = (Arc::clone(self.follower.connection()), Box::<str>::from(text));
        let reply = move |result| {
            let _until_answered = place;
            if let Err(refusal) = journey.settled(result) {
                let message = error_about(refusal, &text);
                let message = serde_json::to_string(&message)
                    .expect("a message has only string keys and no failing parts");
                connection.tell(message.into());
            }
        };
        self.gateway.bus.submit(command, Box::new(reply)).await;
        Ok(())
    }

    async fn subscribe(&mut self, message: &ClientMessage<'_>) -> Result<(), Refusal> {
        let feed = self.reachable(message)?;
        if self.follower.feeds() >= MAX_FEEDS && !self.follower.follows(&feed) {
            return Err(Refusal::new(
                Code::RateLimited,
                format!("A connection follows at most {MAX_FEEDS} feeds."),
            ));
        }
        self.gateway.limits.subscription(&self.identity)?;
        let since = match (message.from.as_deref(), message.last_sequence) {
            (Some("now"), _) => Since::Now,
            (Some(_), _) => return Err(Refusal::field("from", "may only be \"now\"")),
            (None, Some(last)) => Since::After(message.epoch.clone(), last),
            (None, None) if message.epoch.is_some() => Since::After(message.epoch.clone(), Version::ZERO),
            (None, None) => Since::Start,
        };
        self.follower.subscribe(feed, since).await.map_err(unavailable)
    }

    async fn sync(&self, message: &ClientMessage<'_>) -> Result<(), Refusal> {
        let feed = self.reachable(message)?;
        self.gateway.limits.query(&self.identity)?;
        let epoch = self.gateway.hub.epoch();
        let mut from = message.last_sequence.unwrap_or(Version::ZERO).next();
        if message.epoch.as_ref().is_some_and(|theirs| theirs != epoch) {
            self.follower.say(&ServerMessage::Resync { feed: feed.clone(), epoch: epoch.clone() });
            from = Version::ZERO.next();
        }
        let (snapshot, page) = self.sync_page(&feed, from).await.map_err(unavailable)?;
        let mut room = SYNC_BYTES;
        let fitting = page.events.iter().map(|event| self.gateway.hub.frame(event)).take_while(|frame| {
            // One always fits, or there would be no end.
            let fits = room == SYNC_BYTES || frame.text.len() <= room;
            room = room.saturating_sub(frame.text.len());
            fits
        });
        let frames: Vec<_> = fitting.collect();
        let events = frames.iter().map(|frame| serde_json::from_str::<&RawValue>(&frame.text));
        let batch = SyncBatchMessage {
            feed,
            events: events.collect::<Result<_, _>>().expect("a frame is JSON"),
            current_sequence: page.head,
            has_more: frames.last().is_some_and(|last| last.version < page.head),
        };
        let batch =
            serde_json::to_string(&batch).expect("a message has only string keys and no failing parts");
        // As one, so that a large snapshot does not take the room that its batch needs.
        let text = snapshot.map_or_else(String::new, |snapshot| format!("{snapshot}\n")) + &batch;
        self.follower.connection().tell(text.into());
        Ok(())
    }

    /// What comes from an event on; with a snapshot before it, if that was dropped.
    async fn sync_page(
        &self,
        feed: &StreamName,
        mut from: Version,
    ) -> Result<(Option<Utf8Bytes>, StreamPage), StoreError> {
        let Gateway { store, hub, .. } = self.gateway.as_ref();
        let key = (self.identity.tenant.clone(), feed.clone());
        let mut snapshot = None;
        loop {
            match store.read_stream(&key.0, &key.1, from, Direction::Forward, SYNC_PAGE).await {
                // It ends: each snapshot reaches further.
                Err(StoreError::Dropped { .. }) => {
                    let frame = hub.snapshot(&key, from).await?;
                    from = frame.version.next();
                    snapshot = Some(frame.text);
                }
                page => return Ok((snapshot, page?)),
            }
        }
    }

    fn refresh_token(&mut self, message: &ClientMessage<'_>) -> Result<(), Refusal> {
        let token = message.token.as_deref().ok_or_else(|| Refusal::field("token", "is missing"))?;
        let identity = self.gateway.sign_in(token)?;
        if identity.actor.user_id != self.identity.actor.user_id || identity.tenant != self.identity.tenant {
            return Err(Refusal::field("token", "is of another user"));
        }
        self.follower.connection().renew(identity.expires_at);
        self.identity = identity;
        self.follower.say(&ServerMessage::TokenRefreshed {});
        Ok(())
    }

    fn reachable(&self, message: &ClientMessage<'_>) -> Result<StreamName, Refusal> {
        let feed = feed_of(message.feed.as_deref())?;
        self.gateway.check_reach(&self.identity, &feed)?;
        Ok(feed)
    }
}

fn unavailable(error: StoreError) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string())
}

/// The answer to a message that was refused, with what was sent, if that could be read; a token is never
/// sent back.
fn error_about(refusal: Refusal, text: &str) -> ServerMessage {
    let mut original: Option<Value> = serde_json::from_str(text).ok();
    if let Some(Value::Object(fields)) = &mut original {
        fields.remove("token");
    }
    ServerMessage::Error(refusal.on_socket(original))
}
