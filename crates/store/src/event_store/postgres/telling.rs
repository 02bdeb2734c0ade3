//! What nodes tell each other: that the log has grown, with the group that has made it grow, and hints, by themselves.
//!
//! Invariant: hints keep nobody waiting. They go out by a connection that reads, all that wait with one statement, in a
//! transaction that writes nothing: commits that tell something pass one by one, and such a one waits for no disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sillage_kernel::Position;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

use super::Shared;
use crate::event_store::hints::{Hint, Hints, MAX_HEARD_HINTS, MAX_HINT_BYTES, MAX_WAITING_HINTS};

/// Where nodes tell.
pub(super) const CHANNEL: &str = "sillage";
/// The most bytes of one notification; the server takes fewer than 8,000.
const MAX_TOLD_BYTES: usize = 7_900;

const _: () = assert!(MAX_HINT_BYTES + 64 <= MAX_TOLD_BYTES, "a hint has no room in a notification");

/// Hints as JSON, by topic and key.
type Waiting = HashMap<(Box<str>, Box<str>), String>;

/// The hints of a node, those that wait to be told and those that it hears.
pub(super) struct Lane {
    waiting: Mutex<Waiting>,
    more: Notify,
    heard: broadcast::Sender<Arc<Hint>>,
}

impl Lane {
    pub(super) fn new() -> Self {
        let (waiting, more, heard) =
            (Mutex::default(), Notify::new(), broadcast::Sender::new(MAX_HEARD_HINTS));
        Self { waiting, more, heard }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hints for Lane {
    fn tell(&self, hints: Vec<Hint>) {
        let (mut waiting, mut lost) = (self.waiting(), 0_usize);
        for hint in hints {
            let text = serde_json::to_string(&hint).expect("a hint has only texts");
            let (about, full) = ((hint.topic, hint.key), waiting.len() >= MAX_WAITING_HINTS);
            if text.len() > MAX_HINT_BYTES || (full && !waiting.contains_key(&about)) {
                lost += 1;
            } else {
                waiting.insert(about, text);
            }
        }
        drop(waiting);
        if lost > 0 {
            tracing::debug!(lost, "there was no room for hints to other nodes");
        }
        self.more.notify_one();
    }

    fn heard(&self) -> broadcast::Receiver<Arc<Hint>> {
        self.heard.subscribe()
    }
}

/// Tells what waits, again and again, for as long as the store is there.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        shared.lane.more.notified().await;
        let waiting = std::mem::take(&mut *shared.lane.waiting());
        let told: Arc<[String]> = notifications(shared.id, waiting.into_values()).into();
        if told.is_empty() {
            continue;
        }
        let telling = shared.pool.read(|reader| {
            let told = Arc::clone(&told);
            async move { reader.tell(&told).await }
        });
        if let Err(error) = telling.await {
            tracing::debug!(%error, "hints to other nodes were lost");
        }
    }
}

/// The hints in as few notifications as hold them: who tells, and a list.
fn notifications(by: Uuid, hints: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for hint in hints {
        match all.last_mut() {
            Some(last) if last.len() + hint.len() + 2 <= MAX_TOLD_BYTES => {
                last.push(',');
                last.push_str(&hint);
            }
            _ => all.push(format!("{by} [{hint}")),
        }
    }
    all.iter_mut().for_each(|one| one.push(']'));
    all
}

/// What a notification says of the log.
pub(super) fn grown(position: Position, by: Uuid) -> String {
    format!("{position} {by}")
}

/// Takes a notification in, and answers whether the log may be further than is known here. What this node has told it
/// knows.
pub(super) fn is_news(shared: &Shared, told: &str) -> bool {
    let Some((first, rest)) = told.split_once(' ') else { return true };
    if let Ok(position) = first.parse() {
        return rest.parse() != Ok(shared.id) && Position::new(position) > shared.head();
    }
    if first.parse() != Ok(shared.id)
        && let Ok(hints) = serde_json::from_str::<Vec<Hint>>(rest)
    {
        // Where nobody hears them, they are lost.
        hints.into_iter().for_each(|hint| drop(shared.lane.heard.send(Arc::new(hint))));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_told_together_and_no_notification_is_too_long() {
        let hint = |key: String| Hint { topic: "t".into(), key: key.into(), payload: "p".repeat(300).into() };
        let hints: Vec<Hint> = (0..100).map(|number| hint(number.to_string())).collect();
        let texts = hints.iter().map(|hint| serde_json::to_string(hint).unwrap());
        let told = notifications(Uuid::nil(), texts);
        assert!(told.len() < 6 && told.iter().all(|one| one.len() <= MAX_TOLD_BYTES), "{}", told.len());
        let read = told.iter().flat_map(|one| {
            let (by, list) = one.split_once(' ').unwrap();
            assert_eq!(by.parse(), Ok(Uuid::nil()));
            serde_json::from_str::<Vec<Hint>>(list).unwrap()
        });
        assert_eq!(read.collect::<Vec<_>>(), hints);
    }

    #[test]
    fn the_newest_hint_takes_the_place_of_one_that_waits_and_what_finds_no_room_is_lost() {
        let lane = Lane::new();
        let hint = |key: usize, payload: &str| Hint {
            topic: "t".into(),
            key: key.to_string().into(),
            payload: payload.into(),
        };
        lane.tell((0..MAX_WAITING_HINTS + 1).map(|key| hint(key, "first")).collect());
        lane.tell(vec![hint(0, "newest"), hint(1, &"x".repeat(MAX_HINT_BYTES))]);
        let waiting = lane.waiting();
        assert_eq!(waiting.len(), MAX_WAITING_HINTS);
        let about = |key: usize| {
            serde_json::from_str::<Hint>(&waiting[&("t".into(), key.to_string().into())]).unwrap()
        };
        assert_eq!((about(0), about(1)), (hint(0, "newest"), hint(1, "first")));
    }
}
